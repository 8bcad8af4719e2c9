//! The account's keys on their way into a guest that runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use berth_engine::EngineError;
use tokio::{sync::oneshot, time::sleep};
use tracing::warn;

use super::{Pending, Supervisor};
use crate::lifecycle::{Effect, State};

/// How long after a failed push it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The longest pause between two tries.
const RETRY_AT_MOST: Duration = Duration::from_secs(60);

/// Whether the guest has the account's present keys.
pub(super) struct Keys {
    /// They changed after they were last read for the guest.
    stale: bool,
    /// The push under way, or waiting for its turn after one that failed.
    pub(super) push: Option<Pending<Result<(), EngineError>>>,
    /// How long the next push waits if this one fails.
    back_off: Duration,
    /// Who waits until the guest has them.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
    /// The last push failed, and the guest runs.
    behind: Arc<AtomicBool>,
}

impl Keys {
    /// A server that was away may have missed a change.
    pub(super) fn new() -> Self {
        Self { stale: true, push: None, back_off: RETRY, waiting: vec![], behind: Arc::default() }
    }

    /// A start of a VM that is off or asleep reads the keys and hands them over. One that only waits for a guest which
    /// comes up already, after a reboot or a restart of the server, does not.
    pub(super) fn note_start(&mut self, before: &State, effects: &[Effect]) {
        let hands_over = matches!(
            before,
            State::Off { .. }
                | State::Stopping { .. }
                | State::Asleep { .. }
                | State::FallingAsleep { .. }
                | State::Rebuilding { .. }
        );
        if hands_over && effects.iter().any(|effect| matches!(effect, Effect::Start | Effect::Boot)) {
            self.stale = false;
        }
    }

    /// Whether the guest is behind, for others to see.
    pub(super) fn behind(&self) -> Arc<AtomicBool> {
        self.behind.clone()
    }

    fn release(&mut self, behind: bool) {
        self.behind.store(behind, Ordering::Relaxed);
        for answer in self.waiting.drain(..) {
            let _ = answer.send(());
        }
    }
}

impl Supervisor {
    pub(super) fn on_keys_changed(&mut self, answer: oneshot::Sender<()>) {
        // A push under way has the keys of before, or waits for its turn after one that failed.
        self.keys.push = None;
        self.keys.stale = true;
        self.keys.waiting.push(answer);
    }

    /// Brings changed keys into a guest that runs. Nobody is kept waiting for a guest that does not: it gets them at
    /// its next start, or, when they changed while it was starting, as soon as it runs.
    pub(super) fn push_keys_if_stale(&mut self) {
        let running = *self.state.borrow() == State::Running;
        if !running {
            // What was under way may not have arrived.
            self.keys.stale |= self.keys.push.take().is_some();
            self.keys.release(false);
        } else if self.keys.push.is_none() {
            if self.keys.stale {
                self.keys.stale = false;
                self.keys.push = Some(Box::pin(self.job().push_keys()));
            } else {
                self.keys.release(false);
            }
        }
    }

    pub(super) fn on_pushed(&mut self, result: Result<(), EngineError>) {
        self.keys.push = None;
        match result {
            Ok(()) => self.keys.back_off = RETRY,
            Err(error) => {
                warn!(vm = %self.name, %error, "the keys could not be brought into the VM; trying again");
                self.keys.release(true);
                self.keys.stale = false;
                let (wait, push) = (self.keys.back_off, self.job().push_keys());
                self.keys.back_off = (wait * 2).min(RETRY_AT_MOST);
                self.keys.push = Some(Box::pin(async move {
                    sleep(wait).await;
                    push.await
                }));
            }
        }
    }
}
