//! A program that is nobody's child: init adopts it, and so systemd, which is told of its number, sees it end even while this
//! process is still there (systemd.service(5), Type=notify).

use std::{ffi::OsString, io, os::fd::OwnedFd, path::Path, process::Stdio, time::Duration};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tokio::{
    process::Command,
    time::{sleep, timeout},
};

/// Starts what it is given and ends, having said its number. A program that is started so has no terminal's signals but those
/// that it asks for.
const SHELL: &str = r#"exec 3<&0; "$0" "$@" <&3 3<&- >&2 & echo $!"#;
/// Forking twice, and dying.
const WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Such a program. Dropped, it is killed, unless it was left to itself.
#[derive(Debug)]
pub(super) struct Adopted {
    pid: Pid,
    /// `None` where it had ended before it could be asked for, or is left to itself.
    process: Option<OwnedFd>,
}

impl Adopted {
    /// Starts it with `stdin`, and with this process's standard error for both outputs.
    pub(super) async fn start(program: &Path, arguments: &[OsString], stdin: OwnedFd) -> io::Result<Self> {
        rustix::fs::access(program, rustix::fs::Access::EXEC_OK)?;
        #[expect(clippy::disallowed_methods, reason = "it starts this very program")]
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SHELL]).arg(program).args(arguments);
        shell.stdin(Stdio::from(stdin)).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let said = timeout(WITHIN, shell.spawn()?.wait_with_output()).await??.stdout;
        let pid = String::from_utf8_lossy(&said).trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("no process can be started"))?;
        let process = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(process) => Some(process),
            Err(Errno::SRCH) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { pid, process })
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// From here on it does not end with this.
    pub(super) fn leave(&mut self) {
        self.process = None;
    }

    /// Ends it, if it has not ended, and waits until it has.
    pub(super) async fn kill(mut self) {
        let Some(process) = self.process.take() else { return };
        let ended = async {
            // One that has ended is no other process: the descriptor stands for this one alone.
            while pidfd_send_signal(&process, Signal::KILL).is_ok() {
                sleep(LOOK_EVERY).await;
            }
        };
        if timeout(WITHIN, ended).await.is_err() {
            tracing::warn!(pid = self.pid.as_raw_nonzero(), "a server that was killed does not end");
        }
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            // It may have ended by itself.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}
