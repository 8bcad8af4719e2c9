//! Stopping a guest and putting it away, and taking it up again: what is said to QEMU, and in which order.

use std::{io, path::Path, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::UnixStream,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    desk::Desk,
    fault,
    gate::Gate,
    life::{Event, NoSleep},
    on_thread,
    qmp::{Qmp, QmpError, QmpEvent},
};
use crate::{
    paths::{VmPaths, write_durably},
    sleep::{self, Record, Unusable},
};

/// For what is under way with the guest agent.
const AGENT_WITHIN: Duration = Duration::from_secs(1);
/// The devices are less than a megabyte; a host may be very busy.
const SAVED_WITHIN: Duration = Duration::from_secs(20);
/// What the guest had sent is taken in.
const FROZEN_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What is seen when a guest has been put away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    Nobody,
    /// Who came in the moment between its last look at the network and its standing still.
    Somebody,
}

/// Stops the guest, and puts its devices into the file `device`; its memory is where it is. After an error it may stand
/// still.
///
/// Once it has been stopped it is put away, whoever comes then: to go on would not be safe. What a NIC of QEMU's has sent
/// by half when its guest is stopped is forgotten, but not how far it was, and the next frame is sent from there on
/// (net/stream.c, `send_index`; net/net.c, `net_vm_change_state_handler`; as of QEMU 10). Somebody who came too late waits
/// for a wake, which has new NICs.
///
/// May be dropped at any time, and then the guest may stand still as well.
pub(super) async fn put_away(qmp: &Qmp, desk: &Desk, device: &Path) -> Result<Waits, NoSleep> {
    if !qmp.version.can_sleep() {
        let version = qmp.version;
        return Err(NoSleep::Failed(format!("QEMU {version} cannot put VMs to sleep: 8.2 or newer can")));
    }
    // Held to the end: half an errand would be lost.
    let Ok(_agent) = timeout(AGENT_WITHIN, desk.agent.lock()).await else { return Err(NoSleep::InUse) };
    if desk.network.is_pending() {
        return Err(NoSleep::InUse);
    }
    let Ok(_not_copied) = desk.copying.try_lock() else {
        return Err(NoSleep::Failed("its disk is being copied".to_owned()));
    };
    fault::at("sleep:asked");
    let stopped = qmp.execute("stop", &json!({})).await.map(drop);
    stopped.map_err(|error| failed(&error))?;
    if timeout(FROZEN_WITHIN, desk.network.freeze()).await.is_err() {
        return Err(NoSleep::Failed("its network does not come to rest".to_owned()));
    }
    fault::at("sleep:stopped");
    save(qmp, device).await.map_err(|error| failed(&error))?;
    fault::at("sleep:saved");
    Ok(if desk.network.is_pending() || desk.network.is_called() { Waits::Somebody } else { Waits::Nobody })
}

fn failed(error: &QmpError) -> NoSleep {
    tracing::warn!(%error, "the guest cannot be put away");
    NoSleep::Failed("its process on the host cannot put it to sleep, see its log".to_owned())
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Migration {
    #[serde(default)]
    status: String,
    #[serde(default)]
    error_desc: Option<String>,
}

async fn save(qmp: &Qmp, device: &Path) -> Result<(), QmpError> {
    leave_memory_where_it_is(qmp).await?;
    qmp.execute("migrate", &json!({ "uri": uri(device)? })).await?;
    migrated(qmp).await
}

async fn leave_memory_where_it_is(qmp: &Qmp) -> Result<(), QmpError> {
    let shared = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] });
    qmp.execute("migrate-set-capabilities", &shared).await.map(drop)
}

/// In either direction.
async fn migrated(qmp: &Qmp) -> Result<(), QmpError> {
    let look = async {
        loop {
            let told = qmp.execute("query-migrate", &json!({})).await?;
            let Migration { status, error_desc } = understand(told)?;
            match status.as_str() {
                "completed" => return Ok(()),
                "failed" | "cancelled" => {
                    return Err(QmpError::Refused(error_desc.unwrap_or(status)));
                }
                _ => sleep(LOOK_EVERY).await,
            }
        }
    };
    timeout(SAVED_WITHIN, look).await.unwrap_or(Err(QmpError::TimedOut))
}

fn understand(told: Value) -> Result<Migration, QmpError> {
    Ok(serde_json::from_value(told).map_err(io::Error::from)?)
}

fn uri(device: &Path) -> Result<String, QmpError> {
    let device = device.to_str().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the folder for memory has a name that QEMU does not take",
        )
    })?;
    // What follows a comma would be taken for an option.
    if device.contains(',') {
        return Err(QmpError::Refused("the folder for memory has a comma in its name".to_owned()));
    }
    Ok(format!("file:{device}"))
}

/// Lets a guest go on that was stopped and cannot be put away, or is wanted for something else. See [`put_away`] for what
/// that may do to its network: it is the lesser evil.
pub(super) async fn go_on(qmp: &Qmp, desk: &Desk) {
    // It fails when there is none; then it is over already.
    drop(qmp.execute("migrate_cancel", &json!({})).await);
    desk.network.thaw();
    if let Err(error) = qmp.execute("cont", &json!({})).await {
        tracing::error!(%error, "the guest cannot go on");
    }
}

/// What a new QEMU needs to take up a guest.
pub(super) struct TakeUp<R> {
    pub(super) control: UnixStream,
    pub(super) record: Record,
    pub(super) paths: VmPaths,
    /// Done when the memory and `device` are whole.
    pub(super) restored: R,
    pub(super) tasks: TaskTracker,
}

/// QEMU, with all that it says.
pub(super) type Opened = (Arc<Qmp>, mpsc::Receiver<QmpEvent>);

impl<R: Future<Output = Result<(), Unusable>>> TakeUp<R> {
    /// Gives a QEMU that has been started everything that was put away. Then it waits to be told to go on.
    ///
    /// # Errors
    /// A sentence without a full stop, for the VM's owner.
    pub(super) async fn run(self) -> Result<Opened, String> {
        let (qmp, events) = match Qmp::open(self.control, &self.tasks).await {
            Ok(opened) => opened,
            Err(error) => return Err(not_taken(&error).await),
        };
        self.record.fits(qmp.version).map_err(|error| error.to_string())?;
        fault::at("wake:started");
        self.restored.await.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the sleep cannot be read");
            error.to_string()
        })?;
        fault::at("wake:restored");
        if let Err(error) = load(&qmp, &self.paths.warm().device()).await {
            return Err(not_taken(&error).await);
        }
        fault::at("wake:loaded");
        Ok((Arc::new(qmp), events))
    }
}

/// Where QEMU has ended, its end is for the supervisor to see and to explain.
async fn not_taken(error: &QmpError) -> String {
    tracing::error!(%error, "QEMU does not take the guest up");
    if let QmpError::Io(_) | QmpError::Closed = error {
        std::future::pending::<()>().await;
    }
    "QEMU does not understand what was kept of its devices".to_owned()
}

async fn load(qmp: &Qmp, device: &Path) -> Result<(), QmpError> {
    leave_memory_where_it_is(qmp).await?;
    qmp.execute("migrate-incoming", &json!({ "uri": uri(device)? })).await?;
    migrated(qmp).await
}

/// Ends the sleep, and lets the guest go on. `open` is false for one that has no identity of its own yet.
pub(super) async fn resume(
    qmp: Arc<Qmp>,
    desk: Arc<Desk>,
    gate: Arc<Gate>,
    paths: VmPaths,
    fork: bool,
) -> Event {
    let ended = {
        let paths = paths.clone();
        on_thread(move || {
            if fork {
                write_durably(&paths.unclaimed(), b"")?;
            }
            sleep::end(&paths)
        })
    };
    if let Err(error) = ended.await {
        tracing::error!(%error, "the sleep cannot be ended");
        put_back(&paths).await;
        return Event::WakeFailed("its folder on the host cannot be used".to_owned());
    }
    fault::at("wake:ended");
    if !fork {
        gate.open();
    }
    match qmp.execute("cont", &json!({})).await {
        Err(QmpError::Refused(why)) => {
            tracing::error!(%why, "the guest cannot go on");
            desk.network.freeze().await;
            put_back(&paths).await;
            return Event::WakeFailed("its process on the host does not go on".to_owned());
        }
        // Whether it went on is not known: it has to be taken for a guest that has.
        Err(error) => tracing::error!(%error, "QEMU is gone"),
        Ok(_) => {}
    }
    fault::at("wake:resumed");
    Event::Resumed
}

async fn put_back(paths: &VmPaths) {
    let paths = paths.clone();
    if let Err(error) = on_thread(move || sleep::end_is_undone(&paths)).await {
        tracing::error!(%error, "the sleep cannot be put back");
    }
}
