//! Copies of disks that are kept elsewhere, and disks that come back from there.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use berth_engine::{EngineError, Observed, VmSpec};
use berth_model::VmId;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tokio::task::spawn_blocking;

use super::{QemuEngine, broken};
use crate::{
    boot_image,
    client::{Asked, Shim},
    disk, image,
    paths::{VmPaths, private_dir, remove_file, sync_parent, write_durably},
    qcow2, room, user,
};

/// What the host's disk keeps beside a copy, in bytes.
const ROOM_FOR_THE_REST: u64 = 256 << 20;

impl QemuEngine {
    /// See [`berth_engine::Engine::copy_disk`]. What a dropped future leaves is replaced by the next copy.
    pub(super) async fn copy_of_disk(&self, vm: &VmId) -> Result<PathBuf, EngineError> {
        let paths = self.state.vm(vm);
        self.settle_rebuild(vm, &paths).await?;
        let observed = self.observe_at(&paths).await?;
        if matches!(observed, Observed::Missing) {
            return Err(EngineError::Missing);
        }
        let _turn = turn(&paths)?;
        let (image, base) = self.room_for_copy(&paths).await?;
        match observed {
            Observed::Missing => return Err(EngineError::Missing),
            Observed::Off { .. } => {
                let disk = paths.disk();
                on_disk(move || {
                    qcow2::lies_over(&disk, &base).map_err(|error| broken(format!("the VM's disk: {error}")))
                })
                .await?;
                disk::convert(&paths.disk(), &paths.new_copy()).await?;
            }
            Observed::Running => self.copy_while_it_runs(&paths).await?,
            Observed::Asleep { .. } | Observed::Waking | Observed::Booting | Observed::Stopping => {
                return Err(EngineError::NotRunning);
            }
        }
        on_disk(move || {
            let new = paths.new_copy();
            qcow2::name_image(&new, &image)
                .map_err(|error| broken(format!("the copy of its disk: {error}")))?;
            File::open(&new)
                .and_then(|file| file.sync_all())
                .and_then(|()| fs::rename(&new, paths.copy()))
                .and_then(|()| sync_parent(&new))
                .map_err(|error| disk::refused(&new, &error))?;
            Ok(paths.copy())
        })
        .await
    }

    /// By QEMU, which goes on meanwhile.
    async fn copy_while_it_runs(&self, paths: &VmPaths) -> Result<(), EngineError> {
        let size = disk::size(&paths.disk()).map_err(|error| disk::refused(&paths.disk(), &error))?;
        disk::create_empty(&paths.new_copy(), size).await?;
        user::give_as(&paths.dir, &paths.new_copy())
            .map_err(|error| disk::refused(&paths.new_copy(), &error))?;
        let Some(shim) = Shim::find(paths).await? else { return Err(EngineError::NotRunning) };
        match shim.copy_disk(paths.new_copy()).await? {
            Asked::Told(()) => Ok(()),
            Asked::Gone => Err(EngineError::NotRunning),
        }
    }

    /// Whether the host's disk has room for all that is in the VM's and below it, after what earlier copies have left is
    /// gone. Gives the name of its image, and the
    /// disk of that.
    async fn room_for_copy(&self, paths: &VmPaths) -> Result<(String, PathBuf), EngineError> {
        let (state, images, paths) = (self.state.clone(), self.config.image_dir.clone(), paths.clone());
        on_disk(move || {
            for left in [paths.new_copy(), paths.copy()] {
                remove_file(&left).map_err(|error| disk::refused(&left, &error))?;
            }
            let image = boot_image::of_vm(&images, &paths.image())?;
            let whole = room::allocated(&paths.disk()).saturating_add(room::allocated(&image.disk));
            must_have_room(&state, whole)?;
            Ok((image.id, image.disk))
        })
        .await
    }

    /// See [`berth_engine::Engine::replace_disk`].
    pub(super) async fn take_disk(&self, vm: &VmId, spec: &VmSpec, from: &Path) -> Result<(), EngineError> {
        let paths = self.state.vm(vm);
        self.settle_rebuild(vm, &paths).await?;
        match self.observe_at(&paths).await? {
            Observed::Missing | Observed::Off { .. } => {}
            _ => return Err(EngineError::InUse),
        }
        let made = paths.dir.clone();
        on_disk(move || {
            private_dir(&made).and_then(|()| sync_parent(&made)).map_err(|error| disk::refused(&made, &error))
        })
        .await?;
        let _turn = turn(&paths)?;
        let (state, images, most, file, new) =
            (self.state.clone(), self.config.image_dir.clone(), spec.disk, from.to_owned(), paths.clone());
        let image = on_disk(move || {
            let unfit = |reason: String| EngineError::Unfit { reason };
            let head = qcow2::judge(&file).map_err(|error| unfit(error.to_string()))?;
            if head.size > most {
                let (has, may) = (head.size.div_ceil(1 << 20), most >> 20);
                return Err(unfit(format!("it is a disk of {has} MB, and the VM's has {may} MB")));
            }
            must_have_room(&state, room::allocated(&file))?;
            remove_file(&new.new_disk()).map_err(|error| disk::refused(&new.dir, &error))?;
            // Images of one system boot each other's disks.
            match head.image.filter(|id| image::find(&images, id).is_some()) {
                Some(id) => Ok(id),
                None => boot_image::latest(&images).map(|image| image.id),
            }
        });
        let image = image.await?;
        // What QEMU has written itself has nothing in it that the file's maker could have thought of.
        disk::convert(from, &paths.new_disk()).await.inspect_err(|_| {
            let _ = remove_file(&paths.new_disk());
        })?;
        self.alone_with(&paths, move |paths| {
            File::open(paths.new_disk())?.sync_all()?;
            for file in [paths.ended(), paths.unclaimed()] {
                remove_file(&file)?;
            }
            write_durably(&paths.image(), image.as_bytes())?;
            fs::rename(paths.new_disk(), paths.disk())?;
            sync_parent(&paths.disk())
        })
        .await?;
        self.count();
        Ok(())
    }
}

/// The turn to copy a VM's disk or to put another in its place, until it is dropped; also among servers, of which there are two
/// for a while after an upgrade.
fn turn(paths: &VmPaths) -> Result<File, EngineError> {
    let dir = File::open(&paths.dir).map_err(|error| disk::refused(&paths.dir, &error))?;
    match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(dir),
        Err(Errno::WOULDBLOCK) => Err(broken("its disk is being copied or replaced already".to_owned())),
        Err(error) => Err(disk::refused(&paths.dir, &error.into())),
    }
}

fn must_have_room(state: &crate::paths::StateDir, needed: u64) -> Result<(), EngineError> {
    let free = room::room(state)?.disk_free;
    let needed = needed.saturating_add(ROOM_FOR_THE_REST);
    if free >= needed {
        return Ok(());
    }
    let (needed, free) = (needed >> 20, free >> 20);
    let reason =
        format!("a copy of its disk takes up to {needed} MB of the host's, which has {free} MB left");
    Err(EngineError::NoRoom { reason })
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(broken(error.to_string())))
}
