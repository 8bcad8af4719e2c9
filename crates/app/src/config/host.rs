//! `[host]`: what of this machine VMs may have.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Problem, Vm, size::Size, word};

/// The host's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Host {
    /// Memory for all VMs together that are awake; none for what the host has.
    #[serde(with = "word::all")]
    pub(crate) memory: Option<Size>,
    /// Where the memory of VMs is while they are awake: a folder in a tmpfs.
    pub(crate) memory_dir: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self { memory: None, memory_dir: "/dev/shm".into() }
    }
}

impl Host {
    pub(super) fn problems(&self, vm: &Vm) -> Vec<Problem> {
        let mut problems = vec![];
        if self.memory.is_some_and(|memory| memory < vm.memory) {
            let message = format!(
                "No VM could run: one has {} of memory (vm.memory). Give as much, or \"all\".",
                vm.memory
            );
            problems.push(Problem::new("host.memory", message));
        }
        if self.memory_dir.is_relative() {
            let message = format!("{:?} does not begin with /. Give the whole path.", self.memory_dir);
            problems.push(Problem::new("host.memory_dir", message));
        }
        problems
    }
}
