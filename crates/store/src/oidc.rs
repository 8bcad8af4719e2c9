//! Accounts elsewhere (OpenID Connect) that let in to accounts here: each to one.

use std::{fmt, net::IpAddr, str::FromStr};

use berth_model::AccountName;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    BegunSession, LastUse, NewLoginSession, Store, StoreError,
    convert::{optional_time, text, time, to_millis},
    ids::next_id,
    roles::lock_unblocked,
    sessions,
    sql::{self, Tx},
};

/// So many accounts elsewhere an account has.
pub const MAX_OIDC_IDENTITIES: usize = 10;
/// So many characters are kept of what people call one.
const MAX_LABEL: usize = 200;

/// The id of an account elsewhere. Never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OidcId(i64);

impl fmt::Display for OidcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OidcId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// An account elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcIdentity {
    /// The issuer's address. Not empty.
    pub issuer: String,
    /// What the issuer calls the person, for ever. Not empty.
    pub subject: String,
    /// What people call it; decides nothing. Cut to 200 characters.
    pub label: String,
}

/// An account elsewhere that lets in to one here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcRow {
    /// Its id.
    pub id: OidcId,
    /// The account here.
    pub account: AccountName,
    /// The account elsewhere.
    pub identity: OidcIdentity,
    /// When it was added.
    pub added_at: OffsetDateTime,
    /// When and from where somebody last logged in with it.
    pub last_used: Option<LastUse>,
}

#[derive(sqlx::FromRow)]
struct Columns {
    id: i64,
    account: String,
    issuer: String,
    subject: String,
    label: String,
    added_at: i64,
    last_used_at: Option<i64>,
    last_used_from: Option<String>,
}

impl TryFrom<Columns> for OidcRow {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let at = optional_time("identity's last_used_at", row.last_used_at)?;
        let from = row.last_used_from.map(|from| text("identity's last_used_from", &from)).transpose()?;
        Ok(Self {
            id: OidcId(row.id),
            account: text("identity's account", &row.account)?,
            identity: OidcIdentity { issuer: row.issuer, subject: row.subject, label: row.label },
            added_at: time("identity's added_at", row.added_at)?,
            last_used: at.zip(from).map(|(at, from)| LastUse { at, from }),
        })
    }
}

impl Store {
    /// Has an account elsewhere let in to one here; `None` where it lets in to one already.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`], also where the account is blocked; [`StoreError::TooManyOidcIdentities`];
    /// [`StoreError::Database`] for empty texts.
    pub async fn add_oidc(
        &self,
        account: &AccountName,
        identity: &OidcIdentity,
        at: OffsetDateTime,
    ) -> Result<Option<OidcRow>, StoreError> {
        let mut tx = self.write().await?;
        lock_unblocked(&mut tx, account).await?;
        let has: i64 = sql::query_scalar("SELECT COUNT(*) FROM oidc_identities WHERE account = $1")
            .bind(account.as_str())
            .fetch_one(&mut tx)
            .await?;
        if usize::try_from(has).unwrap_or(usize::MAX) >= MAX_OIDC_IDENTITIES {
            return Err(StoreError::TooManyOidcIdentities { account: account.clone() });
        }
        let id = next_id(&mut tx, "oidc_identities").await?;
        let row: Option<Columns> = sql::query_as(
            "INSERT INTO oidc_identities (id, account, issuer, subject, label, added_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (issuer, subject) DO NOTHING
             RETURNING *",
        )
        .bind(id)
        .bind(account.as_str())
        .bind(&identity.issuer)
        .bind(&identity.subject)
        .bind(identity.label.chars().take(MAX_LABEL).collect::<String>())
        .bind(to_millis(at))
        .fetch_optional(&mut tx)
        .await?;
        tx.commit().await?;
        row.map(TryInto::try_into).transpose()
    }

    /// The accounts elsewhere that let in to an account, in the order in which they were added.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn oidc_identities(&self, account: &AccountName) -> Result<Vec<OidcRow>, StoreError> {
        let rows: Vec<Columns> =
            sql::query_as("SELECT * FROM oidc_identities WHERE account = $1 ORDER BY id")
                .bind(account.as_str())
                .fetch_all(self.reader())
                .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Writes down a log-in with an account elsewhere, and a session begins. `None`, and nothing is done, where it lets
    /// in to no account, or to one that is blocked.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn log_in_by_oidc(
        &self,
        identity: &OidcIdentity,
        session: &NewLoginSession,
        at: OffsetDateTime,
    ) -> Result<Option<BegunSession>, StoreError> {
        let mut tx = self.write().await?;
        let Some(account) = touch(&mut tx, identity, session.address, at).await? else { return Ok(None) };
        let begun = match sessions::begin(&mut tx, &account, session, at).await {
            Err(StoreError::NoSuchAccount { .. }) => return Ok(None),
            begun => begun?,
        };
        tx.commit().await?;
        Ok(Some(begun))
    }

    /// Takes an account elsewhere from an account here and gives what it was; `None` where that has none of that id.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn remove_oidc(
        &self,
        account: &AccountName,
        id: OidcId,
    ) -> Result<Option<OidcRow>, StoreError> {
        let mut tx = self.write().await?;
        let row: Option<Columns> =
            sql::query_as("DELETE FROM oidc_identities WHERE id = $1 AND account = $2 RETURNING *")
                .bind(id.0)
                .bind(account.as_str())
                .fetch_optional(&mut tx)
                .await?;
        tx.commit().await?;
        row.map(TryInto::try_into).transpose()
    }
}

async fn touch(
    tx: &mut Tx,
    identity: &OidcIdentity,
    from: IpAddr,
    at: OffsetDateTime,
) -> Result<Option<AccountName>, StoreError> {
    let account: Option<String> = sql::query_scalar(
        "UPDATE oidc_identities SET last_used_at = $3, last_used_from = $4
         WHERE issuer = $1 AND subject = $2
         RETURNING account",
    )
    .bind(&identity.issuer)
    .bind(&identity.subject)
    .bind(to_millis(at))
    .bind(from.to_string())
    .fetch_optional(&mut *tx)
    .await?;
    account.map(|account| text("identity's account", &account)).transpose()
}

/// Takes all accounts elsewhere from an account.
pub(crate) async fn remove_all(tx: &mut Tx, account: &AccountName) -> Result<(), StoreError> {
    sql::query("DELETE FROM oidc_identities WHERE account = $1")
        .bind(account.as_str())
        .execute(&mut *tx)
        .await?;
    Ok(())
}
