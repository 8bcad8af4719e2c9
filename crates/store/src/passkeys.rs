//! Passkeys: public keys that a person's authenticators hold the other half of.

use std::{fmt, net::IpAddr, str::FromStr};

use berth_model::AccountName;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    BegunSession, LastUse, NewLoginSession, SessionId, Store, StoreError,
    convert::{number, optional_time, text, time, to_millis},
    ids::next_id,
    roles::lock_unblocked,
    sessions,
    sql::{self, Tx},
};

/// So many passkeys an account has.
pub const MAX_PASSKEYS: usize = 20;
/// So many characters a passkey's label has.
pub const MAX_PASSKEY_LABEL: usize = 100;

/// The id of a passkey. Never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasskeyId(i64);

impl fmt::Display for PasskeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PasskeyId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// What is told of a passkey when it is added. The texts are base64url without padding, and not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPasskey {
    /// What its owner calls it: 1 to [`MAX_PASSKEY_LABEL`] characters.
    pub label: String,
    /// As the authenticator names it.
    pub credential: String,
    /// What authenticators know the account by.
    pub user_handle: String,
    /// COSE's number of the algorithm.
    pub algorithm: i64,
    /// SubjectPublicKeyInfo (RFC 5280, 4.1.2.7).
    pub public_key: String,
    /// The authenticator's count of its signatures.
    pub sign_count: u32,
}

/// A passkey of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasskeyRow {
    /// Its id.
    pub id: PasskeyId,
    /// Whose it is.
    pub account: AccountName,
    /// What was told of it; the count is the last one seen.
    pub passkey: NewPasskey,
    /// When it was added.
    pub added_at: OffsetDateTime,
    /// When and from where somebody last logged in with it.
    pub last_used: Option<LastUse>,
}

/// One use of a passkey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasskeyUse {
    /// Which one.
    pub id: PasskeyId,
    /// The authenticator's count of its signatures, this one included.
    pub sign_count: u32,
    /// The client's address.
    pub from: IpAddr,
}

#[derive(sqlx::FromRow)]
struct Columns {
    id: i64,
    account: String,
    label: String,
    credential: String,
    user_handle: String,
    algorithm: i64,
    public_key: String,
    sign_count: i64,
    added_at: i64,
    last_used_at: Option<i64>,
    last_used_from: Option<String>,
}

impl TryFrom<Columns> for PasskeyRow {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let at = optional_time("passkey's last_used_at", row.last_used_at)?;
        let from = row.last_used_from.map(|from| text("passkey's last_used_from", &from)).transpose()?;
        Ok(Self {
            id: PasskeyId(row.id),
            account: text("passkey's account", &row.account)?,
            passkey: NewPasskey {
                label: row.label,
                credential: row.credential,
                user_handle: row.user_handle,
                algorithm: row.algorithm,
                public_key: row.public_key,
                sign_count: number("sign_count", row.sign_count)?,
            },
            added_at: time("passkey's added_at", row.added_at)?,
            last_used: at.zip(from).map(|(at, from)| LastUse { at, from }),
        })
    }
}

impl Store {
    /// Adds a passkey to an account; `None` where the authenticator's name for it is taken.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`], also where the account is blocked; [`StoreError::TooManyPasskeys`];
    /// [`StoreError::Database`] for texts that cannot be.
    pub async fn add_passkey(
        &self,
        account: &AccountName,
        new: &NewPasskey,
        at: OffsetDateTime,
    ) -> Result<Option<PasskeyRow>, StoreError> {
        let mut tx = self.write().await?;
        lock_unblocked(&mut tx, account).await?;
        let has: i64 = sql::query_scalar("SELECT COUNT(*) FROM passkeys WHERE account = $1")
            .bind(account.as_str())
            .fetch_one(&mut tx)
            .await?;
        if usize::try_from(has).unwrap_or(usize::MAX) >= MAX_PASSKEYS {
            return Err(StoreError::TooManyPasskeys { account: account.clone() });
        }
        let id = next_id(&mut tx, "passkeys").await?;
        let row: Option<Columns> = sql::query_as(
            "INSERT INTO passkeys (id, account, label, credential, user_handle, algorithm, public_key, sign_count, added_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (credential) DO NOTHING
             RETURNING *",
        )
        .bind(id)
        .bind(account.as_str())
        .bind(&new.label)
        .bind(&new.credential)
        .bind(&new.user_handle)
        .bind(new.algorithm)
        .bind(&new.public_key)
        .bind(i64::from(new.sign_count))
        .bind(to_millis(at))
        .fetch_optional(&mut tx)
        .await?;
        tx.commit().await?;
        row.map(TryInto::try_into).transpose()
    }

    /// The passkey that an authenticator names so, of an account that is neither removed nor blocked.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn passkey(&self, credential: &str) -> Result<Option<PasskeyRow>, StoreError> {
        let row: Option<Columns> = sql::query_as(
            "SELECT passkeys.* FROM passkeys JOIN accounts ON accounts.name = passkeys.account
             WHERE credential = $1 AND accounts.removed_at IS NULL AND accounts.blocked_at IS NULL",
        )
        .bind(credential)
        .fetch_optional(self.reader())
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    /// The passkeys of an account in the order in which they were added.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn passkeys(&self, account: &AccountName) -> Result<Vec<PasskeyRow>, StoreError> {
        let rows: Vec<Columns> = sql::query_as("SELECT * FROM passkeys WHERE account = $1 ORDER BY id")
            .bind(account.as_str())
            .fetch_all(self.reader())
            .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Writes down a log-in with a passkey, and a session begins. `None`, and nothing is done, where the passkey is
    /// gone, or its count is not greater than the last one: then it is a copy's. Authenticators that do not count say 0.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn log_in_by_passkey(
        &self,
        used: PasskeyUse,
        session: &NewLoginSession,
        at: OffsetDateTime,
    ) -> Result<Option<BegunSession>, StoreError> {
        let mut tx = self.write().await?;
        let Some(account) = count(&mut tx, used, at).await? else { return Ok(None) };
        let begun = match sessions::begin(&mut tx, &account, session, at).await {
            Err(StoreError::NoSuchAccount { .. }) => return Ok(None),
            begun => begun?,
        };
        tx.commit().await?;
        Ok(Some(begun))
    }

    /// Writes down that the holder of a session proved with a passkey who they are; `false`, and nothing is done, as in
    /// [`Store::log_in_by_passkey`].
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn prove_by_passkey(
        &self,
        used: PasskeyUse,
        session: SessionId,
        at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let Some(account) = count(&mut tx, used, at).await? else { return Ok(false) };
        let proved = sessions::prove(&mut tx, &account, session, at).await?;
        if proved {
            tx.commit().await?;
        }
        Ok(proved)
    }

    /// Gives a passkey of an account another label; `false` where the account has none of that id.
    ///
    /// # Errors
    /// Only those of the database itself; a label that cannot be is one.
    pub async fn rename_passkey(
        &self,
        account: &AccountName,
        id: PasskeyId,
        label: &str,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let renamed = sql::query("UPDATE passkeys SET label = $3 WHERE id = $1 AND account = $2")
            .bind(id.0)
            .bind(account.as_str())
            .bind(label)
            .execute(&mut tx)
            .await?;
        tx.commit().await?;
        Ok(renamed.rows_affected() > 0)
    }

    /// Removes a passkey of an account and gives what it was; `None` where the account has none of that id.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn remove_passkey(
        &self,
        account: &AccountName,
        id: PasskeyId,
    ) -> Result<Option<PasskeyRow>, StoreError> {
        let mut tx = self.write().await?;
        let row: Option<Columns> =
            sql::query_as("DELETE FROM passkeys WHERE id = $1 AND account = $2 RETURNING *")
                .bind(id.0)
                .bind(account.as_str())
                .fetch_optional(&mut tx)
                .await?;
        tx.commit().await?;
        row.map(TryInto::try_into).transpose()
    }
}

/// Writes down a use, and gives the account.
async fn count(tx: &mut Tx, used: PasskeyUse, at: OffsetDateTime) -> Result<Option<AccountName>, StoreError> {
    let account: Option<String> = sql::query_scalar(
        "UPDATE passkeys SET sign_count = $2, last_used_at = $3, last_used_from = $4
         WHERE id = $1 AND (sign_count < $2 OR (sign_count = 0 AND $2 = 0))
         RETURNING account",
    )
    .bind(used.id.0)
    .bind(i64::from(used.sign_count))
    .bind(to_millis(at))
    .bind(used.from.to_string())
    .fetch_optional(&mut *tx)
    .await?;
    account.map(|account| text("passkey's account", &account)).transpose()
}

/// Removes the passkeys of an account.
pub(crate) async fn remove_all(tx: &mut Tx, account: &AccountName) -> Result<(), StoreError> {
    sql::query("DELETE FROM passkeys WHERE account = $1").bind(account.as_str()).execute(&mut *tx).await?;
    Ok(())
}
