//! The user that a VM's processes are: one for each VM where the server is root, else the server's own.
//!
//! The number follows from the VM's id, so nothing has to be allocated or remembered. It is nobody's elsewhere: the range is one
//! that distributions leave alone (<https://systemd.io/UIDS-GIDS/>, "unused"). Two VMs share one by chance, one pair in 268
//! million; they are shut off from each other by the [sandbox](crate::sandbox) all the same.
//!
//! Files of a VM are given to its user before each start, since the server, which is root, makes and replaces some of them, and a
//! rebuild gives a VM the files of another one.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{MetadataExt, lchown},
    path::Path,
};

use berth_model::VmId;
use rustix::{
    fs::{Gid, Uid},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set, set_capabilities,
        set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

use crate::{paths::VmPaths, sandbox::landlock_is_missing};

const FIRST: u32 = 0x7000_0000;
const COUNT: u64 = 0x0ffe_0000;
const KVM: &str = "/dev/kvm";

/// A user of a VM's own, and its group of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VmUser(u32);

impl VmUser {
    /// Gives the VM's files to its user. `None` where this process may not do so and become another user, as root may; on a
    /// file system that knows no other users, or in a container that has none; where the VM needs KVM, and that is root's
    /// alone; and without Landlock: this user may read whatever that does not refuse, and would read everything.
    pub(crate) fn own(vm: VmId, paths: &VmPaths, kvm: bool) -> io::Result<Option<Self>> {
        let needed = CapabilitySet::CHOWN | CapabilitySet::SETUID | CapabilitySet::SETGID;
        if !capabilities(None)?.effective.contains(needed) || landlock_is_missing() {
            return Ok(None);
        }
        if kvm && !is_open(&fs::metadata(KVM)?) {
            tracing::warn!(
                "the VM's processes run as root: {KVM} is root's alone. Give it to a group: chgrp kvm {KVM}; chmod 660 {KVM}"
            );
            return Ok(None);
        }
        let user = Self::of(vm);
        for folder in [&paths.dir, &paths.memory] {
            match user.give(folder) {
                Err(error) if is_impossible(&error) => {
                    tracing::warn!(%error, "the VM's processes run as root: its files cannot be given to another user");
                    return Ok(None);
                }
                given => given?,
            }
        }
        Ok(Some(user))
    }

    fn of(vm: VmId) -> Self {
        Self(FIRST + u32::try_from(vm.number() % COUNT).unwrap_or_default())
    }

    /// A folder and what is in it, links to elsewhere aside: memory that is a template's too stays as it is, to be read.
    fn give(self, path: &Path) -> io::Result<()> {
        let found = fs::symlink_metadata(path)?;
        if found.is_file() && found.nlink() > 1 {
            return Ok(());
        }
        if (found.uid(), found.gid()) != (self.0, self.0) {
            lchown(path, Some(self.0), Some(self.0))?;
        }
        if found.is_dir() {
            for entry in fs::read_dir(path)? {
                match self.give(&entry?.path()) {
                    // The server has taken it away meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    given => given?,
                }
            }
        }
        Ok(())
    }

    /// Makes the calling thread this user's, for good. It keeps one capability, and gives it to programs that it starts: to be no
    /// stranger to files that it reads, since images may be somebody else's and in folders that are shut.
    pub(crate) fn enter(self) -> io::Result<()> {
        let (user, group) = (Uid::from_raw(self.0), Gid::from_raw(self.0));
        set_thread_groups(&of_kvm())?;
        set_thread_res_gid(group, group, group)?;
        set_keep_capabilities(true)?;
        set_thread_res_uid(user, user, user)?;
        let kept = CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: kept })?;
        Ok(configure_capability_in_ambient_set(kept, true)?)
    }
}

/// Gives a file that has just been made in the folder of a VM that runs to whom the folder belongs.
pub(crate) fn give_as(folder: &Path, file: &Path) -> io::Result<()> {
    let (folder, found) = (fs::metadata(folder)?, fs::symlink_metadata(file)?);
    if (found.uid(), found.gid()) == (folder.uid(), folder.gid()) {
        return Ok(());
    }
    lchown(file, Some(folder.uid()), Some(folder.gid()))
}

/// Whether a device may be used by whoever is in its group, which is another one than root's; or by everybody.
fn is_open(device: &Metadata) -> bool {
    let may = |who: u32| device.mode() & who == who;
    may(0o006) || (may(0o060) && device.gid() != 0)
}

/// Who may use KVM beside root.
fn of_kvm() -> Vec<Gid> {
    fs::metadata(KVM)
        .map(|kvm| Gid::from_raw(kvm.gid()))
        .into_iter()
        .filter(|group| !group.is_root())
        .collect()
}

fn is_impossible(error: &io::Error) -> bool {
    // EINVAL: a user namespace that the number is not in.
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_vm_has_a_user_that_is_nobody_else() {
        let of = |id: &str| VmUser::of(id.parse().unwrap()).0;
        assert_eq!(of("0000000000000000"), 0x7000_0000);
        assert_eq!(of("000000000ffdffff"), 0x7ffd_ffff, "the last that is left alone");
        assert_eq!(of("000000000ffe0000"), 0x7000_0000);
        assert_ne!(of("1122334455667788"), of("1122334455667789"));
    }

    #[test]
    fn what_is_roots_alone_is_open_to_no_vm() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = |mode, group| {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            lchown(file.path(), None, Some(group))
                .is_ok()
                .then(|| is_open(&file.as_file().metadata().unwrap()))
        };
        let own = rustix::process::getegid().as_raw();
        assert_eq!(open(0o666, own), Some(true));
        assert_eq!(open(0o600, own), Some(false));
        // Only root can try another group.
        assert_ne!(open(0o660, 0), Some(true), "as in a container without udev");
        assert_ne!(open(0o660, 7), Some(false));
    }
}
