//! What happened, and who did it: written down here, read by the account that it is about and by operators.

use std::net::IpAddr;

use berth_model::AccountName;
use berth_store::{AuditEntry, AuditId, AuditKind, AuditQuery, AuditRow, NewAudit, Traffic, Way};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tracing::error;

use crate::{Control, actor::Actor, error::Error, web_session::WebLogin};

/// A line of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditInfo {
    /// Its id: what the next page begins after.
    pub id: AuditId,
    /// When it happened, or happened first.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What happened.
    pub kind: AuditKind,
    /// The account that it is about, if that is known.
    pub account: Option<AccountName>,
    /// The account that did it; `None` for the operator on the server, and where that is not known.
    pub actor: Option<AccountName>,
    /// By which way they came.
    pub way: Way,
    /// From where. Not told to a member of what others did.
    pub address: Option<IpAddr>,
    /// A VM, a key. May be a text that somebody chose.
    pub subject: String,
    /// What else there is to say.
    pub detail: String,
    /// How often it happened.
    pub times: u64,
    /// When it happened last.
    #[serde(with = "time::serde::rfc3339")]
    pub last_at: OffsetDateTime,
    /// What went through it, for connections.
    #[serde(default)]
    pub traffic: Option<TrafficInfo>,
}

/// What went through a connection, or through all that count in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficInfo {
    /// Bytes that went into the VM.
    pub sent: u64,
    /// Bytes that came out of it.
    pub received: u64,
    /// Seconds that it was open.
    pub seconds: u64,
}

impl From<Traffic> for TrafficInfo {
    fn from(traffic: Traffic) -> Self {
        Self { sent: traffic.sent, received: traffic.received, seconds: traffic.lasted.as_secs() }
    }
}

impl From<AuditRow> for AuditInfo {
    fn from(row: AuditRow) -> Self {
        let NewAudit { kind, account, actor, way, address, subject, detail } = row.what;
        Self {
            id: row.id,
            at: row.at,
            kind,
            account,
            actor,
            way,
            address,
            subject,
            detail,
            times: row.times,
            last_at: row.last_at,
            traffic: row.traffic.map(TrafficInfo::from),
        }
    }
}

impl Control {
    /// What happened to the account of a login, the latest first: a page, after the line `before`.
    ///
    /// # Errors
    /// The store fails.
    pub async fn activity(&self, login: &WebLogin, before: Option<AuditId>) -> Result<Vec<AuditInfo>, Error> {
        self.activity_of(login.account(), before).await
    }

    pub(crate) async fn activity_of(
        &self,
        own: &AccountName,
        before: Option<AuditId>,
    ) -> Result<Vec<AuditInfo>, Error> {
        self.tools.ledger.written().await;
        let query = AuditQuery { about: Some(own.clone()), before, ..AuditQuery::default() };
        let mut lines: Vec<AuditInfo> =
            self.store.audit(&query).await?.into_iter().map(AuditInfo::from).collect();
        for line in &mut lines {
            // Where the operator sits is not the member's business. Who failed to log in is nobody yet, and a guest was told
            // that the owner sees it.
            let told = matches!(line.kind, AuditKind::LogInRefused | AuditKind::Connection);
            let by_another = line.actor.as_ref() != Some(own) && !told;
            if by_another {
                line.address = None;
            }
        }
        Ok(lines)
    }

    /// Writes down what an actor did. A trail that cannot be written to is told in the log, and stops nobody.
    pub(crate) async fn note(
        &self,
        actor: &Actor,
        kind: AuditKind,
        account: &AccountName,
        subject: String,
        detail: String,
    ) {
        self.note_event(actor.event(kind, account, subject, detail)).await;
    }

    /// The line is in the queue before anybody is waited for, so it is written also where whoever asked has left, and after
    /// what was noted before it.
    pub(crate) async fn note_event(&self, event: NewAudit) {
        let now = self.settings.clock.now();
        let line = AuditEntry { began: Some(now), ..event.into() };
        if let Err(line) = self.tools.ledger.tell(line).await
            && let Err(error) = self.store.add_audits(&[line], now).await
        {
            error!(%error, "what happened was not written down");
        }
    }
}
