//! Who is logged in on the website. Of a session's cookie only the hash is here.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use berth_model::AccountName;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    Role, SecretHash, Store, StoreError,
    convert::{text, time, to_millis},
    ids::next_id,
    roles::lock_unblocked,
    sql::{self, Tx},
    words::words,
};

/// So many sessions an account has at once; with one more, the one that was not used for the longest time ends.
pub const MAX_LOGIN_SESSIONS: usize = 50;
/// So many characters are kept of what a browser says it is.
const MAX_USER_AGENT: usize = 300;

/// The id of a login session: says nothing of its cookie, and is never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(i64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

words! {
    /// How somebody logged in.
    LoginWay {
        /// With the account's password.
        Password = "password",
        /// With a link that works once.
        Link = "link",
        /// With an invitation, which made the account.
        Invitation = "invitation",
        /// With a passkey.
        Passkey = "passkey",
        /// With an account elsewhere (OpenID Connect).
        Oidc = "oidc",
    }
}

/// How long a login session lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLife {
    /// From its beginning.
    pub at_most: Duration,
    /// From its last use.
    pub idle: Duration,
}

/// What is told of a session when it begins.
#[derive(Clone, Debug)]
pub struct NewLoginSession {
    /// The hash of its cookie: a new random one.
    pub cookie: SecretHash,
    /// How its holder logged in.
    pub way: LoginWay,
    /// The client's address.
    pub address: IpAddr,
    /// What the browser says it is. Cut to 300 characters.
    pub user_agent: String,
    /// How long sessions last, for those that are over to be cleared away.
    pub life: SessionLife,
}

/// A login session, of an account that is neither removed nor blocked. Whether it is over, its times say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginSessionRow {
    /// Its id.
    pub id: SessionId,
    /// Who is logged in.
    pub account: AccountName,
    /// The account's present role.
    pub role: Role,
    /// How they logged in.
    pub way: LoginWay,
    /// When they logged in.
    pub created_at: OffsetDateTime,
    /// When they last proved who they are.
    pub proved_at: OffsetDateTime,
    /// When it was last seen.
    pub seen_at: OffsetDateTime,
    /// The address that it was last seen from.
    pub address: IpAddr,
    /// What the browser said it is.
    pub user_agent: String,
}

/// A session that has begun, and those that ended by that.
#[derive(Clone, Debug)]
pub struct BegunSession {
    /// The new one.
    pub session: LoginSessionRow,
    /// The cookies of those that ended.
    pub ended: Vec<SecretHash>,
}

#[derive(sqlx::FromRow)]
struct Columns {
    id: i64,
    account: String,
    role: String,
    way: String,
    created_at: i64,
    proved_at: i64,
    seen_at: i64,
    address: String,
    user_agent: String,
}

impl TryFrom<Columns> for LoginSessionRow {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        Ok(Self {
            id: SessionId(row.id),
            account: text("session's account", &row.account)?,
            role: text("role", &row.role)?,
            way: text("way of a log-in", &row.way)?,
            created_at: time("session's created_at", row.created_at)?,
            proved_at: time("session's proved_at", row.proved_at)?,
            seen_at: time("session's seen_at", row.seen_at)?,
            address: text("session's address", &row.address)?,
            user_agent: row.user_agent,
        })
    }
}

impl Store {
    /// Begins a session.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`], also where the account is blocked.
    pub async fn add_login_session(
        &self,
        account: &AccountName,
        new: &NewLoginSession,
        at: OffsetDateTime,
    ) -> Result<BegunSession, StoreError> {
        let mut tx = self.write().await?;
        let begun = begin(&mut tx, account, new, at).await?;
        tx.commit().await?;
        Ok(begun)
    }

    /// The session with this cookie.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn login_session(&self, cookie: SecretHash) -> Result<Option<LoginSessionRow>, StoreError> {
        let row: Option<Columns> = sql::query_as(
            "SELECT login_sessions.*, accounts.role FROM login_sessions
             JOIN accounts ON accounts.name = login_sessions.account
             WHERE cookie_hash = $1 AND accounts.removed_at IS NULL AND accounts.blocked_at IS NULL",
        )
        .bind(cookie.to_string())
        .fetch_optional(self.reader())
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    /// The hash of the cookie of a session that has not been ended. Whether it still lets in, only
    /// [`Store::login_session`] tells.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn cookie_of_session(&self, id: SessionId) -> Result<Option<SecretHash>, StoreError> {
        let hash: Option<String> = sql::query_scalar("SELECT cookie_hash FROM login_sessions WHERE id = $1")
            .bind(id.0)
            .fetch_optional(self.reader())
            .await?;
        hash.map(|hash| text("hash of a cookie", &hash)).transpose()
    }

    /// The sessions of an account, the one that was used last first. Some may be over.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn login_sessions(&self, account: &AccountName) -> Result<Vec<LoginSessionRow>, StoreError> {
        let rows: Vec<Columns> = sql::query_as(
            "SELECT login_sessions.*, accounts.role FROM login_sessions
             JOIN accounts ON accounts.name = login_sessions.account
             WHERE account = $1 AND accounts.removed_at IS NULL AND accounts.blocked_at IS NULL
             ORDER BY seen_at DESC, id DESC",
        )
        .bind(account.as_str())
        .fetch_all(self.reader())
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Writes down that a session was used. Does nothing where it has ended.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn touch_login_session(
        &self,
        id: SessionId,
        from: IpAddr,
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sql::query("UPDATE login_sessions SET seen_at = $2, address = $3 WHERE id = $1 AND seen_at < $2")
            .bind(id.0)
            .bind(to_millis(at))
            .bind(from.to_string())
            .execute(&mut tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Writes down that the holder of a session of an account proved again who they are; `false` where the account has
    /// none of that id.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn prove_login_session(
        &self,
        account: &AccountName,
        id: SessionId,
        at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let proved = prove(&mut tx, account, id, at).await?;
        tx.commit().await?;
        Ok(proved)
    }

    /// Ends a session of an account and gives its cookie; `None` where the account has none of that id.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn end_login_session(
        &self,
        account: &AccountName,
        id: SessionId,
    ) -> Result<Option<SecretHash>, StoreError> {
        let mut tx = self.write().await?;
        let ended: Option<String> = sql::query_scalar(
            "DELETE FROM login_sessions WHERE id = $1 AND account = $2 RETURNING cookie_hash",
        )
        .bind(id.0)
        .bind(account.as_str())
        .fetch_optional(&mut tx)
        .await?;
        tx.commit().await?;
        ended.map(|hash| text("cookie_hash", &hash)).transpose()
    }

    /// Ends all sessions of an account but one, and gives their cookies.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn end_login_sessions(
        &self,
        account: &AccountName,
        but: Option<SessionId>,
    ) -> Result<Vec<SecretHash>, StoreError> {
        let mut tx = self.write().await?;
        let ended = end_all(&mut tx, account, but).await?;
        tx.commit().await?;
        Ok(ended)
    }
}

/// Begins a session; those that are over, and those that are too many, end.
pub(crate) async fn begin(
    tx: &mut Tx,
    account: &AccountName,
    new: &NewLoginSession,
    at: OffsetDateTime,
) -> Result<BegunSession, StoreError> {
    let role = lock_unblocked(tx, account).await?;
    let mut ended = end_those_that_are_over(tx, new.life, at).await?;
    ended.extend(end_those_that_are_too_many(tx, account).await?);
    let id = next_id(tx, "login_sessions").await?;
    let user_agent: String = new.user_agent.chars().take(MAX_USER_AGENT).collect();
    sql::query(
        "INSERT INTO login_sessions (id, account, cookie_hash, way, created_at, proved_at, seen_at, address, user_agent)
         VALUES ($1, $2, $3, $4, $5, $5, $5, $6, $7)",
    )
    .bind(id)
    .bind(account.as_str())
    .bind(new.cookie.to_string())
    .bind(new.way.as_str())
    .bind(to_millis(at))
    .bind(new.address.to_string())
    .bind(&user_agent)
    .execute(&mut *tx)
    .await?;
    let at = time("session's created_at", to_millis(at))?;
    let session = LoginSessionRow {
        id: SessionId(id),
        account: account.clone(),
        role,
        way: new.way,
        created_at: at,
        proved_at: at,
        seen_at: at,
        address: new.address,
        user_agent,
    };
    Ok(BegunSession { session, ended })
}

pub(crate) async fn prove(
    tx: &mut Tx,
    account: &AccountName,
    id: SessionId,
    at: OffsetDateTime,
) -> Result<bool, StoreError> {
    let proved = sql::query("UPDATE login_sessions SET proved_at = $3 WHERE id = $1 AND account = $2")
        .bind(id.0)
        .bind(account.as_str())
        .bind(to_millis(at))
        .execute(&mut *tx)
        .await?;
    Ok(proved.rows_affected() > 0)
}

async fn end_those_that_are_over(
    tx: &mut Tx,
    life: SessionLife,
    at: OffsetDateTime,
) -> Result<Vec<SecretHash>, StoreError> {
    let ended: Vec<String> = sql::query_scalar(
        "DELETE FROM login_sessions WHERE created_at <= $1 OR seen_at <= $2 RETURNING cookie_hash",
    )
    .bind(to_millis(at - life.at_most))
    .bind(to_millis(at - life.idle))
    .fetch_all(&mut *tx)
    .await?;
    hashes(&ended)
}

/// Leaves room for one more.
async fn end_those_that_are_too_many(
    tx: &mut Tx,
    account: &AccountName,
) -> Result<Vec<SecretHash>, StoreError> {
    let ended: Vec<String> = sql::query_scalar(
        "DELETE FROM login_sessions
         WHERE account = $1 AND id NOT IN (SELECT id FROM login_sessions WHERE account = $1
                                           ORDER BY seen_at DESC, id DESC LIMIT $2)
         RETURNING cookie_hash",
    )
    .bind(account.as_str())
    .bind(i64::try_from(MAX_LOGIN_SESSIONS - 1).unwrap_or(i64::MAX))
    .fetch_all(&mut *tx)
    .await?;
    hashes(&ended)
}

pub(crate) async fn end_all(
    tx: &mut Tx,
    account: &AccountName,
    but: Option<SessionId>,
) -> Result<Vec<SecretHash>, StoreError> {
    let ended: Vec<String> =
        sql::query_scalar("DELETE FROM login_sessions WHERE account = $1 AND id <> $2 RETURNING cookie_hash")
            .bind(account.as_str())
            // No session has the id 0.
            .bind(but.map_or(0, |id| id.0))
            .fetch_all(&mut *tx)
            .await?;
    hashes(&ended)
}

pub(crate) fn hashes(texts: &[String]) -> Result<Vec<SecretHash>, StoreError> {
    texts.iter().map(|hash| text("hash of a secret", hash)).collect()
}
