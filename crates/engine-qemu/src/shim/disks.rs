//! What is done to the disks of a guest that runs: its own grows, and the one that it had before it was rebuilt is lent to
//! it for a while.
//!
//! The guest agent is held for as long as either takes, so that the guest does not fall asleep meanwhile: one that sleeps
//! has the devices that it was started with, and no others.

use std::{path::Path, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    agent::{Agent, AgentError},
    desk::Desk,
    fault,
    qmp::{Qmp, QmpError},
};
use crate::{disk, protocol::Denied, provision};

/// A file system of terabytes on a slow disk.
const GROW_WITHIN: Duration = Duration::from_secs(150);
/// Some hundred gigabytes of small files.
const COPY_WITHIN: Duration = Duration::from_secs(6 * 3600);
/// A guest lets go of a disk at once, or not at all.
const UNPLUG_WITHIN: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The lent disk's name, in QEMU and, as its serial number, in the guest.
const LENT: &str = "berth-old";

/// A device, as `qom-list` tells of it.
#[derive(Deserialize)]
struct Listed {
    name: String,
}

impl Desk {
    /// Makes the disk as large, if it is smaller, and tells whether the guest has taken the room.
    pub(super) async fn grow(&self, bytes: u64) -> Result<bool, Denied> {
        let (qmp, mut agent) = self.both().await?;
        let file = self.disk.clone();
        let has = disk::size(&file).map_err(|error| {
            tracing::error!(%error, "the disk's size cannot be read");
            failed("its disk cannot be read on the host")
        })?;
        if has < bytes {
            let resize = json!({ "node-name": "disk", "size": bytes });
            qmp.execute("block_resize", &resize).await.map_err(|error| refused(&error))?;
        }
        let script = provision::grow_script(bytes.max(has));
        Ok(match agent.run(&script, GROW_WITHIN).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "the guest does not take the room of its larger disk");
                false
            }
        })
    }

    /// Lends the guest a disk, has it copy everything below `/home` of it over its own, and takes the disk back.
    pub(super) async fn take_home(&self, disk: &Path) -> Result<(), Denied> {
        let (qmp, mut agent) = self.both().await?;
        let guest = self.guest.borrow().clone().ok_or(Denied::NotRunning)?;
        lend(&qmp, disk).await.map_err(|error| refused(&error))?;
        fault::at("home:lent");
        copy(&mut agent, &provision::home_script(&guest, LENT)).await?;
        fault::at("home:copied");
        take_back(&qmp).await?;
        fault::at("home:taken back");
        Ok(())
    }

    /// QEMU and the agent of a guest that runs.
    async fn both(&self) -> Result<(Arc<Qmp>, tokio::sync::MutexGuard<'_, Agent>), Denied> {
        self.has_to_run()?;
        let agent = self.agent().await?;
        // It may have fallen asleep while the agent was busy.
        self.has_to_run()?;
        let qemu = self.qemu.borrow().clone().ok_or(Denied::NotRunning)?;
        Ok((qemu.qmp, agent))
    }
}

async fn lend(qmp: &Qmp, disk: &Path) -> Result<(), QmpError> {
    let file = json!({ "driver": "file", "filename": disk.to_str().unwrap_or_default() });
    let node = json!({ "driver": "qcow2", "node-name": LENT, "file": file });
    qmp.execute("blockdev-add", &node).await?;
    let device = json!({ "driver": "virtio-blk-pci", "id": LENT, "drive": LENT, "serial": LENT });
    qmp.execute("device_add", &device).await.map(drop)
}

async fn copy(agent: &mut Agent, script: &str) -> Result<(), Denied> {
    let error = match agent.run(script, COPY_WITHIN).await {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    tracing::error!(%error, "the guest did not copy the home");
    Err(failed(match error {
        AgentError::Script { status, .. } => provision::why_no_home(status),
        _ => "its guest did not copy its home in time",
    }))
}

/// Waits until the guest has let go of it.
async fn take_back(qmp: &Qmp) -> Result<(), Denied> {
    let deadline = Instant::now() + UNPLUG_WITHIN;
    let mut ask_at = Instant::now();
    while is_lent(qmp).await.map_err(|error| refused(&error))? {
        if Instant::now() >= deadline {
            tracing::error!("the guest does not let go of the lent disk");
            return Err(failed("its guest does not let go of its old disk"));
        }
        if Instant::now() >= ask_at {
            ask_at = Instant::now() + ASK_AGAIN;
            // Refused while the guest is still asked for it: then it is under way.
            if let Err(error) = qmp.execute("device_del", &json!({ "id": LENT })).await {
                tracing::debug!(%error, "the lent disk is not asked for again");
            }
        }
        sleep(LOOK_EVERY).await;
    }
    let node = json!({ "node-name": LENT });
    // A device that is gone from the list can hold its node for a moment longer.
    while let Err(error) = qmp.execute("blockdev-del", &node).await {
        if Instant::now() >= deadline {
            return Err(refused(&error));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

async fn is_lent(qmp: &Qmp) -> Result<bool, QmpError> {
    let devices: Value = qmp.execute("qom-list", &json!({ "path": "/machine/peripheral" })).await?;
    let devices: Vec<Listed> = serde_json::from_value(devices).unwrap_or_default();
    Ok(devices.iter().any(|device| device.name == LENT))
}

fn refused(error: &QmpError) -> Denied {
    tracing::error!(%error, "QEMU does not do it");
    failed("its process on the host did not do it, see its log")
}

fn failed(reason: &str) -> Denied {
    Denied::Failed { reason: reason.to_owned() }
}
