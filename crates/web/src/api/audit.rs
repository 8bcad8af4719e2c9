//! The audit trail, for operators.

use berth_control::{AUDIT_PAGE, AuditInfo};

use super::{
    Refusal,
    call::{Call, Nothing},
    reply::Shown,
    shapes::{AuditFilter, Event, Page},
};

pub(crate) async fn list(call: Call<Nothing, AuditFilter>) -> Result<Shown<Page<Event>>, Refusal> {
    let lines = call.caller.acting.audit(&call.query.query()?).await?;
    Ok(Shown(events(lines)))
}

/// What control gives at once is a part.
pub(crate) fn events(lines: Vec<AuditInfo>) -> Page<Event> {
    let full = lines.len() == AUDIT_PAGE;
    let next = lines.last().filter(|_| full).map(|last| last.id.to_string());
    Page { items: lines.into_iter().map(Event::from).collect(), next }
}
