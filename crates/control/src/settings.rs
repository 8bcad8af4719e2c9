//! What the operator decided, as control needs it.

use std::time::Duration;

use berth_engine::VmSpec;
use berth_model::Domains;

/// What control is told once, at the start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The domains and the default team.
    pub domains: Domains,
    /// The size of a new VM.
    pub vm: VmSpec,
    /// How long a guest has to shut down before its plug is pulled.
    pub stop_patience: Duration,
    /// The website's address without a slash at its end, for texts that send a person there.
    pub website: String,
}
