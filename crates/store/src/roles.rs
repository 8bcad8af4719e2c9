//! What an account may do on the website, and whether anybody gets in with it at all.

use berth_model::{AccountName, Fingerprint};
use time::OffsetDateTime;

use crate::{
    SecretHash, Store, StoreError,
    accounts::lock_account,
    convert::{text, to_millis},
    links, sessions,
    sql::{self, Tx},
    tokens,
    words::words,
};

words! {
    /// What an account may do.
    Role {
        /// What is its own.
        Member = "member",
        /// Everything, with everybody's.
        Operator = "operator",
    }
}

/// What let people in to an account and does so no longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutOut {
    /// Its keys. They are still there, and count again once it is unblocked.
    pub keys: Vec<Fingerprint>,
    /// The cookies of its sessions, which are gone, and its tokens, which count again as its keys do.
    pub cookies_and_tokens: Vec<SecretHash>,
}

impl Store {
    /// Gives an account a role, and gives the cookies of its sessions, which end, and its tokens, which mean something
    /// else from now on. Its links end too, and those that it made. Nothing ends where it has the role already.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`].
    pub async fn set_role(&self, account: &AccountName, role: Role) -> Result<Vec<SecretHash>, StoreError> {
        let mut tx = self.write().await?;
        lock_account(&mut tx, account).await?;
        let changed = sql::query("UPDATE accounts SET role = $2 WHERE name = $1 AND role <> $2")
            .bind(account.as_str())
            .bind(role.as_str())
            .execute(&mut tx)
            .await?;
        if changed.rows_affected() == 0 {
            return Ok(vec![]);
        }
        let mut ended = sessions::end_all(&mut tx, account, None).await?;
        ended.extend(tokens::hashes_of(&mut tx, account).await?);
        links::remove_all(&mut tx, account).await?;
        tx.commit().await?;
        Ok(ended)
    }

    /// Blocks an account and gives what let people in; asked again it keeps the first time. Its sessions and its links
    /// are gone, its keys and tokens count for nothing.
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
        sql::query("UPDATE accounts SET blocked_at = COALESCE(blocked_at, $2) WHERE name = $1")
            .bind(account.as_str())
            .bind(to_millis(at))
            .execute(&mut tx)
            .await?;
        let keys: Vec<String> = sql::query_scalar("SELECT fingerprint FROM keys WHERE account = $1")
            .bind(account.as_str())
            .fetch_all(&mut tx)
            .await?;
        let mut cookies_and_tokens = sessions::end_all(&mut tx, account, None).await?;
        cookies_and_tokens.extend(tokens::hashes_of(&mut tx, account).await?);
        links::remove_all(&mut tx, account).await?;
        tx.commit().await?;
        let keys = keys.iter().map(|key| text("fingerprint", key)).collect::<Result<_, _>>()?;
        Ok(ShutOut { keys, cookies_and_tokens })
    }

    /// Lets people in to an account again; `false` where it was not blocked.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`].
    pub async fn unblock_account(&self, account: &AccountName) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        lock_account(&mut tx, account).await?;
        let changed =
            sql::query("UPDATE accounts SET blocked_at = NULL WHERE name = $1 AND blocked_at IS NOT NULL")
                .bind(account.as_str())
                .execute(&mut tx)
                .await?;
        tx.commit().await?;
        Ok(changed.rows_affected() > 0)
    }

    /// Whether an account is blocked; `false` for one that does not exist.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn is_blocked(&self, account: &AccountName) -> Result<bool, StoreError> {
        let found = sql::query("SELECT 1 FROM accounts WHERE name = $1 AND blocked_at IS NOT NULL")
            .bind(account.as_str())
            .fetch_optional(self.reader())
            .await?;
        Ok(found.is_some())
    }
}

/// As [`lock_account`], for what a blocked account does not get, and gives the account's role.
pub(crate) async fn lock_unblocked(tx: &mut Tx, name: &AccountName) -> Result<Role, StoreError> {
    let role: Option<String> = sql::query_scalar(
        "UPDATE accounts SET generation = generation + 1
         WHERE name = $1 AND removed_at IS NULL AND blocked_at IS NULL
         RETURNING role",
    )
    .bind(name.as_str())
    .fetch_optional(&mut *tx)
    .await?;
    text("role", &role.ok_or_else(|| StoreError::NoSuchAccount { name: name.clone() })?)
}
