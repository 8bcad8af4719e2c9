//! Connections into VMs that are logged in and wait for a client: most of what a new session costs is logging in.
//!
//! ```text
//!   a client comes ──► take() ── a spare that is fresh ──► it is the client's, whole
//!        │                  └─── none ──► a new connection
//!        └──► keep(): 2 s after the VM was left alone, and once more when the client has gone ──► a spare
//! ```
//!
//! A spare is for the next client of one account into one VM, and is never shared: nothing was asked on it before, so
//! neither an agent nor a port of one client can be met by another. There is one for an account and a VM, and [`MOST`] in
//! all; the oldest gives way. It ends with the key of who was there when it was made, with the share, with the VM's sshd,
//! and when somebody uses the VM by another way, since it may know old settings then.
//!
//! Concurrency: the list is under a lock that is held for a few instructions. A task makes a spare and watches it; another
//! one takes it.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use berth_control::{Control, Entry, Login, Parked, Purpose};
use berth_model::{AccountName, VmName};
use berth_vm_ssh::{Arrival, Connection, Credentials};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::debug;

use super::SSH;
use crate::refusal::Refusal;

/// Spares of a gateway. Each costs some memory in its VM, and for one that sleeps its shim.
const MOST: usize = 64;
/// A VM that nobody has used for so long is left alone: nobody waits for what logging in costs it.
const QUIET: Duration = Duration::from_secs(2);
/// After so long it is no use to wait for that.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often another one is made for one that is stale after its client has gone: that a guest was at work is noticed a
/// minute later.
const TRIES: usize = 3;

/// Whose a spare is.
type Whose = (VmName, AccountName);

/// See the module.
pub(crate) struct Spares {
    control: Arc<Control>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    kept: HashMap<Whose, Spare>,
    making: HashSet<Whose>,
}

/// A connection that is logged in and on which nothing was asked.
pub(super) struct Spare {
    pub(super) connection: Connection,
    pub(super) arrivals: mpsc::Receiver<Arrival>,
    pub(super) parked: Parked,
    since: Instant,
    _left: DropGuard,
}

/// One that is in the list.
struct Watched {
    /// It was taken, or gave way.
    left: CancellationToken,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    parked: Parked,
    since: Instant,
}

/// How one left the list, or why there is none.
#[derive(Debug, PartialEq, Eq)]
enum Gone {
    /// Somebody used the VM.
    Stale,
    Otherwise,
}

impl Spares {
    pub(crate) fn new(control: Arc<Control>, tasks: TaskTracker, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self { control, tasks, shutdown, inner: Mutex::default() })
    }

    /// The spare that is for whoever `entry` lets in, out of the list; it may turn out to be for nothing.
    pub(super) fn take(&self, entry: &Entry) -> Option<Spare> {
        let spare = self.lock().kept.remove(&whose(entry))?;
        (!spare.connection.is_over()).then_some(spare)
    }

    /// Has a spare made while a client is there that `entry` let in, and another one when it has gone: a few times, if
    /// something still goes on in the VM.
    pub(super) fn keep(
        self: &Arc<Self>,
        login: Login,
        host: String,
        entry: &Entry,
        client_gone: CancellationToken,
    ) {
        let (spares, whose) = (self.clone(), whose(entry));
        self.run(async move {
            spares.make(&login, &host, &whose).await;
            client_gone.cancelled().await;
            for _ in 0..TRIES {
                if spares.make(&login, &host, &whose).await != Gone::Stale {
                    break;
                }
            }
        });
    }

    /// Makes a spare when the VM is left alone, unless there is one or somebody makes it, and waits until it is gone.
    async fn make(&self, login: &Login, host: &str, whose: &Whose) -> Gone {
        let left_alone = self.control.left_alone(&whose.0, QUIET);
        let left_alone = timeout(PATIENCE, left_alone).await.unwrap_or(false);
        if !left_alone || self.has_fresh(whose) || !self.lock().making.insert(whose.clone()) {
            return Gone::Otherwise;
        }
        let making = Making { spares: self, whose };
        let new = match self.log_in(login, host).await {
            Ok(new) => new,
            Err(refusal) => {
                debug!(vm = %whose.0, %refusal, "no connection is kept ready");
                None
            }
        };
        let Some(new) = new else { return Gone::Otherwise };
        let watched = self.put(whose, new);
        drop(making);
        self.watch(whose, watched).await
    }

    fn has_fresh(&self, whose: &Whose) -> bool {
        let inner = self.lock();
        inner.kept.get(whose).is_some_and(|spare| !spare.connection.is_over() && !spare.parked.is_stale())
    }

    async fn log_in(&self, login: &Login, host: &str) -> Result<Option<New>, Refusal> {
        let entry = self.control.enter(login, host, SSH).await?.carried();
        let Some((parked, stream)) = self.control.park(login, &entry).await else { return Ok(None) };
        let key = self.control.session_key(&entry, Purpose::Parked).await?;
        let credentials =
            Credentials::new(key.user.as_str(), key.private_key.expose(), &key.certificate, &key.host_key)?;
        let (connection, arrivals) = Connection::open_for_client(stream, credentials).await?;
        Ok(Some(New { connection, arrivals, parked }))
    }

    /// Puts it into the list, and gives what there is to be watched.
    fn put(&self, whose: &Whose, New { connection, arrivals, parked }: New) -> Watched {
        let (left, since) = (CancellationToken::new(), Instant::now());
        let watched =
            Watched { left: left.clone(), over: Box::pin(connection.ended()), parked: parked.clone(), since };
        let spare = Spare { connection, arrivals, parked, since, _left: left.drop_guard() };
        let mut inner = self.lock();
        let oldest = inner.kept.iter().min_by_key(|(_, spare)| spare.since);
        let oldest = oldest.map(|(whose, _)| whose.clone()).filter(|_| inner.kept.len() >= MOST);
        oldest.and_then(|oldest| inner.kept.remove(&oldest));
        inner.kept.insert(whose.clone(), spare);
        watched
    }

    /// Waits until one has left the list, and removes it when it is for nothing any more.
    async fn watch(&self, whose: &Whose, Watched { left, over, parked, since }: Watched) -> Gone {
        let gone = tokio::select! {
            () = left.cancelled() => return Gone::Otherwise,
            () = over => Gone::Otherwise,
            () = parked.ended() => Gone::Otherwise,
            () = parked.staled() => Gone::Stale,
        };
        let mut inner = self.lock();
        if inner.kept.get(whose).is_some_and(|spare| spare.since == since) {
            inner.kept.remove(whose);
        }
        gone
    }

    fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            let _ended_by_the_server = shutdown.run_until_cancelled(task).await;
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that is not in the list yet.
struct New {
    connection: Connection,
    arrivals: mpsc::Receiver<Arrival>,
    parked: Parked,
}

/// That somebody makes one.
struct Making<'a> {
    spares: &'a Spares,
    whose: &'a Whose,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.spares.lock().making.remove(self.whose);
    }
}

fn whose(entry: &Entry) -> Whose {
    (entry.vm().clone(), entry.account().clone())
}
