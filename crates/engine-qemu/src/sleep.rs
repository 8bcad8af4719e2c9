//! What a sleeping VM is on the host's disks: its memory, its devices, and what machine they belong to.
//!
//! ```text
//!                     fall asleep: 10 ms           settle: in the background
//!   QEMU's memory ─────────────────────► warm ──────────────────────────────► cold
//!   is a file of `warm` all along        (a tmpfs; lost with the power)       (the state folder; lasts)
//!       ▲                                 │                                    │
//!       └──────────── wake: 0.1 s ────────┴──── wake: copied back meanwhile ───┘
//! ```
//!
//! A VM is asleep if and only if one of the two has a record, which is written last and taken away first. A wake takes
//! it away when the guest is about to go on and not before, so that whatever fails earlier leaves the sleep as it was.
//! From then on the disk moves on, and what was kept must never be used again.
//!
//! Owned here: the files, their order and their checks. Not owned: who may touch them (whoever holds the VM's lock), and
//! QEMU. Everything here blocks.

mod copy;
mod record;
mod tiers;

use std::path::PathBuf;

pub(crate) use record::{Record, Unusable, given_hash};
pub(crate) use tiers::{
    Found, GivenUp, Restore, Settled, clear_leftovers, clear_memory, discard, end, end_is_undone, find,
    forget, fresh_memory, is_asleep, settle,
};

/// A folder that holds a sleep, or what becomes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SleepDir(pub(crate) PathBuf);

impl SleepDir {
    /// The guest's memory, sparse.
    pub(crate) fn memory(&self) -> PathBuf {
        self.0.join("memory")
    }

    /// QEMU's device state.
    pub(crate) fn device(&self) -> PathBuf {
        self.0.join("device")
    }

    /// The [`Record`] that makes this a sleep.
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("asleep.json")
    }

    /// The record of a sleep that has just ended, in case it has to be put back.
    fn used_record(&self) -> PathBuf {
        self.0.join("used.json")
    }
}
