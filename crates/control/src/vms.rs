//! VMs: made, listed, started, stopped, removed, by the operator's hand.

use berth_model::{AccountName, Secret, Title, VmId, VmName};
use berth_store::{NewVm, VmRow};
use serde::{Deserialize, Serialize};
use ssh_key::{Algorithm, LineEnding, PrivateKey};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::{
    Control,
    connect::Progress,
    error::Error,
    lifecycle::State,
    status::{Status, shown},
    supervisor::Handle,
    why::Outlook,
};

/// A VM as its owner and the operator see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmInfo {
    /// Its name: `vm-0.alice.koding`.
    pub name: VmName,
    /// What its owner calls it.
    pub title: Option<Title>,
    /// Its canonical host name.
    pub host: String,
    /// Every host name that it answers to, the canonical one first.
    pub names: Vec<String>,
    /// What it is doing.
    pub status: Status,
    /// Why, where there is something to say: a clause without a full stop.
    pub reason: Option<String>,
    /// Why it is awake, asleep or off: one sentence.
    pub why: String,
    /// Milliseconds that its next start takes, if it takes as long as the last one of its sort: a wake where it sleeps,
    /// a boot where it is off. `None` where there was none, and where it runs.
    pub start_takes_ms: Option<u64>,
    /// When it goes to sleep, unless it is used; `None` where that is not set.
    #[serde(with = "time::serde::rfc3339::option")]
    pub sleeps_at: Option<OffsetDateTime>,
    /// Since when it sleeps.
    #[serde(with = "time::serde::rfc3339::option")]
    pub asleep_since: Option<OffsetDateTime>,
    /// It starts with the server, never sleeps, and is started again when it stops by itself.
    pub always_on: bool,
    /// It was told not to sleep before this.
    #[serde(with = "time::serde::rfc3339::option")]
    pub snoozed_until: Option<OffsetDateTime>,
    /// Connections into it that go through this server.
    pub connections: usize,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// The size of the disk in bytes.
    pub disk: u64,
    /// Its ssh host key, as a line of a `.pub` file without comment.
    pub host_key: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When it last got a new disk; `None` where it has the one that it was made with.
    #[serde(with = "time::serde::rfc3339::option")]
    pub rebuilt: Option<OffsetDateTime>,
}

impl Control {
    /// Makes a VM for `owner` in the default team. It is off, and its disk is made at its first start.
    ///
    /// # Errors
    /// The account does not exist; the store fails.
    pub async fn add_vm(self: &Arc<Self>, owner: &AccountName) -> Result<VmInfo, Error> {
        let (control, owner) = (self.clone(), owner.clone());
        self.to_the_end(async move { control.try_add_vm(owner).await }).await
    }

    async fn try_add_vm(self: &Arc<Self>, owner: AccountName) -> Result<VmInfo, Error> {
        let new = NewVm {
            id: VmId::random(),
            team: self.settings.domains.team().clone(),
            cpus: self.settings.vm.cpus,
            memory: self.settings.vm.memory,
            disk: self.settings.vm.disk,
            host_key: new_host_key(),
            limits: self.limits_of_owner(&owner),
            owner,
        };
        let row = self.store.add_vm(&new, OffsetDateTime::now_utc()).await?;
        let handle = self.supervise(&row).await;
        Ok(self.info(&row, Some(&handle)))
    }

    /// Told when a VM comes or goes, by whatever way.
    #[must_use]
    pub fn vm_changes(&self) -> watch::Receiver<()> {
        self.tools.handles.changes()
    }

    /// The VMs of `owner`, or all, by name.
    ///
    /// # Errors
    /// The account does not exist; the store fails.
    pub async fn vms(&self, owner: Option<&AccountName>) -> Result<Vec<VmInfo>, Error> {
        if let Some(owner) = owner {
            self.must_exist(owner).await?;
        }
        let rows = self.store.vms(owner).await?;
        Ok(rows.iter().map(|row| self.info(row, self.handle(&row.name).as_ref())).collect())
    }

    /// The VM that is meant by any of the host names that it answers to, by `vm-0.alice.koding`, or by `vm-0.alice` and
    /// `shared-0` in the default team.
    ///
    /// # Errors
    /// There is no such VM; the store fails.
    pub async fn find_vm(&self, name: &str) -> Result<VmName, Error> {
        let domains = &self.settings.domains;
        let with_domain = format!("{name}.{}", domains.vm_domain());
        let of_team = format!("{name}.{}.{}", domains.team(), domains.vm_domain());
        let meant = domains.resolve(name).or_else(|| domains.resolve(&with_domain));
        let meant = meant.or_else(|| domains.resolve(&of_team).filter(VmName::is_of_team));
        meant.filter(|vm| self.handle(vm).is_some()).ok_or_else(|| Error::NoSuchVm(name.to_owned()))
    }

    /// Starts or wakes a VM and waits until it answers.
    ///
    /// # Errors
    /// It does not come up, or is stopped or removed in the meantime.
    pub async fn start_vm(&self, vm: &VmName, progress: mpsc::Sender<Progress>) -> Result<(), Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        self.bring_up(&handle, &progress).await.map_err(|refusal| Error::refused(vm, refusal))
    }

    /// Stops a VM and waits until it is off.
    ///
    /// # Errors
    /// The engine cannot, or the VM is removed in the meantime.
    pub async fn stop_vm(&self, vm: &VmName) -> Result<(), Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        handle.stop().await.map_err(|refusal| Error::refused(vm, refusal))
    }

    /// Removes a VM and all that is on its disk, and waits until nothing is left.
    ///
    /// # Errors
    /// There is no such VM; or the engine cannot now: it is tried again at the next start of the server.
    pub async fn remove_vm(self: &Arc<Self>, vm: &VmName) -> Result<(), Error> {
        let (control, vm) = (self.clone(), vm.clone());
        self.to_the_end(async move { control.try_remove_vm(&vm).await }).await
    }

    async fn try_remove_vm(&self, vm: &VmName) -> Result<(), Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        // Written down first: from here on nobody can enter, and a crash is followed by the rest.
        self.store.begin_removing(handle.id, OffsetDateTime::now_utc()).await?;
        self.web.sites.revoke(&handle.id);
        self.shared.revoke_where(|(shared, _)| shared == vm);
        handle.remove().await.map_err(|refusal| Error::refused(vm, refusal))
    }

    /// Has a VM be called so by its owner; `None` for nothing.
    ///
    /// # Errors
    /// There is no such VM; the store fails.
    pub async fn set_title(&self, vm: &VmName, title: Option<&Title>) -> Result<(), Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        Ok(self.store.set_title(handle.id, title).await?)
    }

    /// The end of what the VM's console printed since its last start.
    ///
    /// # Errors
    /// There is no such VM; the engine cannot tell.
    pub async fn boot_log(&self, vm: &VmName) -> Result<String, Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        self.engine.boot_log(&handle.id).await.map_err(|cause| Error::Engine { vm: vm.clone(), cause })
    }

    pub(crate) fn info(&self, row: &VmRow, handle: Option<&Handle>) -> VmInfo {
        let state = handle.map_or(State::Removed, Handle::state);
        let (status, reason) = match row.removing_at {
            Some(_) => {
                (Status::Removing, shown(&state).1.filter(|_| matches!(state, State::Removing { .. })))
            }
            None => shown(&state),
        };
        let queued = handle.and_then(|handle| handle.queued().borrow().clone());
        let reason = match queued {
            Some(queued) => Some(format!("it waits for memory on this host: {}", queued.reason)),
            None => reason,
        };
        let sleeps_at = handle.and_then(|handle| match self.outlook(handle) {
            Outlook::Sleeps { at, .. } => Some(at),
            Outlook::Unknown | Outlook::Stays(_) | Outlook::StartsAgain { .. } => None,
        });
        let now = self.settings.clock.now();
        let names = self.settings.domains.names_of(&row.name);
        VmInfo {
            name: row.name.clone(),
            title: row.title.clone(),
            host: self.settings.domains.canonical(&row.name),
            names,
            status,
            reason,
            start_takes_ms: start_takes(row, status).map(|took| saturated(took.as_millis())),
            why: handle.map(|handle| self.sentence(row, handle)).unwrap_or_default(),
            sleeps_at,
            asleep_since: row.slept.as_ref().map(|slept| slept.at).filter(|_| status == Status::Asleep),
            always_on: row.always_on,
            snoozed_until: row.snoozed_until.filter(|until| *until > now),
            connections: handle.map_or(0, |handle| handle.activity.connections()),
            cpus: row.cpus,
            memory: row.memory,
            disk: row.disk,
            host_key: public_line(&row.host_key),
            created: row.created_at,
            rebuilt: row.rebuilt_at,
        }
    }
}

/// How long the next start of a VM takes, as far as the last one tells.
pub(crate) fn start_takes(row: &VmRow, status: Status) -> Option<Duration> {
    match status {
        Status::Asleep | Status::Waking => row.last_wake,
        Status::Off | Status::Failed | Status::Starting => row.last_boot,
        Status::Running | Status::Stopping | Status::Rebuilding | Status::Removing => None,
    }
}

fn saturated(millis: u128) -> u64 {
    millis.try_into().unwrap_or(u64::MAX)
}

/// A fresh ed25519 key in OpenSSH's format.
fn new_host_key() -> Secret<String> {
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)
        .expect("an ed25519 key needs only random bytes");
    let pem = key.to_openssh(LineEnding::LF).expect("an unencrypted key is always written");
    Secret::new(pem.to_string())
}

/// The public half of a host key; empty for a text that is none, which the store never holds.
pub(crate) fn public_line(host_key: &Secret<String>) -> String {
    PrivateKey::from_openssh(host_key.expose())
        .ok()
        .and_then(|key| ssh_key::PublicKey::new(key.public_key().key_data().clone(), "").to_openssh().ok())
        .unwrap_or_default()
}
