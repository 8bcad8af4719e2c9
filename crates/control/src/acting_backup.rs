//! Copies to be kept elsewhere: of what the server remembers, and of VMs' disks.

use std::path::{Path, PathBuf};

use berth_model::VmName;
use berth_store::{AuditKind, Scope};

use crate::{Acting, WebError, error::Error};

impl Acting {
    /// Copies the database as it is now into a new file: for operators. Who has it has all keys that are in it. Written down.
    ///
    /// # Errors
    /// For others there is none; the file cannot be made, and then what is there of it is no database.
    pub async fn copy_database(&self, into: &Path) -> Result<(), WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        let into = into.to_owned();
        self.to_the_end(|acting| async move {
            acting.control.store.copy_to(&into).await.map_err(Error::from)?;
            let event = acting.actor.event_of_nobody(AuditKind::BackupMade, "the database".to_owned());
            acting.control.note_event(event).await;
            Ok(())
        })
        .await
    }

    /// Copies a VM's disk, as it is at one moment and while it runs, into a file that needs no other, and tells where. The
    /// caller takes it away; the next copy replaces it. For operators; written down.
    ///
    /// # Errors
    /// For others there is none; it is being removed, does not wake, or the host has no room.
    pub async fn copy_disk(&self, vm: &VmName) -> Result<PathBuf, WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        let vm = vm.clone();
        self.to_the_end_of_wait(|acting| async move {
            let copy = acting.control.copy_disk(&vm).await?;
            acting.note_vm(AuditKind::DiskCopied, &vm, "").await;
            Ok(copy)
        })
        .await
    }

    /// Gives a VM that is off, or has lost its disk, a copy of the one in this file, as [`Acting::copy_disk`] makes them. The
    /// file is judged, whatever is in it. For operators; written down.
    ///
    /// # Errors
    /// For others there is none; it is not off; the file is no disk for it. Then its disk is the one that it had.
    pub async fn replace_disk(&self, vm: &VmName, from: &Path) -> Result<(), WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        let (vm, from) = (vm.clone(), from.to_owned());
        self.to_the_end_of_wait(|acting| async move {
            acting.control.replace_disk(&vm, &from).await?;
            acting.note_vm(AuditKind::DiskReplaced, &vm, "").await;
            Ok(())
        })
        .await
    }
}
