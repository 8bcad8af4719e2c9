//! Passwords, of which only the hashes are here.

use berth_model::{AccountName, Secret};
use time::OffsetDateTime;

use crate::{
    SecretHash, SessionId, Store, StoreError,
    convert::{time, to_millis},
    roles::lock_unblocked,
    sessions,
    sql::{self, Tx},
};

/// The password of an account that is neither removed nor blocked.
#[derive(Clone, Debug)]
pub struct PasswordRow {
    /// Its argon2id hash as a PHC string.
    pub hash: Secret<String>,
    /// When it was set.
    pub set_at: OffsetDateTime,
}

impl Store {
    /// The password of an account, if it has one and may log in.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn password(&self, account: &AccountName) -> Result<Option<PasswordRow>, StoreError> {
        let row: Option<(String, i64)> = sql::query_as(
            "SELECT hash, set_at FROM passwords JOIN accounts ON accounts.name = passwords.account
             WHERE account = $1 AND accounts.removed_at IS NULL AND accounts.blocked_at IS NULL",
        )
        .bind(account.as_str())
        .fetch_optional(self.reader())
        .await?;
        row.map(|(hash, at)| Ok(PasswordRow { hash: Secret::new(hash), set_at: time("set_at", at)? }))
            .transpose()
    }

    /// Sets an account's password, ends its sessions but one, and gives their cookies.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`], also where the account is blocked; [`StoreError::Database`] where the hash is not
    /// one of argon2id.
    pub async fn set_password(
        &self,
        account: &AccountName,
        hash: &Secret<String>,
        but: Option<SessionId>,
        at: OffsetDateTime,
    ) -> Result<Vec<SecretHash>, StoreError> {
        let mut tx = self.write().await?;
        lock_unblocked(&mut tx, account).await?;
        set(&mut tx, account, hash, at).await?;
        let ended = sessions::end_all(&mut tx, account, but).await?;
        tx.commit().await?;
        Ok(ended)
    }
}

/// Sets the password of an account that is locked.
pub(crate) async fn set(
    tx: &mut Tx,
    account: &AccountName,
    hash: &Secret<String>,
    at: OffsetDateTime,
) -> Result<(), StoreError> {
    sql::query(
        "INSERT INTO passwords (account, hash, set_at) VALUES ($1, $2, $3)
         ON CONFLICT (account) DO UPDATE SET hash = $2, set_at = $3",
    )
    .bind(account.as_str())
    .bind(hash.expose())
    .bind(to_millis(at))
    .execute(&mut *tx)
    .await?;
    Ok(())
}
