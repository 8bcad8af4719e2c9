//! What can go wrong in an engine.

/// Why an engine could not do what it was asked. The texts are for the member: no paths, no internals; details are in
/// the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Nothing is known of this VM.
    #[error("there is no such VM")]
    Missing,
    /// The verb needs a running VM.
    #[error("the VM is not running")]
    NotRunning,
    /// The guest answered a connection attempt with a reset: no program listens there.
    #[error("nothing listens on port {port}")]
    Refused {
        /// The port that was dialled.
        port: u16,
    },
    /// The guest did not answer in time.
    #[error("the VM does not answer")]
    TimedOut,
    /// The VM did not come up; its boot log may tell more.
    #[error("{reason}")]
    StartFailed {
        /// A sentence without a full stop.
        reason: String,
    },
    /// The VM did not wake. Its sleep is as it was: it may be tried again, or given up with `Engine::forget_sleep`.
    #[error("{reason}")]
    WakeFailed {
        /// A sentence without a full stop.
        reason: String,
    },
    /// The VM did not fall asleep, since a connection arrived in the same moment. It runs.
    #[error("somebody is connecting to it")]
    InUse,
    /// The host has no room for what was asked.
    #[error("{reason}")]
    NoRoom {
        /// A sentence without a full stop.
        reason: String,
    },
    /// The machine that has the VM does not answer, or the whole cluster does not: what it is doing is not known.
    #[error("{reason}")]
    Away {
        /// A clause without a full stop.
        reason: String,
    },
    /// A file that was to be its disk cannot be that.
    #[error("{reason}")]
    Unfit {
        /// A clause without a full stop, about the file.
        reason: String,
    },
    /// Something on the host is broken or missing: the operator has to act.
    #[error("{reason}")]
    Broken {
        /// A sentence without a full stop that tells the operator what to do.
        reason: String,
    },
}
