//! What each request does.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_control::{
    AccountInfo, Acting, Actor, AuditKind, AuditQuery, Control, Error, Invitation, Limits, OwnLimits,
    Progress, Recordings, ShareTerms, Status, VmInfo,
};
use berth_model::{AccountName, KrlError, VmName};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::wire::{AccountLimits, Answer, AuditSearch, Failure, FailureKind, Request, Upgraded, WayIn};
use crate::{known_hosts::KnownHosts, state::StateDir};

/// So much of a name that does not exist is said back, in characters.
const MAX_SAID_BACK: usize = 80;

/// Somebody who wants the server replaced, and is told how that went.
pub(crate) type Asked = oneshot::Sender<Result<Upgraded, Failure>>;

/// Where requests are carried out.
pub(crate) struct Desk {
    /// The use cases.
    pub(crate) control: Arc<Control>,
    /// Rewritten when VMs come and go.
    pub(crate) known_hosts: KnownHosts,
    /// An address of the gateway that this machine reaches.
    pub(crate) gateway: SocketAddr,
    /// Where [`KnownHosts`] writes.
    pub(crate) known_hosts_path: PathBuf,
    /// Where copies of the database are made.
    pub(crate) state: StateDir,
    /// The file of the configuration.
    pub(crate) config: Option<PathBuf>,
    /// Where it is asked for another server.
    pub(crate) upgrades: mpsc::Sender<Asked>,
}

impl Desk {
    /// Has the server replaced, and tells how that went.
    async fn upgrade(&self) -> Result<Upgraded, Failure> {
        let (answer, answered) = oneshot::channel();
        let gone = || Failure::new(FailureKind::Unavailable, "This server is about to end. Try again.");
        self.upgrades.try_send(answer).map_err(|_| {
            Failure::new(FailureKind::Conflict, "The server is being replaced already, or was.")
        })?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Carries out one request.
    pub(crate) async fn answer(
        &self,
        request: Request,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Answer, Failure> {
        let host = self.host();
        Ok(match request {
            Request::AccountAdd { name } => {
                let name = account(&name)?;
                host.add_account(&name).await?;
                tracing::info!(account = %name, "account added");
                Answer::Account(self.account(&name).await?)
            }
            Request::AccountList {} => Answer::Accounts(host.accounts().await?),
            Request::AccountRemove { name } => {
                let name = account(&name)?;
                host.remove_account(&name).await?;
                tracing::info!(account = %name, "account removed");
                self.rewrite_known_hosts().await;
                Answer::Removed { name: name.to_string() }
            }
            Request::AccountWayIn { name } => Answer::WayIn(self.way_in(&account(&name)?).await?),
            Request::AccountLimits { name } => Answer::Limits(self.limits(&account(&name)?).await?),
            Request::AccountSetLimits { name, limits, afresh } => {
                let name = account(&name)?;
                self.set_limits(&name, limits, afresh).await?;
                tracing::info!(account = %name, "limits set");
                Answer::Limits(self.limits(&name).await?)
            }
            Request::AccountSetRole { name, role } => {
                let name = account(&name)?;
                host.set_role(&name, role).await?;
                Answer::Account(self.account(&name).await?)
            }
            Request::AccountBlock { name, blocked } => {
                let name = account(&name)?;
                if blocked {
                    host.block_account(&name).await?;
                } else {
                    host.unblock_account(&name).await?;
                }
                Answer::Account(self.account(&name).await?)
            }
            Request::AccountLink { name, what } => {
                let address = host.make_link(&account(&name)?, what).await?;
                Answer::Link { address: address.expose().clone() }
            }
            Request::AccountInvite { name, role, note } => {
                let name = name.as_deref().map(account).transpose()?;
                let (invitation, address) = host.invite(Invitation { name, role, note }).await?;
                Answer::Invited { invitation, address: address.expose().clone() }
            }
            Request::Upgrade {} => Answer::Upgraded(self.upgrade().await?),
            Request::Backup {} => {
                let path = self.state.new_copy();
                host.copy_database(&path).await?;
                tracing::info!("the database is copied for a backup");
                Answer::DatabaseCopied { path, config: self.config.clone() }
            }
            Request::Audit { query } => Answer::Audit(host.audit(&audit_query(query)?).await?),
            Request::HostCaList {} => Answer::HostCas(self.control.host_cas()),
            Request::HostCaAdd {} => {
                let all = host.add_host_ca().await?;
                tracing::info!("host CA added");
                self.rewrite_known_hosts().await;
                Answer::HostCas(all)
            }
            Request::HostCaUse { fingerprint } => {
                let all = host.use_host_ca(&fingerprint).await?;
                tracing::info!(%fingerprint, "host CA signs");
                self.rewrite_known_hosts().await;
                Answer::HostCas(all)
            }
            Request::HostCaRemove { fingerprint } => {
                let all = host.remove_host_ca(&fingerprint).await?;
                tracing::info!(%fingerprint, "host CA removed");
                self.rewrite_known_hosts().await;
                Answer::HostCas(all)
            }
            Request::TeamCaList {} => Answer::TeamCas(host.team_cas()?),
            Request::TeamCaAdd { pasted, label } => {
                Answer::TeamCas(host.add_team_ca(&pasted, label.as_deref()).await?)
            }
            Request::TeamCaRemove { which } => Answer::TeamCas(host.remove_team_ca(&which).await?),
            Request::TeamCaRevoke { krl } => {
                let krl = STANDARD.decode(krl).map_err(|_| Error::Krl(KrlError::NotAKrl))?;
                Answer::TeamCas(host.load_team_krl(&krl).await?)
            }
            Request::KeyAdd { account: name, pasted, label } => {
                let name = account(&name)?;
                let keys = host.add_keys(&name, &pasted, label.as_deref()).await?;
                tracing::info!(account = %name, keys = keys.len(), "keys pasted");
                Answer::AddedKeys { keys, behind: self.control.behind_with_keys(&name) }
            }
            Request::KeyList { account: name } => Answer::Keys(host.keys(&account(&name)?).await?),
            Request::KeyRemove { account: name, which } => {
                let name = account(&name)?;
                let key =
                    host.remove_key(&name, &which).await.map_err(|error| said_back(error.into(), &which))?;
                tracing::info!(account = %name, fingerprint = %key.fingerprint, "key removed");
                Answer::RemovedKey { key, behind: self.control.behind_with_keys(&name) }
            }
            Request::TeamVmAdd {} => {
                let vm = host.add_team_vm().await?;
                tracing::info!(vm = %vm.name, "VM added");
                self.rewrite_known_hosts().await;
                Answer::Vm(vm)
            }
            Request::RecordingList {} => {
                let Recordings { on, all } = host.recordings().await?;
                Answer::Recordings { on, all }
            }
            Request::RecordingOpen { name } => {
                let opened = host.open_recording(&name).await?;
                Answer::RecordingAt { path: opened.path, whole: opened.whole }
            }
            Request::RecordingRemove { name } => {
                Answer::Removed { name: host.remove_recording(&name).await?.name }
            }
            Request::VmAdd { account: name } => {
                let vm = host.add_vm(&account(&name)?).await?;
                tracing::info!(vm = %vm.name, "VM added");
                self.rewrite_known_hosts().await;
                Answer::Vm(vm)
            }
            Request::VmList { account: None } => Answer::Vms(host.vms(None).await?),
            Request::VmList { account: Some(name) } => Answer::Vms(host.vms(Some(&account(&name)?)).await?),
            Request::VmShow { vm } => Answer::Vm(self.vm(&self.find_vm(&vm).await?).await?),
            Request::VmStart { vm, from_disk } => {
                let vm = self.find_vm(&vm).await?;
                if from_disk {
                    tracing::info!(%vm, "starting it from its disk");
                    host.boot_vm(&vm, progress).await?;
                } else {
                    host.start_vm(&vm, progress).await?;
                }
                Answer::Vm(self.vm(&vm).await?)
            }
            Request::VmWake { vm } => {
                let vm = self.find_vm(&vm).await?;
                may_wake(&self.vm(&vm).await?)?;
                host.start_vm(&vm, progress).await?;
                Answer::Vm(self.vm(&vm).await?)
            }
            Request::VmSleep { vm } => {
                let vm = self.find_vm(&vm).await?;
                host.sleep_vm(&vm).await?;
                Answer::Vm(self.vm(&vm).await?)
            }
            Request::VmStop { vm } => {
                let vm = self.find_vm(&vm).await?;
                host.stop_vm(&vm).await?;
                Answer::Vm(self.vm(&vm).await?)
            }
            Request::VmAlwaysOn { vm, on } => {
                let vm = self.find_vm(&vm).await?;
                host.set_always_on(&vm, on).await?;
                tracing::info!(%vm, on, "always-on");
                Answer::Vm(self.vm(&vm).await?)
            }
            Request::VmSnooze { vm, seconds } => {
                let vm = self.find_vm(&vm).await?;
                host.snooze_vm(&vm, Duration::from_secs(seconds)).await?;
                Answer::Vm(self.vm(&vm).await?)
            }
            Request::VmRebuild { vm, home } => {
                let vm = self.find_vm(&vm).await?;
                tracing::info!(%vm, ?home, "rebuilding a VM");
                host.rebuild_vm(&vm, home).await?;
                Answer::Vm(self.vm(&vm).await?)
            }
            Request::VmResize { vm, disk } => {
                let vm = self.find_vm(&vm).await?;
                let room = host.resize_vm(&vm, disk).await?;
                tracing::info!(%vm, disk, "disk resized");
                Answer::Resized { vm: self.vm(&vm).await?, room }
            }
            Request::VmDiskCopy { vm } => {
                let vm = self.find_vm(&vm).await?;
                tracing::info!(%vm, "copying a disk");
                let path = host.copy_disk(&vm).await?;
                Answer::DiskCopied { vm, path }
            }
            Request::VmDiskReplace { vm, file } => {
                let vm = self.find_vm(&vm).await?;
                tracing::info!(%vm, "replacing a disk");
                host.replace_disk(&vm, &file).await?;
                Answer::Vm(self.vm(&vm).await?)
            }
            Request::VmShare { vm, account: name, sudo, seconds } => {
                let (vm, name) = (self.find_vm(&vm).await?, account(&name)?);
                let terms = ShareTerms { sudo, until: seconds.map(from_now).transpose()? };
                Answer::Share(host.share_vm(&vm, &name, terms).await?)
            }
            Request::VmUnshare { vm, account: name } => {
                let (vm, name) = (self.find_vm(&vm).await?, account(&name)?);
                Answer::Share(host.unshare_vm(&vm, &name).await?)
            }
            Request::VmShares { vm } => Answer::Shares(host.shares(&self.find_vm(&vm).await?).await?),
            Request::VmRemove { vm } => {
                let vm = self.find_vm(&vm).await?;
                host.remove_vm(&vm).await?;
                tracing::info!(%vm, "VM removed");
                self.rewrite_known_hosts().await;
                Answer::Removed { name: vm.to_string() }
            }
            Request::VmLog { vm } => {
                let vm = self.find_vm(&vm).await?;
                Answer::Log { text: host.boot_log(&vm).await? }
            }
        })
    }

    /// Keeps the known_hosts file as the VMs are, which also come and go on the website.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.control.vm_changes();
        while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
            self.rewrite_known_hosts().await;
        }
    }

    /// Whoever may open the socket runs this Berth.
    fn host(&self) -> Acting {
        self.control.acting(Actor::host())
    }

    async fn account(&self, name: &AccountName) -> Result<AccountInfo, Failure> {
        let accounts = self.host().accounts().await?;
        accounts.into_iter().find(|account| account.name == *name).ok_or_else(|| {
            Failure::new(
                FailureKind::Missing,
                format!("There is no account {name}. See: berth admin account list"),
            )
        })
    }

    async fn find_vm(&self, asked: &str) -> Result<VmName, Failure> {
        self.host().find_vm(asked).await.map_err(|error| said_back(error.into(), asked))
    }

    async fn vm(&self, name: &VmName) -> Result<VmInfo, Failure> {
        let vms = self.host().vms(Some(&name.owner)).await?;
        vms.into_iter()
            .find(|vm| vm.name == *name)
            .ok_or_else(|| Failure::new(FailureKind::Missing, format!("{name} was removed in the meantime.")))
    }

    async fn way_in(&self, name: &AccountName) -> Result<WayIn, Failure> {
        let AccountInfo { name, .. } = self.account(name).await?;
        let settings = self.control.settings();
        Ok(WayIn {
            account: name.to_string(),
            gateway: settings.domains.gateway_host(),
            address: self.gateway,
            vm_domain: settings.domains.vm_domain().to_owned(),
            known_hosts: self.known_hosts_path.clone(),
            website: settings.website.clone(),
        })
    }

    async fn limits(&self, name: &AccountName) -> Result<AccountLimits, Failure> {
        let (own, limits) = self.host().limits(name).await?;
        let mut has = Limits { vms: 0, cpus: 0, memory: 0, disk: 0 };
        for vm in self.host().vms(Some(name)).await? {
            has.vms = has.vms.saturating_add(1);
            has.cpus = has.cpus.saturating_add(vm.cpus);
            has.memory = has.memory.saturating_add(vm.memory);
            has.disk = has.disk.saturating_add(vm.disk);
        }
        Ok(AccountLimits { account: name.to_string(), own, limits, has })
    }

    async fn set_limits(&self, name: &AccountName, limits: OwnLimits, afresh: bool) -> Result<(), Failure> {
        let before = if afresh { OwnLimits::default() } else { self.host().limits(name).await?.0 };
        let limits = OwnLimits {
            vms: limits.vms.or(before.vms),
            cpus: limits.cpus.or(before.cpus),
            memory: limits.memory.or(before.memory),
            disk: limits.disk.or(before.disk),
        };
        Ok(self.host().set_limits(name, limits).await?)
    }

    /// A known_hosts file that is behind is an annoyance and no reason to fail what was done.
    async fn rewrite_known_hosts(&self) {
        if let Err(error) = self.known_hosts.rewrite(&self.control).await {
            tracing::warn!(error = %format!("{error:#}"), "known_hosts could not be written");
        }
    }
}

fn account(name: &str) -> Result<AccountName, Failure> {
    name.parse()
        .map_err(|error: berth_model::NameError| Failure::new(FailureKind::Invalid, error.to_string()))
}

fn from_now(seconds: u64) -> Result<OffsetDateTime, Failure> {
    let span = i64::try_from(seconds).ok().map(time::Duration::seconds);
    span.and_then(|span| OffsetDateTime::now_utc().checked_add(span))
        .ok_or_else(|| Failure::new(FailureKind::Invalid, "That is too long. Leave the time out for no end."))
}

fn audit_query(search: AuditSearch) -> Result<AuditQuery, Failure> {
    let AuditSearch { about, by, kind, text, seconds, before } = search;
    let kind = kind.map(|kind| {
        kind.parse().map_err(|_| {
            let kinds = AuditKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
            Failure::new(
                FailureKind::Invalid,
                format!("There is no such kind of line. The kinds are: {kinds}."),
            )
        })
    });
    let since = seconds.and_then(|seconds| {
        OffsetDateTime::now_utc().checked_sub(time::Duration::seconds(i64::try_from(seconds).ok()?))
    });
    Ok(AuditQuery {
        about: about.as_deref().map(account).transpose()?,
        by: by.as_deref().map(account).transpose()?,
        kind: kind.transpose()?,
        text,
        since,
        until: None,
        before,
    })
}

/// Only a VM that sleeps is woken; one that is awake already is no mistake.
fn may_wake(vm: &VmInfo) -> Result<(), Failure> {
    match vm.status {
        Status::Asleep | Status::Waking | Status::Running => Ok(()),
        Status::Starting
        | Status::Stopping
        | Status::Off
        | Status::Failed
        | Status::Rebuilding
        | Status::Removing => {
            let VmInfo { name, status, .. } = vm;
            let message =
                format!("{name} is {status} and not asleep. To start it: berth admin vm start {name}");
            Err(Failure::new(FailureKind::Conflict, message))
        }
    }
}

/// Cuts what was asked for where a failure says it back, plain or quoted.
fn said_back(mut failure: Failure, asked: &str) -> Failure {
    let quoted = format!("{asked:?}");
    for said in [quoted.trim_matches('"'), asked] {
        if let Some((end, _)) = said.char_indices().nth(MAX_SAID_BACK) {
            let cut = said.get(..end).unwrap_or_default();
            failure.message = failure.message.replace(said, &format!("{cut}…"));
        }
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_not_said_back_whole() {
        let failure = |message: &str| Failure::new(FailureKind::Missing, message);
        for name in ["x".repeat(4000), "\u{1}".repeat(4000), "é\"".repeat(4000)] {
            for message in [format!("There is no VM {name:?}. See"), format!("No key {name}.")] {
                let told = said_back(failure(&message), &name).message;
                assert!(told.chars().count() < 120 && told.contains('…'), "{told}");
            }
        }
        assert_eq!(said_back(failure("There is no VM \"x\"."), "x").message, "There is no VM \"x\".");
    }
}
