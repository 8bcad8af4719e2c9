//! What people do with the disks of VMs: may they, and who was it.

use berth_engine::{Grown, Home};
use berth_model::VmName;
use berth_store::{AuditKind, Scope};

use crate::{acting::Acting, disks::rebuilt, error::Error};

impl Acting {
    /// As [`crate::Control::rebuild_vm`].
    ///
    /// # Errors
    /// As there; somebody else's VM is one that does not exist.
    pub async fn rebuild_vm(&self, vm: &VmName, home: Home) -> Result<(), Error> {
        self.must_be_for_vm(Scope::VmsWrite, vm)?;
        let name = vm.clone();
        let begin = |acting: Self| async move {
            let asked = acting.control.begin_rebuild(&name, home).await?;
            let home_is = match home {
                Home::Keep => "its home is kept",
                Home::Discard => "its home is erased",
            };
            // When it begins: it is done also after a crash, when nobody knows any more who it was.
            acting.note_vm(AuditKind::VmRebuilt, &name, home_is).await;
            Ok::<_, Error>(asked)
        };
        rebuilt(vm, self.to_the_end(begin).await?).await
    }

    /// As [`crate::Control::resize_vm`].
    ///
    /// # Errors
    /// As there; somebody else's VM is one that does not exist.
    pub async fn resize_vm(&self, vm: &VmName, disk: u64) -> Result<Grown, Error> {
        self.must_be_for_vm(Scope::VmsWrite, vm)?;
        let vm = vm.clone();
        self.to_the_end(|acting| async move {
            let grown = acting.control.resize_vm(&vm, disk).await?;
            acting.note_vm(AuditKind::VmResized, &vm, &format!("{} MB of disk", disk >> 20)).await;
            Ok(grown)
        })
        .await
    }
}
