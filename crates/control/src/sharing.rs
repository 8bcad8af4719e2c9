//! VMs that are shared: who is let into whose VM beside its owner, until when, and how that ends.
//!
//! An owner asks, the other accepts, and either ends it. What is accepted lets in by [`Control::enter`] and makes a user
//! in the guest; what ends it revokes the entries that it gave, takes the user's keys out of the guest and locks it. Time
//! ends it too: at that moment for the entries and the guest's own sshd, and within a minute for the user and the lists.

use std::{sync::Arc, time::Duration};

use berth_model::{AccountName, VmName};
use berth_store::{AuditKind, NewAudit, NewShare, ShareRow, StoreError, Way};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use crate::{Control, error::Error, status::Status, supervisor::Handle};

/// For so long somebody can accept.
const ACCEPT_WITHIN: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often what has ended by time is cleared away.
const CLEAR_EVERY: Duration = Duration::from_secs(60);

/// A VM that is shared, or that somebody was asked to share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareInfo {
    /// The VM.
    pub vm: VmName,
    /// Its canonical host name.
    pub host: String,
    /// What it is doing.
    pub status: Status,
    /// With whom.
    pub account: AccountName,
    /// Whether they are root in it when they want to.
    pub sudo: bool,
    /// When they were asked.
    #[serde(with = "time::serde::rfc3339")]
    pub asked: OffsetDateTime,
    /// Since when they share it; `None` where they have not accepted.
    #[serde(with = "time::serde::rfc3339::option")]
    pub accepted: Option<OffsetDateTime>,
    /// Until when they can accept; `None` where they have.
    #[serde(with = "time::serde::rfc3339::option")]
    pub accept_by: Option<OffsetDateTime>,
    /// Until when it is shared; `None` for as long as nobody ends it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub until: Option<OffsetDateTime>,
}

/// What somebody is let do in a VM that is shared with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShareTerms {
    /// They are root in it when they want to.
    pub sudo: bool,
    /// It ends then; `None` for when somebody ends it.
    pub until: Option<OffsetDateTime>,
}

impl ShareTerms {
    /// For the audit trail: `bob, with sudo, until 2026-12-01 10:00`.
    pub(crate) fn words(self, account: &AccountName) -> String {
        let sudo = if self.sudo { "with sudo" } else { "without sudo" };
        match self.until {
            Some(until) => format!(
                "{account}, {sudo}, until {} {:02}:{:02} UTC",
                until.date(),
                until.hour(),
                until.minute()
            ),
            None => format!("{account}, {sudo}"),
        }
    }
}

impl Control {
    /// Asks `account` to share a VM, or changes what they are let do in it.
    pub(crate) async fn share(
        self: &Arc<Self>,
        vm: &VmName,
        account: &AccountName,
        terms: ShareTerms,
    ) -> Result<ShareInfo, Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        let now = self.settings.clock.now();
        if vm.is_of_team() {
            return Err(Error::TeamVm(vm.clone()));
        }
        if vm.owner == *account {
            return Err(Error::OwnVm(vm.clone()));
        }
        if terms.until.is_some_and(|until| until <= now) {
            return Err(Error::OverAlready);
        }
        let new = NewShare {
            vm: handle.id,
            account: account.clone(),
            sudo: terms.sudo,
            accept_by: now + ACCEPT_WITHIN,
            ends_at: terms.until,
        };
        let row = self.store.share(&new, now).await.map_err(|error| missing(error, vm))?;
        if row.accepted_at.is_some() {
            // What it ends at is another time than those who are in know.
            self.shared.revoke(&(vm.clone(), account.clone()));
            handle.push_keys().await;
        }
        Ok(self.share_info(row))
    }

    /// With whom a VM is shared, and who was asked, by name.
    pub(crate) async fn shares_of(&self, vm: &VmName) -> Result<Vec<ShareInfo>, Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        let rows = self.store.shares_of(handle.id, self.settings.clock.now()).await?;
        Ok(rows.into_iter().map(|row| self.share_info(row)).collect())
    }

    /// The VMs of others that `account` shares or was asked to share, by name.
    pub(crate) async fn shared_with(&self, account: &AccountName) -> Result<Vec<ShareInfo>, Error> {
        let rows = self.store.shares_with(account, self.settings.clock.now()).await?;
        Ok(rows.into_iter().map(|row| self.share_info(row)).collect())
    }

    /// Lets `account` in, which was asked, and makes a user for it before it returns where the VM runs.
    pub(crate) async fn accept(
        self: &Arc<Self>,
        vm: &VmName,
        account: &AccountName,
    ) -> Result<ShareInfo, Error> {
        let handle = self.asked_handle(vm, account).await?;
        let accepted = self.store.accept_share(handle.id, account, self.settings.clock.now()).await?;
        let row = accepted.ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        handle.push_keys().await;
        Ok(self.share_info(row))
    }

    /// Ends a share, accepted or not: nobody is in by it any more, and its user is locked when this returns, if the guest
    /// runs and answers. Gives what it was.
    pub(crate) async fn end_share(
        self: &Arc<Self>,
        vm: &VmName,
        account: &AccountName,
    ) -> Result<ShareInfo, Error> {
        let (control, vm, account) = (self.clone(), vm.clone(), account.clone());
        self.to_the_end(async move {
            let handle = control.handle(&vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
            let Some(row) = control.store.remove_share(handle.id, &account).await? else {
                return Err(Error::NotShared { vm, account });
            };
            control.shared.revoke(&(vm, account));
            if row.accepted_at.is_some() {
                handle.push_keys().await;
            }
            Ok(control.share_info(row))
        })
        .await
    }

    /// The supervisor of a VM that `account` was asked to share. A VM that it was not asked for is one that does not exist.
    async fn asked_handle(&self, vm: &VmName, account: &AccountName) -> Result<Handle, Error> {
        let asked = self.store.shares_with(account, self.settings.clock.now()).await?;
        let found = self.handle(vm).filter(|handle| asked.iter().any(|row| row.vm == handle.id));
        found.ok_or_else(|| Error::NoSuchVm(vm.to_string()))
    }

    /// The supervisors of the VMs into which an account's keys belong: its own, those that are shared with it, and those of
    /// the team.
    pub(crate) async fn handles_with_keys_of(&self, account: &AccountName) -> Vec<Handle> {
        let shared =
            self.store.shares_with(account, self.settings.clock.now()).await.unwrap_or_else(|cause| {
                // Its own get them; the others at their next start.
                error!(error = %cause, "the store failed");
                vec![]
            });
        let is_shared = |vm: &VmName| shared.iter().any(|row| row.name == *vm);
        self.handles_where(|vm| vm.owner == *account || vm.is_of_team() || is_shared(vm))
    }

    /// Ends all entries of guests into an account's VMs, and its own into those of others; after it was blocked. What it
    /// shares counts again when it is unblocked.
    pub(crate) fn end_sharing_of(&self, account: &AccountName) {
        self.shared.revoke_where(|(vm, guest)| vm.owner == *account || guest == account);
    }

    /// Ends what time has ended, for as long as the server runs.
    pub(crate) fn end_shares_in_time(self: &Arc<Self>) {
        let (control, closing) = (Arc::downgrade(self), self.closing.clone());
        self.tasks.spawn(closing.run_until_cancelled_owned(async move {
            let mut turns = interval(CLEAR_EVERY);
            turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                turns.tick().await;
                match control.upgrade() {
                    Some(control) => control.end_what_is_over().await,
                    None => return,
                }
            }
        }));
    }

    async fn end_what_is_over(&self) {
        let now = self.settings.clock.now();
        let ended = match self.store.end_shares(now).await {
            Ok(ended) => ended,
            Err(error) => return error!(%error, "what is shared no longer was not cleared away"),
        };
        for row in ended {
            if row.accepted_at.is_none() {
                continue;
            }
            let event = NewAudit {
                kind: AuditKind::VmUnshared,
                account: Some(row.name.owner.clone()),
                actor: None,
                way: Way::Host,
                address: None,
                subject: row.name.to_string(),
                detail: format!("{}: its time was over", row.account),
            };
            self.note_event(event).await;
            self.shared.revoke(&(row.name.clone(), row.account));
            if let Some(handle) = self.handle(&row.name) {
                handle.push_keys().await;
            }
        }
    }

    fn share_info(&self, row: ShareRow) -> ShareInfo {
        ShareInfo {
            host: self.settings.domains.canonical(&row.name),
            status: self.handle(&row.name).map_or(Status::Removing, |handle| handle.status()),
            account: row.account,
            sudo: row.sudo,
            asked: row.made_at,
            accepted: row.accepted_at,
            accept_by: Some(row.accept_by).filter(|_| row.accepted_at.is_none()),
            until: row.ends_at,
            vm: row.name,
        }
    }
}

fn missing(error: StoreError, vm: &VmName) -> Error {
    match error {
        StoreError::NoSuchVm => Error::NoSuchVm(vm.to_string()),
        StoreError::TooManyShares => Error::TooManyShares(vm.clone()),
        error => error.into(),
    }
}
