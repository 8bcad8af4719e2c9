//! Direct mode: a client that logs in under the name of a VM is carried into it.
//!
//! ```text
//!   client ══ ssh ══► handler ──► one task a channel ──► place on a line ══ ssh ══► the VM's sshd
//!          ◄═ channels that the VM opens ◄── arrivals ◄──┘
//! ```
//!
//! Two ssh connections meet here: the client's, which ends at this host, and one into the VM, which logs in with a
//! certificate of some minutes. Channels, requests and their answers, data and its end go across one by one, and nothing is
//! interpreted on the way but for what may be opened backwards: only what this client has asked for.
//!
//! **Lines.** A line is a connection into the VM. russh gives credit to the VM for what it has received, and a line whose
//! channel is full is not read, so a client that does not read one channel slows down the others of its line: see
//! `trickle.rs`. Therefore sessions do not share a line with each other or with streams as long as there are fewer than
//! [`MAX_LINES`] of them, streams share one that is not held up, and idle lines are used again. Beyond that they share, a
//! line that is held up only when all are. The first line also has what the VM listens on.
//!
//! **Spares.** A line is mostly one that waited, logged in, for a client of this account: see `spares.rs`.
//!
//! Everything here ends with the client's connection: the tasks are dropped, and with them the lines. Access is asked for
//! anew for every line.

mod down;
mod line;
mod relay;
mod session;
mod spares;
mod streams;
mod trickle;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use berth_control::{ConnectError, Entry, Progress, Purpose};
use berth_vm_ssh::{Arrival, Connection, Credentials};
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::{
    refusal::Refusal,
    ssh::{Caller, Client},
};

pub(crate) use session::{Asker, asker, by_session};
pub(crate) use spares::Spares;
pub(crate) use streams::{Far, by_stream};

use line::{Kind, Line, Place};
use spares::Spare;

/// How long an sshd may take to show that a connection that waited is alive.
const ALIVE: Duration = Duration::from_secs(5);
/// Connections into the VM that one client has at most.
const MAX_LINES: usize = 6;
/// Ports and sockets on which the VM listens for one client at most.
const MAX_LISTENING: usize = 64;
/// How long a client may take to take the message that ends its connection.
const GOODBYE: Duration = Duration::from_millis(400);
/// The port of a VM's sshd.
const SSH: u32 = 22;

/// A connection into the VM, and what the VM opens on it.
type Inward = (Connection, mpsc::Receiver<Arrival>);

/// A client that is carried into a VM.
pub(crate) struct Direct {
    client: Arc<Client>,
    /// The VM, as it was asked for.
    host: String,
    caller: Caller,
    spares: Arc<Spares>,
    tasks: TaskTracker,
    over: CancellationToken,
    first: OnceCell<Arc<Line>>,
    others: Mutex<Vec<Arc<Line>>>,
    opening: tokio::sync::Mutex<()>,
    /// A permit for each port and socket on which the VM may yet listen for the client.
    listening: Arc<Semaphore>,
}

impl Direct {
    /// Nothing is done until the client opens something.
    pub(crate) fn new(
        client: Arc<Client>,
        host: String,
        caller: Caller,
        spares: Arc<Spares>,
        tasks: TaskTracker,
        over: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            host,
            caller,
            spares,
            tasks,
            over,
            first: OnceCell::new(),
            others: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            listening: Arc::new(Semaphore::new(MAX_LISTENING)),
        })
    }

    /// A place for one more channel; the VM is brought up for the first, and `progress` told.
    async fn place(self: &Arc<Self>, kind: Kind, progress: mpsc::Sender<Progress>) -> Result<Place, Refusal> {
        let first = self.first(progress).await?;
        if let Some(place) = self.free(&first, kind) {
            return Ok(place);
        }
        let _one_after_the_other = self.opening.lock().await;
        if let Some(place) = self.free(&first, kind) {
            return Ok(place);
        }
        let (nobody, _) = mpsc::channel(1);
        match self.open(nobody).await {
            Ok(line) => {
                let place = Place::new(line.clone(), kind);
                self.others().push(line);
                Ok(place)
            }
            Err(refusal) => {
                debug!(error = %refusal, "no other connection into a VM");
                let others = self.others();
                Ok(shared(others.iter(), &first, kind))
            }
        }
    }

    /// A place on a line that there is; `None` where another line should be opened.
    fn free(&self, first: &Arc<Line>, kind: Kind) -> Option<Place> {
        let others = self.others();
        let lines = || std::iter::once(first).chain(others.iter());
        let fits = lines().filter(|line| line.suits(kind)).min_by_key(|line| line.load());
        match fits {
            Some(line) => Some(Place::new(line.clone(), kind)),
            None if others.len() + 1 < MAX_LINES => None,
            None => Some(shared(others.iter(), first, kind)),
        }
    }

    /// The lines beside the first that have not ended. Held while a place is chosen and taken, so that no two choose alike.
    fn others(&self) -> MutexGuard<'_, Vec<Arc<Line>>> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.retain(|line| !line.is_over());
        others
    }

    async fn first(self: &Arc<Self>, progress: mpsc::Sender<Progress>) -> Result<Arc<Line>, Refusal> {
        self.first.get_or_try_init(|| self.open(progress)).await.cloned()
    }

    /// Opens a line, which asks for access anew.
    async fn open(self: &Arc<Self>, progress: mpsc::Sender<Progress>) -> Result<Arc<Line>, Refusal> {
        let Client { control, login, .. } = &*self.client;
        let entry = control.enter(login, &self.host, SSH).await?.carried();
        let is_first = !self.first.initialized();
        let (connection, arrivals) = match self.spare(&entry, &progress, is_first).await? {
            Some(spare) => spare,
            None => self.connect(&entry, progress, is_first).await?,
        };
        let line = Arc::new(Line::new(connection, entry.clone()));
        if is_first {
            self.spares.keep(login.clone(), self.host.clone(), &entry, self.over.clone());
        }
        if entry.is_of_guest() {
            self.run(self.clone().end_with(entry));
        }
        self.run(self.clone().attend(line.clone(), arrivals, is_first));
        Ok(line)
    }

    /// A connection that waited for this client, if there is one that is alive.
    async fn spare(
        &self,
        entry: &Entry,
        progress: &mpsc::Sender<Progress>,
        is_first: bool,
    ) -> Result<Option<Inward>, Refusal> {
        let Client { control, login, .. } = &*self.client;
        let Some(Spare { connection, arrivals, parked, .. }) = self.spares.take(entry) else {
            return Ok(None);
        };
        if !control.take_up(entry, &parked, progress).await? || !connection.answers(ALIVE).await {
            return Ok(None);
        }
        if is_first {
            control.acting(login.actor()).note_direct(entry).await;
        }
        Ok(Some((connection, arrivals)))
    }

    /// A new connection.
    async fn connect(
        &self,
        entry: &Entry,
        progress: mpsc::Sender<Progress>,
        is_first: bool,
    ) -> Result<Inward, Refusal> {
        let Client { control, login, .. } = &*self.client;
        let stream = control.connect(entry, progress).await?;
        let key = if is_first {
            control.acting(login.actor()).direct_key(entry).await?
        } else {
            control.session_key(entry, Purpose::Direct).await?
        };
        let credentials =
            Credentials::new(key.user.as_str(), key.private_key.expose(), &key.certificate, &key.host_key)?;
        Ok(Connection::open_for_client(stream, credentials).await?)
    }

    /// Opens the channels that come from a line, for as long as it is there. When the first one ends, so does the client's
    /// connection, as it would with the sshd.
    async fn attend(self: Arc<Self>, line: Arc<Line>, mut arrivals: mpsc::Receiver<Arrival>, is_first: bool) {
        while let Some(arrival) = arrivals.recv().await {
            if line.was_asked_for(arrival.origin()) {
                self.run(streams::by_arrival(self.clone(), line.clone(), arrival));
            }
        }
        if is_first {
            line.is_empty().await;
            self.caller.disconnect(&format!("{} ended the connection.", line.vm())).await;
        }
    }

    /// Ends the client's connection with what was shared. Its lines have ended then, but one that is held up does not notice.
    async fn end_with(self: Arc<Self>, entry: Entry) {
        entry.ended().await;
        let why = ConnectError::NotShared { vm: entry.vm().clone() }.to_string();
        let _ = timeout(GOODBYE, self.caller.disconnect(&why)).await;
        self.over.cancel();
    }

    /// Runs a task for as long as the client's connection lives.
    fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let over = self.over.clone();
        self.tasks.spawn(async move {
            let _ended_by_the_connection = over.run_until_cancelled(task).await;
        });
    }

    /// Has the VM listen on a port for the client, and gives the port; `None` where it does not.
    pub(crate) async fn listen(self: &Arc<Self>, address: &str, port: u32) -> Option<u32> {
        let (line, permit) = self.for_listening().await?;
        let port = line.connection().listen(address, port).await.ok()?;
        line.asked_for_port(address, port, permit);
        Some(port)
    }

    /// Ends [`Direct::listen`]; whether there was something to end.
    pub(crate) async fn listen_no_longer(self: &Arc<Self>, address: &str, port: u32) -> bool {
        let Some(line) = self.first.get() else { return false };
        let ended = line.connection().listen_no_longer(address, port).await.is_ok();
        ended && line.no_longer_port(address, port)
    }

    /// The same with a socket.
    pub(crate) async fn listen_on_socket(self: &Arc<Self>, path: &str) -> bool {
        let Some((line, permit)) = self.for_listening().await else { return false };
        let listens = line.connection().listen_on_socket(path).await.is_ok();
        if listens {
            line.asked_for_socket(path, permit);
        }
        listens
    }

    /// Ends [`Direct::listen_on_socket`].
    pub(crate) async fn listen_on_socket_no_longer(self: &Arc<Self>, path: &str) -> bool {
        let Some(line) = self.first.get() else { return false };
        let ended = line.connection().listen_on_socket_no_longer(path).await.is_ok();
        ended && line.no_longer_socket(path)
    }

    /// The line on which the VM listens, and a permit for one thing more, unless it listens on as much as it may.
    async fn for_listening(self: &Arc<Self>) -> Option<(Arc<Line>, OwnedSemaphorePermit)> {
        let permit = self.listening.clone().try_acquire_owned().ok()?;
        let (nobody, _) = mpsc::channel(1);
        Some((self.first(nobody).await.ok()?, permit))
    }
}

/// A place beside others, on the line where there is the least to wait for.
fn shared<'a>(others: impl Iterator<Item = &'a Arc<Line>>, first: &'a Arc<Line>, kind: Kind) -> Place {
    let least = std::iter::once(first).chain(others).min_by_key(|line| (line.is_held_up(), line.load()));
    Place::new(least.unwrap_or(first).clone(), kind)
}
