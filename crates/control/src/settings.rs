//! What the operator decided, as control needs it.

use std::time::Duration;

use berth_engine::VmSpec;
use berth_model::Domains;
use berth_store::Limits;

use crate::{clock::Clock, idle::IdleRules, recordings::RecordingSettings};

/// What control is told once, at the start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The domains and the default team.
    pub domains: Domains,
    /// The size of a new VM.
    pub vm: VmSpec,
    /// What all VMs of one account together may have, where the operator has set nothing for it alone.
    pub limits: Limits,
    /// When VMs go to sleep.
    pub idle: IdleRules,
    /// Bytes of memory that all VMs which are awake may have together; `None` for what the engine says the host has.
    pub memory: Option<u64>,
    /// How long a guest has to shut down before its plug is pulled.
    pub stop_patience: Duration,
    /// The website's address without a slash at its end, for texts that send a person there.
    pub website: String,
    /// What is recorded, and where; `None` where nothing ever is.
    pub recording: Option<RecordingSettings>,
    /// Where the idle policy has the time from.
    pub clock: Clock,
}

impl Settings {
    /// With nothing limited but by the host, and the usual rules for the rest.
    #[must_use]
    pub fn new(domains: Domains, vm: VmSpec, website: String) -> Self {
        Self {
            domains,
            vm,
            limits: Limits::NONE,
            idle: IdleRules::default(),
            memory: None,
            stop_patience: Duration::from_secs(60),
            website,
            recording: None,
            clock: Clock::System,
        }
    }
}
