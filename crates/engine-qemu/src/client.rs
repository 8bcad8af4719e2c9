//! The engine's end of a conversation with a shim.

use std::{io, path::PathBuf, time::Duration};

use berth_engine::{EngineError, Lease, Listener, Observed, Usage};
use tokio::{
    io::BufReader,
    net::UnixStream,
    time::{sleep as pause, timeout},
};

use crate::{
    ending,
    lock::VmLock,
    paths::{VmPaths, remove_file},
    protocol::{self, Denied, LineError, Reply, Request},
    sleep,
};

/// A shim answers at once or something is wrong with it; the host may be busy, though.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A shim gives up on a connection to its guest before this.
const DIAL_WITHIN: Duration = Duration::from_secs(30);
/// So long may a shim take from its lock to its socket, from unlinking its socket to its end, and QEMU to die after it.
const IN_BETWEEN: Duration = Duration::from_secs(5);
/// What takes a program run in the guest, which may be busy too.
const SCRIPT_WITHIN: Duration = Duration::from_secs(50);
const TIDY_WITHIN: Duration = Duration::from_secs(130);
/// Falling asleep takes a moment, waking a copy of the memory from a slow disk.
const SLEEP_WITHIN: Duration = Duration::from_secs(60);
const WAKE_WITHIN: Duration = Duration::from_secs(150);

/// Growing a file system is quick, but looks at all of it.
const GROW_WITHIN: Duration = Duration::from_secs(200);
/// Longer than [`crate::shim`] gives a guest.
const TAKE_HOME_WITHIN: Duration = Duration::from_secs(7 * 3600);

/// A connection to a shim that has not been asked anything yet.
#[derive(Debug)]
pub(crate) struct Shim(UnixStream);

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Asked<T> {
    /// The shim's answer.
    Told(T),
    /// The shim ended before it answered: ask again who runs the VM.
    Gone,
}

impl Shim {
    /// Connects to the shim that runs a VM; `None` when nobody runs it, and then a socket that a killed shim left is
    /// gone too.
    pub(crate) async fn find(paths: &VmPaths) -> Result<Option<Self>, EngineError> {
        let started = tokio::time::Instant::now();
        loop {
            match UnixStream::connect(&paths.socket).await {
                Ok(stream) => return Ok(Some(Self(stream))),
                Err(error) if nobody_listens(&error) => {}
                // So many connect at once that the shim has not accepted them all.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && started.elapsed() < IN_BETWEEN => {
                    pause(Duration::from_millis(10)).await;
                    continue;
                }
                Err(error) => {
                    return Err(broken(format!("{} cannot be reached: {error}", paths.socket.display())));
                }
            }
            match VmLock::take(paths, Duration::ZERO).await {
                Ok(Some(_held)) => {
                    remove_file(&paths.socket).map_err(|error| {
                        broken(format!("{} cannot be deleted: {error}", paths.socket.display()))
                    })?;
                    return Ok(None);
                }
                Ok(None) if started.elapsed() > IN_BETWEEN => {
                    return Err(broken(format!(
                        "{} is held, but no program answers on {}: end the program that holds it",
                        paths.lock().display(),
                        paths.socket.display()
                    )));
                }
                Ok(None) => pause(Duration::from_millis(10)).await,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => {
                    return Err(broken(format!("{} cannot be used: {error}", paths.lock().display())));
                }
            }
        }
    }

    /// The process at the other end.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.0.peer_cred().ok()?.pid()
    }

    /// What the VM is doing now.
    pub(crate) async fn observe(self) -> Result<Asked<Observed>, EngineError> {
        match self.ask(Request::Observe, ANSWER_WITHIN).await? {
            Asked::Told((reply, _)) => observed(reply).map(Asked::Told),
            Asked::Gone => Ok(Asked::Gone),
        }
    }

    /// Waits until the VM does something else than `known`, without a limit.
    pub(crate) async fn changed(mut self, known: &Observed) -> Result<Asked<Observed>, EngineError> {
        match self.ask_without_limit(Request::Changed { known: known.clone() }).await? {
            Asked::Told(reply) => observed(reply).map(Asked::Told),
            Asked::Gone => Ok(Asked::Gone),
        }
    }

    /// Asks for something that is answered with [`Reply::Done`].
    pub(crate) async fn tell(self, request: Request) -> Result<Asked<()>, EngineError> {
        match self.answer(request).await? {
            Asked::Told(reply) => done(reply, 0).map(Asked::Told),
            Asked::Gone => Ok(Asked::Gone),
        }
    }

    /// Has the shim of a sleeping VM end; `None` when the VM is not asleep.
    pub(crate) async fn let_go(self) -> Result<Option<Asked<()>>, EngineError> {
        match self.answer(Request::LetGo).await? {
            // One that does not know the request has never put a VM to sleep.
            Asked::Told(Reply::Denied { why: Denied::NotAsleep | Denied::Malformed }) => Ok(None),
            Asked::Told(reply) => done(reply, 0).map(|()| Some(Asked::Told(()))),
            Asked::Gone => Ok(Some(Asked::Gone)),
        }
    }

    /// See [`berth_engine::Engine::usage`].
    pub(crate) async fn usage(self) -> Result<Usage, EngineError> {
        match self.answer(Request::Usage).await? {
            Asked::Told(Reply::Usage { usage }) => Ok(usage),
            Asked::Told(Reply::Denied { why }) => Err(denied(why, 0)),
            Asked::Told(_) => Err(unfit()),
            Asked::Gone => Err(EngineError::NotRunning),
        }
    }

    /// See [`berth_engine::Engine::leases`].
    pub(crate) async fn leases(self) -> Result<Vec<Lease>, EngineError> {
        match self.answer(Request::Leases).await? {
            Asked::Told(Reply::Leases { leases }) => Ok(leases),
            Asked::Told(Reply::Denied { why }) => Err(denied(why, 0)),
            Asked::Told(_) => Err(unfit()),
            Asked::Gone => Err(EngineError::NotRunning),
        }
    }

    /// See [`berth_engine::Engine::listeners`].
    pub(crate) async fn listeners(self) -> Result<Vec<Listener>, EngineError> {
        match self.answer(Request::Listeners).await? {
            Asked::Told(Reply::Listeners { listeners }) => Ok(listeners),
            Asked::Told(Reply::Denied { why }) => Err(denied(why, 0)),
            Asked::Told(_) => Err(unfit()),
            Asked::Gone => Err(EngineError::NotRunning),
        }
    }

    /// Whether the guest has taken the room of a disk of so many bytes, which it has in any case.
    pub(crate) async fn grow(self, disk: u64) -> Result<Asked<bool>, EngineError> {
        match self.answer(Request::Grow { disk }).await? {
            Asked::Told(Reply::Grown { taken }) => Ok(Asked::Told(taken)),
            Asked::Told(Reply::Denied { why }) => Err(denied(why, 0)),
            Asked::Told(_) => Err(unfit()),
            Asked::Gone => Ok(Asked::Gone),
        }
    }

    /// Has QEMU copy the guest's disk into this one, however long that takes. Dropping the future gives it up.
    pub(crate) async fn copy_disk(mut self, to: PathBuf) -> Result<Asked<()>, EngineError> {
        match self.ask_without_limit(Request::CopyDisk { to }).await? {
            Asked::Told(reply) => done(reply, 0).map(Asked::Told),
            Asked::Gone => Ok(Asked::Gone),
        }
    }

    async fn answer(self, request: Request) -> Result<Asked<Reply>, EngineError> {
        let limit = match request {
            Request::SetAuthorizedKeys { .. }
            | Request::Leases
            | Request::Listeners
            | Request::Tell { .. } => SCRIPT_WITHIN,
            Request::Tidy => TIDY_WITHIN,
            Request::Grow { .. } => GROW_WITHIN,
            Request::TakeHome { .. } => TAKE_HOME_WITHIN,
            Request::Sleep => SLEEP_WITHIN,
            Request::Wake { .. } => WAKE_WITHIN,
            Request::Dial { .. } => DIAL_WITHIN,
            Request::Observe
            | Request::Changed { .. }
            | Request::CopyDisk { .. }
            | Request::Stop { .. }
            | Request::Kill
            | Request::LetGo
            | Request::Usage => ANSWER_WITHIN,
        };
        match self.ask(request, limit).await? {
            Asked::Told((reply, _)) => Ok(Asked::Told(reply)),
            Asked::Gone => Ok(Asked::Gone),
        }
    }

    /// Connects to a port of the guest.
    pub(crate) async fn dial(self, port: u16) -> Result<UnixStream, EngineError> {
        match self.ask(Request::Dial { port }, DIAL_WITHIN).await? {
            Asked::Told((reply, stream)) => done(reply, port).map(|()| stream),
            Asked::Gone => Err(EngineError::NotRunning),
        }
    }

    async fn ask(
        mut self,
        request: Request,
        limit: Duration,
    ) -> Result<Asked<(Reply, UnixStream)>, EngineError> {
        match timeout(limit, self.ask_without_limit(request)).await {
            Ok(Ok(Asked::Told(reply))) => Ok(Asked::Told((reply, self.0))),
            Ok(Ok(Asked::Gone)) => Ok(Asked::Gone),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(broken(format!(
                "the VM's shim does not answer; its process is {}",
                self.pid().map_or_else(|| "not known".to_owned(), |pid| pid.to_string())
            ))),
        }
    }

    async fn ask_without_limit(&mut self, request: Request) -> Result<Asked<Reply>, EngineError> {
        if let Err(error) = protocol::send(&mut self.0, request).await {
            return match error.kind() {
                io::ErrorKind::InvalidInput => Err(broken("the account has too many keys".to_owned())),
                _ => Ok(Asked::Gone),
            };
        }
        // A buffer of one byte takes nothing of what follows the line.
        match protocol::receive(&mut BufReader::with_capacity(1, &mut self.0)).await {
            Ok(reply) => Ok(Asked::Told(reply)),
            Err(LineError::Closed | LineError::Io(_)) => Ok(Asked::Gone),
            Err(error @ (LineError::Version(_) | LineError::Malformed(_))) => Err(broken(format!(
                "the VM's shim is of another version of berth ({error}): stop the VM and start it"
            ))),
        }
    }
}

/// What is seen of a VM of which nobody runs a process. Blocks.
pub(crate) fn observe_off(paths: &VmPaths) -> Observed {
    if !paths.disk().exists() {
        Observed::Missing
    } else if sleep::is_asleep(paths) {
        Observed::Asleep { called: false }
    } else {
        Observed::Off { ended: ending::read(paths) }
    }
}

fn observed(reply: Reply) -> Result<Observed, EngineError> {
    match reply {
        Reply::Observed { observed } => Ok(observed),
        Reply::Done
        | Reply::Usage { .. }
        | Reply::Leases { .. }
        | Reply::Listeners { .. }
        | Reply::Grown { .. } => Err(unfit()),
        Reply::Denied { why } => Err(denied(why, 0)),
    }
}

fn done(reply: Reply, port: u16) -> Result<(), EngineError> {
    match reply {
        Reply::Done => Ok(()),
        Reply::Observed { .. }
        | Reply::Usage { .. }
        | Reply::Leases { .. }
        | Reply::Listeners { .. }
        | Reply::Grown { .. } => Err(unfit()),
        Reply::Denied { why } => Err(denied(why, port)),
    }
}

fn denied(why: Denied, port: u16) -> EngineError {
    match why {
        Denied::NotRunning => EngineError::NotRunning,
        Denied::Refused => EngineError::Refused { port },
        Denied::TimedOut => EngineError::TimedOut,
        Denied::InUse => EngineError::InUse,
        Denied::WakeFailed { reason } => EngineError::WakeFailed { reason },
        Denied::NotAsleep => unfit(),
        Denied::Failed { reason } => EngineError::Broken { reason },
        Denied::Malformed => unfit(),
        Denied::Version { speaks } => broken(format!(
            "the VM's shim is of another version of berth (it speaks version {speaks} of the protocol): stop the VM \
             and start it"
        )),
    }
}

fn unfit() -> EngineError {
    broken("the VM's shim is of another version of berth: stop the VM and start it".to_owned())
}

fn broken(reason: String) -> EngineError {
    EngineError::Broken { reason }
}

fn nobody_listens(error: &io::Error) -> bool {
    // A listener that is killed in this moment resets.
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use berth_engine::Ending;
    use berth_model::VmId;
    use tokio::{io::AsyncReadExt, net::UnixListener};

    use super::*;
    use crate::paths::StateDir;

    fn paths(dir: &tempfile::TempDir) -> VmPaths {
        let paths = StateDir::open(dir.path(), dir.path()).unwrap().vm(&VmId::random());
        std::fs::create_dir(&paths.dir).unwrap();
        paths
    }

    #[tokio::test]
    async fn a_socket_that_a_killed_shim_left_is_cleaned_away() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        drop(UnixListener::bind(&paths.socket).unwrap());
        assert!(paths.socket.exists());
        assert!(Shim::find(&paths).await.unwrap().is_none());
        assert!(!paths.socket.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shim_between_its_lock_and_its_socket_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        let _held = VmLock::take(&paths, Duration::ZERO).await.unwrap().unwrap();
        let (found, _listener) = tokio::join!(Shim::find(&paths), async {
            pause(Duration::from_secs(1)).await;
            UnixListener::bind(&paths.socket).unwrap()
        });
        assert!(found.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_without_a_shim_is_told_to_the_operator() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        let _held = VmLock::take(&paths, Duration::ZERO).await.unwrap().unwrap();
        let error = Shim::find(&paths).await.unwrap_err();
        assert!(matches!(&error, EngineError::Broken { reason } if reason.contains("is held")), "{error:?}");
    }

    #[tokio::test]
    async fn a_shim_that_ends_before_it_answers_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        let listener = UnixListener::bind(&paths.socket).unwrap();
        let shim = Shim::find(&paths).await.unwrap().unwrap();
        drop(listener.accept().await.unwrap());
        assert!(matches!(shim.observe().await.unwrap(), Asked::Gone));
    }

    #[tokio::test]
    async fn the_first_bytes_of_a_dialled_connection_arrive() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        let listener = UnixListener::bind(&paths.socket).unwrap();
        let shim = Shim::find(&paths).await.unwrap().unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request: Request = protocol::receive(&mut BufReader::new(&mut stream)).await.unwrap();
            assert_eq!(request, Request::Dial { port: 22 });
            protocol::send(&mut stream, Reply::Done).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"SSH-2.0-x\r\n").await.unwrap();
        };
        let (stream, ()) = tokio::join!(shim.dial(22), serve);
        let mut text = String::new();
        stream.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "SSH-2.0-x\r\n");
    }

    #[test]
    fn off_and_missing_are_told_from_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(&dir);
        assert_eq!(observe_off(&paths), Observed::Missing);
        std::fs::write(paths.disk(), b"").unwrap();
        assert_eq!(observe_off(&paths), Observed::Off { ended: None });
        ending::write(&paths, &Ending::Stopped).unwrap();
        assert_eq!(observe_off(&paths), Observed::Off { ended: Some(Ending::Stopped) });
        for dir in [paths.warm(), paths.cold()] {
            std::fs::create_dir(&dir.0).unwrap();
            std::fs::write(dir.memory(), b"half made").unwrap();
            assert!(matches!(observe_off(&paths), Observed::Off { .. }));
            std::fs::write(dir.record(), b"").unwrap();
            assert_eq!(observe_off(&paths), Observed::Asleep { called: false });
            std::fs::remove_dir_all(&dir.0).unwrap();
        }
    }
}
