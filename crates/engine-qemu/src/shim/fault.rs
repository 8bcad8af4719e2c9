//! For tests of what a kill leaves behind: a process that kills itself, or its QEMU, at a named step.
//!
//! Nothing does so unless [`arm`] was called, which the program `berth` never does.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicI32, Ordering},
};

use rustix::process::{Pid, Signal, getpid, kill_process};

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The process that gets to the step.
    Shim,
    /// The QEMU that it has.
    Qemu,
}

static ARMED: OnceLock<(String, Victim)> = OnceLock::new();
static DONE: AtomicBool = AtomicBool::new(false);
static QEMU: AtomicI32 = AtomicI32::new(0);

/// Has this process kill `victim` when it gets to `step`. Only the first call counts.
pub fn arm(step: &str, victim: Victim) {
    drop(ARMED.set((step.to_owned(), victim)));
}

/// The QEMU that there is now.
pub(super) fn has_qemu(pid: u32) {
    QEMU.store(pid.cast_signed(), Ordering::Relaxed);
}

/// This is the step of that name.
pub(crate) fn at(step: &str) {
    let Some((armed, victim)) = ARMED.get() else { return };
    if armed == step && !DONE.swap(true, Ordering::Relaxed) {
        let pid = match victim {
            Victim::Shim => Some(getpid()),
            Victim::Qemu => Pid::from_raw(QEMU.load(Ordering::Relaxed)),
        };
        if let Some(pid) = pid {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}
