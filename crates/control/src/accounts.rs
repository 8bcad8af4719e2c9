//! Accounts: made, listed, removed.

use std::sync::Arc;

use berth_model::AccountName;
use berth_store::{AccountRow, Role};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{Control, error::Error, keys::push_to};

/// An account as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountInfo {
    /// Its name.
    pub name: AccountName,
    /// What it may do.
    pub role: Role,
    /// Since when it is blocked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub blocked: Option<OffsetDateTime>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// How many keys it has.
    pub keys: usize,
    /// How many VMs it has.
    pub vms: usize,
}

impl From<AccountRow> for AccountInfo {
    fn from(row: AccountRow) -> Self {
        Self {
            name: row.name,
            role: row.role,
            blocked: row.blocked_at,
            created: row.created_at,
            keys: row.keys,
            vms: row.vms,
        }
    }
}

impl Control {
    /// Makes an account: a member, or the operator where it is the first one ever.
    ///
    /// # Errors
    /// [`Error::NameTaken`] when an account or a team has, or ever had, the name.
    pub async fn add_account(&self, name: &AccountName) -> Result<(), Error> {
        Ok(self.store.add_account(name, OffsetDateTime::now_utc()).await?)
    }

    /// Removes an account: its keys at once, and the connections that they opened; then its VMs with all that is on
    /// their disks. Its name stays reserved.
    ///
    /// # Errors
    /// There is no such account; or a VM could not be removed now, which is tried again at the next start.
    pub async fn remove_account(self: &Arc<Self>, name: &AccountName) -> Result<(), Error> {
        let (control, name) = (self.clone(), name.clone());
        self.to_the_end(async move { control.try_remove_account(&name).await }).await
    }

    async fn try_remove_account(&self, name: &AccountName) -> Result<(), Error> {
        let removed = self.store.remove_account(name, OffsetDateTime::now_utc()).await?;
        for key in removed.keys {
            self.revocations.revoke(&key.fingerprint);
        }
        self.certificates.revoke_where(|certificate| certificate.account == *name);
        self.web.end(removed.cookies_and_tokens);
        self.end_visits(name);
        self.end_sharing_of(name);
        push_to(&self.handles_where(|vm| vm.is_of_team() || removed.shared.contains(vm))).await;
        let mut result = Ok(());
        for handle in self.handles_where(|vm| vm.owner == *name) {
            if let Err(refusal) = handle.remove().await {
                result = Err(Error::refused(&handle.name, refusal));
            }
        }
        result
    }

    /// All accounts, by name.
    ///
    /// # Errors
    /// The store fails.
    pub async fn accounts(&self) -> Result<Vec<AccountInfo>, Error> {
        Ok(self.store.accounts().await?.into_iter().map(AccountInfo::from).collect())
    }

    /// Refuses a name that no account has.
    pub(crate) async fn must_exist(&self, account: &AccountName) -> Result<(), Error> {
        if self.store.account_exists(account).await? {
            Ok(())
        } else {
            Err(Error::NoSuchAccount(account.clone()))
        }
    }
}
