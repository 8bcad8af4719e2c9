//! The keys of an account: added from what people paste, listed, removed.

use std::{net::IpAddr, sync::Arc};

use berth_model::{AccountName, Fingerprint, KeyError, PastedKey, VmName, parse_pasted};
use berth_store::{KeyRow, NewKey, StoreError};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{Control, error::Error, supervisor::Handle};

/// A key as its owner and the operator see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// What names it for good.
    pub id: String,
    /// What its owner calls it.
    pub label: String,
    /// `ssh-ed25519`, `ecdsa-sha2-nistp256`, …
    pub algorithm: String,
    /// `SHA256:…`
    pub fingerprint: Fingerprint,
    /// The comment that came with it.
    pub comment: String,
    /// Its options as in an authorized_keys line; empty for none.
    pub options: String,
    /// When it was added.
    #[serde(with = "time::serde::rfc3339")]
    pub added: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// When and from where it was used last.
    pub last_used: Option<KeyUse>,
}

/// One use of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The client's address.
    pub from: IpAddr,
}

/// What became of one key of a paste.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum AddedKey {
    /// It counts from now on.
    Added {
        /// The key.
        key: KeyInfo,
    },
    /// The account had it before; nothing changed.
    AlreadyThere {
        /// Which one.
        fingerprint: Fingerprint,
    },
    /// It was not added.
    Refused {
        /// A sentence for who pasted it.
        reason: String,
    },
}

impl From<KeyRow> for KeyInfo {
    fn from(row: KeyRow) -> Self {
        Self {
            id: row.id.to_string(),
            label: row.label.unwrap_or_else(|| row.key.algorithm()),
            algorithm: row.key.algorithm(),
            fingerprint: row.fingerprint,
            comment: row.comment,
            options: row.options.to_string(),
            added: row.added_at,
            expires: row.options.expires,
            last_used: row.last_used.map(|used| KeyUse { at: used.at, from: used.from }),
        }
    }
}

impl Control {
    /// Adds the keys of a paste, each judged by itself, and brings them into the account's running VMs before it
    /// returns.
    ///
    /// `label` names them; without it the comment does, or else the algorithm.
    ///
    /// # Errors
    /// The account does not exist; the paste holds no key or a private one; the store fails.
    pub async fn add_keys(
        self: &Arc<Self>,
        account: &AccountName,
        pasted: &str,
        label: Option<&str>,
    ) -> Result<Vec<AddedKey>, Error> {
        let (control, account, pasted) = (self.clone(), account.clone(), pasted.to_owned());
        let label = label.map(str::to_owned);
        self.to_the_end(async move { control.try_add_keys(&account, &pasted, label.as_deref()).await }).await
    }

    async fn try_add_keys(
        &self,
        account: &AccountName,
        pasted: &str,
        label: Option<&str>,
    ) -> Result<Vec<AddedKey>, Error> {
        self.must_exist(account).await?;
        let mut judged = vec![];
        for key in parse_pasted(pasted)? {
            judged.push(self.add_key(account, key, label).await?);
        }
        if judged.iter().any(|key| matches!(key, AddedKey::Added { .. })) {
            self.push_keys(account).await;
        }
        Ok(judged)
    }

    async fn add_key(
        &self,
        account: &AccountName,
        pasted: Result<PastedKey, KeyError>,
        label: Option<&str>,
    ) -> Result<AddedKey, Error> {
        let PastedKey { key, options, comment } = match pasted {
            Ok(pasted) => pasted,
            Err(refused) => return Ok(AddedKey::Refused { reason: refused.to_string() }),
        };
        let fingerprint = key.fingerprint();
        let label = label.or(Some(comment.as_str())).filter(|text| !text.is_empty()).map(str::to_owned);
        let now = OffsetDateTime::now_utc();
        if let Some(on) = options.expires.filter(|expires| *expires <= now) {
            let reason = format!("This key expired on {}. Add one that is still good.", on.date());
            return Ok(AddedKey::Refused { reason });
        }
        let new = NewKey { key, options, comment, label };
        match self.store.add_key(account, &new, now).await {
            Ok(row) => Ok(AddedKey::Added { key: row.into() }),
            Err(StoreError::SameAccountHasKey { .. }) => self.already_there(account, &new, fingerprint).await,
            Err(refused @ (StoreError::AnotherAccountHasKey | StoreError::TooManyKeys { .. })) => {
                Ok(AddedKey::Refused { reason: refused.to_string() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A key that the account has: nothing to do, unless it is wanted otherwise than it is.
    async fn already_there(
        &self,
        account: &AccountName,
        new: &NewKey,
        fingerprint: Fingerprint,
    ) -> Result<AddedKey, Error> {
        let rows = self.store.keys(account).await?;
        match rows.into_iter().find(|row| row.fingerprint == fingerprint) {
            Some(row) if row.options != new.options => Ok(AddedKey::Refused {
                reason: format!(
                    "{account} has this key already, with other options. Nothing was changed: remove it first, then add \
                     it again. Fingerprint: {fingerprint}"
                ),
            }),
            _ => Ok(AddedKey::AlreadyThere { fingerprint }),
        }
    }

    /// The keys of an account, in the order in which they were added.
    ///
    /// # Errors
    /// The account does not exist; the store fails.
    pub async fn keys(&self, account: &AccountName) -> Result<Vec<KeyInfo>, Error> {
        self.tools.ledger.written().await;
        self.must_exist(account).await?;
        Ok(self.store.keys(account).await?.into_iter().map(KeyInfo::from).collect())
    }

    /// Removes the key that `which` names: its fingerprint, its id or its label. The connections that it opened end at
    /// once, and it is out of the account's running VMs when this returns.
    ///
    /// # Errors
    /// No key, or more than one, is named so; the store fails.
    pub async fn remove_key(self: &Arc<Self>, account: &AccountName, which: &str) -> Result<KeyInfo, Error> {
        let (control, account, which) = (self.clone(), account.clone(), which.to_owned());
        self.to_the_end(async move { control.try_remove_key(account, which).await }).await
    }

    /// Calls the key that `which` names, as for [`Control::remove_key`], something else; an empty label is none, and the
    /// key is called after its algorithm.
    ///
    /// # Errors
    /// No key, or more than one, is named so; the store fails.
    pub async fn rename_key(
        &self,
        account: &AccountName,
        which: &str,
        label: &str,
    ) -> Result<KeyInfo, Error> {
        let key = self.one_key(account, which).await?;
        let gone = || Error::NoSuchKey { account: account.clone(), which: which.to_owned() };
        Ok(self.store.rename_key(key.id, label).await?.ok_or_else(gone)?.into())
    }

    /// The one key that is named so.
    async fn one_key(&self, account: &AccountName, which: &str) -> Result<KeyRow, Error> {
        self.must_exist(account).await?;
        let mut named = self.store.keys(account).await?;
        named.retain(|row| is_named(&row.clone().into(), which));
        let (account, which) = (account.clone(), which.to_owned());
        let Some(key) = named.pop() else { return Err(Error::NoSuchKey { account, which }) };
        if named.is_empty() { Ok(key) } else { Err(Error::AmbiguousKey { account, which }) }
    }

    async fn try_remove_key(&self, account: AccountName, which: String) -> Result<KeyInfo, Error> {
        let key = self.one_key(&account, &which).await?;
        self.store.remove_key(key.id).await?;
        self.revocations.revoke(&key.fingerprint);
        self.push_keys(&account).await;
        Ok(key.into())
    }

    /// The running VMs of an account whose guests have not taken its present keys, since their guest agent does not
    /// answer. It is tried on; the gateway acts on the keys as they are all the same.
    #[must_use]
    pub fn behind_with_keys(&self, account: &AccountName) -> Vec<VmName> {
        let behind = self.handles_where(|vm| vm.owner == *account).into_iter();
        behind.filter(Handle::is_behind_with_keys).map(|handle| handle.name).collect()
    }

    /// Brings the account's present keys into all VMs that run and are its own or shared with it.
    async fn push_keys(&self, account: &AccountName) {
        push_to(&self.handles_with_keys_of(account).await).await;
    }
}

/// Brings into these guests who may log in to them with what, where they run.
pub(crate) async fn push_to(handles: &[Handle]) {
    join_all(handles.iter().map(Handle::push_keys)).await;
}

fn is_named(key: &KeyInfo, which: &str) -> bool {
    key.fingerprint.to_string() == which || key.label == which || key.id == which
}
