//! From a guest that boots to one that can be entered: its agent, its account and keys, its sshd.

use std::{sync::Arc, time::Duration};

use berth_engine::Guest;
use berth_vnet::{DialError, Network};
use tokio::{
    io::BufReader,
    sync::{Mutex, watch},
    time::{sleep, timeout},
};

use super::agent::{Agent, AgentError};
use crate::{lines, provision};

const SSH: u16 = 22;
/// The script is short, but it runs while the rest of the guest boots.
const SCRIPT_WITHIN: Duration = Duration::from_secs(60);
const BANNER_WITHIN: Duration = Duration::from_secs(10);
/// Between two attempts at something that is still starting.
const PAUSE: Duration = Duration::from_millis(50);
/// RFC 4253, 4.2: 255 bytes of identification; lines before it are not many.
const MAX_LINE: usize = 1024;
const MAX_LINES: usize = 20;

/// What it takes.
pub(super) struct BringUp {
    pub(super) agent: Arc<Mutex<Agent>>,
    /// Whether a program in the guest has the agent's port open.
    pub(super) port_open: watch::Receiver<bool>,
    pub(super) network: Network,
    pub(super) guest: Arc<Guest>,
    pub(super) within: Duration,
}

impl BringUp {
    /// Does it, and tells which guest it put in. An error is a sentence without a full stop.
    ///
    /// May be dropped at any time, and begun again.
    pub(super) async fn run(mut self) -> Result<Arc<Guest>, String> {
        let mut missing = "its guest agent did not start";
        let within = self.within;
        let done = timeout(within, self.steps(&mut missing)).await;
        match done {
            Ok(Ok(())) => Ok(self.guest),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err(format!("it did not come up within {} s: {missing}", within.as_secs())),
        }
    }

    async fn steps(&mut self, missing: &mut &'static str) -> Result<(), String> {
        self.port_open
            .wait_for(|open| *open)
            .await
            .map_err(|_| "its process on the host is gone".to_owned())?;
        *missing = "its guest agent does not answer";
        self.provision().await?;
        *missing = "its sshd does not answer";
        while !self.sshd_answers().await {
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn provision(&self) -> Result<(), String> {
        let script = provision::script(&self.guest);
        loop {
            let error = match self.agent.lock().await.run(&script, SCRIPT_WITHIN).await {
                Ok(()) => return Ok(()),
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
                AgentError::Silent | AgentError::Nonsense => sleep(PAUSE).await,
            }
        }
    }

    async fn sshd_answers(&self) -> bool {
        match self.network.dial(SSH, BANNER_WITHIN).await {
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
