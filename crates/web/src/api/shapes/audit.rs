//! The audit trail.

use berth_control::{AuditInfo, AuditQuery};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{IntoParams, ToSchema};

use crate::api::{Refusal, call};

/// Something that happened.
#[derive(Serialize, ToSchema)]
pub(crate) struct Event {
    /// Its number: `after` it begins the next part.
    #[schema(example = "812")]
    pub(crate) id: String,
    /// When it happened, or happened first.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// What happened.
    #[schema(example = "vm_started")]
    kind: &'static str,
    /// The account that it is about.
    account: Option<String>,
    /// The account that did it; null for somebody on the server itself, and where that is not known.
    actor: Option<String>,
    /// By which way they came: `host`, `web`, `api` or `ssh`.
    #[schema(example = "api")]
    way: &'static str,
    /// From where.
    address: Option<String>,
    /// A VM, a key. May be a text that somebody chose.
    subject: String,
    /// What else there is to say.
    detail: String,
    /// How often it happened.
    times: u64,
    /// When it happened last.
    #[serde(with = "time::serde::rfc3339")]
    last_at: OffsetDateTime,
    /// Bytes that went into the VM, for connections.
    sent: Option<u64>,
    /// Bytes that came out of it.
    received: Option<u64>,
    /// Seconds that it was open.
    seconds: Option<u64>,
}

impl From<AuditInfo> for Event {
    fn from(info: AuditInfo) -> Self {
        Self {
            id: info.id.to_string(),
            at: info.at,
            kind: info.kind.as_str(),
            account: info.account.map(|name| name.to_string()),
            actor: info.actor.map(|name| name.to_string()),
            way: info.way.as_str(),
            address: info.address.map(|address| address.to_string()),
            subject: info.subject,
            detail: info.detail,
            times: info.times,
            last_at: info.last_at,
            sent: info.traffic.map(|traffic| traffic.sent),
            received: info.traffic.map(|traffic| traffic.received),
            seconds: info.traffic.map(|traffic| traffic.seconds),
        }
    }
}

/// Which events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditFilter {
    /// About this account.
    about: Option<String>,
    /// Done by this account.
    by: Option<String>,
    /// Of this kind, such as `vm_started`.
    kind: Option<String>,
    /// With this text in the account, the actor, the address, the subject or the detail.
    text: Option<String>,
    /// Not before this moment.
    since: Option<String>,
    /// Before this moment.
    until: Option<String>,
    /// The `next` of the part before.
    after: Option<String>,
}

impl AuditFilter {
    /// # Errors
    /// A value makes no sense.
    pub(crate) fn query(self) -> Result<AuditQuery, Refusal> {
        let moment = |name: &str, text: Option<String>| {
            text.map(|text| OffsetDateTime::parse(&text, &Rfc3339))
                .transpose()
                .map_err(|_| Refusal::invalid(format!("{name}: give a moment such as 2026-11-22T18:30:00Z.")))
        };
        let account = |name: Option<String>| name.as_deref().map(call::account).transpose();
        let kind = self.kind.map(|kind| kind.parse()).transpose();
        let before = self.after.map(|id| id.parse()).transpose();
        Ok(AuditQuery {
            about: account(self.about)?,
            by: account(self.by)?,
            kind: kind.map_err(|_| Refusal::invalid("kind: there are no events of this kind."))?,
            text: self.text.map(|text| crate::words::plain(&text, 100)).filter(|text| !text.is_empty()),
            since: moment("since", self.since)?,
            until: moment("until", self.until)?,
            before: before
                .map_err(|_| Refusal::invalid("after: give what the part before said in \"next\"."))?,
        })
    }
}
