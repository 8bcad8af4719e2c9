//! A VM that is always-on: started with the server, and again when it stops by itself.

use std::time::Duration;

use tokio::time::Instant;

use super::Supervisor;
use crate::{lifecycle::State, why::Outlook};

/// How long after the first failure it is started again; each further one doubles the pause.
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_AT_MOST: Duration = Duration::from_secs(5 * 60);
/// One that has run for so long is well again.
const WELL_AFTER: Duration = Duration::from_secs(10 * 60);

/// See the module.
pub(super) struct AlwaysOn {
    /// A person turned it off: it stays off until a person starts it.
    pub(super) turned_off: bool,
    pub(super) start_at: Option<Instant>,
    /// How often in a row it stopped by itself or could not start.
    failures: u32,
    running_since: Option<Instant>,
}

impl AlwaysOn {
    pub(super) fn new(turned_off: bool) -> Self {
        Self { turned_off, start_at: None, failures: 0, running_since: None }
    }

    fn pause(&self) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            failures => (BACK_OFF * 2_u32.saturating_pow(failures - 1)).min(BACK_OFF_AT_MOST),
        }
    }
}

impl Supervisor {
    /// Decides whether, and when, it is to be started again. To be called after every change of what it depends on.
    pub(super) fn keep_on(&mut self) {
        if !self.tools.decides() {
            self.always_on.start_at = None;
            return;
        }
        let state = self.state.borrow().clone();
        match state {
            State::Running => {
                self.always_on.running_since.get_or_insert_with(Instant::now);
                self.always_on.start_at = None;
            }
            State::Off { .. } | State::Asleep { .. }
                if self.policy.always_on && !self.always_on.turned_off =>
            {
                if self.always_on.start_at.is_none() {
                    self.start_again();
                }
            }
            State::Off { .. } | State::Asleep { .. } | State::Removing { .. } | State::Removed => {
                self.always_on.start_at = None;
                self.always_on.running_since = None;
            }
            State::Starting
            | State::Waking
            | State::FallingAsleep { .. }
            | State::Stopping { .. }
            | State::Rebuilding { .. } => {
                self.always_on.start_at = None;
            }
        }
    }

    fn start_again(&mut self) {
        let well = self.always_on.running_since.take().is_some_and(|since| since.elapsed() >= WELL_AFTER);
        if well {
            self.always_on.failures = 0;
        }
        let pause = self.always_on.pause();
        self.always_on.failures = self.always_on.failures.saturating_add(1);
        self.always_on.start_at = Some(Instant::now() + pause);
        let (failures, at) = (self.always_on.failures - 1, self.tools.settings.clock.now() + pause);
        if failures > 0 {
            self.awake.outlook.send_replace(Outlook::StartsAgain { failures, at });
        }
    }
}
