//! A VM's disk, by people's hand: a larger one, and a new one.

use std::sync::Arc;

use berth_engine::{Grown, Home};
use berth_model::VmName;
use berth_store::Rebuild;
use tokio::sync::oneshot;

use crate::{
    Control,
    error::Error,
    lifecycle::{Refusal, State},
};

/// Disks have whole megabytes.
const MEGABYTE: u64 = 1 << 20;

/// What tells how something ended that goes on whether anybody waits or not. It holds no supervisor, so that a server can
/// end in the middle.
pub(crate) type Outcome<T> = oneshot::Receiver<Result<T, Refusal>>;

impl Control {
    /// Gives a VM a new disk from the present image, and waits until it has it. Its name, host key, size and all that was
    /// decided about it stay. One that was on is on again afterwards, however it ended; whoever connects meanwhile waits.
    ///
    /// Where its home is kept it is shut down first, woken for that if it sleeps. Once begun, it is done also when nobody
    /// waits for it, or after a restart of the server.
    ///
    /// # Errors
    /// It is being rebuilt or removed; or the engine cannot, and then its disk is the one that it had.
    pub async fn rebuild_vm(self: &Arc<Self>, vm: &VmName, home: Home) -> Result<(), Error> {
        let (control, name) = (self.clone(), vm.clone());
        let asked = self.to_the_end(async move { control.begin_rebuild(&name, home).await }).await?;
        rebuilt(vm, asked).await
    }

    /// Writes down that a VM is to be rebuilt, and has it done. Not to be dropped.
    pub(crate) async fn begin_rebuild(&self, vm: &VmName, home: Home) -> Result<Outcome<()>, Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        if self.store.begin_rebuilding(handle.id, written(home)).await? {
            return Ok(handle.rebuild(home).await);
        }
        Err(match handle.state() {
            State::Removing { .. } | State::Removed => Error::BeingRemoved(vm.clone()),
            _ => Error::Rebuilding(vm.clone()),
        })
    }

    /// Gives a VM a disk of so many bytes, rounded up to whole megabytes, and tells when its guest has the room.
    ///
    /// # Errors
    /// It would be smaller; its account may not have so much; the host does not have the room; it is being removed.
    /// Nothing is changed then. An error of the engine comes after it: the guest has the room at the next start.
    pub async fn resize_vm(self: &Arc<Self>, vm: &VmName, disk: u64) -> Result<Grown, Error> {
        let (control, name) = (self.clone(), vm.clone());
        let asked = self.to_the_end(async move { control.begin_resize(&name, disk).await }).await?;
        // Without a supervisor it is written down all the same.
        asked.await.unwrap_or(Ok(Grown::AtStart)).map_err(|refusal| Error::refused(vm, refusal))
    }

    /// Writes down how large its disk is to be, and has its guest take the room. Not to be dropped.
    async fn begin_resize(&self, vm: &VmName, disk: u64) -> Result<Outcome<Grown>, Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        let disk = disk.div_ceil(MEGABYTE).saturating_mul(MEGABYTE);
        let row = self.row(&handle).await?;
        let smaller = |has| Error::SmallerDisk { vm: vm.clone(), has };
        let more = disk.checked_sub(row.disk).ok_or_else(|| smaller(row.disk))?;
        let cannot = |cause| Error::Engine { vm: vm.clone(), cause };
        let free = self.engine.room().await.map_err(cannot)?.disk_free;
        // A disk takes what is written to it, and not before; but what is not there at all is not promised.
        if more > free {
            return Err(Error::NoRoomForDisk { vm: vm.clone(), more, free });
        }
        if !self.store.grow_disk(row.id, &vm.owner, disk, self.limits_of_owner(&vm.owner)).await? {
            let row = self.row(&handle).await?;
            let removing = row.removing_at.is_some();
            return Err(if removing { Error::BeingRemoved(vm.clone()) } else { smaller(row.disk) });
        }
        Ok(handle.resize(disk).await)
    }
}

/// Waits for the end of a rebuild.
pub(crate) async fn rebuilt(vm: &VmName, asked: Outcome<()>) -> Result<(), Error> {
    match asked.await {
        Ok(rebuilt) => rebuilt.map_err(|refusal| Error::not_rebuilt(vm, refusal)),
        Err(_) => Err(Error::RebuildGoesOn(vm.clone())),
    }
}

/// As the store has it.
fn written(home: Home) -> Rebuild {
    match home {
        Home::Keep => Rebuild::KeepHome,
        Home::Discard => Rebuild::DiscardHome,
    }
}

/// As it is asked of the engine.
pub(crate) fn asked(rebuild: Rebuild) -> Home {
    match rebuild {
        Rebuild::KeepHome => Home::Keep,
        Rebuild::DiscardHome => Home::Discard,
    }
}
