//! A copy of the disk of a guest that runs, as it was at one moment.
//!
//! ```text
//!   freeze ── backup job begins: this is the moment ── thaw ── the job copies what it was, block by block ── done
//! ```
//!
//! QEMU copies a block before the guest overwrites it, so the guest goes on at once and the copy is whole.

use std::{path::Path, time::Duration};

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::{
    agent::{Agent, AgentError},
    desk::Desk,
    fault,
    qmp::{Qmp, QmpError},
};
use crate::protocol::Denied;

/// The copy's name, as a node and as a job.
const COPY: &str = "berth-copy";
/// Before the file systems are frozen, so that this takes a moment: what a busy guest has not written yet.
const SYNC_WITHIN: Duration = Duration::from_secs(120);
/// A guest whose file systems stand still is of no use to anybody: so often is it asked to go on.
const THAW_TRIES: u32 = 60;
/// For a sleep that has just begun.
const TURN_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A job that is cancelled ends what it is at.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// What `query-jobs` tells.
#[derive(Deserialize)]
struct Job {
    id: String,
    status: String,
    #[serde(default)]
    error: Option<String>,
}

impl Desk {
    /// Has QEMU copy the disk into `to`, which is as large and empty, until it is whole or `gone`.
    pub(super) async fn copy_disk(&self, to: &Path, gone: impl Future<Output = ()>) -> Result<(), Denied> {
        self.has_to_run()?;
        let Ok(_copying) = timeout(TURN_WITHIN, self.copying.lock()).await else {
            return Err(failed("its disk is being copied already"));
        };
        // It may have fallen asleep before this was held.
        self.has_to_run()?;
        let qmp = self.qemu.borrow().clone().ok_or(Denied::NotRunning)?.qmp;
        open(&qmp, to).await.map_err(|error| refused(&error))?;
        let copied = match self.begin(&qmp).await {
            // Not to be dropped: a guest that was frozen would stay so.
            Err(refused) => Err(refused),
            Ok(()) => tokio::select! {
                copied = ended(&qmp) => copied,
                () = gone => Err(failed("nobody waits for the copy any more")),
            },
        };
        if let Err(error) = close(&qmp).await {
            tracing::warn!(%error, "what is left of a copy of the disk stays until the VM ends");
        }
        copied
    }

    /// Begins the copy, at a moment when nothing is half written in the guest, if it can be had.
    async fn begin(&self, qmp: &Qmp) -> Result<(), Denied> {
        let mut agent = self.agent().await?;
        // One that does not even write out what it holds is not asked for more.
        let frozen = match agent.run("sync", SYNC_WITHIN).await {
            Ok(_) => Some(agent.freeze().await),
            Err(error) => {
                tracing::warn!(%error, "the copy is of a disk as after a power cut: its guest does not write out what it holds");
                None
            }
        };
        if let Some(Err(error)) = &frozen {
            tracing::warn!(%error, "the copy is of a disk as after a power cut: its file systems are not frozen");
        }
        fault::at("copy:frozen");
        let backup = json!({
            "job-id": COPY, "device": "disk", "target": COPY, "sync": "full", "auto-dismiss": false,
        });
        let begun = qmp.execute("blockdev-backup", &backup).await;
        if let Some(frozen) = frozen {
            thaw(&mut agent, frozen.is_ok()).await;
        }
        begun.map(drop).map_err(|error| refused(&error))
    }
}

async fn ended(qmp: &Qmp) -> Result<(), Denied> {
    loop {
        let Some(job) = job(qmp).await.map_err(|error| refused(&error))? else {
            return Err(failed("its process on the host gave the copy up"));
        };
        match (job.status.as_str(), job.error) {
            ("concluded", None) => return Ok(()),
            ("concluded" | "aborting", error) => {
                let error = error.unwrap_or_default();
                tracing::error!(%error, "the disk is not copied");
                let full = error.contains("No space left");
                return Err(failed(if full {
                    "the host's disk is full"
                } else {
                    "its disk could not be copied"
                }));
            }
            _ => sleep(LOOK_EVERY).await,
        }
    }
}

/// Also where it may not be frozen: a freeze that was not answered in time may have come after that.
async fn thaw(agent: &mut Agent, frozen: bool) {
    for _ in 0..THAW_TRIES {
        match agent.thaw().await {
            Ok(()) => return,
            // One that does not answer may be about to freeze.
            Err(error @ AgentError::Refused(_)) if !frozen => {
                tracing::debug!(%error, "there is nothing to thaw");
                return;
            }
            Err(error) => tracing::error!(%error, "the guest's file systems do not go on; asking again"),
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn open(qmp: &Qmp, to: &Path) -> Result<(), QmpError> {
    // What an earlier one has left.
    close(qmp).await?;
    let file = json!({ "driver": "file", "filename": to.to_str().unwrap_or_default() });
    let node = json!({ "driver": "qcow2", "node-name": COPY, "file": file });
    qmp.execute("blockdev-add", &node).await.map(drop)
}

/// Ends the job, whatever it is at, and lets go of the file. Does nothing where there is none.
async fn close(qmp: &Qmp) -> Result<(), QmpError> {
    let deadline = Instant::now() + ENDS_WITHIN;
    while let Some(Job { status, .. }) = job(qmp).await? {
        let (ended, words) = match status.as_str() {
            "concluded" => (true, "job-dismiss"),
            _ => (false, "job-cancel"),
        };
        // One that is about to end refuses to be cancelled.
        let done = qmp.execute(words, &json!({ "id": COPY })).await;
        if Instant::now() >= deadline {
            return done.map(drop);
        }
        if !ended {
            sleep(LOOK_EVERY).await;
        }
    }
    match qmp.execute("blockdev-del", &json!({ "node-name": COPY })).await {
        Err(QmpError::Refused(_)) => Ok(()),
        closed => closed.map(drop),
    }
}

async fn job(qmp: &Qmp) -> Result<Option<Job>, QmpError> {
    let jobs: Vec<Job> =
        serde_json::from_value(qmp.execute("query-jobs", &json!({})).await?).unwrap_or_default();
    Ok(jobs.into_iter().find(|job| job.id == COPY))
}

fn refused(error: &QmpError) -> Denied {
    tracing::error!(%error, "QEMU does not copy the disk");
    failed("its process on the host did not copy its disk, see its log")
}

fn failed(reason: &str) -> Denied {
    Denied::Failed { reason: reason.to_owned() }
}
