//! `[recording]`: what is kept of sessions.

use std::path::PathBuf;

use berth_control::{RecordingLimits, RecordingSettings};
use serde::{Deserialize, Serialize};

use super::{
    Problem,
    size::{GIB, MIB, Size},
};

/// Less is not worth a file.
const LEAST: Size = Size(64 << 10);

/// What is recorded, and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Recording {
    /// Whether sessions with a terminal are recorded that this server carries in the clear.
    pub(crate) sessions: bool,
    /// The most that is kept of one session.
    pub(crate) each: Size,
    /// The most that is kept of all; the oldest go first.
    pub(crate) all: Size,
}

impl Default for Recording {
    fn default() -> Self {
        Self { sessions: false, each: Size(64 * MIB), all: Size(2 * GIB) }
    }
}

impl Recording {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = vec![];
        if self.each < LEAST {
            let message = format!("{} is too little for a session. Give at least {LEAST}.", self.each);
            problems.push(Problem::new("recording.each", message));
        }
        if self.all < self.each {
            let message =
                format!("One recording alone may have {} (recording.each). Give as much.", self.each);
            problems.push(Problem::new("recording.all", message));
        }
        problems
    }

    pub(super) fn settings(&self, folder: PathBuf) -> RecordingSettings {
        let limits = RecordingLimits { each: self.each.bytes(), all: self.all.bytes() };
        RecordingSettings { folder, limits, sessions: self.sessions }
    }
}
