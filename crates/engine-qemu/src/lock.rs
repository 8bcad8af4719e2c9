//! The lock of one VM: whoever holds it, and nobody else, runs it.
//!
//! It is a flock(2), which belongs to the open file and not to a process: QEMU inherits the file from its shim, so the
//! lock is free only when both are gone, and no second QEMU can open the disk in between.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tokio::time::{Instant, sleep};

use crate::paths::VmPaths;

/// A dead shim's QEMU is killed by the kernel; so often is looked whether it is gone.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The lock, held until this and every inherited copy of its file are gone.
#[derive(Debug)]
pub(crate) struct VmLock(File);

impl VmLock {
    /// Takes the lock if it becomes free within `patience`; `None` if it does not.
    pub(crate) async fn take(paths: &VmPaths, patience: Duration) -> io::Result<Option<Self>> {
        let file = open(paths)?;
        let deadline = Instant::now() + patience;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self(file))),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => sleep(LOOK_EVERY).await,
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl VmLock {
    /// Another handle to the same lock, which holds it too.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl AsFd for VmLock {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open(paths: &VmPaths) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(paths.lock())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::StateDir;

    #[tokio::test]
    async fn one_at_a_time_and_inherited_copies_count() {
        let dir = tempfile::tempdir().unwrap();
        let paths = StateDir::open(dir.path(), dir.path()).unwrap().vm(&berth_model::VmId::random());
        std::fs::create_dir(&paths.dir).unwrap();
        let now = Duration::ZERO;
        let held = VmLock::take(&paths, now).await.unwrap().unwrap();
        assert!(VmLock::take(&paths, now).await.unwrap().is_none());
        let copy = held.0.try_clone().unwrap();
        drop(held);
        assert!(VmLock::take(&paths, now).await.unwrap().is_none(), "QEMU still has it");
        drop(copy);
        assert!(VmLock::take(&paths, now).await.unwrap().is_some());
    }
}
