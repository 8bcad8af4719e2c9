//! QEMU's process: a child that cannot outlive its shim, and what it complains of.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::BufReader,
    net::UnixStream,
    process::{Child, ChildStderr, Command},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{fault, gate::Wires};
use crate::{
    egress::WayOut,
    inherit,
    launch::KEEP_MAPPING,
    lines,
    lock::VmLock,
    qemu::{self, Begin, Machine, WayOutWires},
};

/// The longest line of QEMU's complaints, in bytes, and how many of them go to the log in one run.
const MAX_LINE: usize = 16 << 10;
const MAX_LINES: u32 = 200;
/// For a shell: becomes a program if its parent is still the process that is named first.
const UNDER_ITS_PARENT: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;
const COMPLAINTS_WITHIN: Duration = Duration::from_secs(1);

/// A QEMU that has been started, and our ends of its wires.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) complaints: Complaints,
    pub(super) lines: Lines,
    pub(super) wires: Wires,
}

/// The wires that do not lead into a network.
pub(super) struct Lines {
    pub(super) control: UnixStream,
    pub(super) agent: UnixStream,
    pub(super) console: UnixStream,
}

/// What a QEMU is to be.
pub(super) struct Order<'a> {
    pub(super) program: &'a Path,
    pub(super) machine: &'a Machine,
    /// Which NIC it has besides the private network's, whether anything is behind it or not.
    pub(super) way_out: &'a WayOut,
    pub(super) begin: Begin,
}

/// Starts QEMU. It holds the lock for as long as it lives, and dies with the thread that calls this.
pub(super) fn start(order: &Order<'_>, lock: &VmLock, tasks: &TaskTracker) -> io::Result<Started> {
    let (control, qemu_control) = inherit::wire()?;
    let (agent, qemu_agent) = inherit::wire()?;
    let (console, qemu_console) = inherit::wire()?;
    let (network, qemu_network) = inherit::wire()?;
    let out = match order.way_out {
        WayOut::Nothing => None,
        WayOut::Passt { .. } => Some((inherit::wire()?, None)),
        WayOut::UserNetwork => Some((inherit::wire()?, Some(inherit::wire()?))),
    };
    let wires = qemu::Wires {
        control: qemu_control.as_raw_fd(),
        agent: qemu_agent.as_raw_fd(),
        console: qemu_console.as_raw_fd(),
        network: qemu_network.as_raw_fd(),
        way_out: out.as_ref().map(|((_, guest), user)| WayOutWires {
            guest: guest.as_raw_fd(),
            user_network: user.as_ref().map(|(_, user)| user.as_raw_fd()),
        }),
    };
    let (way_out, qemu_out) = match out {
        None => (None, vec![]),
        Some(((ours, theirs), None)) => (Some((ours, None)), vec![theirs]),
        Some(((ours, theirs), Some((our_user, their_user)))) => {
            (Some((ours, Some(our_user))), vec![theirs, their_user])
        }
    };
    let mut inherited: Vec<OwnedFd> = vec![qemu_control, qemu_agent, qemu_console, qemu_network];
    inherited.extend(qemu_out);

    // setpriv (util-linux) becomes a shell and that becomes QEMU: the kernel kills it when the thread of its parent that
    // started it ends. A parent that was gone before that was asked for is seen by the shell.
    #[expect(clippy::disallowed_methods, reason = "this crate runs QEMU")]
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--no-new-privs", "--", "/bin/sh", "-c", UNDER_ITS_PARENT]);
    command.arg(std::process::id().to_string()).arg(order.program);
    command.args(qemu::arguments(order.machine, &wires, order.begin));
    command.env_remove(KEEP_MAPPING);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut descriptors: Vec<_> = inherited.iter().map(AsFd::as_fd).collect();
    descriptors.push(lock.as_fd());
    let mut child = inherit::spawn(&mut command, &descriptors)?;
    fault::has_qemu(child.id().unwrap_or_default());
    let complaints = Complaints::read(child.stderr.take(), tasks);
    Ok(Started {
        child,
        complaints,
        lines: Lines { control, agent, console },
        wires: Wires { network, way_out },
    })
}

/// What QEMU writes on its standard error: to the log, and remembered where it explains an end.
pub(super) struct Complaints(JoinHandle<Option<&'static str>>);

impl Complaints {
    fn read(stderr: Option<ChildStderr>, tasks: &TaskTracker) -> Self {
        Self(tasks.spawn(async move {
            match stderr {
                Some(stderr) => listen(BufReader::new(stderr)).await,
                None => None,
            }
        }))
    }

    /// Why a QEMU ended that was not asked to: a sentence without a full stop, for the VM's owner.
    pub(super) async fn explain(&mut self, status: Option<ExitStatus>) -> String {
        tracing::info!(?status, "QEMU ended");
        if let Ok(Ok(Some(reason))) = timeout(COMPLAINTS_WITHIN, &mut self.0).await {
            return reason.to_owned();
        }
        match status.and_then(|status| status.signal()) {
            Some(_) => "its process on the host was killed".to_owned(),
            None => "its process on the host ended unexpectedly".to_owned(),
        }
    }
}

/// Reads all of it, since QEMU must not wait; logs the beginning.
async fn listen(mut stderr: impl tokio::io::AsyncBufRead + Unpin) -> Option<&'static str> {
    let mut reason = None;
    let mut logged = 0;
    while let Ok(Some(line)) = lines::read_line(&mut stderr, MAX_LINE).await {
        let line = String::from_utf8_lossy(&line);
        reason = reason.or_else(|| known(&line));
        if logged < MAX_LINES {
            logged += 1;
            tracing::warn!("QEMU: {}", line.escape_debug());
        }
    }
    reason
}

fn known(complaint: &str) -> Option<&'static str> {
    let reasons = [
        ("Cannot allocate memory", "the host has no memory left for it"),
        ("unsupported machine type", "the QEMU of this host does not know its kind of machine"),
        ("Could not access KVM kernel module", "it ran under KVM before, which the host does not have now"),
        ("failed to initialize kvm", "it ran under KVM before, which the host does not have now"),
        ("load of migration failed", "QEMU does not understand what was kept of its devices"),
        ("No space left on device", "the host's disk is full"),
        ("Could not open backing file", "its image is missing on the host"),
        ("could not load kernel", "its image is missing on the host"),
        ("could not load initrd", "its image is missing on the host"),
        ("Could not open", "its disk cannot be opened on the host"),
        ("Failed to get \"write\" lock", "its disk is in use by another process on the host"),
    ];
    reasons.into_iter().find(|(words, _)| complaint.contains(words)).map(|(_, reason)| reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_complaint_that_explains_is_kept() {
        let said = "qemu: warning: x\nqemu: cannot set up guest memory 'pc.ram': Cannot allocate memory\nNo space left\n";
        assert_eq!(listen(said.as_bytes()).await, Some("the host has no memory left for it"));
        assert_eq!(listen(&b"qemu: hm\n"[..]).await, None);
        assert_eq!(
            known(
                "-blockdev …: Could not open backing file: Could not open '/x/disk': No such file or directory"
            ),
            Some("its image is missing on the host")
        );
    }

    #[tokio::test]
    async fn an_end_that_nothing_explains_is_told_by_its_status() {
        let tasks = TaskTracker::new();
        let mut none = Complaints::read(None, &tasks);
        assert_eq!(none.explain(Some(ExitStatus::from_raw(9))).await, "its process on the host was killed");
        let mut none = Complaints::read(None, &tasks);
        assert_eq!(
            none.explain(Some(ExitStatus::from_raw(256))).await,
            "its process on the host ended unexpectedly"
        );
    }
}
