//! From a guest that boots or has slept to one that can be entered: its agent, its account and keys, its sshd.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use berth_engine::Guest;
use berth_vnet::DialError;
use tokio::{io::BufReader, sync::watch, time::timeout};

use super::{agent::AgentError, desk::Desk, fault, gate::Gate};
use crate::{
    lines,
    paths::{remove_file, sync_parent},
    provision, sleep,
};

const SSH: u16 = 22;
/// The script is short, but it runs while the rest of the guest boots.
const SCRIPT_WITHIN: Duration = Duration::from_secs(60);
/// A guest that was forked: its script, and its sshd's new beginning.
const CLAIMED_WITHIN: Duration = Duration::from_secs(120);
/// Keys are put in with one short program.
const KEYS_WITHIN: Duration = Duration::from_secs(10);
/// A guest that is made one to fork from gives back all memory that it can.
const TEMPLATE_WITHIN: Duration = Duration::from_secs(180);
const BANNER_WITHIN: Duration = Duration::from_secs(10);
/// Between two attempts at something that is still starting.
const PAUSE: Duration = Duration::from_millis(50);
/// RFC 4253, 4.2: 255 bytes of identification; lines before it are not many.
const MAX_LINE: usize = 1024;
const MAX_LINES: usize = 20;

/// What it takes.
pub(super) struct BringUp {
    pub(super) desk: Arc<Desk>,
    /// Whether a program in the guest has the agent's port open.
    pub(super) port_open: watch::Receiver<bool>,
    pub(super) gate: Arc<Gate>,
    /// What it is to be given; without it is made one to fork VMs from.
    pub(super) guest: Option<Arc<Guest>>,
    /// [`crate::paths::VmPaths::unclaimed`].
    pub(super) unclaimed: PathBuf,
    pub(super) from: From,
}

/// Where the guest comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// It boots, which may take so long.
    Boot(Duration),
    /// It has slept, and goes on.
    Sleep,
}

impl BringUp {
    /// Does it, and tells which guest it put in. An error is a sentence without a full stop.
    ///
    /// May be dropped at any time, and begun again.
    pub(super) async fn run(mut self) -> Result<Option<Arc<Guest>>, String> {
        let within = match self.from {
            From::Boot(within) => within,
            From::Sleep if self.unclaimed.exists() => CLAIMED_WITHIN,
            From::Sleep => {
                self.give_what_is_new().await;
                return Ok(self.guest);
            }
        };
        let mut missing = "its guest agent did not start";
        match timeout(within, self.steps(&mut missing)).await {
            Ok(Ok(())) => Ok(self.guest),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err(format!("it did not come up within {} s: {missing}", within.as_secs())),
        }
    }

    /// A guest that has slept has all that it needs, but for keys that were set meanwhile and another certificate of its
    /// host key. An agent that does not answer does not keep people out of their VM.
    async fn give_what_is_new(&self) {
        let Some(guest) = &self.guest else { return };
        let wanted = sleep::given_hash(guest);
        if self.desk.given.borrow().as_ref() == Some(&wanted) {
            return;
        }
        let give = async { self.desk.give_keys(&mut *self.desk.agent.lock().await, guest).await };
        match timeout(KEYS_WITHIN, give).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the guest did not take the keys"),
            Err(_) => tracing::warn!("the guest did not take the keys in time"),
        }
    }

    async fn steps(&mut self, missing: &mut &'static str) -> Result<(), String> {
        if let From::Boot(_) = self.from {
            self.port_open
                .wait_for(|open| *open)
                .await
                .map_err(|_| "its process on the host is gone".to_owned())?;
        }
        *missing = "its guest agent does not answer";
        let Some(guest) = self.guest.clone() else {
            // One to fork from: nobody connects to it.
            return self.have_run(TEMPLATE_WITHIN, provision::template_script).await;
        };
        let given = sleep::given_hash(&guest);
        self.desk.given.send_replace(None);
        if self.unclaimed.exists() {
            let script = || provision::fork_script(&guest, &rand::random(), SystemTime::now());
            fault::at("fork:begun");
            self.have_run(SCRIPT_WITHIN, script).await?;
            fault::at("fork:given");
            remove_file(&self.unclaimed)
                .and_then(|()| sync_parent(&self.unclaimed))
                .map_err(|error| format!("its folder on the host cannot be used: {error}"))?;
        } else {
            self.have_run(SCRIPT_WITHIN, || provision::script(&guest)).await?;
        }
        fault::at("up:given");
        self.desk.given.send_replace(Some(given));
        self.gate.open();
        *missing = "its sshd does not answer";
        while !self.sshd_answers().await {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Has the guest run a script, again until it has.
    async fn have_run(&self, within: Duration, script: impl Fn() -> String) -> Result<(), String> {
        loop {
            let error = match self.desk.agent.lock().await.run(&script(), within).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            tracing::warn!(%error, "the guest is not set up yet");
            match error {
                AgentError::Script { .. } | AgentError::Refused(_) => {
                    return Err("its guest agent could not set it up".to_owned());
                }
                AgentError::Io(_) | AgentError::Closed => {
                    return Err("its process on the host is gone".to_owned());
                }
                // An agent that restarts, or is not done starting: it may answer yet.
                AgentError::Silent | AgentError::Nonsense => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn sshd_answers(&self) -> bool {
        match self.desk.network.dial(SSH, BANNER_WITHIN).await {
            Ok(stream) => timeout(BANNER_WITHIN, greets(BufReader::new(stream))).await.unwrap_or(false),
            Err(DialError::Refused | DialError::TimedOut | DialError::Detached | DialError::TooMany) => false,
        }
    }
}

/// Whether an SSH server is at the other end: it says so in its first lines (RFC 4253, 4.2).
async fn greets(mut stream: impl tokio::io::AsyncBufRead + Unpin) -> bool {
    for _ in 0..MAX_LINES {
        match lines::read_line(&mut stream, MAX_LINE).await {
            Ok(Some(line)) if line.starts_with(b"SSH-") => return true,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_sshd_is_known_by_its_greeting() {
        assert!(greets(&b"SSH-2.0-OpenSSH_10.0\r\n"[..]).await);
        assert!(greets(&b"come in\r\nSSH-2.0-x\r\n"[..]).await);
        assert!(!greets(&b"HTTP/1.1 400 Bad Request\r\n"[..]).await);
        assert!(!greets(&b"SSH-2.0-cut"[..]).await);
        assert!(!greets("x\n".repeat(100).as_bytes()).await);
        assert!(!greets(vec![b'x'; 10_000].as_slice()).await);
    }
}
