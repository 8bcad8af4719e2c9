//! The server's end of the admin socket.

use std::{
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::UCred},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    answer::Desk,
    wire::{Envelope, Failure, FailureKind, MAX_REQUEST, REQUEST_TIMEOUT, Reply, Request, VERSION},
};

/// So many connections are served at once; one more is told to come later.
const MAX_CONNECTIONS: usize = 96;
/// So many of them may be requests that wait for VMs, so that there is always room for those that take a moment.
const MAX_WAITING: usize = 64;
/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// So long may a client take to read a line of the answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Replies that wait for a client to read them.
const QUEUE: usize = 8;

/// How much is served at once.
struct Room {
    connections: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Room {
    fn new() -> Self {
        let of = |places| Arc::new(Semaphore::new(places));
        Self { connections: of(MAX_CONNECTIONS), waiting: of(MAX_WAITING) }
    }

    /// A place for a connection, until the permit is dropped.
    fn for_connection(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.connections).try_acquire_owned().map_err(|_| {
            let message = "The server has too many requests at once. Try again in a moment.";
            Failure::new(FailureKind::Unavailable, message)
        })
    }

    /// A place for a request that waits, until the permit is dropped; others need none.
    fn for_request(&self, request: &Request) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        if !request.waits() {
            return Ok(None);
        }
        Arc::clone(&self.waiting).try_acquire_owned().map(Some).map_err(|_| {
            let message = format!(
                "The server is at work on {MAX_WAITING} starts, stops and the like of VMs, and takes no more at once. Try \
                 again when some are done."
            );
            Failure::new(FailureKind::Unavailable, message)
        })
    }
}

/// Makes the socket. A file of the same name that nobody listens on is what a killed server left, and is replaced: the
/// caller holds the lock of the state folder, so no other server is alive.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file that is no socket is in its place",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Between bind and chmod the mode is the umask's; until then nobody else gets past the check of the peer.
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves requests until `stop`, then lets those under way finish and returns. Dropping the future ends them.
pub(crate) async fn serve(listener: UnixListener, desk: Arc<Desk>, stop: CancellationToken) {
    let room = Arc::new(Room::new());
    let requests = TaskTracker::new();
    let ended = CancellationToken::new();
    let _end_on_drop = ended.clone().drop_guard();
    let mut entrance = desk.control.entrance();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = entrance.next(|| listener.accept()) => accepted,
        };
        let Some(accepted) = accepted else { break };
        match accepted {
            Ok((stream, _)) => match room.for_connection() {
                Ok(permit) => {
                    let (desk, room) = (Arc::clone(&desk), Arc::clone(&room));
                    let (ended, stop) = (ended.clone(), stop.clone());
                    requests.spawn(async move {
                        ended.run_until_cancelled(connection(stream, &desk, &room, &stop)).await;
                        drop(permit);
                    });
                }
                Err(failure) => turn_away(&stream, failure),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the admin socket");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    requests.close();
    requests.wait().await;
}

/// Says why without waiting for anything: a new connection has room for a line.
fn turn_away(stream: &UnixStream, failure: Failure) {
    let Ok(mut line) = serde_json::to_vec(&Reply::Failed(failure)) else { return };
    line.push(b'\n');
    if let Err(error) = stream.try_write(&line) {
        tracing::debug!(%error, "the admin client went away");
    }
}

async fn connection(mut stream: UnixStream, desk: &Desk, room: &Room, stop: &CancellationToken) {
    if !stream.peer_cred().is_ok_and(|peer| may(&peer)) {
        tracing::warn!("a stranger was turned away from the admin socket");
        return;
    }
    let (input, mut output) = stream.split();
    // Nobody has asked for anything yet, so nothing is lost when the server stops here.
    let heard = stop.run_until_cancelled(timeout(REQUEST_TIMEOUT, read(BufReader::new(input)))).await;
    let written = match heard {
        None => return,
        Some(Ok(Ok(request))) => match room.for_request(&request) {
            Ok(_place) => answer(request, desk, &mut output).await,
            Err(failure) => write(&mut output, &Reply::Failed(failure)).await,
        },
        Some(Ok(Err(failure))) => write(&mut output, &Reply::Failed(failure)).await,
        Some(Err(_)) => {
            let failure = Failure::new(FailureKind::Invalid, "The request did not come in time.");
            write(&mut output, &Reply::Failed(failure)).await
        }
    };
    if let Err(error) = written {
        tracing::debug!(%error, "the admin client went away");
    }
}

/// Carries a request out and writes what happens as it happens. What was begun is not dropped when the client goes: it
/// is the operator's wish, and control finishes it the same way.
async fn answer(request: Request, desk: &Desk, output: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let (progress, mut updates) = mpsc::channel(QUEUE);
    let mut written = Ok(());
    let work = desk.answer(request, progress);
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            biased;
            Some(update) = updates.recv() => {
                if written.is_ok() {
                    written = write(output, &Reply::Progress(super::wire::Progress::from(update))).await;
                }
            }
            result = &mut work => break result,
        }
    };
    while let Ok(update) = updates.try_recv() {
        if written.is_ok() {
            written = write(output, &Reply::Progress(super::wire::Progress::from(update))).await;
        }
    }
    written?;
    let last = match result {
        Ok(answer) => Reply::Done(Box::new(answer)),
        Err(failure) => Reply::Failed(failure),
    };
    write(output, &last).await
}

fn may(peer: &UCred) -> bool {
    peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw()
}

async fn read(input: impl AsyncBufRead + Unpin) -> Result<Request, Failure> {
    let invalid = |what: &str| Failure::new(FailureKind::Invalid, what);
    let mut line = Vec::new();
    let mut input = input.take(MAX_REQUEST);
    input.read_until(b'\n', &mut line).await.map_err(|_| invalid("The request could not be read."))?;
    if line.pop() != Some(b'\n') {
        return Err(if input.limit() == 0 {
            invalid("The request is too long.")
        } else {
            invalid("The request ends early.")
        });
    }
    let Envelope { version, request } =
        serde_json::from_slice(&line).map_err(|_| invalid("This is not a request."))?;
    if version != VERSION {
        return Err(invalid(&format!(
            "This berth and the server are of different versions ({version} and {VERSION} on the admin socket). \
             Restart the server, or use the berth that it was started with."
        )));
    }
    serde_json::from_value(request)
        .map_err(|error| invalid(&format!("The server does not know this request: {error}.")))
}

async fn write(output: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    timeout(WRITE_TIMEOUT, output.write_all(&line)).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_wait_leave_room_for_those_that_do_not() {
        let room = Room::new();
        let start = Request::VmStart { vm: "vm-0.alice".into(), from_disk: false };
        let places: Vec<_> = (0..MAX_WAITING).map(|_| room.for_request(&start).unwrap()).collect();
        let refused = room.for_request(&start).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Unavailable);
        assert!(room.for_request(&Request::VmList { account: None }).unwrap().is_none());
        drop(places);
        assert!(room.for_request(&start).unwrap().is_some());
    }
}
