//! What an engine sees of a VM.

use serde::{Deserialize, Serialize};

/// What a VM is doing, as its engine sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Observed {
    /// The engine has no disk of it.
    Missing,
    /// There is a disk and no process.
    Off {
        /// How it came to be off, where that is known.
        ended: Option<Ending>,
    },
    /// Its memory is kept, and nothing of it runs. A VM that was forked from its image and never ran is asleep too.
    Asleep {
        /// Somebody's bytes wait for it on a connection that was open when it fell asleep, or the end of one does.
        called: bool,
    },
    /// It is being woken. Connections are not possible yet.
    Waking,
    /// It boots: at a start, or because the guest rebooted. Connections are not possible yet.
    Booting,
    /// The guest has its account and keys, and its sshd has answered since it booted.
    Running,
    /// It was asked to shut down and has not finished.
    Stopping,
}

/// How a VM came to be off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Ending {
    /// Somebody inside shut it down.
    PoweredOff,
    /// It was stopped from outside, and had the time to shut down.
    Stopped,
    /// It was stopped from outside, and did not shut down in time: the plug was pulled.
    Killed,
    /// Its process ended by itself, or it could not boot.
    Failed {
        /// A sentence for the owner, without a full stop.
        reason: String,
    },
}
