//! What an account may do on the website, and whether anybody gets in with it at all.

use std::str::FromStr;

use berth_model::{AccountName, Fingerprint};
use serde::{Deserialize, Serialize};
use sqlx::{Sqlite, Transaction};
use time::OffsetDateTime;

use crate::{
    SecretHash, Store, StoreError,
    accounts::lock_account,
    convert::{Unknown, text, to_millis},
    links, sessions,
};

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What is its own.
    Member,
    /// Everything, with everybody's.
    Operator,
}

impl Role {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Operator => "operator",
        }
    }
}

impl FromStr for Role {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        [Self::Member, Self::Operator].into_iter().find(|role| role.as_str() == text).ok_or(Unknown)
    }
}

/// What let people in to an account and does so no longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutOut {
    /// Its keys. They are still there, and count again once it is unblocked.
    pub keys: Vec<Fingerprint>,
    /// The cookies of its sessions. They are gone.
    pub sessions: Vec<SecretHash>,
}

impl Store {
    /// Gives an account a role and gives the cookies of its sessions, which end. Links that it made end too where it is
    /// no longer an operator. Nothing ends where it has the role already.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`].
    pub async fn set_role(&self, account: &AccountName, role: Role) -> Result<Vec<SecretHash>, StoreError> {
        let mut tx = self.write().await?;
        lock_account(&mut tx, account).await?;
        let changed = sqlx::query("UPDATE accounts SET role = $2 WHERE name = $1 AND role <> $2")
            .bind(account.as_str())
            .bind(role.as_str())
            .execute(&mut *tx)
            .await?;
        if changed.rows_affected() == 0 {
            return Ok(vec![]);
        }
        let ended = sessions::end_all(&mut tx, account, None).await?;
        links::remove_all(&mut tx, account).await?;
        tx.commit().await?;
        Ok(ended)
    }

    /// Blocks an account and gives what let people in; asked again it keeps the first time. Its sessions and its links
    /// are gone, its keys count for nothing.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`].
    pub async fn block_account(
        &self,
        account: &AccountName,
        at: OffsetDateTime,
    ) -> Result<ShutOut, StoreError> {
        let mut tx = self.write().await?;
        lock_account(&mut tx, account).await?;
        sqlx::query("UPDATE accounts SET blocked_at = COALESCE(blocked_at, $2) WHERE name = $1")
            .bind(account.as_str())
            .bind(to_millis(at))
            .execute(&mut *tx)
            .await?;
        let keys: Vec<String> = sqlx::query_scalar("SELECT fingerprint FROM keys WHERE account = $1")
            .bind(account.as_str())
            .fetch_all(&mut *tx)
            .await?;
        let sessions = sessions::end_all(&mut tx, account, None).await?;
        links::remove_all(&mut tx, account).await?;
        tx.commit().await?;
        let keys = keys.iter().map(|key| text("fingerprint", key)).collect::<Result<_, _>>()?;
        Ok(ShutOut { keys, sessions })
    }

    /// Lets people in to an account again; `false` where it was not blocked.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`].
    pub async fn unblock_account(&self, account: &AccountName) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        lock_account(&mut tx, account).await?;
        let changed =
            sqlx::query("UPDATE accounts SET blocked_at = NULL WHERE name = $1 AND blocked_at IS NOT NULL")
                .bind(account.as_str())
                .execute(&mut *tx)
                .await?;
        tx.commit().await?;
        Ok(changed.rows_affected() > 0)
    }

    /// Whether an account is blocked; `false` for one that does not exist.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn is_blocked(&self, account: &AccountName) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM accounts WHERE name = $1 AND blocked_at IS NOT NULL")
            .bind(account.as_str())
            .fetch_optional(self.reader())
            .await?;
        Ok(found.is_some())
    }
}

/// As [`lock_account`], for what a blocked account does not get, and gives the account's role.
pub(crate) async fn lock_unblocked(
    tx: &mut Transaction<'static, Sqlite>,
    name: &AccountName,
) -> Result<Role, StoreError> {
    let role: Option<String> = sqlx::query_scalar(
        "UPDATE accounts SET generation = generation + 1
         WHERE name = $1 AND removed_at IS NULL AND blocked_at IS NULL
         RETURNING role",
    )
    .bind(name.as_str())
    .fetch_optional(&mut **tx)
    .await?;
    text("role", &role.ok_or_else(|| StoreError::NoSuchAccount { name: name.clone() })?)
}
