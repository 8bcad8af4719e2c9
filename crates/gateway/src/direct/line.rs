//! A connection into the VM, the channels on it, and what may come back through it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use berth_control::Entry;
use berth_vm_ssh::{Connection, Origin, Request};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::timeout,
};

/// So long the last words of a VM may take to get to the client.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something runs in it, and mostly somebody waits for it.
    Session,
    /// It leads somewhere.
    Stream,
}

/// See the module.
pub(super) struct Line {
    connection: Connection,
    vm: String,
    entry: Entry,
    asked: Mutex<Asked>,
    sessions: AtomicUsize,
    streams: AtomicUsize,
    /// Channels that are not read.
    held: AtomicUsize,
    /// A channel has come or gone.
    changed: Notify,
}

/// What the client wants to come back. The permits go back when it does not any more.
#[derive(Default)]
struct Asked {
    agent: bool,
    x11: bool,
    /// By address: the VM may listen on one port of several.
    ports: HashMap<(String, u32), OwnedSemaphorePermit>,
    sockets: HashMap<String, OwnedSemaphorePermit>,
}

impl Line {
    pub(super) fn new(connection: Connection, entry: Entry) -> Self {
        Self {
            connection,
            vm: entry.vm().label(),
            entry,
            asked: Mutex::default(),
            sessions: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// By what it was opened.
    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// What its owner calls the VM.
    pub(super) fn vm(&self) -> &str {
        &self.vm
    }

    pub(super) fn is_over(&self) -> bool {
        self.connection.is_over()
    }

    /// How many channels there are.
    pub(super) fn load(&self) -> usize {
        self.sessions.load(Ordering::Relaxed) + self.streams.load(Ordering::Relaxed)
    }

    /// Whether one more channel of this kind would disturb nobody, and be disturbed by nobody, as far as can be known.
    pub(super) fn suits(&self, kind: Kind) -> bool {
        match kind {
            Kind::Session => self.load() == 0,
            Kind::Stream => self.sessions.load(Ordering::Relaxed) == 0 && !self.is_held_up(),
        }
    }

    /// Whether a channel is not read, and others of this line are therefore slow.
    pub(super) fn is_held_up(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0
    }

    /// Waits until all channels are gone, for some seconds.
    pub(super) async fn is_empty(&self) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if self.load() == 0 {
                    return;
                }
                changed.await;
            }
        };
        let _ = timeout(LAST_WORDS, waiting).await;
    }

    /// Notes what a request allows to come back.
    pub(super) fn asked_for(&self, request: &Request) {
        match request {
            Request::Agent => self.asked().agent = true,
            Request::X11 { .. } => self.asked().x11 = true,
            _ => {}
        }
    }

    pub(super) fn asked_for_port(&self, address: &str, port: u32, permit: OwnedSemaphorePermit) {
        self.asked().ports.insert((address.to_owned(), port), permit);
    }

    pub(super) fn asked_for_socket(&self, path: &str, permit: OwnedSemaphorePermit) {
        self.asked().sockets.insert(path.to_owned(), permit);
    }

    pub(super) fn no_longer_port(&self, address: &str, port: u32) -> bool {
        self.asked().ports.remove(&(address.to_owned(), port)).is_some()
    }

    pub(super) fn no_longer_socket(&self, path: &str) -> bool {
        self.asked().sockets.remove(path).is_some()
    }

    /// Whether the client has asked for this to come back.
    pub(super) fn was_asked_for(&self, origin: &Origin) -> bool {
        let asked = self.asked();
        match origin {
            Origin::Agent => asked.agent,
            Origin::X11 { .. } => asked.x11,
            Origin::Port { port, .. } => asked.ports.keys().any(|(_, asked)| asked == port),
            Origin::Socket { path } => asked.sockets.contains_key(path),
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Session => &self.sessions,
            Kind::Stream => &self.streams,
        }
    }
}

/// A channel's place on a line; given back when dropped.
pub(super) struct Place {
    line: Arc<Line>,
    kind: Kind,
    holds: AtomicBool,
}

impl Place {
    pub(super) fn new(line: Arc<Line>, kind: Kind) -> Self {
        line.count(kind).fetch_add(1, Ordering::Relaxed);
        line.changed.notify_waiters();
        Self { line, kind, holds: AtomicBool::new(false) }
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// Whether others share the line.
    pub(super) fn is_shared(&self) -> bool {
        self.line.load() > 1
    }

    /// Waits until a channel of the line comes or goes, from when this is called.
    pub(super) fn changed(&self) -> impl Future<Output = ()> + Send + '_ {
        self.line.changed.notified()
    }

    /// Says whether this channel is the one that holds the line up.
    pub(super) fn hold(&self, holds: bool) {
        match (self.holds.swap(holds, Ordering::Relaxed), holds) {
            (false, true) => self.line.held.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.line.held.fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => 0,
        };
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hold(false);
        self.line.count(self.kind).fetch_sub(1, Ordering::Relaxed);
        self.line.changed.notify_waiters();
    }
}
