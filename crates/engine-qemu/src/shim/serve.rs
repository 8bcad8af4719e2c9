//! The shim's socket: what the engine asks, answered.
//!
//! One task a connection. None of them changes what the VM does: stops are passed on to the supervisor, which is the
//! only writer of what they see of it.

use std::{io, sync::Arc, time::Duration};

use berth_engine::{Guest, Observed};
use berth_vnet::{DialError, Network};
use tokio::{
    io::{AsyncWriteExt, BufReader, copy_bidirectional_with_sizes},
    net::{UnixListener, UnixStream},
    sync::{Mutex, Semaphore, mpsc, watch},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::agent::Agent;
use crate::{
    protocol::{self, Denied, LineError, Reply, Request},
    provision,
};

/// Connections at a time: more than a guest's network takes, and below the limit of open files.
const CONNECTIONS: usize = 900;
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
const DIAL_WITHIN: Duration = Duration::from_secs(15);
const KEYS_WITHIN: Duration = Duration::from_secs(20);
/// Each way of a connection into the guest holds this much, in bytes.
const SPLICE_BUFFER: usize = 32 << 10;

/// What somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Stop(Duration),
    Kill,
}

/// What a connection can see and do.
pub(super) struct Desk {
    pub(super) observed: watch::Receiver<Observed>,
    pub(super) commands: mpsc::Sender<Command>,
    /// What the next boot puts into the guest.
    pub(super) guest: watch::Sender<Arc<Guest>>,
    pub(super) agent: Arc<Mutex<Agent>>,
    pub(super) network: Network,
}

/// Serves the socket for as long as the process lives.
pub(super) async fn serve(listener: UnixListener, desk: Arc<Desk>, tasks: TaskTracker) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let owner = rustix::process::geteuid().as_raw();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) if stream.peer_cred().is_ok_and(|peer| peer.uid() == owner) => {
                let desk = Arc::clone(&desk);
                tasks.spawn(async move {
                    if let Err(error) = desk.answer(stream).await {
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

impl Desk {
    async fn answer(&self, stream: UnixStream) -> io::Result<()> {
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
        match request {
            Request::Observe => {
                let observed = self.observed.borrow().clone();
                protocol::send(&mut stream, Reply::Observed { observed }).await
            }
            Request::Changed { known } => self.changed(stream, &known).await,
            Request::Dial { port } => self.dial(stream, port).await,
            Request::SetAuthorizedKeys { authorized_keys } => {
                match self.set_authorized_keys(authorized_keys).await {
                    Ok(()) => protocol::send(&mut stream, Reply::Done).await,
                    Err(why) => deny(&mut stream, why).await,
                }
            }
            Request::Stop { patience_ms } => {
                self.pass_on(&mut stream, Command::Stop(Duration::from_millis(patience_ms))).await
            }
            Request::Kill => self.pass_on(&mut stream, Command::Kill).await,
        }
    }

    async fn pass_on(&self, stream: &mut BufReader<UnixStream>, command: Command) -> io::Result<()> {
        match self.commands.send(command).await {
            Ok(()) => protocol::send(stream, Reply::Done).await,
            // The supervisor is done, and the process with it.
            Err(_) => Ok(()),
        }
    }

    /// Ends when the other side goes away, too.
    async fn changed(&self, mut stream: BufReader<UnixStream>, known: &Observed) -> io::Result<()> {
        let mut observed = self.observed.clone();
        let news = tokio::select! {
            news = observed.wait_for(|observed| observed != known) => news.map(|news| news.clone()),
            _closed = tokio::io::AsyncBufReadExt::fill_buf(&mut stream) => return Ok(()),
        };
        match news {
            Ok(observed) => protocol::send(&mut stream, Reply::Observed { observed }).await,
            Err(_) => Ok(()),
        }
    }

    async fn dial(&self, mut stream: BufReader<UnixStream>, port: u16) -> io::Result<()> {
        if *self.observed.borrow() != Observed::Running {
            return deny(&mut stream, Denied::NotRunning).await;
        }
        let mut guest = match self.network.dial(port, DIAL_WITHIN).await {
            Ok(guest) => guest,
            Err(error) => return deny(&mut stream, why_not(error)).await,
        };
        protocol::send(&mut stream, Reply::Done).await?;
        let mut observed = self.observed.clone();
        tokio::select! {
            // Half-closes are passed on one by one; an error of either side ends both.
            copied = copy_bidirectional_with_sizes(&mut stream, &mut guest, SPLICE_BUFFER, SPLICE_BUFFER) => {
                copied.map(|_| ())
            }
            // What reboots has forgotten its connections, and would not answer on them.
            _rebooted = observed.wait_for(|observed| !matches!(observed, Observed::Running | Observed::Stopping)) => {
                Ok(())
            }
        }
    }

    /// Takes note for the next boot first: a guest that comes up meanwhile is given them by the supervisor.
    async fn set_authorized_keys(&self, authorized_keys: String) -> Result<(), Denied> {
        self.guest.send_modify(|guest| {
            *guest = Arc::new(Guest { authorized_keys, ..Guest::clone(guest) });
        });
        if *self.observed.borrow() != Observed::Running {
            return Ok(());
        }
        // The last keys that were set, if somebody has set others while the agent was busy.
        let mut agent = timeout(KEYS_WITHIN, self.agent.lock()).await.map_err(|_| Denied::TimedOut)?;
        let script = provision::keys_script(&self.guest.borrow());
        agent.run(&script, KEYS_WITHIN).await.map_err(|error| {
            tracing::warn!(%error, "the guest did not take the keys");
            Denied::Failed { reason: "the VM's guest agent did not take the keys".to_owned() }
        })
    }
}

async fn deny(stream: &mut BufReader<UnixStream>, why: Denied) -> io::Result<()> {
    protocol::send(stream, Reply::Denied { why }).await?;
    stream.shutdown().await
}

fn why_not(error: DialError) -> Denied {
    match error {
        DialError::Refused => Denied::Refused,
        DialError::TimedOut => Denied::TimedOut,
        DialError::Detached => Denied::NotRunning,
        DialError::TooMany => Denied::Failed { reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use berth_model::Secret;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt};

    use super::*;

    struct Bench {
        observed: watch::Sender<Observed>,
        commands: mpsc::Receiver<Command>,
        agent: UnixStream,
        desk: Arc<Desk>,
    }

    fn bench() -> Bench {
        let (observed, seen) = watch::channel(Observed::Booting);
        let (ask, commands) = mpsc::channel(4);
        let (agent, line) = UnixStream::pair().unwrap();
        let guest = Guest {
            hostname: "vm-0".to_owned(),
            names: vec!["vm-0.alice.koding.kd.io".to_owned()],
            user: "alice".parse().unwrap(),
            authorized_keys: String::new(),
            host_key: Secret::new(String::new()),
        };
        let desk = Desk {
            observed: seen,
            commands: ask,
            guest: watch::Sender::new(Arc::new(guest)),
            agent: Arc::new(Mutex::new(Agent::new(line))),
            network: Network::spawn(&TaskTracker::new()),
        };
        Bench { observed, commands, agent, desk: Arc::new(desk) }
    }

    impl Bench {
        /// What is answered to one line, up to the end of the connection.
        async fn says(&self, line: &str) -> String {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(line.as_bytes()).await.unwrap();
            self.desk.answer(theirs).await.unwrap();
            let mut text = String::new();
            ours.read_to_string(&mut text).await.unwrap();
            text
        }
    }

    #[tokio::test]
    async fn what_is_asked_is_answered_and_what_is_not_understood_is_denied() {
        let mut bench = bench();
        assert_eq!(
            bench.says("{\"v\":1,\"do\":\"observe\"}\n").await,
            "{\"v\":1,\"reply\":\"observed\",\"observed\":{\"is\":\"booting\"}}\n"
        );
        assert_eq!(
            bench.says("{\"v\":1,\"do\":\"stop\",\"patience_ms\":5}\n").await,
            "{\"v\":1,\"reply\":\"done\"}\n"
        );
        assert_eq!(bench.commands.recv().await, Some(Command::Stop(Duration::from_millis(5))));
        bench.says("{\"v\":1,\"do\":\"kill\"}\n").await;
        assert_eq!(bench.commands.recv().await, Some(Command::Kill));
        assert!(bench.says("{\"v\":1,\"do\":\"dial\",\"port\":22}\n").await.contains("not_running"));
        assert!(bench.says("{\"v\":9,\"do\":\"fly\"}\n").await.contains("\"speaks\":1"));
        assert!(bench.says("fly\n").await.contains("malformed"));
        bench.observed.send(Observed::Running).unwrap();
        assert!(
            bench.says("{\"v\":1,\"do\":\"dial\",\"port\":22}\n").await.contains("not_running"),
            "no guest is there"
        );
    }

    #[tokio::test]
    async fn a_change_is_told_when_it_comes_and_not_to_one_who_left() {
        let bench = bench();
        let asked = bench.says("{\"v\":1,\"do\":\"changed\",\"known\":{\"is\":\"booting\"}}\n");
        let change = async {
            tokio::task::yield_now().await;
            bench.observed.send(Observed::Running).unwrap();
        };
        let (told, ()) = tokio::join!(asked, change);
        assert!(told.contains("running"), "{told}");

        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"{\"v\":1,\"do\":\"changed\",\"known\":{\"is\":\"running\"}}\n").await.unwrap();
        drop(ours);
        bench.desk.answer(theirs).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_says_nothing_is_dropped() {
        let bench = bench();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        bench.desk.answer(theirs).await.unwrap();
        assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_noted_while_it_boots_and_put_in_while_it_runs() {
        let mut bench = bench();
        let set = "{\"v\":1,\"do\":\"set_authorized_keys\",\"authorized_keys\":\"ssh-ed25519 AAAA\"}\n";
        assert!(bench.says(set).await.contains("done"));
        assert_eq!(bench.desk.guest.borrow().authorized_keys, "ssh-ed25519 AAAA");
        bench.observed.send(Observed::Running).unwrap();
        let denied = bench.says(set).await;
        assert!(denied.contains("did not take the keys"), "an agent that does not answer: {denied}");
        let mut heard = Vec::new();
        BufReader::new(&mut bench.agent).read_until(b'\n', &mut heard).await.unwrap();
        assert!(String::from_utf8_lossy(&heard).contains("guest-sync-delimited"));
    }
}
