//! Where everything of the engine is on disk.
//!
//! ```text
//!   <state>/accel.json                what the probe for KVM found
//!   <state>/vms/<id>/disk.qcow2       the VM's overlay over the image's disk
//!                   /copy.qcow2       a copy of it that somebody takes away; .new while it is made
//!                   /image            the name of the image that it lies over
//!                   /console.log[.1]  what the serial console printed in this run and in the one before
//!                   /shim.log         what the shim and QEMU complained about
//!                   /ended.json       how the last run ended
//!                   /lock             held by the shim and by QEMU, for as long as either lives
//!                   /sleep/           a sleep that lasts: see `sleep`; .new while it is made, .used once it is over
//!                   /unclaimed        it has been forked and has no identity of its own yet
//!                   /rebuilt/         what it becomes at once: see `rebuild`
//!   <state>/rebuilds/                 VMs that are made anew: see `rebuild`
//!   <state>/templates/                what new VMs are forked from: see `template`
//!   <state>/vms/<id>.removing         half deleted; finished by the next list
//!   <state>/run/<id>.sock             the shim
//!   <memory>/berth-<uid>-<state>/<id>/  the guest's memory while it runs, and a sleep that has not been copied yet;
//!                                       `<state>` tells state folders apart, `<memory>` is a tmpfs; in `freed` is what is not
//!                                       wanted any more
//! ```

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use berth_engine::EngineError;
use berth_model::VmId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::sleep::SleepDir;

/// What a path in a unix socket's address can be at most, without the NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
const REMOVING: &str = ".removing";

/// The state folder, and the folder for memory that belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    root: PathBuf,
    memory: PathBuf,
}

impl StateDir {
    /// Makes the folders that are missing, readable by nobody else.
    pub(crate) fn open(path: &Path, memory_dir: &Path) -> Result<Self, EngineError> {
        let mut state = Self { root: path.to_owned(), memory: PathBuf::new() };
        let longest = state.run().join(format!("{:016x}.sock", 0));
        let length = longest.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            return Err(EngineError::Broken {
                reason: format!(
                    "the state folder {} has too long a path: the sockets in it may have {MAX_SOCKET_PATH} bytes and \
                     would have {length}. Choose a shorter state_dir",
                    path.display()
                ),
            });
        }
        let made = |dir: &Path| {
            private_dir(dir).map_err(|error| EngineError::Broken {
                reason: format!("the folder {} cannot be made: {error}", dir.display()),
            })
        };
        for dir in [state.root.clone(), state.vms(), state.run()] {
            made(&dir)?;
        }
        state.memory = memory_dir.join(memory_name(path));
        made(&state.memory)?;
        own_folder(&state.memory)?;
        Ok(state)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder with a folder for the memory of each VM.
    pub(crate) fn memory(&self) -> &Path {
        &self.memory
    }

    pub(crate) fn vms(&self) -> PathBuf {
        self.root.join("vms")
    }

    fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    pub(crate) fn accel_file(&self) -> PathBuf {
        self.root.join("accel.json")
    }

    pub(crate) fn vm(&self, vm: &VmId) -> VmPaths {
        VmPaths {
            dir: self.vms().join(vm.to_string()),
            socket: self.run().join(format!("{vm}.sock")),
            memory: self.memory.join(vm.to_string()),
        }
    }

    /// The name that a VM's folder has while it is being deleted.
    pub(crate) fn removing(&self, vm: &VmId) -> PathBuf {
        self.vms().join(format!("{vm}{REMOVING}"))
    }
}

/// What a name in the `vms` folder stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Vm(VmId),
    Removing,
    Foreign,
}

impl Entry {
    pub(crate) fn parse(name: &OsStr) -> Self {
        let Some(name) = name.to_str() else { return Self::Foreign };
        if name.strip_suffix(REMOVING).is_some_and(|id| id.parse::<VmId>().is_ok()) {
            return Self::Removing;
        }
        name.parse().map_or(Self::Foreign, Self::Vm)
    }
}

/// The files of one VM.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VmPaths {
    pub(crate) dir: PathBuf,
    pub(crate) socket: PathBuf,
    /// The guest's memory, in a tmpfs.
    pub(crate) memory: PathBuf,
}

impl VmPaths {
    pub(crate) fn disk(&self) -> PathBuf {
        self.dir.join("disk.qcow2")
    }

    /// What becomes its disk.
    pub(crate) fn new_disk(&self) -> PathBuf {
        self.dir.join("disk.qcow2.new")
    }

    /// A copy of its disk that somebody has asked for and takes away.
    pub(crate) fn copy(&self) -> PathBuf {
        self.dir.join("copy.qcow2")
    }

    /// The same while it is being made.
    pub(crate) fn new_copy(&self) -> PathBuf {
        self.dir.join("copy.qcow2.new")
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.dir.join("image")
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    pub(crate) fn previous_console(&self) -> PathBuf {
        self.dir.join("console.log.1")
    }

    pub(crate) fn shim_log(&self) -> PathBuf {
        self.dir.join("shim.log")
    }

    pub(crate) fn ended(&self) -> PathBuf {
        self.dir.join("ended.json")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// Says that the guest is a copy of another one until it has been given an identity of its own.
    pub(crate) fn unclaimed(&self) -> PathBuf {
        self.dir.join("unclaimed")
    }

    /// The VM that takes its place.
    pub(crate) fn rebuilt(&self) -> PathBuf {
        self.dir.join("rebuilt")
    }

    /// In a folder where a VM is made anew: a layer over the disk of the VM as it was.
    pub(crate) fn view(&self) -> PathBuf {
        self.dir.join("view.qcow2")
    }

    /// The memory while the VM runs, and its sleep until that is copied.
    pub(crate) fn warm(&self) -> SleepDir {
        SleepDir(self.memory.clone())
    }

    /// Where what is in the tmpfs goes while it is being freed.
    pub(crate) fn freed(&self) -> PathBuf {
        self.memory.join("freed")
    }

    /// Its sleep on the disk.
    pub(crate) fn cold(&self) -> SleepDir {
        SleepDir(self.dir.join("sleep"))
    }

    /// Its sleep on the disk while it is being made.
    pub(crate) fn cold_new(&self) -> SleepDir {
        SleepDir(self.dir.join("sleep.new"))
    }

    /// Its sleep on the disk when it has ended, to be deleted.
    pub(crate) fn cold_used(&self) -> SleepDir {
        SleepDir(self.dir.join("sleep.used"))
    }
}

/// One folder for each user and each state folder, whatever way leads there.
fn memory_name(state: &Path) -> String {
    let canonical = fs::canonicalize(state).unwrap_or_else(|_| state.to_owned());
    let hash = Sha256::digest(canonical.as_os_str().as_bytes());
    let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("berth-{}-{hash}", rustix::process::geteuid().as_raw())
}

/// The folder for memory lies where everybody may make one: it has to be a folder, ours, and shut to others.
fn own_folder(path: &Path) -> Result<(), EngineError> {
    let found = fs::symlink_metadata(path);
    let ours = found.as_ref().is_ok_and(|found| {
        found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0
    });
    if ours {
        return Ok(());
    }
    Err(EngineError::Broken {
        reason: format!(
            "{} belongs to somebody else or is open to others: delete it and start again",
            path.display()
        ),
    })
}

/// Makes a folder that only its owner can enter; does nothing when it is there.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces a file so that after a crash it holds either what it held or `content`, and that it holds `content` once
/// this has returned. Blocks.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().as_bytes().to_vec();
    temporary.extend_from_slice(b".new");
    let temporary = Path::new(OsStr::from_bytes(&temporary));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    sync_parent(path)
}

/// Makes a rename or a removal in `path`'s folder survive a crash. Blocks.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Deletes a folder and what is in it; it need not be there.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Deletes a file; it need not be there.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_folder_of_vms() {
        let vm: VmId = "00112233445566ff".parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), dir.path()).unwrap();
        let name = |path: &Path| Entry::parse(path.file_name().unwrap());
        assert_eq!(name(&state.vm(&vm).dir), Entry::Vm(vm));
        assert_eq!(name(&state.removing(&vm)), Entry::Removing);
        assert_eq!(name(Path::new("lost+found")), Entry::Foreign);
        assert_eq!(name(Path::new("x.removing")), Entry::Foreign);
    }

    #[test]
    fn a_folder_for_memory_that_others_can_see_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, memory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let state = StateDir::open(dir.path(), memory.path()).unwrap();
        assert_eq!(state.memory(), StateDir::open(&dir.path().join("."), memory.path()).unwrap().memory());
        fs::set_permissions(state.memory(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(StateDir::open(dir.path(), memory.path()).is_err());
        fs::remove_dir(state.memory()).unwrap();
        std::os::unix::fs::symlink(dir.path(), state.memory()).unwrap();
        assert!(StateDir::open(dir.path(), memory.path()).is_err());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = StateDir::open(&dir.path().join("x".repeat(100)), dir.path()).unwrap_err();
        assert!(error.to_string().ends_with("Choose a shorter state_dir"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is made");
    }

    #[test]
    fn a_durable_write_replaces_the_file_and_leaves_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ended.json");
        write_durably(&path, b"one").unwrap();
        write_durably(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
