//! One's own account.

use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Refusal,
    audit::events,
    call::{Call, Nothing},
    reply::Shown,
    shapes::{Event, Own, Page},
};

/// Which part of the trail.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// The `next` of the part before.
    after: Option<String>,
}

pub(crate) async fn show(call: Call) -> Result<Shown<Own>, Refusal> {
    let login = &call.caller.login;
    let (_, limits) = call.caller.acting.limits(login.account()).await?;
    Ok(Shown(Own {
        name: login.account().to_string(),
        role: login.role().into(),
        scopes: login.scopes().iter().map(|scope| scope.as_str()).collect(),
        limits: limits.into(),
    }))
}

pub(crate) async fn activity(call: Call<Nothing, Part>) -> Result<Shown<Page<Event>>, Refusal> {
    let before = call.query.after.as_deref().map(str::parse).transpose();
    let before =
        before.map_err(|_| Refusal::invalid("after: give what the part before said in \"next\"."))?;
    let lines = call.caller.acting.activity(call.caller.account(), before).await?;
    Ok(Shown(events(lines)))
}
