//! What a VM uses, what holds it awake from within, and what there is for all.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// What a VM has used since it last began to run. Counters only grow, and begin at zero after every sleep and boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time of all its CPUs, as the host counts it.
    pub cpu: Duration,
    /// Bytes read from and written to its disk.
    pub disk: u64,
    /// Bytes of the host's memory that it holds now.
    pub memory: u64,
}

/// A program in the guest that asks for the VM to stay awake: `keepawake make test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// What it is for, in the words of whoever took it: at most 80 characters, without control characters.
    pub what: String,
    /// Since when, by the guest's clock.
    pub since: SystemTime,
    /// Until when at most; `None` for as long as the program runs.
    pub until: Option<SystemTime>,
}

/// A TCP port of a guest on which a program listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// Only the guest itself reaches it: the program listens on localhost.
    pub local: bool,
}

/// What an engine says of itself to an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its name and version, and how it runs VMs: `QEMU 10.0.2 with KVM`.
    pub name: String,
    /// It translates what VMs run instead of letting the processor run it.
    pub emulated: bool,
}

/// What there is for VMs on a host, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Memory that all running VMs together may have.
    pub memory: u64,
    /// Memory that is free at this moment, whoever has the rest.
    pub memory_free: u64,
    /// Free space on the disk where VMs are kept.
    pub disk_free: u64,
}
