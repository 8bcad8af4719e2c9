//! What a shim may do once it has what it needs, and with it QEMU, which it starts.
//!
//! | may | and nothing else of that kind |
//! |---|---|
//! | read | the system's programs and libraries, what the kernel tells, the images, the disk that is lent to it |
//! | read, write, make, remove | in the VM's own folder and in the folder of its memory; not these folders themselves |
//! | use | `/dev/kvm`, the random numbers, `/dev/null` |
//! | the network | what is connected already; QEMU's user network opens sockets of IP, where that is the way out |
//! | other processes | those that it starts |
//!
//! Files are Landlock's to refuse, by where they are and not by whose; calls that no VM needs are refused by a filter
//! (seccomp); root becomes a [user of the VM's own](crate::user), who may read whatever Landlock does not refuse. Nothing of it
//! can be given back. A kernel without Landlock leaves files to their modes, which is said by [`landlock_is_missing`].
//!
//! It holds for the calling thread and all that comes from it, so it is entered before there is another one.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope, make_bitflags, path_beneath_rules,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use crate::{egress::find_program, user::VmUser};

/// Programs and what they are linked with.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// What the kernel tells, and where libraries are. Other processes' memory and files are not to be had below `/proc`:
/// they are outside.
const TOLD: [&str; 7] = [
    "/proc",
    "/sys/devices/system",
    "/sys/kernel/mm",
    "/sys/module",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/dev/urandom",
];
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/kvm"];

/// What of the host a VM has.
#[derive(Debug)]
pub(crate) struct Sandbox<'a> {
    /// Folders of the VM's own, which are there.
    pub(crate) own: [&'a Path; 2],
    /// Files and folders that it reads.
    pub(crate) reads: &'a [PathBuf],
    /// The program: a path, or a name to be found on the search path. It may be elsewhere than the system's.
    pub(crate) qemu: &'a Path,
    /// Whether QEMU itself connects to the world.
    pub(crate) user_network: bool,
    /// Who is inside; nobody else than before where there is none.
    pub(crate) user: Option<VmUser>,
}

/// Why a sandbox cannot be entered. Then nothing may be run in its place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error("the kernel refuses to shut files off")]
    Landlock(#[from] RulesetError),
    #[error("a folder of the VM cannot be opened")]
    Folder(#[from] PathFdError),
    #[error("the kernel refuses to shut calls off")]
    Filter(#[from] seccompiler::Error),
    #[error("the kernel refuses to make it another user's, or to take capabilities")]
    User(#[source] io::Error),
}

impl From<seccompiler::BackendError> for SandboxError {
    fn from(error: seccompiler::BackendError) -> Self {
        Self::Filter(error.into())
    }
}

/// Whether this kernel cannot shut files off from a process (Landlock, since Linux 5.13).
#[must_use]
pub fn landlock_is_missing() -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset.handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create).is_err()
}

impl Sandbox<'_> {
    /// Enters it for good.
    pub(crate) fn enter(&self) -> Result<(), SandboxError> {
        self.shut_files()?;
        self.user.map_or_else(drop_capabilities, VmUser::enter).map_err(SandboxError::User)?;
        self.shut_calls()
    }

    /// As much as this kernel knows to.
    fn shut_files(&self) -> Result<(), SandboxError> {
        let own = AccessFs::from_all(ABI::V3)
            & !make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | MakeFifo | MakeSock | MakeSym});
        let reads = make_bitflags!(AccessFs::{ReadFile | ReadDir});
        let device = make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev});
        let mut ruleset =
            Ruleset::default().handle_access(AccessFs::from_all(ABI::V5))?.scope(Scope::from_all(ABI::V6))?;
        if !self.user_network {
            ruleset = ruleset.handle_access(AccessNet::from_all(ABI::V4))?;
        }
        let mut ruleset = ruleset
            .create()?
            // What is not there needs no rule.
            .add_rules(path_beneath_rules(SYSTEM, AccessFs::from_read(ABI::V1)))?
            .add_rules(path_beneath_rules(installed_with(self.qemu), AccessFs::from_read(ABI::V1)))?
            .add_rules(path_beneath_rules(TOLD, reads))?
            .add_rules(path_beneath_rules(DEVICES, device))?
            .add_rules(path_beneath_rules(self.reads, reads))?;
        for folder in self.own {
            ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(folder)?, own))?;
        }
        ruleset.restrict_self()?;
        Ok(())
    }

    fn shut_calls(&self) -> Result<(), SandboxError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, vec![])).collect();
        if self.user_network {
            rules.insert(libc::SYS_socket, vec![other_than(&[libc::AF_INET, libc::AF_INET6])?]);
        } else {
            // Sockets are inherited, or made in pairs. This is also what keeps it from those in the file system, which
            // older Landlocks do not.
            for call in [libc::SYS_socket, libc::SYS_connect, libc::SYS_bind] {
                rules.insert(call, vec![]);
            }
        }
        // Root opens files in the VM's folder by their names, and is not to be led elsewhere.
        #[cfg(target_arch = "x86_64")]
        rules.insert(libc::SYS_symlink, vec![]);
        // The same by their other numbers, where the kernel has x32: to a filter those are calls of this architecture.
        #[cfg(target_arch = "x86_64")]
        for (call, conditions) in rules.clone() {
            rules.insert(call | X32, conditions);
        }
        let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let filter =
            SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
        let program: BpfProgram = filter.try_into()?;
        Ok(apply_filter(&program)?)
    }
}

/// `__X32_SYSCALL_BIT` of asm/unistd.h.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

/// The folders of the installation that a program belongs to.
fn installed_with(program: &Path) -> Vec<PathBuf> {
    let found = program
        .to_str()
        .filter(|name| !name.contains('/'))
        .map_or_else(|| Some(program.to_owned()), find_program);
    let bin = found.and_then(|program| program.canonicalize().ok()?.parent().map(Path::to_owned));
    let beside = |bin: PathBuf| ["share", "lib", "lib64", "libexec"].map(|name| bin.with_file_name(name));
    bin.map(|bin| beside(bin.clone()).into_iter().chain([bin]).collect()).unwrap_or_default()
}

/// Matches a first argument that is none of these.
fn other_than(values: &[i32]) -> Result<SeccompRule, seccompiler::BackendError> {
    let none = |value: &i32| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(value.unsigned_abs()))
    };
    SeccompRule::new(values.iter().map(none).collect::<Result<_, _>>()?)
}

/// What the server may beyond others, such as listening on port 22. A root that cannot become another user stays no stranger to
/// files.
fn drop_capabilities() -> io::Result<()> {
    let has = rustix::thread::capabilities(None)?;
    let kept = match rustix::process::geteuid().is_root() {
        true => CapabilitySet::DAC_OVERRIDE & has.permitted,
        false => CapabilitySet::empty(),
    };
    Ok(set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )?)
}

/// Calls that neither a shim nor a QEMU has a use for: of the kernel's own affairs, and ways into other processes or around
/// the rules above.
const REFUSED: [i64; 54] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mknodat,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_symlinkat,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    libc::SYS_quotactl_fd,
    libc::SYS_process_mrelease,
    libc::SYS_listen,
];

#[cfg(test)]
mod tests;
