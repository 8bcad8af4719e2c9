//! The task that moves bytes between QEMU's socket and the stack.
//!
//! One task a network. It owns the socket and the frames on it; the stack is shared with the streams, which
//! read and write their socket's buffers in place, under a lock that is held for one bounded call and never
//! across an await.
//!
//! While no guest is attached nothing moves and no timer runs; while one is attached and silent, the task waits
//! for its socket alone.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use smoltcp::time::Instant;
use tokio::{
    io::Interest,
    net::UnixStream,
    sync::{Notify, watch},
};

use crate::{
    link::Family,
    stack::{Stack, Turn, Wire},
};

/// If the stack wants a turn at once but the last did nothing, it gets it after this.
const PAUSE: Duration = Duration::from_millis(1);

/// The stack's time. The one place that says how it passes.
struct Clock {
    start: tokio::time::Instant,
}

impl Clock {
    fn now(&self) -> Instant {
        Instant::from_micros(i64::try_from(self.start.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    fn until(&self, then: Instant) -> Duration {
        (then - self.now().min(then)).into()
    }
}

/// The families on which the attached guest has been heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

/// What the handles, the streams and the driver share.
pub(crate) struct Shared {
    state: Mutex<State>,
    clock: Clock,
    /// Something happened that the driver must look at.
    kick: Notify,
    pub(crate) heard: watch::Sender<Heard>,
}

pub(crate) struct State {
    pub(crate) stack: Stack,
    next: Option<UnixStream>,
    /// No handle and no stream is left.
    abandoned: bool,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State { stack: Stack::new(), next: None, abandoned: false }),
            clock: Clock { start: tokio::time::Instant::now() },
            kick: Notify::new(),
            heard: watch::Sender::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn kick(&self) {
        self.kick.notify_one();
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The old guest's streams end here and not in the driver, so that the new guest can be dialled at once.
    pub(crate) fn attach(&self, connection: UnixStream) {
        let mut state = self.lock();
        state.stack.detach();
        state.stack.attach();
        state.next = Some(connection);
        self.heard.send_replace(Heard::default());
        drop(state);
        self.kick();
    }

    pub(crate) fn abandon(&self) {
        self.lock().abandoned = true;
        self.kick();
    }

    fn note_heard(&self, turn: &Turn) {
        self.heard.send_if_modified(|heard| {
            let before = *heard;
            heard.v4 |= turn.heard.contains(&Some(Family::V4));
            heard.v6 |= turn.heard.contains(&Some(Family::V6));
            *heard != before
        });
    }
}

/// Runs until the last handle and stream are gone and what they sent is delivered.
pub(crate) async fn run(shared: Arc<Shared>) {
    let _reset = ResetOnExit(&shared);
    loop {
        let (next, abandoned) = {
            let mut state = shared.lock();
            (state.next.take(), state.abandoned)
        };
        match next {
            Some(connection) => serve(&shared, &connection).await,
            None if abandoned => return,
            None => shared.kick.notified().await,
        }
    }
}

/// However the task ends, no stream waits for it.
struct ResetOnExit<'a>(&'a Shared);

impl Drop for ResetOnExit<'_> {
    fn drop(&mut self) {
        self.0.lock().stack.detach();
    }
}

/// Serves one connection to its end, whatever ends it.
async fn serve(shared: &Shared, connection: &UnixStream) {
    if let Err(error) = exchange(shared, connection).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the guest's network connection is dropped");
    }
    let mut state = shared.lock();
    if state.next.is_none() {
        state.stack.detach();
    }
}

async fn exchange(shared: &Shared, connection: &UnixStream) -> io::Result<()> {
    let mut wire = Wire::default();
    let mut ended = false;
    loop {
        let received = match connection.try_read(wire.decoder.room()) {
            Ok(0) if !wire.decoder.room().is_empty() => {
                ended = true;
                0
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) if is_hangup(&error) => {
                ended = true;
                0
            }
            Err(error) => return Err(error),
        };
        wire.decoder.filled(received);
        let turn = {
            let mut state = shared.lock();
            if state.next.is_some() || (state.abandoned && !state.stack.has_orphans()) {
                return Ok(());
            }
            let turn = state.stack.turn(shared.clock.now(), &mut wire);
            turn.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
        };
        shared.note_heard(&turn);
        let sent = if ended { discard(&mut wire) } else { flush(connection, &mut wire)? };
        if ended && turn.frames == 0 {
            return Ok(());
        }
        if received + turn.frames + sent > 0 {
            tokio::task::yield_now().await;
        } else {
            idle(shared, connection, &mut wire, &turn).await?;
        }
    }
}

/// Frames that came before the end still count, answers to them do not.
fn discard(wire: &mut Wire) -> usize {
    wire.outbox.sent(wire.outbox.len());
    0
}

/// Writes what the socket takes.
fn flush(connection: &UnixStream, wire: &mut Wire) -> io::Result<usize> {
    let mut sent = 0;
    while wire.outbox.len() > 0 {
        match connection.try_write(wire.outbox.pending()) {
            Ok(count) => {
                wire.outbox.sent(count);
                sent += count;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // What it sent before it hung up is still to be read, and then the end.
            Err(error) if is_hangup(&error) => {
                wire.outbox.sent(wire.outbox.len());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

fn is_hangup(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Waits until another turn can do something.
async fn idle(shared: &Shared, connection: &UnixStream, wire: &mut Wire, turn: &Turn) -> io::Result<()> {
    let blocked = wire.outbox.len() > 0;
    let due =
        if blocked { turn.orphans_due } else { turn.sockets_due.into_iter().chain(turn.orphans_due).min() };
    let interest = match (wire.decoder.room().is_empty(), blocked) {
        (false, false) => Interest::READABLE,
        (false, true) => Interest::READABLE | Interest::WRITABLE,
        // Frames are left in the decoder only for want of room in the outbox.
        (true, _) => Interest::WRITABLE,
    };
    tokio::select! {
        () = shared.kick.notified() => Ok(()),
        ready = connection.ready(interest) => ready.map(drop),
        () = async {
            match due {
                Some(due) => tokio::time::sleep(shared.clock.until(due).max(PAUSE)).await,
                None => std::future::pending().await,
            }
        } => Ok(()),
    }
}
