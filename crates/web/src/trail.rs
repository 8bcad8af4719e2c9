//! The audit trail as people read it.

use std::time::Duration;

use berth_control::{AUDIT_PAGE, AuditInfo, AuditKind, TrafficInfo, Way};

use crate::words::{Moment, size, span};

/// A page of it.
pub(crate) struct Trail {
    pub(crate) events: Vec<EventView>,
    /// What follows, by the line after which it begins.
    pub(crate) older: Option<String>,
    /// This is not the beginning.
    pub(crate) later: bool,
}

/// One line.
pub(crate) struct EventView {
    pub(crate) at: Moment,
    pub(crate) what: String,
    pub(crate) about: String,
    pub(crate) who: String,
    pub(crate) from: String,
}

impl Trail {
    /// From what control gave for lines before `before`.
    pub(crate) fn new(lines: Vec<AuditInfo>, later: bool) -> Self {
        let full = lines.len() == AUDIT_PAGE;
        let older = lines.last().filter(|_| full).map(|last| last.id.to_string());
        Self { events: lines.into_iter().map(EventView::from).collect(), older, later }
    }
}

impl From<AuditInfo> for EventView {
    fn from(info: AuditInfo) -> Self {
        let way = match info.way {
            Way::Host => "on the server",
            Way::Web => "on the website",
            Way::Api => "by the API",
            Way::Ssh => "by ssh",
        };
        // Without a name it is the operator at the server, or somebody who was not let in.
        let nobody = if info.way == Way::Host { "the operator" } else { "nobody known" };
        Self {
            at: Moment::new(info.at),
            what: what(&info),
            about: info.account.as_ref().map(ToString::to_string).unwrap_or_default(),
            who: info.actor.as_ref().map_or_else(|| nobody.to_owned(), ToString::to_string),
            from: info.address.map_or_else(|| way.to_owned(), |address| format!("{address}, {way}")),
        }
    }
}

/// A sort of line in control's words for it.
pub(crate) fn kind_in_words(kind: AuditKind) -> String {
    kind.as_str().replace('_', " ").replace("vm ", "VM ")
}

/// What happened, and to what.
fn what(info: &AuditInfo) -> String {
    let mut text = kind_in_words(info.kind);
    if !info.subject.is_empty() {
        text += &format!(": {}", info.subject);
    }
    if !info.detail.is_empty() {
        text += &format!(" ({})", info.detail);
    }
    if let Some(TrafficInfo { sent, received, seconds }) = info.traffic {
        let time = span(Duration::from_secs(seconds));
        text += &format!(": {} in, {} out, open for {time}", size(sent), size(received));
    }
    if info.times > 1 {
        text += &format!(" ({} times, the last one {})", info.times, Moment::new(info.last_at).words);
    }
    text
}
