//! What a connection to the shim can see of the VM, and do with its guest while it runs.

use std::{path::PathBuf, sync::Arc, time::Duration};

use berth_engine::{Guest, GuestUser, Lease, Listener, Observed, Usage};
use berth_vnet::{DialError, Network, Stream};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    time::timeout,
};

use super::{agent::Agent, qmp::Qmp};
use crate::{protocol::Denied, provision, room, sleep};

const DIAL_WITHIN: Duration = Duration::from_secs(15);
/// A program run in the guest, which may be busy; and waiting for the one before it.
const SCRIPT_WITHIN: Duration = Duration::from_secs(20);
/// Giving back memory means looking at all of it.
const TIDY_WITHIN: Duration = Duration::from_secs(90);

/// What somebody asked for.
#[derive(Debug)]
pub(super) enum Command {
    Stop(Duration),
    Kill,
    LetGo,
    Sleep(oneshot::Sender<Result<(), Denied>>),
    /// With what the guest is to have.
    Wake(Arc<Guest>, oneshot::Sender<Result<(), Denied>>),
}

/// The QEMU that there is.
#[derive(Clone)]
pub(super) struct Qemu {
    pub(super) qmp: Arc<Qmp>,
    pub(super) pid: u32,
}

/// See the module's documentation.
pub(super) struct Desk {
    pub(super) observed: watch::Receiver<Observed>,
    pub(super) commands: mpsc::Sender<Command>,
    /// What the next boot or wake puts into the guest; nothing is known for a VM that sleeps since before this shim.
    pub(super) guest: watch::Sender<Option<Arc<Guest>>>,
    /// [`sleep::given_hash`] of what it has; `None` when that is not known.
    pub(super) given: watch::Sender<Option<String>>,
    pub(super) agent: Arc<Mutex<Agent>>,
    pub(super) network: Network,
    pub(super) qemu: watch::Sender<Option<Qemu>>,
    /// The file that is the guest's memory.
    pub(super) memory: PathBuf,
    /// The file that is the guest's disk.
    pub(super) disk: PathBuf,
    /// Held while its disk is copied: the guest does not sleep then.
    pub(super) copying: Mutex<()>,
}

#[derive(Deserialize)]
struct BlockStats {
    stats: Transferred,
}

#[derive(Deserialize)]
struct Transferred {
    rd_bytes: u64,
    wr_bytes: u64,
}

impl Desk {
    pub(super) async fn dial(&self, port: u16) -> Result<Stream, Denied> {
        self.has_to_run()?;
        self.network.dial(port, DIAL_WITHIN).await.map_err(why_not)
    }

    /// Takes note for the next boot or wake first: a guest that comes up meanwhile is given them by the supervisor.
    pub(super) async fn set_authorized_keys(
        &self,
        authorized_keys: String,
        others: Vec<GuestUser>,
        host_certificate: String,
    ) -> Result<(), Denied> {
        self.guest.send_modify(|guest| {
            if let Some(guest) = guest {
                let mut new = Guest { authorized_keys, others, ..Guest::clone(guest) };
                if !host_certificate.is_empty() {
                    new.host_certificate = host_certificate;
                }
                *guest = Arc::new(new);
            }
        });
        if self.has_to_run().is_err() {
            return Ok(());
        }
        let mut agent = self.agent().await?;
        // The last keys that were set, if somebody has set others while the agent was busy.
        let Some(guest) = self.guest.borrow().clone() else { return Ok(()) };
        self.give_keys(&mut agent, &guest).await.map_err(|error| {
            tracing::warn!(%error, "the guest did not take the keys");
            Denied::Failed { reason: "the VM's guest agent did not take the keys".to_owned() }
        })
    }

    /// Puts keys into a guest that runs.
    pub(super) async fn give_keys(
        &self,
        agent: &mut Agent,
        guest: &Guest,
    ) -> Result<(), super::agent::AgentError> {
        self.given.send_replace(None);
        agent.run(&provision::keys_script(guest), SCRIPT_WITHIN).await?;
        self.given.send_replace(Some(sleep::given_hash(guest)));
        Ok(())
    }

    pub(super) async fn usage(&self) -> Result<Usage, Denied> {
        self.has_to_run()?;
        let qemu = self.qemu.borrow().clone().ok_or(Denied::NotRunning)?;
        let stats = qemu.qmp.execute("query-blockstats", &json!({ "query-nodes": false })).await;
        let stats = stats.map_err(|error| {
            tracing::warn!(%error, "QEMU does not tell what it has transferred");
            Denied::TimedOut
        })?;
        let stats: Vec<BlockStats> = serde_json::from_value(stats).unwrap_or_default();
        Ok(Usage {
            cpu: room::cpu_of(qemu.pid).ok_or(Denied::NotRunning)?,
            disk: stats.iter().map(|BlockStats { stats }| stats.rd_bytes + stats.wr_bytes).sum(),
            memory: room::allocated(&self.memory),
        })
    }

    pub(super) async fn leases(&self) -> Result<Vec<Lease>, Denied> {
        Ok(provision::leases(&self.has_run(&provision::leases_script(), SCRIPT_WITHIN).await?))
    }

    pub(super) async fn listeners(&self) -> Result<Vec<Listener>, Denied> {
        Ok(provision::listeners(&self.has_run(provision::LISTENERS, SCRIPT_WITHIN).await?))
    }

    pub(super) async fn tell(&self, text: &str) -> Result<(), Denied> {
        self.has_run(&provision::tell_script(text), SCRIPT_WITHIN).await.map(drop)
    }

    pub(super) async fn tidy(&self) -> Result<(), Denied> {
        self.has_run(&provision::tidy_script(), TIDY_WITHIN).await.map(drop)
    }

    /// Runs a script in the guest, and gives what it printed.
    async fn has_run(&self, script: &str, within: Duration) -> Result<String, Denied> {
        self.has_to_run()?;
        let mut agent = self.agent().await?;
        // It may have fallen asleep while the agent was busy.
        self.has_to_run()?;
        agent.run(script, within).await.map_err(|error| {
            tracing::warn!(%error, "the guest did not do it");
            Denied::Failed { reason: "the VM's guest agent did not do it".to_owned() }
        })
    }

    pub(super) async fn agent(&self) -> Result<tokio::sync::MutexGuard<'_, Agent>, Denied> {
        timeout(SCRIPT_WITHIN, self.agent.lock()).await.map_err(|_| Denied::TimedOut)
    }

    pub(super) fn is_asleep(&self) -> bool {
        matches!(*self.observed.borrow(), Observed::Asleep { .. })
    }

    pub(super) fn has_to_run(&self) -> Result<(), Denied> {
        if *self.observed.borrow() == Observed::Running { Ok(()) } else { Err(Denied::NotRunning) }
    }
}

fn why_not(error: DialError) -> Denied {
    match error {
        DialError::Refused => Denied::Refused,
        DialError::TimedOut => Denied::TimedOut,
        DialError::Detached => Denied::NotRunning,
        DialError::TooMany => Denied::Failed { reason: error.to_string() },
    }
}
