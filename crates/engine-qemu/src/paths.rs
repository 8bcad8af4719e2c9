//! Where everything of the engine is on disk.
//!
//! ```text
//!   <state>/accel.json                what the probe for KVM found
//!   <state>/vms/<id>/disk.qcow2       the VM's overlay over the image's disk
//!                   /image            the name of the image that it lies over
//!                   /console.log[.1]  what the serial console printed in this run and in the one before
//!                   /shim.log         what the shim and QEMU complained about
//!                   /ended.json       how the last run ended
//!                   /lock             held by the shim and by QEMU, for as long as either lives
//!   <state>/vms/<id>.removing         half deleted; finished by the next list
//!   <state>/run/<id>.sock             the shim
//!   <state>/run/<id>.out              where QEMU asks the shim for a way out
//! ```

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use berth_engine::EngineError;
use berth_model::VmId;
use serde::{Deserialize, Serialize};

/// What a path in a unix socket's address can be at most, without the NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
const REMOVING: &str = ".removing";

/// The state folder.
#[derive(Debug, Clone)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    /// Makes the folders that are missing, readable by nobody else.
    pub(crate) fn open(path: &Path) -> Result<Self, EngineError> {
        let state = Self(path.to_owned());
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
        for dir in [state.0.clone(), state.vms(), state.run()] {
            private_dir(&dir).map_err(|error| EngineError::Broken {
                reason: format!("the folder {} cannot be made: {error}", dir.display()),
            })?;
        }
        Ok(state)
    }

    pub(crate) fn vms(&self) -> PathBuf {
        self.0.join("vms")
    }

    fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    pub(crate) fn accel_file(&self) -> PathBuf {
        self.0.join("accel.json")
    }

    pub(crate) fn vm(&self, vm: &VmId) -> VmPaths {
        VmPaths {
            dir: self.vms().join(vm.to_string()),
            socket: self.run().join(format!("{vm}.sock")),
            way_out: self.run().join(format!("{vm}.out")),
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
    pub(crate) way_out: PathBuf,
}

impl VmPaths {
    pub(crate) fn disk(&self) -> PathBuf {
        self.dir.join("disk.qcow2")
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
        let state = StateDir::open(dir.path()).unwrap();
        let name = |path: &Path| Entry::parse(path.file_name().unwrap());
        assert_eq!(name(&state.vm(&vm).dir), Entry::Vm(vm));
        assert_eq!(name(&state.removing(&vm)), Entry::Removing);
        assert_eq!(name(Path::new("lost+found")), Entry::Foreign);
        assert_eq!(name(Path::new("x.removing")), Entry::Foreign);
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = StateDir::open(&dir.path().join("x".repeat(100))).unwrap_err();
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
