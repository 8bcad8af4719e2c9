//! `[limits]`: what one account may have, unless the operator says otherwise for it.

use berth_control::Limits;
use serde::{Deserialize, Serialize};

use super::{
    Problem, Vm,
    size::{GIB, Size},
    word,
};

/// What all VMs of one account together may have; none for unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AccountLimits {
    /// VMs.
    #[serde(with = "word::unlimited_count")]
    pub(crate) vms: Option<u32>,
    /// Virtual CPUs.
    #[serde(with = "word::unlimited_count")]
    pub(crate) cpus: Option<u32>,
    /// Memory.
    #[serde(with = "word::unlimited_size")]
    pub(crate) memory: Option<Size>,
    /// Disk, as the guests see it.
    #[serde(with = "word::unlimited_size")]
    pub(crate) disk: Option<Size>,
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self { vms: Some(5), cpus: Some(20), memory: Some(Size(20 * GIB)), disk: Some(Size(200 * GIB)) }
    }
}

impl AccountLimits {
    /// What nobody could have a single VM with.
    pub(super) fn problems(&self, vm: &Vm) -> Vec<Problem> {
        let too_little = |key, words: String| {
            let message = format!("Nobody could have a VM: one has {words}. Give as much, or \"unlimited\".");
            Problem::new(key, message)
        };
        let mut problems = vec![];
        if self.cpus.is_some_and(|cpus| cpus < vm.cpus) {
            problems.push(too_little("limits.cpus", format!("{} CPUs (vm.cpus)", vm.cpus)));
        }
        if self.memory.is_some_and(|memory| memory < vm.memory) {
            problems.push(too_little("limits.memory", format!("{} of memory (vm.memory)", vm.memory)));
        }
        if self.disk.is_some_and(|disk| disk < vm.disk) {
            problems.push(too_little("limits.disk", format!("{} of disk (vm.disk)", vm.disk)));
        }
        problems
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            vms: self.vms.unwrap_or(Limits::NONE.vms),
            cpus: self.cpus.unwrap_or(Limits::NONE.cpus),
            memory: self.memory.map_or(Limits::NONE.memory, Size::bytes),
            disk: self.disk.map_or(Limits::NONE.disk, Size::bytes),
        }
    }
}
