//! What the handles, the streams and the driver share: the stack under a lock, and what phase the network is in.
//!
//! ```text
//!                freeze               the driver: all heard, the clock stops      a stream has news for the guest
//!   Running ───────────► Freezing ─────────────────────────────────────► Frozen ───────────────────────► Called
//!      ▲                    │                                               │                               │
//!      └────────────────────┴──── thaw, reattach (streams go on); attach, detach (streams end) ◄────────────┘
//! ```
//!
//! The lock is held for one bounded call and never across an await. The phase changes under it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use smoltcp::time::Duration;
use tokio::{
    net::UnixStream,
    sync::{Notify, watch},
};

use crate::{
    clock::Clock,
    dial::DialError,
    link::Family,
    stack::{CATCH_UP, Id, Stack, Turn},
};

/// The families on which the attached guest has been heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

/// See the module's drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    Freezing,
    Frozen,
    Called,
}

/// A connection to QEMU for the driver to change to.
pub(crate) enum Change {
    To(UnixStream),
    ToNone,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    /// Something happened that the driver must look at.
    pub(crate) kick: Notify,
    pub(crate) heard: watch::Sender<Heard>,
}

pub(crate) struct State {
    pub(crate) stack: Stack,
    pub(crate) clock: Clock,
    pub(crate) change: Option<Change>,
    /// No handle and no stream is left.
    pub(crate) abandoned: bool,
    phase: watch::Sender<Phase>,
}

impl State {
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// A stream has news for the guest.
    pub(crate) fn call(&self) {
        self.phase.send_if_modified(|phase| {
            let calls = *phase == Phase::Frozen;
            if calls {
                *phase = Phase::Called;
            }
            calls
        });
    }

    /// All that the guest had said is heard.
    pub(crate) fn settle(&mut self) {
        self.clock.stop();
        self.phase.send_replace(Phase::Frozen);
    }

    fn go_on(&mut self) {
        self.stack.catch_up();
        self.run(CATCH_UP);
    }

    fn run(&mut self, ahead: Duration) {
        self.clock.go_on(ahead);
        self.phase.send_replace(Phase::Running);
    }
}

impl Shared {
    pub(crate) fn new() -> Self {
        let state = State {
            stack: Stack::new(),
            clock: Clock::start(),
            change: None,
            abandoned: false,
            phase: watch::Sender::new(Phase::Running),
        };
        Self { state: Mutex::new(state), kick: Notify::new(), heard: watch::Sender::default() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn kick(&self) {
        self.kick.notify_one();
    }

    /// Waits for a phase; one that passes before this task gets to see it may be missed.
    pub(crate) async fn until(&self, what: impl FnMut(&Phase) -> bool) {
        let mut phase = self.lock().phase.subscribe();
        // The sender is in `self`.
        let _ = phase.wait_for(what).await;
    }

    /// The old guest's streams end here and not in the driver, so that the new guest can be dialled at once.
    pub(crate) fn attach(&self, connection: UnixStream) {
        let mut state = self.lock();
        self.part(&mut state, Change::To(connection));
        state.stack.attach();
    }

    pub(crate) fn detach(&self) {
        let mut state = self.lock();
        self.part(&mut state, Change::ToNone);
    }

    fn part(&self, state: &mut State, change: Change) {
        state.stack.detach();
        state.change = Some(change);
        state.run(Duration::ZERO);
        self.heard.send_replace(Heard::default());
        self.kick();
    }

    pub(crate) async fn freeze(&self) {
        self.lock().phase.send_if_modified(|phase| {
            let runs = *phase == Phase::Running;
            if runs {
                *phase = Phase::Freezing;
            }
            runs
        });
        self.kick();
        self.until(|phase| *phase != Phase::Freezing).await;
    }

    pub(crate) fn thaw(&self) {
        let mut state = self.lock();
        if state.phase() != Phase::Running {
            state.go_on();
            self.kick();
        }
    }

    pub(crate) fn reattach(&self, connection: UnixStream) {
        let mut state = self.lock();
        if state.phase() == Phase::Running {
            self.part(&mut state, Change::To(connection));
        } else {
            state.go_on();
            state.change = Some(Change::To(connection));
            self.kick();
        }
        state.stack.attach();
    }

    /// Starts a connection. Waits while the network is frozen: a freeze that is given up costs a dial nothing.
    pub(crate) async fn open(&self, family: Family, port: u16) -> Result<Id, DialError> {
        loop {
            self.until(|phase| *phase == Phase::Running).await;
            let mut state = self.lock();
            if state.phase() == Phase::Running {
                let id = state.stack.open(family, port);
                self.kick();
                return id;
            }
        }
    }

    pub(crate) fn abandon(&self) {
        self.lock().abandoned = true;
        self.kick();
    }

    pub(crate) fn note_heard(&self, turn: &Turn) {
        self.heard.send_if_modified(|heard| {
            let before = *heard;
            heard.v4 |= turn.heard.contains(&Some(Family::V4));
            heard.v6 |= turn.heard.contains(&Some(Family::V6));
            *heard != before
        });
    }
}
