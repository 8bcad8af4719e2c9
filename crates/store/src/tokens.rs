//! Tokens for the HTTP API. Of a token only the hash is here.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use berth_model::AccountName;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    LastUse, NewAudit, Role, SecretHash, Store, StoreError, audit,
    convert::{optional_time, text, time, to_millis},
    ids::next_id,
    roles::lock_unblocked,
    sessions::hashes,
    sql::{self, Tx},
    words::words,
};

/// So many tokens an account has.
pub const MAX_TOKENS: usize = 50;
/// So many characters a token's label has.
pub const MAX_TOKEN_LABEL: usize = 100;

/// The id of a token: says nothing of the token itself, and is never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(i64);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TokenId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

words! {
    /// What a token may be used for.
    Scope {
        /// To see one's VMs.
        VmsRead = "vms:read",
        /// To change them.
        VmsWrite = "vms:write",
        /// To see one's keys.
        KeysRead = "keys:read",
        /// To add and remove them.
        KeysWrite = "keys:write",
        /// To see what is known of one's account.
        AccountRead = "account:read",
        /// To see everything, as an operator.
        OpsRead = "ops:read",
        /// To change everything, as an operator.
        OpsWrite = "ops:write",
    }
}

impl Scope {
    /// What an operator needs to do to everybody's what this one lets do to one's own.
    #[must_use]
    pub fn of_operators(self) -> Self {
        match self {
            Self::VmsRead | Self::KeysRead | Self::AccountRead | Self::OpsRead => Self::OpsRead,
            Self::VmsWrite | Self::KeysWrite | Self::OpsWrite => Self::OpsWrite,
        }
    }
}

/// What is told of a token when it is made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its hash: of a new random one.
    pub hash: SecretHash,
    /// What its owner calls it: 1 to [`MAX_TOKEN_LABEL`] characters.
    pub label: String,
    /// What it is for: at least one.
    pub scopes: BTreeSet<Scope>,
    /// When it ends, if ever.
    pub expires_at: Option<OffsetDateTime>,
}

/// A token of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub account: AccountName,
    /// The account's present role.
    pub role: Role,
    /// What its owner calls it.
    pub label: String,
    /// What it is for.
    pub scopes: BTreeSet<Scope>,
    /// When it was made.
    pub made_at: OffsetDateTime,
    /// When it ends, if ever.
    pub expires_at: Option<OffsetDateTime>,
    /// When and from where it was last used.
    pub last_used: Option<LastUse>,
}

#[derive(sqlx::FromRow)]
struct Columns {
    id: i64,
    account: String,
    role: String,
    label: String,
    scopes: String,
    made_at: i64,
    expires_at: Option<i64>,
    last_used_at: Option<i64>,
    last_used_from: Option<String>,
}

impl TryFrom<Columns> for TokenRow {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let at = optional_time("token's last_used_at", row.last_used_at)?;
        let from = row.last_used_from.map(|from| text("token's last_used_from", &from)).transpose()?;
        Ok(Self {
            id: TokenId(row.id),
            account: text("token's account", &row.account)?,
            role: text("role", &row.role)?,
            label: row.label,
            scopes: row.scopes.split(' ').map(|scope| text("scope", scope)).collect::<Result<_, _>>()?,
            made_at: time("token's made_at", row.made_at)?,
            expires_at: optional_time("token's expires_at", row.expires_at)?,
            last_used: at.zip(from).map(|(at, from)| LastUse { at, from }),
        })
    }
}

impl Store {
    /// Makes a token.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`], also where the account is blocked; [`StoreError::TooManyTokens`];
    /// [`StoreError::Database`] for a label or scopes that cannot be.
    pub async fn add_token(
        &self,
        account: &AccountName,
        new: &NewToken,
        at: OffsetDateTime,
    ) -> Result<TokenRow, StoreError> {
        let mut tx = self.write().await?;
        let role = lock_unblocked(&mut tx, account).await?;
        let has: i64 = sql::query_scalar("SELECT COUNT(*) FROM tokens WHERE account = $1")
            .bind(account.as_str())
            .fetch_one(&mut tx)
            .await?;
        if usize::try_from(has).unwrap_or(usize::MAX) >= MAX_TOKENS {
            return Err(StoreError::TooManyTokens { account: account.clone() });
        }
        let id = next_id(&mut tx, "tokens").await?;
        let scopes: Vec<&str> = new.scopes.iter().map(|scope| scope.as_str()).collect();
        sql::query(
            "INSERT INTO tokens (id, account, label, token_hash, scopes, made_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(id)
        .bind(account.as_str())
        .bind(&new.label)
        .bind(new.hash.to_string())
        .bind(scopes.join(" "))
        .bind(to_millis(at))
        .bind(new.expires_at.map(to_millis))
        .execute(&mut tx)
        .await?;
        tx.commit().await?;
        Ok(TokenRow {
            id: TokenId(id),
            account: account.clone(),
            role,
            label: new.label.clone(),
            scopes: new.scopes.clone(),
            made_at: time("token's made_at", to_millis(at))?,
            expires_at: optional_time("token's expires_at", new.expires_at.map(to_millis))?,
            last_used: None,
        })
    }

    /// The token with this hash, of an account that is neither removed nor blocked. Whether it is over, its time says.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn token(&self, hash: SecretHash) -> Result<Option<TokenRow>, StoreError> {
        let row: Option<Columns> = sql::query_as(
            "SELECT tokens.*, accounts.role FROM tokens JOIN accounts ON accounts.name = tokens.account
             WHERE token_hash = $1 AND accounts.removed_at IS NULL AND accounts.blocked_at IS NULL",
        )
        .bind(hash.to_string())
        .fetch_optional(self.reader())
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    /// The tokens of an account, the newest first, those included that are over.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn tokens(&self, account: &AccountName) -> Result<Vec<TokenRow>, StoreError> {
        let rows: Vec<Columns> = sql::query_as(
            "SELECT tokens.*, accounts.role FROM tokens JOIN accounts ON accounts.name = tokens.account
             WHERE account = $1 ORDER BY id DESC",
        )
        .bind(account.as_str())
        .fetch_all(self.reader())
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Writes down that a token was used, and `what` happened. Does nothing where it is gone.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn touch_token(
        &self,
        id: TokenId,
        from: IpAddr,
        what: &NewAudit,
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let touched = sql::query("UPDATE tokens SET last_used_at = $2, last_used_from = $3 WHERE id = $1")
            .bind(id.0)
            .bind(to_millis(at))
            .bind(from.to_string())
            .execute(&mut tx)
            .await?;
        if touched.rows_affected() > 0 {
            audit::append(&mut tx, what, at).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Removes a token of an account, and gives its label and its hash; `None` where the account has none of that id.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn remove_token(
        &self,
        account: &AccountName,
        id: TokenId,
    ) -> Result<Option<(String, SecretHash)>, StoreError> {
        let mut tx = self.write().await?;
        let removed: Option<(String, String)> =
            sql::query_as("DELETE FROM tokens WHERE id = $1 AND account = $2 RETURNING label, token_hash")
                .bind(id.0)
                .bind(account.as_str())
                .fetch_optional(&mut tx)
                .await?;
        tx.commit().await?;
        removed.map(|(label, hash)| Ok((label, text("token_hash", &hash)?))).transpose()
    }
}

/// The hashes of an account's tokens.
pub(crate) async fn hashes_of(tx: &mut Tx, account: &AccountName) -> Result<Vec<SecretHash>, StoreError> {
    let found: Vec<String> = sql::query_scalar("SELECT token_hash FROM tokens WHERE account = $1")
        .bind(account.as_str())
        .fetch_all(&mut *tx)
        .await?;
    hashes(&found)
}

/// Removes the tokens of an account, and gives their hashes.
pub(crate) async fn remove_all(tx: &mut Tx, account: &AccountName) -> Result<Vec<SecretHash>, StoreError> {
    let removed: Vec<String> =
        sql::query_scalar("DELETE FROM tokens WHERE account = $1 RETURNING token_hash")
            .bind(account.as_str())
            .fetch_all(&mut *tx)
            .await?;
    hashes(&removed)
}
