//! Links that work once: to log in, to set a new password, to become a member. Only the hash of their token is here.
//!
//! A link is gone once it is used, and with the account that it is for or that made it: removed, or blocked.

use std::{fmt, str::FromStr};

use berth_model::{AccountName, Secret};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    BegunSession, NewLoginSession, Role, SecretHash, Store, StoreError, accounts,
    convert::{text, time, to_millis},
    ids::next_id,
    passwords,
    roles::lock_unblocked,
    sessions,
    sql::{self, Tx},
    words::Unknown,
};

/// So many links of one purpose an account has at once; with one more, the oldest ends.
pub const MAX_LINKS: usize = 10;
/// So many invitations there are at once.
pub const MAX_INVITATIONS: usize = 1000;
/// So many characters are kept of whom an invitation is for.
const MAX_NOTE: usize = 200;

/// The id of a link: says nothing of its token, and is never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LinkId(i64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LinkId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// What a link is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkPurpose {
    /// To log in to an account.
    LogIn(AccountName),
    /// To give an account a new password, and log in.
    Reset(AccountName),
    /// To make an account.
    Invitation(Invitation),
}

/// What an invitation is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The new account's name; where there is none, its owner chooses one.
    pub name: Option<AccountName>,
    /// The new account's role.
    pub role: Role,
    /// Whom it was made for, in the words of who made it. Cut to 200 characters.
    pub note: String,
}

/// What is told of a link when it is made.
#[derive(Clone, Debug)]
pub struct NewLink {
    /// The hash of its token: a new random one.
    pub token: SecretHash,
    /// What it is good for.
    pub purpose: LinkPurpose,
    /// Who made it; `None` for somebody on the host itself.
    pub made_by: Option<AccountName>,
    /// When it ends, unless it was used.
    pub expires_at: OffsetDateTime,
}

/// A link that was not used yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRow {
    /// Its id.
    pub id: LinkId,
    /// What it is good for.
    pub purpose: LinkPurpose,
    /// Who made it; `None` for somebody on the host itself.
    pub made_by: Option<AccountName>,
    /// When it was made.
    pub made_at: OffsetDateTime,
    /// When it ends.
    pub expires_at: OffsetDateTime,
}

#[derive(sqlx::FromRow)]
struct Columns {
    id: i64,
    purpose: String,
    account: Option<String>,
    preset_name: Option<String>,
    role: Option<String>,
    note: Option<String>,
    made_by: Option<String>,
    made_at: i64,
    expires_at: i64,
}

impl TryFrom<Columns> for LinkRow {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let name = |name: Option<String>| name.map(|name| text("link's account", &name)).transpose();
        let purpose = match (row.purpose.as_str(), name(row.account)?, row.role, row.note) {
            ("log_in", Some(account), ..) => LinkPurpose::LogIn(account),
            ("reset", Some(account), ..) => LinkPurpose::Reset(account),
            ("invitation", None, Some(role), Some(note)) => LinkPurpose::Invitation(Invitation {
                name: name(row.preset_name)?,
                role: text("invitation's role", &role)?,
                note,
            }),
            _ => return Err(crate::convert::unreadable("link's purpose", Unknown)),
        };
        Ok(Self {
            id: LinkId(row.id),
            purpose,
            made_by: name(row.made_by)?,
            made_at: time("made_at", row.made_at)?,
            expires_at: time("expires_at", row.expires_at)?,
        })
    }
}

impl Store {
    /// Makes a link. Those that are over are cleared away, and with them the oldest that would be too many.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`], also where the account or who makes it is blocked;
    /// [`StoreError::TooManyInvitations`].
    pub async fn add_link(&self, new: &NewLink, at: OffsetDateTime) -> Result<LinkRow, StoreError> {
        let mut tx = self.write().await?;
        sql::query("DELETE FROM links WHERE expires_at <= $1").bind(to_millis(at)).execute(&mut tx).await?;
        // Always in the same order, so that two who wait for each other's row do not wait for ever.
        let mut locked: Vec<_> =
            [account_of(&new.purpose), new.made_by.as_ref()].into_iter().flatten().collect();
        locked.sort();
        locked.dedup();
        for account in locked {
            lock_unblocked(&mut tx, account).await?;
        }
        let id = next_id(&mut tx, "links").await?;
        make_room(&mut tx, &new.purpose).await?;
        let row = insert(&mut tx, id, new, at).await?;
        tx.commit().await?;
        row.try_into()
    }

    /// The link with this token that was not used yet and is not over.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn link(&self, token: SecretHash, at: OffsetDateTime) -> Result<Option<LinkRow>, StoreError> {
        let row: Option<Columns> =
            sql::query_as("SELECT * FROM links WHERE token_hash = $1 AND expires_at > $2")
                .bind(token.to_string())
                .bind(to_millis(at))
                .fetch_optional(self.reader())
                .await?;
        row.map(TryInto::try_into).transpose()
    }

    /// The invitations that were not used yet and are not over, the newest first.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn invitations(&self, at: OffsetDateTime) -> Result<Vec<LinkRow>, StoreError> {
        let rows: Vec<Columns> = sql::query_as(
            "SELECT * FROM links WHERE purpose = 'invitation' AND expires_at > $1 ORDER BY id DESC",
        )
        .bind(to_millis(at))
        .fetch_all(self.reader())
        .await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Takes an invitation back and gives what it was; `None` where it was used, is over or never was.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn remove_invitation(&self, id: LinkId) -> Result<Option<LinkRow>, StoreError> {
        let mut tx = self.write().await?;
        let row: Option<Columns> =
            sql::query_as("DELETE FROM links WHERE id = $1 AND purpose = 'invitation' RETURNING *")
                .bind(id.0)
                .fetch_optional(&mut tx)
                .await?;
        tx.commit().await?;
        row.map(TryInto::try_into).transpose()
    }

    /// Uses a link to log in up; `None` where there is no such link any more.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn log_in_by_link(
        &self,
        token: SecretHash,
        session: &NewLoginSession,
        at: OffsetDateTime,
    ) -> Result<Option<BegunSession>, StoreError> {
        let mut tx = self.write().await?;
        let Some(link) = take(&mut tx, token, at).await? else { return Ok(None) };
        let LinkPurpose::LogIn(account) = link.purpose else { return Ok(None) };
        let begun = match sessions::begin(&mut tx, &account, session, at).await {
            Err(StoreError::NoSuchAccount { .. }) => return Ok(None),
            begun => begun?,
        };
        tx.commit().await?;
        Ok(Some(begun))
    }

    /// Uses a link to set a new password up: all sessions of the account end, all its other links too, and a session
    /// begins. `None` where there is no such link any more.
    ///
    /// # Errors
    /// Only those of the database itself; a hash that is not one of argon2id is one.
    pub async fn reset_password(
        &self,
        token: SecretHash,
        password: &Secret<String>,
        session: &NewLoginSession,
        at: OffsetDateTime,
    ) -> Result<Option<BegunSession>, StoreError> {
        let mut tx = self.write().await?;
        let Some(link) = take(&mut tx, token, at).await? else { return Ok(None) };
        let LinkPurpose::Reset(account) = link.purpose else { return Ok(None) };
        match lock_unblocked(&mut tx, &account).await {
            Err(StoreError::NoSuchAccount { .. }) => return Ok(None),
            role => role?,
        };
        passwords::set(&mut tx, &account, password, at).await?;
        let ended = sessions::end_all(&mut tx, &account, None).await?;
        remove_all(&mut tx, &account).await?;
        let mut begun = sessions::begin(&mut tx, &account, session, at).await?;
        begun.ended.extend(ended);
        tx.commit().await?;
        Ok(Some(begun))
    }

    /// Uses an invitation up: makes the account under `name`, and a session begins. `None` where there is no such
    /// invitation any more, or it is for another name.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`], and the invitation can be used again.
    pub async fn accept_invitation(
        &self,
        token: SecretHash,
        name: &AccountName,
        password: Option<&Secret<String>>,
        session: &NewLoginSession,
        at: OffsetDateTime,
    ) -> Result<Option<BegunSession>, StoreError> {
        let mut tx = self.write().await?;
        let Some(link) = take(&mut tx, token, at).await? else { return Ok(None) };
        let LinkPurpose::Invitation(invitation) = link.purpose else { return Ok(None) };
        if invitation.name.is_some_and(|preset| preset != *name) {
            return Ok(None);
        }
        accounts::insert(&mut tx, name, invitation.role, at).await?;
        if let Some(password) = password {
            passwords::set(&mut tx, name, password, at).await?;
        }
        let begun = sessions::begin(&mut tx, name, session, at).await?;
        tx.commit().await?;
        Ok(Some(begun))
    }
}

fn account_of(purpose: &LinkPurpose) -> Option<&AccountName> {
    match purpose {
        LinkPurpose::LogIn(account) | LinkPurpose::Reset(account) => Some(account),
        LinkPurpose::Invitation(_) => None,
    }
}

fn word(purpose: &LinkPurpose) -> &'static str {
    match purpose {
        LinkPurpose::LogIn(_) => "log_in",
        LinkPurpose::Reset(_) => "reset",
        LinkPurpose::Invitation(_) => "invitation",
    }
}

/// Of an account's links the oldest give way; invitations are somebody's only way in, and are not taken back by another.
async fn make_room(tx: &mut Tx, purpose: &LinkPurpose) -> Result<(), StoreError> {
    let Some(account) = account_of(purpose) else {
        let open: i64 = sql::query_scalar("SELECT COUNT(*) FROM links WHERE purpose = 'invitation'")
            .fetch_one(&mut *tx)
            .await?;
        return match usize::try_from(open) {
            Ok(open) if open < MAX_INVITATIONS => Ok(()),
            _ => Err(StoreError::TooManyInvitations),
        };
    };
    sql::query(
        "DELETE FROM links
         WHERE account = $1 AND purpose = $2
           AND id NOT IN (SELECT id FROM links WHERE account = $1 AND purpose = $2 ORDER BY id DESC LIMIT $3)",
    )
    .bind(account.as_str())
    .bind(word(purpose))
    .bind(i64::try_from(MAX_LINKS - 1).unwrap_or(i64::MAX))
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn insert(tx: &mut Tx, id: i64, new: &NewLink, at: OffsetDateTime) -> Result<Columns, StoreError> {
    let invitation = match &new.purpose {
        LinkPurpose::Invitation(invitation) => Some(invitation),
        LinkPurpose::LogIn(_) | LinkPurpose::Reset(_) => None,
    };
    let note = invitation.map(|invitation| invitation.note.chars().take(MAX_NOTE).collect::<String>());
    Ok(sql::query_as(
        "INSERT INTO links (id, token_hash, purpose, account, preset_name, role, note, made_by, made_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         RETURNING *",
    )
    .bind(id)
    .bind(new.token.to_string())
    .bind(word(&new.purpose))
    .bind(account_of(&new.purpose).map(AccountName::as_str))
    .bind(invitation.and_then(|invitation| invitation.name.as_ref()).map(AccountName::as_str))
    .bind(invitation.map(|invitation| invitation.role.as_str()))
    .bind(note)
    .bind(new.made_by.as_ref().map(AccountName::as_str))
    .bind(to_millis(at))
    .bind(to_millis(new.expires_at))
    .fetch_one(&mut *tx)
    .await?)
}

/// Removes a link and gives it. Of two who take it at once one gets it: the other finds no row.
async fn take(tx: &mut Tx, token: SecretHash, at: OffsetDateTime) -> Result<Option<LinkRow>, StoreError> {
    let row: Option<Columns> =
        sql::query_as("DELETE FROM links WHERE token_hash = $1 AND expires_at > $2 RETURNING *")
            .bind(token.to_string())
            .bind(to_millis(at))
            .fetch_optional(&mut *tx)
            .await?;
    row.map(TryInto::try_into).transpose()
}

/// Ends the links of an account, and those that it made.
pub(crate) async fn remove_all(tx: &mut Tx, account: &AccountName) -> Result<(), StoreError> {
    sql::query("DELETE FROM links WHERE account = $1 OR made_by = $1")
        .bind(account.as_str())
        .execute(&mut *tx)
        .await?;
    Ok(())
}
