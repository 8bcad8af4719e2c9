//! Keys: a public key is on one account at most.

use std::{fmt, net::IpAddr};

use berth_model::{AccountName, Fingerprint, KeyOptions, PublicKey};
use time::OffsetDateTime;

use crate::{
    Store, StoreError,
    accounts::lock_account,
    convert::{optional_time, text, time, to_millis, unreadable},
    ids::next_id,
    sql::{self, Tx},
};

/// So many keys an account may have.
pub const MAX_KEYS: usize = 100;

/// The id of a key: 1, 2, 3 and so on in the order in which keys were added anywhere. Never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) i64);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is told of a key when it is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// The key.
    pub key: PublicKey,
    /// What restricts its use.
    pub options: KeyOptions,
    /// The comment that it came with. May be empty.
    pub comment: String,
    /// What its owner calls it. Empty counts as none; two keys may have the same.
    pub label: Option<String>,
}

/// A key of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its id.
    pub id: KeyId,
    /// The account that it is on.
    pub account: AccountName,
    /// The key.
    pub key: PublicKey,
    /// The key's fingerprint.
    pub fingerprint: Fingerprint,
    /// What restricts its use; when it expires stands here too.
    pub options: KeyOptions,
    /// The comment that it came with. May be empty.
    pub comment: String,
    /// What its owner calls it.
    pub label: Option<String>,
    /// When it was added.
    pub added_at: OffsetDateTime,
    /// When and from where somebody last logged in with it.
    pub last_used: Option<LastUse>,
}

/// The last log-in with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// When.
    pub at: OffsetDateTime,
    /// The client's address.
    pub from: IpAddr,
}

#[derive(sqlx::FromRow)]
struct Columns {
    id: i64,
    account: String,
    public_key: String,
    fingerprint: String,
    label: Option<String>,
    comment: String,
    options: String,
    added_at: i64,
    last_used_at: Option<i64>,
    last_used_from: Option<String>,
}

impl TryFrom<Columns> for KeyRow {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let at = optional_time("last_used_at", row.last_used_at)?;
        let from = row.last_used_from.map(|from| text("last_used_from", &from)).transpose()?;
        Ok(Self {
            id: KeyId(row.id),
            account: text("account name", &row.account)?,
            key: PublicKey::from_openssh(&row.public_key)
                .map_err(|source| unreadable("public_key", source))?,
            fingerprint: text("fingerprint", &row.fingerprint)?,
            options: text("key's options", &row.options)?,
            comment: row.comment,
            label: row.label,
            added_at: time("added_at", row.added_at)?,
            last_used: at.zip(from).map(|(at, from)| LastUse { at, from }),
        })
    }
}

impl Store {
    /// Adds a key to an account.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`], [`StoreError::SameAccountHasKey`], [`StoreError::AnotherAccountHasKey`] and
    /// [`StoreError::TooManyKeys`].
    pub async fn add_key(
        &self,
        account: &AccountName,
        new: &NewKey,
        at: OffsetDateTime,
    ) -> Result<KeyRow, StoreError> {
        let mut tx = self.write().await?;
        lock_account(&mut tx, account).await?;
        let id = next_id(&mut tx, "keys").await?;
        let added: Option<Columns> = sql::query_as(
            "INSERT INTO keys (id, account, public_key, fingerprint, label, comment, options, added_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (fingerprint) DO NOTHING
             RETURNING *",
        )
        .bind(id)
        .bind(account.as_str())
        .bind(new.key.to_openssh())
        .bind(new.key.fingerprint().to_string())
        .bind(new.label.as_deref().filter(|label| !label.is_empty()))
        .bind(&new.comment)
        .bind(new.options.to_string())
        .bind(to_millis(at))
        .fetch_optional(&mut tx)
        .await?;
        let Some(added) = added else { return Err(who_has(&mut tx, account, &new.key).await?) };
        refuse_too_many(&mut tx, account).await?;
        tx.commit().await?;
        added.try_into()
    }

    /// The keys of an account in the order in which they were added; none for an account that does not exist.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn keys(&self, account: &AccountName) -> Result<Vec<KeyRow>, StoreError> {
        let rows: Vec<Columns> = sql::query_as("SELECT * FROM keys WHERE account = $1 ORDER BY id")
            .bind(account.as_str())
            .fetch_all(self.reader())
            .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Removes a key and gives what it was; `None` where it is gone already.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn remove_key(&self, id: KeyId) -> Result<Option<KeyRow>, StoreError> {
        let mut tx = self.write().await?;
        let row: Option<Columns> = sql::query_as("DELETE FROM keys WHERE id = $1 RETURNING *")
            .bind(id.0)
            .fetch_optional(&mut tx)
            .await?;
        tx.commit().await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Gives a key another label, an empty one for none, and gives what it is now; `None` where it is gone.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn rename_key(&self, id: KeyId, label: &str) -> Result<Option<KeyRow>, StoreError> {
        let mut tx = self.write().await?;
        let row: Option<Columns> = sql::query_as("UPDATE keys SET label = $2 WHERE id = $1 RETURNING *")
            .bind(id.0)
            .bind(Some(label).filter(|label| !label.is_empty()))
            .fetch_optional(&mut tx)
            .await?;
        tx.commit().await?;
        row.map(TryInto::try_into).transpose()
    }

    /// The key with this fingerprint, unless its account is blocked. Whether it may be used here and now, its options
    /// say.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn key_by_fingerprint(&self, fingerprint: &Fingerprint) -> Result<Option<KeyRow>, StoreError> {
        let row: Option<Columns> = sql::query_as(
            "SELECT keys.* FROM keys JOIN accounts ON accounts.name = keys.account
             WHERE fingerprint = $1 AND accounts.blocked_at IS NULL",
        )
        .bind(fingerprint.to_string())
        .fetch_optional(self.reader())
        .await?;
        row.map(TryInto::try_into).transpose()
    }
}

/// Removes every key of an account, and gives them in the order in which they were added.
pub(crate) async fn remove_all(tx: &mut Tx, account: &AccountName) -> Result<Vec<KeyRow>, StoreError> {
    let rows: Vec<Columns> = sql::query_as("DELETE FROM keys WHERE account = $1 RETURNING *")
        .bind(account.as_str())
        .fetch_all(&mut *tx)
        .await?;
    let mut keys: Vec<KeyRow> = rows.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
    keys.sort_by_key(|key| key.id);
    Ok(keys)
}

async fn who_has(tx: &mut Tx, account: &AccountName, key: &PublicKey) -> Result<StoreError, StoreError> {
    let holder: String = sql::query_scalar("SELECT account FROM keys WHERE fingerprint = $1")
        .bind(key.fingerprint().to_string())
        .fetch_one(&mut *tx)
        .await?;
    Ok(match holder == account.as_str() {
        true => StoreError::SameAccountHasKey { account: account.clone() },
        false => StoreError::AnotherAccountHasKey,
    })
}

async fn refuse_too_many(tx: &mut Tx, account: &AccountName) -> Result<(), StoreError> {
    let keys: i64 = sql::query_scalar("SELECT COUNT(*) FROM keys WHERE account = $1")
        .bind(account.as_str())
        .fetch_one(&mut *tx)
        .await?;
    match usize::try_from(keys) {
        Ok(0..=MAX_KEYS) => Ok(()),
        _ => Err(StoreError::TooManyKeys { account: account.clone() }),
    }
}
