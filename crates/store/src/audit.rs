//! What happened, who did it, from where, and what it was about. Lines are added and, after a long time, cleared away;
//! nothing else changes them, but that one of a log-in or a connection counts those after it that are like it.

use std::{fmt, net::IpAddr, str::FromStr};

use berth_model::AccountName;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::{
    KeyId, Store, StoreError,
    convert::{duration, number, saturate, text, time, to_millis},
    ids::next_id,
    sql::{self, Builder, Tx},
    words::words,
};

/// So many lines are read at once.
pub const AUDIT_PAGE: usize = 50;
/// So many characters of each text are kept.
const MAX_TEXT: usize = 300;
/// A log-in like the last one counts in its line for so long.
const SAME_LINE: Duration = Duration::hours(1);
/// Lines are kept for so long.
const KEPT: Duration = Duration::days(400);
/// Those that strangers can make at will.
const KEPT_REFUSED: Duration = Duration::days(60);
/// So many lines after the last time, old ones are cleared away again.
const CLEAR_EVERY: i64 = 256;

/// The id of a line: in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AuditId(i64);

impl fmt::Display for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AuditId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

words! {
    /// By which way somebody came.
    Way {
        /// On the server itself: `berth admin`.
        Host = "host",
        /// The website.
        Web = "web",
        /// The HTTP API.
        Api = "api",
        /// The gateway.
        Ssh = "ssh",
    }
}

words! {
    /// What happened.
    AuditKind {
        /// Somebody logged in; the detail says with what.
        LogIn = "log_in",
        /// Somebody tried to.
        LogInRefused = "log_in_refused",
        /// A session was ended by its account.
        SessionEnded = "session_ended",
        /// A password was set.
        PasswordSet = "password_set",
        /// A password was set by a link for that.
        PasswordReset = "password_reset",
        /// A link to log in, or to set a password, was made.
        LinkMade = "link_made",
        /// Somebody was invited.
        Invited = "invited",
        /// An invitation was taken back.
        InvitationRemoved = "invitation_removed",
        /// An account was made.
        AccountAdded = "account_added",
        /// An account was removed.
        AccountRemoved = "account_removed",
        /// An account was blocked.
        AccountBlocked = "account_blocked",
        /// An account was unblocked.
        AccountUnblocked = "account_unblocked",
        /// An account got another role.
        RoleSet = "role_set",
        /// What an account may have was set.
        LimitsSet = "limits_set",
        /// A key was added.
        KeyAdded = "key_added",
        /// A key got another name.
        KeyRenamed = "key_renamed",
        /// A key was removed.
        KeyRemoved = "key_removed",
        /// A token for the HTTP API was made.
        TokenAdded = "token_added",
        /// A token for the HTTP API was removed.
        TokenRemoved = "token_removed",
        /// A passkey was added.
        PasskeyAdded = "passkey_added",
        /// A passkey was removed.
        PasskeyRemoved = "passkey_removed",
        /// An account elsewhere lets in from now on.
        OidcAdded = "oidc_added",
        /// An account elsewhere lets in no longer.
        OidcRemoved = "oidc_removed",
        /// A VM was made.
        VmAdded = "vm_added",
        /// A VM was removed.
        VmRemoved = "vm_removed",
        /// A VM was started, or woken, by a person's hand.
        VmStarted = "vm_started",
        /// A VM was stopped.
        VmStopped = "vm_stopped",
        /// A VM was put to sleep by a person's hand.
        VmSlept = "vm_slept",
        /// A VM was made always-on, or no more.
        VmAlwaysOn = "vm_always_on",
        /// A VM got a new disk; the detail says what became of its home.
        VmRebuilt = "vm_rebuilt",
        /// The disk of a VM was made larger.
        VmResized = "vm_resized",
        /// A VM was told to stay awake for a while, or no more.
        VmSnoozed = "vm_snoozed",
        /// A VM was called otherwise by its owner.
        VmTitled = "vm_titled",
        /// It was decided who may see what a port of a VM serves.
        VmPort = "vm_port",
        /// A VM was shared with somebody, or they were asked; or they are let do something else in it.
        VmShared = "vm_shared",
        /// A VM was taken back from somebody, or its time was over.
        VmUnshared = "vm_unshared",
        /// Somebody has accepted that a VM is shared with them.
        ShareAccepted = "share_accepted",
        /// Somebody has left a VM that was shared with them, or did not want it.
        ShareLeft = "share_left",
        /// A terminal in a VM was opened, or found again, on the website.
        TerminalOpened = "terminal_opened",
        /// A terminal on the website was shared, or those who watch may do something else; the detail says which and what.
        TerminalShared = "terminal_shared",
        /// It is not shared any more; the detail says why.
        TerminalUnshared = "terminal_unshared",
        /// Somebody began to watch a terminal.
        TerminalWatched = "terminal_watched",
        /// Somebody watches it no longer.
        TerminalLeft = "terminal_left",
        /// A session was begun that is recorded; the detail names the recording.
        SessionRecorded = "session_recorded",
        /// Something of a recording is missing; the detail says why.
        RecordingIncomplete = "recording_incomplete",
        /// An operator looked at a recording.
        RecordingOpened = "recording_opened",
        /// An operator removed a recording.
        RecordingRemoved = "recording_removed",
        /// A key that signs certificates of hosts was added, put to use or removed: the detail says which of them.
        HostCa = "host_ca",
        /// A CA whose certificates let members in was added or removed, or some of its certificates were taken back: the
        /// detail says which of them.
        TeamCa = "team_ca",
        /// A copy of the database was made, to be kept elsewhere.
        BackupMade = "backup_made",
        /// The disk of a VM was copied, to be kept elsewhere.
        DiskCopied = "disk_copied",
        /// The disk of a VM was replaced by one that was kept elsewhere.
        DiskReplaced = "disk_replaced",
        /// A connection into a VM has ended; the detail says to which port, and by which key.
        Connection = "connection",
        /// An ssh session into a VM was opened by the gateway, for a client that asked it for the VM by name.
        SshOpened = "ssh_opened",
    }
}

impl AuditKind {
    /// Those that come in any number, and count in the line of the last one that is like them.
    fn is_counted(self) -> bool {
        matches!(
            self,
            Self::LogIn | Self::LogInRefused | Self::TerminalOpened | Self::SshOpened | Self::Connection
        )
    }
}

/// What is told of what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAudit {
    /// What.
    pub kind: AuditKind,
    /// Whom it is about, if that is known.
    pub account: Option<AccountName>,
    /// Whose account did it; `None` for somebody on the server itself, and where that is not known.
    pub actor: Option<AccountName>,
    /// By which way they came.
    pub way: Way,
    /// From where.
    pub address: Option<IpAddr>,
    /// A VM, a key: its name or fingerprint. Cut to 300 characters, as the detail is.
    pub subject: String,
    /// What else there is to say.
    pub detail: String,
}

/// What went through a connection, or through all that count in one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes into the VM.
    pub sent: u64,
    /// Bytes out of it.
    pub received: u64,
    /// How long it was open.
    pub lasted: std::time::Duration,
}

/// What is told of what has happened for some time, or so often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// What.
    pub what: NewAudit,
    /// How often, at least once.
    pub times: u64,
    /// When it began, where that is another time than that of its end.
    pub began: Option<OffsetDateTime>,
    /// What went through it, for connections.
    pub traffic: Option<Traffic>,
    /// The key that was used for it, for log-ins: when and from where is written down with the key, too, where that is
    /// still there.
    pub key: Option<KeyId>,
}

impl From<NewAudit> for AuditEntry {
    /// It has happened once, now.
    fn from(what: NewAudit) -> Self {
        Self { what, times: 1, began: None, traffic: None, key: None }
    }
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Its id.
    pub id: AuditId,
    /// When it happened, or happened first.
    pub at: OffsetDateTime,
    /// What happened.
    pub what: NewAudit,
    /// How often.
    pub times: u64,
    /// When it happened last.
    pub last_at: OffsetDateTime,
    /// What went through it, for connections.
    pub traffic: Option<Traffic>,
}

/// Which lines somebody wants to see: those for which everything holds that is given.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// About this account.
    pub about: Option<AccountName>,
    /// Done by this account.
    pub by: Option<AccountName>,
    /// Of this sort.
    pub kind: Option<AuditKind>,
    /// With this text in the account, the actor, the address, the subject or the detail, in upper or lower case.
    pub text: Option<String>,
    /// Not before this.
    pub since: Option<OffsetDateTime>,
    /// Before this.
    pub until: Option<OffsetDateTime>,
    /// Before this line: the last one of the page before.
    pub before: Option<AuditId>,
}

#[derive(sqlx::FromRow)]
struct Columns {
    id: i64,
    at: i64,
    kind: String,
    account: Option<String>,
    actor: Option<String>,
    way: String,
    address: Option<String>,
    subject: String,
    detail: String,
    times: i64,
    last_at: i64,
    sent: Option<i64>,
    received: Option<i64>,
    lasted_ms: Option<i64>,
}

impl TryFrom<Columns> for AuditRow {
    type Error = StoreError;

    fn try_from(row: Columns) -> Result<Self, StoreError> {
        let name =
            |name: Option<String>| name.map(|name| text("account of the audit trail", &name)).transpose();
        Ok(Self {
            id: AuditId(row.id),
            at: time("time of the audit trail", row.at)?,
            what: NewAudit {
                kind: text("kind of the audit trail", &row.kind)?,
                account: name(row.account)?,
                actor: name(row.actor)?,
                way: text("way of the audit trail", &row.way)?,
                address: row.address.map(|from| text("address of the audit trail", &from)).transpose()?,
                subject: row.subject,
                detail: row.detail,
            },
            times: number("times of the audit trail", row.times)?,
            last_at: time("time of the audit trail", row.last_at)?,
            traffic: traffic(row.sent, row.received, row.lasted_ms)?,
        })
    }
}

fn traffic(
    sent: Option<i64>,
    received: Option<i64>,
    lasted: Option<i64>,
) -> Result<Option<Traffic>, StoreError> {
    let (Some(sent), Some(received), Some(lasted)) = (sent, received, lasted) else { return Ok(None) };
    Ok(Some(Traffic {
        sent: number("bytes of the audit trail", sent)?,
        received: number("bytes of the audit trail", received)?,
        lasted: duration("time of the audit trail", lasted)?,
    }))
}

impl Store {
    /// Writes down all of this, or nothing.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn add_audits(&self, new: &[AuditEntry], at: OffsetDateTime) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for entry in new {
            append_entry(&mut tx, entry, at).await?;
        }
        Ok(tx.commit().await?)
    }

    /// At most [`AUDIT_PAGE`] lines, the latest first.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditRow>, StoreError> {
        let mut sql = Builder::new("SELECT * FROM audit WHERE id > 0");
        if let Some(account) = &query.about {
            sql.push(" AND account = ").push_bind(account.as_str());
        }
        if let Some(account) = &query.by {
            sql.push(" AND actor = ").push_bind(account.as_str());
        }
        if let Some(kind) = query.kind {
            sql.push(" AND kind = ").push_bind(kind.as_str());
        }
        if let Some(since) = query.since {
            sql.push(" AND last_at >= ").push_bind(to_millis(since));
        }
        if let Some(until) = query.until {
            sql.push(" AND at < ").push_bind(to_millis(until));
        }
        if let Some(AuditId(before)) = query.before {
            sql.push(" AND id < ").push_bind(before);
        }
        if let Some(text) = query.text.as_deref().filter(|text| !text.is_empty()) {
            sql.push(
                " AND lower(COALESCE(account, '') || ' ' || COALESCE(actor, '') || ' ' || COALESCE(address, '')
                            || ' ' || subject || ' ' || detail) LIKE ",
            );
            sql.push_bind(containing(text)).push(" ESCAPE '!'");
        }
        sql.push(" ORDER BY id DESC LIMIT ").push_bind(i64::try_from(AUDIT_PAGE).unwrap_or(i64::MAX));
        let rows: Vec<Columns> = sql.build().fetch_all(self.reader()).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }
}

/// The pattern of LIKE for texts with this one in them, in lower case. The databases differ in what they lower beyond
/// ASCII.
pub(crate) fn containing(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars().take(MAX_TEXT) {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c.to_ascii_lowercase());
    }
    pattern.push('%');
    pattern
}

/// Writes down what happened as part of a change.
pub(crate) async fn append(tx: &mut Tx, new: &NewAudit, at: OffsetDateTime) -> Result<(), StoreError> {
    append_entry(tx, &new.clone().into(), at).await
}

async fn append_entry(tx: &mut Tx, entry: &AuditEntry, at: OffsetDateTime) -> Result<(), StoreError> {
    let new = &entry.what;
    let (at, short) = (to_millis(at), |text: &str| text.chars().take(MAX_TEXT).collect::<String>());
    // A clock that was set back does not make an end come before its beginning.
    let began = entry.began.map_or(at, to_millis).min(at);
    let times = saturate(entry.times.max(1));
    let (sent, received) =
        (entry.traffic.map(|t| saturate(t.sent)), entry.traffic.map(|t| saturate(t.received)));
    let lasted = entry.traffic.map(|t| saturate(t.lasted.as_millis()));
    let (subject, detail) = (short(&new.subject), short(&new.detail));
    let address = new.address.map(|address| address.to_string());
    if let Some(KeyId(key)) = entry.key {
        sql::query("UPDATE keys SET last_used_at = $2, last_used_from = $3 WHERE id = $1")
            .bind(key)
            .bind(began)
            .bind(&address)
            .execute(&mut *tx)
            .await?;
    }
    if new.kind.is_counted() {
        let mut sql = Builder::new("UPDATE audit SET times = times + ");
        sql.push_bind(times).push(", last_at = ").push_bind(at);
        sql.push(", sent = sent + ").push_bind(sent).push(", received = received + ").push_bind(received);
        sql.push(", lasted_ms = lasted_ms + ").push_bind(lasted);
        sql.push(" WHERE id = (SELECT MAX(id) FROM audit WHERE kind = ").push_bind(new.kind.as_str());
        sql.push(" AND address").push_is(address.as_deref());
        sql.push(" AND account").push_is(new.account.as_ref().map(AccountName::as_str));
        sql.push(" AND actor").push_is(new.actor.as_ref().map(AccountName::as_str));
        sql.push(" AND subject = ").push_bind(&subject).push(" AND detail = ").push_bind(&detail);
        sql.push(" AND way = ").push_bind(new.way.as_str());
        sql.push(") AND at > ").push_bind(at.saturating_sub(millis(SAME_LINE)));
        sql.push(" AND last_at <= ").push_bind(at);
        let counted = sql.statement().execute(&mut *tx).await?;
        if counted.rows_affected() > 0 {
            return Ok(());
        }
    }
    let id = next_id(tx, "audit").await?;
    sql::query(
        "INSERT INTO audit (id, at, kind, account, actor, way, address, subject, detail, last_at, times, sent,
                            received, lasted_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(id)
    .bind(began)
    .bind(new.kind.as_str())
    .bind(new.account.as_ref().map(AccountName::as_str))
    .bind(new.actor.as_ref().map(AccountName::as_str))
    .bind(new.way.as_str())
    .bind(address)
    .bind(subject)
    .bind(detail)
    .bind(at)
    .bind(times)
    .bind(sent)
    .bind(received)
    .bind(lasted)
    .execute(&mut *tx)
    .await?;
    if id % CLEAR_EVERY == 0 {
        clear_away(tx, at).await?;
    }
    Ok(())
}

async fn clear_away(tx: &mut Tx, at: i64) -> Result<(), StoreError> {
    sql::query("DELETE FROM audit WHERE last_at < $1 OR (last_at < $2 AND kind = $3)")
        .bind(at.saturating_sub(millis(KEPT)))
        .bind(at.saturating_sub(millis(KEPT_REFUSED)))
        .bind(AuditKind::LogInRefused.as_str())
        .execute(&mut *tx)
        .await?;
    Ok(())
}

fn millis(time: Duration) -> i64 {
    crate::convert::saturate(time.whole_milliseconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_searched_for_is_taken_as_it_stands() {
        assert_eq!(containing("50%_of!X"), "%50!%!_of!!x%");
    }
}
