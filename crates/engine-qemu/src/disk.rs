//! A VM's folder: its overlay over the image's disk, made and deleted so that a crash leaves nothing half.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::Stdio,
};

use berth_engine::EngineError;
use berth_model::VmId;
use tokio::process::Command;

use crate::{
    image::Image,
    paths::{Entry, StateDir, VmPaths, private_dir, remove_file, remove_tree, sync_parent, write_durably},
};

/// With less than this on the host's disk, in bytes, no VM is started: QEMU could not even keep its own books.
const LEAST_ROOM: u64 = 64 << 20;

/// Makes the overlay; does nothing when it is there. `size` is what the guest sees, in bytes.
pub(crate) async fn create(paths: &VmPaths, image: &Image, size: u64) -> Result<(), EngineError> {
    if paths.disk().exists() {
        return Ok(());
    }
    let least = fs::metadata(&image.disk).map_err(|error| image_broken(&image.disk, &error))?.len();
    if size < least {
        return Err(EngineError::Broken {
            reason: format!(
                "a VM's disk cannot be smaller than the image's: it has {} MB, and {} MB are asked for",
                least >> 20,
                size >> 20
            ),
        });
    }
    private_dir(&paths.dir)
        .and_then(|()| sync_parent(&paths.dir))
        .and_then(|()| write_durably(&paths.image(), image.id.as_bytes()))
        .map_err(|error| refused(&paths.dir, &error))?;
    let new = paths.new_disk();
    let size = size.to_string();
    let over = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"].map(OsStr::new);
    qemu_img(&[&over[..], &[image.disk.as_ref(), new.as_ref(), size.as_ref()]].concat(), "make the disk")
        .await?;
    fs::File::open(&new)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&new, paths.disk()))
        .and_then(|()| sync_parent(&paths.disk()))
        .map_err(|error| refused(&new, &error))
}

/// Makes a layer over another VM's disk, which is only read through it.
pub(crate) async fn view(of: &Path, layer: &Path) -> Result<(), EngineError> {
    let over = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"].map(OsStr::new);
    qemu_img(&[&over[..], &[of.as_ref(), layer.as_ref()]].concat(), "read the disk").await
}

/// Makes a disk with nothing on it.
pub(crate) async fn create_empty(disk: &Path, size: u64) -> Result<(), EngineError> {
    let size = size.to_string();
    let new = ["create", "-q", "-f", "qcow2"].map(OsStr::new);
    qemu_img(&[&new[..], &[disk.as_ref(), size.as_ref()]].concat(), "make the copy of the disk").await
}

/// Copies a disk, with all that it lies over, into a file that needs no other. Nobody is kept from using it meanwhile: whether
/// the copy is of one moment is for the caller to know.
pub(crate) async fn convert(from: &Path, to: &Path) -> Result<(), EngineError> {
    let convert = ["convert", "-q", "-U", "-f", "qcow2", "-O", "qcow2"].map(OsStr::new);
    qemu_img(&[&convert[..], &[from.as_ref(), to.as_ref()]].concat(), "copy the disk").await
}

/// The size of a disk as its guest sees it, in bytes, also while QEMU has it: qcow2 keeps it at byte 24 of the file.
/// Blocks.
pub(crate) fn size(disk: &Path) -> io::Result<u64> {
    let mut header = [0; 32];
    fs::File::open(disk)?.read_exact(&mut header)?;
    match header {
        [b'Q', b'F', b'I', 0xfb, _, _, _, _, .., a, b, c, d, e, f, g, h] => {
            Ok(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the disk is no qcow2 file")),
    }
}

/// Makes the disk of a VM that is off larger; nobody else may have it. Does nothing where it is as large. Blocks.
pub(crate) fn grow(disk: &Path, size: u64) -> io::Result<()> {
    if self::size(disk)? >= size {
        return Ok(());
    }
    #[expect(clippy::disallowed_methods, reason = "this crate runs qemu-img")]
    let mut command = std::process::Command::new("qemu-img");
    let output = command
        .args(["resize", "-q", "-f", "qcow2"])
        .arg(disk)
        .arg(size.to_string())
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return fs::File::open(disk)?.sync_all();
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("qemu-img: {}", complaint.trim_end().escape_debug())))
}

async fn qemu_img(arguments: &[&OsStr], what: &str) -> Result<(), EngineError> {
    #[expect(clippy::disallowed_methods, reason = "this crate runs qemu-img")]
    let mut command = Command::new("qemu-img");
    command.args(arguments);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.map_err(|error| {
        EngineError::Broken {
            reason: match error.kind() {
                io::ErrorKind::NotFound => {
                    "qemu-img is not installed: install the package qemu-utils".to_owned()
                }
                _ => format!("qemu-img cannot be started: {error}"),
            },
        }
    })?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    tracing::error!("qemu-img: {}", complaint.trim_end().escape_debug());
    Err(if complaint.contains("No space left") {
        full()
    } else {
        broken(&format!("qemu-img could not {what}, see the log"))
    })
}

/// Refuses to start a VM on a full disk. Blocks.
pub(crate) fn room(paths: &VmPaths) -> Result<(), EngineError> {
    match rustix::fs::statvfs(&paths.dir) {
        Ok(found) if found.f_bavail.saturating_mul(found.f_frsize) < LEAST_ROOM => Err(full()),
        _ => Ok(()),
    }
}

/// Deletes a VM's folder, which nobody may be using; it need not be there. Once this has begun the VM is gone, and
/// [`list`] does what is left after a crash. Blocks.
pub(crate) fn remove(state: &StateDir, vm: &VmId) -> Result<(), EngineError> {
    let paths = state.vm(vm);
    let removing = state.removing(vm);
    // What an earlier removal left would be in the way.
    let cleared = remove_tree(&removing);
    let renamed = cleared.and_then(|()| match fs::rename(&paths.dir, &removing) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    });
    renamed
        .and_then(|()| sync_parent(&removing))
        .and_then(|()| remove_file(&paths.socket))
        .and_then(|()| remove_tree(&paths.memory))
        .and_then(|()| remove_tree(&removing))
        .map_err(|error| refused(&removing, &error))
}

/// The VMs that have a folder, after finishing the removals that a crash interrupted. Blocks.
pub(crate) fn list(state: &StateDir) -> Result<Vec<VmId>, EngineError> {
    let dir = state.vms();
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).map_err(|error| refused(&dir, &error))? {
        let entry = entry.map_err(|error| refused(&dir, &error))?;
        match Entry::parse(&entry.file_name()) {
            Entry::Vm(vm) => found.push(vm),
            Entry::Removing => {
                let path: PathBuf = entry.path();
                remove_tree(&path).map_err(|error| refused(&path, &error))?;
            }
            Entry::Foreign => tracing::warn!("{} is none of ours and is left alone", entry.path().display()),
        }
    }
    found.sort_unstable();
    forget_memory_of_others(state, &found)?;
    Ok(found)
}

/// Frees the memory of VMs that are gone. One that has a socket is not listed, and may run.
fn forget_memory_of_others(state: &StateDir, there: &[VmId]) -> Result<(), EngineError> {
    let dir = state.memory();
    for entry in fs::read_dir(dir).map_err(|error| refused(dir, &error))?.flatten() {
        let is_left = match Entry::parse(&entry.file_name()) {
            Entry::Vm(vm) => !there.contains(&vm) && !state.vm(&vm).socket.exists(),
            Entry::Removing => true,
            Entry::Foreign => false,
        };
        if is_left {
            remove_tree(&entry.path()).map_err(|error| refused(dir, &error))?;
        }
    }
    Ok(())
}

pub(crate) fn refused(path: &Path, error: &io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => full(),
        _ => EngineError::Broken { reason: format!("{} cannot be used: {error}", path.display()) },
    }
}

fn image_broken(path: &Path, error: &io::Error) -> EngineError {
    EngineError::Broken {
        reason: format!(
            "the image's file {} cannot be used: {error}. Build it anew with berth image build",
            path.display()
        ),
    }
}

fn full() -> EngineError {
    EngineError::NoRoom { reason: "the host's disk is full".to_owned() }
}

fn broken(reason: &str) -> EngineError {
    EngineError::Broken { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dir: &Path) -> Image {
        let disk = dir.join("disk");
        fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
        Image {
            id: "test-1".to_owned(),
            kernel: dir.join("vmlinuz"),
            initrd: dir.join("initrd"),
            disk,
            append: String::new(),
            made_at: std::time::UNIX_EPOCH,
            size: 0,
        }
    }

    #[tokio::test]
    async fn an_overlay_is_made_once_and_removed_with_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state"), dir.path()).unwrap();
        let image = image(dir.path());
        let vm = VmId::random();
        let paths = state.vm(&vm);
        create(&paths, &image, 2 << 20).await.unwrap();
        let made = fs::read(paths.disk()).unwrap();
        assert!(made.starts_with(b"QFI\xfb"));
        assert_eq!(fs::read_to_string(paths.image()).unwrap(), "test-1");
        fs::write(paths.disk(), b"the guest's own").unwrap();
        create(&paths, &image, 2 << 20).await.unwrap();
        assert_eq!(fs::read(paths.disk()).unwrap(), b"the guest's own");
        assert_eq!(list(&state).unwrap(), [vm]);
        remove(&state, &vm).unwrap();
        remove(&state, &vm).unwrap();
        assert_eq!(list(&state).unwrap(), []);
        assert!(!paths.dir.exists());
    }

    #[tokio::test]
    async fn a_disk_smaller_than_the_images_is_refused_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state"), dir.path()).unwrap();
        let paths = state.vm(&VmId::random());
        let error = create(&paths, &image(dir.path()), 1 << 19).await.unwrap_err();
        assert!(error.to_string().contains("cannot be smaller"), "{error}");
        assert!(!paths.dir.exists());
    }

    #[tokio::test]
    async fn a_disk_grows_and_tells_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state"), dir.path()).unwrap();
        let paths = state.vm(&VmId::random());
        create(&paths, &image(dir.path()), 2 << 20).await.unwrap();
        assert_eq!(size(&paths.disk()).unwrap(), 2 << 20);
        grow(&paths.disk(), 5 << 20).unwrap();
        assert_eq!(size(&paths.disk()).unwrap(), 5 << 20);
        grow(&paths.disk(), 3 << 20).unwrap();
        assert_eq!(size(&paths.disk()).unwrap(), 5 << 20, "it never shrinks");
        let layer = paths.dir.join("layer");
        view(&paths.disk(), &layer).await.unwrap();
        assert_eq!(size(&layer).unwrap(), 5 << 20);
        fs::write(&layer, b"not a disk at all, but long enough to be read").unwrap();
        assert!(size(&layer).is_err() && grow(&layer, 9 << 20).is_err());
    }

    #[test]
    fn a_removal_that_was_interrupted_is_finished_by_the_next_list() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), dir.path()).unwrap();
        let (gone, kept) = (VmId::random(), VmId::random());
        fs::create_dir(state.removing(&gone)).unwrap();
        fs::write(state.removing(&gone).join("disk.qcow2"), b"x").unwrap();
        fs::create_dir(state.vm(&kept).dir).unwrap();
        fs::create_dir(state.vms().join("lost+found")).unwrap();
        for vm in [gone, kept] {
            fs::create_dir(&state.vm(&vm).memory).unwrap();
        }
        assert_eq!(list(&state).unwrap(), [kept]);
        assert!(!state.removing(&gone).exists());
        assert!(!state.vm(&gone).memory.exists() && state.vm(&kept).memory.exists());
        assert!(state.vms().join("lost+found").exists());
    }

    #[test]
    fn a_folder_that_is_made_anew_while_its_old_self_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), dir.path()).unwrap();
        let vm = VmId::random();
        fs::create_dir(state.removing(&vm)).unwrap();
        fs::write(state.removing(&vm).join("x"), b"").unwrap();
        fs::create_dir(state.vm(&vm).dir).unwrap();
        remove(&state, &vm).unwrap();
        assert_eq!(list(&state).unwrap(), []);
    }
}
