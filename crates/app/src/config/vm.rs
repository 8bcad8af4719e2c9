//! `[vm]`: what a new VM is made of, and how VMs are treated.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Problem,
    size::{GIB, MIB, Size},
    span::Span,
};

const MAX_CPUS: u32 = 255;
/// The stock image does not boot with less.
const MIN_MEMORY: Size = Size(256 * MIB);
/// VMs' disks lie over the image's.
const MIN_DISK: Size = Size(berth_engine_qemu::image::DISK_SIZE);

/// The VMs' settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Vm {
    /// Virtual CPUs of a new VM.
    pub(crate) cpus: u32,
    /// Memory of a new VM.
    pub(crate) memory: Size,
    /// Size of a new VM's disk; it takes room as it is filled.
    pub(crate) disk: Size,
    /// Whether programs in VMs reach the internet.
    pub(crate) internet: bool,
    /// How long a VM has to shut down before its plug is pulled.
    pub(crate) stop_patience: Span,
}

impl Default for Vm {
    fn default() -> Self {
        Self {
            cpus: 2,
            memory: Size(GIB),
            disk: Size(10 * GIB),
            internet: true,
            stop_patience: Span(Duration::from_secs(60)),
        }
    }
}

impl Vm {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = vec![];
        if !(1..=MAX_CPUS).contains(&self.cpus) {
            problems.push(Problem::new("vm.cpus", format!("A VM has 1 to {MAX_CPUS} CPUs.")));
        }
        if self.memory < MIN_MEMORY {
            problems.push(Problem::new("vm.memory", format!("A VM needs at least {MIN_MEMORY}.")));
        }
        if !self.memory.bytes().is_multiple_of(MIB) {
            problems.push(Problem::new("vm.memory", "Give a whole number of MiB, for example \"1 GiB\"."));
        }
        if self.disk < MIN_DISK {
            problems.push(Problem::new("vm.disk", format!("A VM needs at least {MIN_DISK}.")));
        }
        if self.stop_patience > Span(Duration::from_secs(3600)) {
            problems.push(Problem::new(
                "vm.stop_patience",
                "Give at most \"1 h\": a VM that hangs is waited for as long.",
            ));
        }
        problems
    }
}
