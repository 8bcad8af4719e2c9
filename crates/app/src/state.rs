//! The state folder: what is where in it, and that one server uses it at a time.
//!
//! ```text
//!   <state>/lock          held by the server for as long as it lives
//!   <state>/berth.db      accounts, keys, VMs
//!   <state>/host_key      the gateway's host key
//!   <state>/admin.sock    the operator's way in
//!   <state>/known_hosts   the host keys of the gateway and the VMs, for everybody to read
//!   <state>/recordings    what was recorded of sessions
//!   <state>/copy-*.db     a copy of the database that a backup is made of, for a moment
//!   <state>/.restoring-*  a backup that is being unpacked
//!   <state>/images, vms, run, accel.json   the engine's
//! ```
//!
//! Others may pass through the folder, to known_hosts and what `make up` writes for them, but not list it.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use berth_model::VmId;
use berth_store::Place;
use rustix::fs::{FlockOperation, flock};

/// Which database is worked with.
const NOTE: &str = "database";
/// What the name of a folder begins with in which a backup is unpacked.
pub(crate) const RESTORING: &str = ".restoring-";

/// Where things are in a state folder. Makes nothing.
#[derive(Debug, Clone)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("berth.db")
    }

    pub(crate) fn host_key(&self) -> PathBuf {
        self.0.join("host_key")
    }

    /// Where certificates are kept that an authority gave.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.0.join("certificates")
    }

    /// Where sessions are recorded.
    pub(crate) fn recordings(&self) -> PathBuf {
        self.0.join("recordings")
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.0.join("admin.sock")
    }

    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.0.join("known_hosts")
    }

    /// A file for a copy of the database, which nobody else uses. Makes none.
    pub(crate) fn new_copy(&self) -> PathBuf {
        self.0.join(format!("copy-{}.db", VmId::random()))
    }

    /// Which database the server that runs here, or that ran here last, works with.
    pub(crate) fn database_in_use(&self) -> String {
        let noted = fs::read_to_string(self.0.join(NOTE)).unwrap_or_default();
        // Servers that wrote no such file knew none but the one here.
        if noted.is_empty() { self.database().display().to_string() } else { noted }
    }

    /// Whether a database may be served here: an old one would let in who was shut out since.
    ///
    /// # Errors
    /// Another one was served last, or there is another one here; what to do, as a sentence.
    pub(crate) fn must_be_what_was_served(&self, place: &Place) -> anyhow::Result<()> {
        let (file, last) = (self.database(), self.database_in_use());
        match place {
            Place::Server(_) if file.exists() => anyhow::bail!(
                "The configuration names the database {place}, and {} is there too. Copy it, if that is not done yet: berth admin \
                 migrate-store --from {} --to URL. Then move it away",
                file.display(),
                file.display()
            ),
            // A folder that was moved has its file at another path.
            Place::File(_) if last.contains("://") => anyhow::bail!(
                "This Berth worked with the database {last} last, and the configuration names none. Put [database] back, or copy it: \
                 berth admin migrate-store --from URL --to {}. If {} is what is to be served, delete {}",
                file.display(),
                file.display(),
                self.0.join(NOTE).display()
            ),
            _ => Ok(()),
        }
    }

    /// Notes which database is worked with here.
    pub(crate) fn note_database(&self, place: &str) -> io::Result<()> {
        if self.database_in_use() == place {
            return Ok(());
        }
        let mut file = tempfile::Builder::new().prefix(".database-").tempfile_in(&self.0)?;
        file.write_all(place.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(self.0.join(NOTE)).map(drop).map_err(|error| error.error)
    }

    /// Deletes copies of the database that somebody asked for and never took away. For who holds the lock.
    pub(crate) fn forget_copies(&self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("copy-") && name.ends_with(".db") {
                // One that stays is a waste of room and nothing worse.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Deletes what restores that were cut short have left. For who holds the lock.
    pub(crate) fn forget_restores(&self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(RESTORING) {
                // One that stays is a waste of room and nothing worse.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    fn lock_file(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Makes the folder where it is missing.
    pub(crate) fn make(&self) -> Result<(), StateError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&self.0)
            .map_err(|error| StateError::Folder { path: self.0.clone(), error })
    }

    /// Takes the folder for one server; it is free again when the lock is dropped or its process ends in any way.
    pub(crate) fn lock(&self) -> Result<Lock, StateError> {
        let failed = |error| StateError::Lock { path: self.lock_file(), error };
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.lock_file())
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(StateError::Running { path: self.0.clone(), pid: holder(&mut file) });
            }
            Err(error) => return Err(failed(error.into())),
        }
        let mut lock = Lock { file };
        lock.sign().map_err(failed)?;
        Ok(lock)
    }

    /// The process that holds the folder, if one does.
    pub(crate) fn running(&self) -> Option<String> {
        let mut file = File::open(self.lock_file()).ok()?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => Some(holder(&mut file)),
            _ => None,
        }
    }
}

fn holder(file: &mut File) -> String {
    let mut pid = String::new();
    match file.take(16).read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
        _ => "a process that has just begun".into(),
    }
}

/// The state folder is this process's.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// The lock of another server, which it has given with its file.
    pub(crate) fn given(file: OwnedFd) -> Self {
        Self { file: file.into() }
    }

    /// Another handle to the same lock, which holds it too.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned()
    }

    /// Says in it that this process has it.
    pub(crate) fn sign(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{}", std::process::id())
    }
}

/// Why the state folder cannot be used. The sentence is for the operator and tells the cause itself, so that there is no
/// source to be told again after it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// The folder cannot be made.
    #[error("The state folder {} cannot be made: {error}. Give another one with --state DIR.", .path.display())]
    Folder { path: PathBuf, error: io::Error },
    /// The lock cannot be used.
    #[error("{} cannot be used: {error}. Give a state folder that you may write to with --state DIR.", .path.display())]
    Lock { path: PathBuf, error: io::Error },
    /// Another server uses it.
    #[error("A server runs already with the state folder {}: {pid}. Stop it first, or give another folder with --state DIR.", .path.display())]
    Running { path: PathBuf, pid: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(&dir.path().join("a/b"));
        state.make().unwrap();
        state.make().unwrap();
        assert_eq!(state.running(), None);
        let lock = state.lock().unwrap();
        let second = state.lock().unwrap_err();
        let me = format!("process {}", std::process::id());
        assert!(matches!(&second, StateError::Running { pid, .. } if *pid == me), "{second}");
        assert_eq!(state.running(), Some(me));
        drop(lock);
        assert_eq!(state.running(), None);
        state.lock().unwrap();
    }

    #[test]
    fn the_cause_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = anyhow::Error::from(StateDir::at(&file.join("below")).make().unwrap_err());
        assert_eq!(format!("{error:#}").matches("(os error").count(), 1, "{error:#}");
    }
}
