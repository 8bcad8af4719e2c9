//! The shim's socket: what the engine asks, answered.
//!
//! One task a connection. None of them changes what the VM does: what is asked for is passed on to the supervisor, which
//! is the only writer of what they see of it.

use std::{io, path::Path, sync::Arc, time::Duration};

use berth_engine::{Guest, Observed};
use rustix::fs::Uid;
use tokio::{
    io::{AsyncWriteExt, BufReader, copy_bidirectional_with_sizes},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, oneshot},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::desk::{Command, Desk};
use crate::protocol::{self, Denied, LineError, Reply, Request};

/// Connections at a time: more than a guest's network takes, and below the limit of open files.
const CONNECTIONS: usize = 900;
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// Each way of a connection into the guest holds this much, in bytes.
const SPLICE_BUFFER: usize = 32 << 10;

/// Serves the socket to the server's user, for as long as the process lives.
pub(super) async fn serve(listener: UnixListener, server: Uid, desk: Arc<Desk>, tasks: TaskTracker) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) if stream.peer_cred().is_ok_and(|peer| peer.uid() == server.as_raw()) => {
                let desk = Arc::clone(&desk);
                tasks.spawn(async move {
                    if let Err(error) = answer(&desk, stream).await {
                        tracing::debug!(%error, "a connection to the shim failed");
                    }
                    drop(permit);
                });
            }
            Ok(_) => tracing::warn!("somebody else's connection is refused"),
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(desk: &Desk, stream: UnixStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let request = match timeout(REQUEST_WITHIN, protocol::receive(&mut stream)).await {
        Ok(Ok(request)) => request,
        Ok(Err(LineError::Io(error))) => return Err(error),
        Ok(Err(LineError::Closed)) | Err(_) => return Ok(()),
        Ok(Err(LineError::Version(_))) => {
            return deny(&mut stream, Denied::Version { speaks: protocol::VERSION }).await;
        }
        Ok(Err(LineError::Malformed(_))) => return deny(&mut stream, Denied::Malformed).await,
    };
    let stream = &mut stream;
    match request {
        Request::Observe => {
            let observed = desk.observed.borrow().clone();
            protocol::send(stream, Reply::Observed { observed }).await
        }
        Request::Changed { known } => changed(desk, stream, &known).await,
        Request::Dial { port } => dial(desk, stream, port).await,
        Request::SetAuthorizedKeys { authorized_keys, others, host_certificate } => {
            done(stream, desk.set_authorized_keys(authorized_keys, others, host_certificate).await).await
        }
        Request::Stop { patience_ms } => {
            pass_on(desk, stream, Command::Stop(Duration::from_millis(patience_ms))).await
        }
        Request::Kill => pass_on(desk, stream, Command::Kill).await,
        Request::LetGo if desk.is_asleep() => pass_on(desk, stream, Command::LetGo).await,
        Request::LetGo => deny(stream, Denied::NotAsleep).await,
        Request::Sleep => {
            let (answer, answered) = oneshot::channel();
            outcome(desk, stream, Command::Sleep(answer), answered).await
        }
        Request::Wake { guest } => {
            let (answer, answered) = oneshot::channel();
            outcome(desk, stream, Command::Wake(Arc::new(Guest::from(guest)), answer), answered).await
        }
        Request::Usage => match desk.usage().await {
            Ok(usage) => protocol::send(stream, Reply::Usage { usage }).await,
            Err(why) => deny(stream, why).await,
        },
        Request::Leases => match desk.leases().await {
            Ok(leases) => protocol::send(stream, Reply::Leases { leases }).await,
            Err(why) => deny(stream, why).await,
        },
        Request::Listeners => match desk.listeners().await {
            Ok(listeners) => protocol::send(stream, Reply::Listeners { listeners }).await,
            Err(why) => deny(stream, why).await,
        },
        Request::Tell { text } => done(stream, desk.tell(&text).await).await,
        Request::Tidy => done(stream, desk.tidy().await).await,
        Request::Grow { disk } => match desk.grow(disk).await {
            Ok(taken) => protocol::send(stream, Reply::Grown { taken }).await,
            Err(why) => deny(stream, why).await,
        },
        Request::CopyDisk { to } => copy_disk(desk, stream, &to).await,
        Request::TakeHome { disk } => done(stream, desk.take_home(&disk).await).await,
    }
}

async fn done(stream: &mut BufReader<UnixStream>, result: Result<(), Denied>) -> io::Result<()> {
    match result {
        Ok(()) => protocol::send(stream, Reply::Done).await,
        Err(why) => deny(stream, why).await,
    }
}

async fn pass_on(desk: &Desk, stream: &mut BufReader<UnixStream>, command: Command) -> io::Result<()> {
    match desk.commands.send(command).await {
        Ok(()) => protocol::send(stream, Reply::Done).await,
        // The supervisor is done, and the process with it.
        Err(_) => Ok(()),
    }
}

/// Says nothing where the supervisor has nothing to say any more: it is done, and the process with it.
async fn outcome(
    desk: &Desk,
    stream: &mut BufReader<UnixStream>,
    command: Command,
    answered: oneshot::Receiver<Result<(), Denied>>,
) -> io::Result<()> {
    if desk.commands.send(command).await.is_err() {
        return Ok(());
    }
    match answered.await {
        Ok(result) => done(stream, result).await,
        Err(_) => Ok(()),
    }
}

/// Ends when the other side goes away, too.
async fn changed(desk: &Desk, stream: &mut BufReader<UnixStream>, known: &Observed) -> io::Result<()> {
    let mut observed = desk.observed.clone();
    let news = tokio::select! {
        news = observed.wait_for(|observed| observed != known) => news.map(|news| news.clone()),
        _closed = tokio::io::AsyncBufReadExt::fill_buf(stream) => return Ok(()),
    };
    match news {
        Ok(observed) => protocol::send(stream, Reply::Observed { observed }).await,
        Err(_) => Ok(()),
    }
}

async fn copy_disk(desk: &Desk, stream: &mut BufReader<UnixStream>, to: &Path) -> io::Result<()> {
    let gone = async { drop(tokio::io::AsyncBufReadExt::fill_buf(stream).await) };
    let copied = desk.copy_disk(to, gone).await;
    done(stream, copied).await
}

async fn dial(desk: &Desk, stream: &mut BufReader<UnixStream>, port: u16) -> io::Result<()> {
    let mut guest = match desk.dial(port).await {
        Ok(guest) => guest,
        Err(why) => return deny(stream, why).await,
    };
    protocol::send(stream, Reply::Done).await?;
    let mut observed = desk.observed.clone();
    tokio::select! {
        // Half-closes are passed on one by one; an error of either side ends both.
        copied = copy_bidirectional_with_sizes(stream, &mut guest, SPLICE_BUFFER, SPLICE_BUFFER) => {
            copied.map(|_| ())
        }
        // What reboots has forgotten its connections, and would not answer on them. What sleeps has not.
        _rebooted = observed.wait_for(|observed| {
            matches!(observed, Observed::Booting | Observed::Off { .. } | Observed::Missing)
        }) => Ok(()),
    }
}

async fn deny(stream: &mut BufReader<UnixStream>, why: Denied) -> io::Result<()> {
    protocol::send(stream, Reply::Denied { why }).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests;
