//! The state of a VM in the words of the page, ssh and the command line.

use std::fmt;

use berth_engine::Ending;
use serde::{Deserialize, Serialize};

use crate::lifecycle::State;

/// What a person is told that a VM is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It can be connected to.
    Running,
    /// Its memory is kept, nothing of it runs, and it wakes when somebody connects.
    Asleep,
    /// It wakes.
    Waking,
    /// It boots.
    Starting,
    /// It shuts down.
    Stopping,
    /// It is off, and starts when somebody connects.
    Off,
    /// It is off because something went wrong.
    Failed,
    /// It is getting a new disk.
    Rebuilding,
    /// It is being removed.
    Removing,
}

impl Status {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Running,
        Self::Asleep,
        Self::Waking,
        Self::Starting,
        Self::Stopping,
        Self::Off,
        Self::Failed,
        Self::Rebuilding,
        Self::Removing,
    ];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Asleep => "asleep",
            Status::Waking => "waking",
            Status::Starting => "starting",
            Status::Stopping => "stopping",
            Status::Off => "off",
            Status::Failed => "failed",
            Status::Rebuilding => "rebuilding",
            Status::Removing => "removing",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The status that is shown for a state, and the reason where there is one to give: a clause without a full stop.
pub(crate) fn shown(state: &State) -> (Status, Option<String>) {
    (status(state), reason(state))
}

/// The status that is shown for a state.
pub(crate) fn status(state: &State) -> Status {
    match state {
        State::Off { ended: Some(Ending::Failed { .. }) } => Status::Failed,
        State::Off { .. } => Status::Off,
        State::Starting => Status::Starting,
        State::Waking => Status::Waking,
        State::Asleep { .. } => Status::Asleep,
        // It can be connected to at any moment of it.
        State::Running | State::FallingAsleep { .. } => Status::Running,
        State::Stopping { .. } => Status::Stopping,
        State::Rebuilding { .. } => Status::Rebuilding,
        State::Removing { .. } | State::Removed => Status::Removing,
    }
}

fn reason(state: &State) -> Option<String> {
    match state {
        State::Off { ended } => match ended.as_ref()? {
            Ending::Stopped => Some("it was stopped".into()),
            Ending::PoweredOff => Some("somebody inside shut it down".into()),
            Ending::Killed => Some("it did not shut down in time, so its plug was pulled".into()),
            Ending::Failed { reason } => Some(reason.clone()),
        },
        State::Asleep { failed } => Some(format!("it could not be woken: {}", failed.as_ref()?)),
        State::Removing { under_way: false } => {
            Some("it could not be removed; it is tried again at the next start of the server".into())
        }
        State::Starting
        | State::Waking
        | State::Running
        | State::FallingAsleep { .. }
        | State::Stopping { .. }
        | State::Rebuilding { .. }
        | State::Removing { under_way: true }
        | State::Removed => None,
    }
}
