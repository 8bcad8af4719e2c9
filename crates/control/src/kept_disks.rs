//! Disks that are kept elsewhere: copied from VMs, and put back.

use std::path::{Path, PathBuf};

use berth_engine::{EngineError, VmSpec};
use berth_model::VmName;

use crate::{Control, error::Error, lifecycle::State};

/// So often may a VM go on or off while its disk is copied before that is given up.
const TRIES: u32 = 20;

impl Control {
    /// Copies a VM's disk, as it is at one moment, into a file that is the caller's to take away. One that sleeps is woken:
    /// what its guest has not written yet is in its memory. Nobody who wants the VM waits for that.
    ///
    /// # Errors
    /// It is being removed; it does not wake; the engine cannot.
    pub(crate) async fn copy_disk(&self, vm: &VmName) -> Result<PathBuf, Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        let mut states = handle.states();
        for _ in 0..TRIES {
            let state = states.borrow_and_update().clone();
            let copied = match state {
                // Whoever starts it wins: what was copied until then is of no one moment.
                State::Off { .. } => tokio::select! {
                    biased;
                    _changed = states.changed() => continue,
                    copied = self.engine.copy_disk(&handle.id) => copied,
                },
                State::Running => self.engine.copy_disk(&handle.id).await,
                State::Asleep { .. } => {
                    handle.start().await.map_err(|refusal| Error::refused(vm, refusal))?;
                    continue;
                }
                State::Removing { .. } | State::Removed => return Err(Error::BeingRemoved(vm.clone())),
                State::Starting
                | State::Waking
                | State::FallingAsleep { .. }
                | State::Stopping { .. }
                | State::Rebuilding { .. } => {
                    let _removed = states.changed().await;
                    continue;
                }
            };
            match copied {
                Err(EngineError::NotRunning) => handle.look_again().await,
                Ok(_) if matches!(state, State::Off { .. }) && states.has_changed().unwrap_or(true) => {}
                copied => return copied.map_err(|cause| Error::Engine { vm: vm.clone(), cause }),
            }
        }
        Err(Error::Restless(vm.clone()))
    }

    /// Gives a VM that is off, or has lost its disk, a copy of the one in this file.
    ///
    /// # Errors
    /// It is not off; the file is no disk for it. Then its disk is the one that it had.
    pub(crate) async fn replace_disk(&self, vm: &VmName, from: &Path) -> Result<(), Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        match handle.state() {
            State::Off { .. } => {}
            State::Removing { .. } | State::Removed => return Err(Error::BeingRemoved(vm.clone())),
            State::Rebuilding { .. } => return Err(Error::Rebuilding(vm.clone())),
            State::Starting
            | State::Waking
            | State::Running
            | State::FallingAsleep { .. }
            | State::Asleep { .. }
            | State::Stopping { .. } => return Err(Error::NotOff(vm.clone())),
        }
        let row = self.row(&handle).await?;
        let spec = VmSpec { cpus: row.cpus, memory: row.memory, disk: row.disk };
        let replaced = self.engine.replace_disk(&handle.id, &spec, from).await;
        handle.look_again().await;
        replaced.map_err(|cause| match cause {
            EngineError::InUse => Error::NotOff(vm.clone()),
            EngineError::Unfit { reason } => Error::UnfitDisk { vm: vm.clone(), reason },
            cause => Error::Engine { vm: vm.clone(), cause },
        })
    }
}
