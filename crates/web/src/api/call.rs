//! What an operation is asked: who, and the values in the path, after the question mark and in the body.

use std::{any::TypeId, sync::Arc};

use axum::{
    RequestPartsExt,
    extract::{Path, Query, Request},
};
use berth_control::VmInfo;
use berth_model::{AccountName, VmName, VmNumber};
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::{IntoParams, ToSchema};

use super::{
    Refusal,
    gate::{Caller, Sent},
};
use crate::Website;

/// No values.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// What an operation is asked, with the values in the path, in the query, and in the body.
pub(crate) struct Call<P = Nothing, Q = Nothing, B = Nothing> {
    pub(crate) website: Arc<Website>,
    pub(crate) caller: Caller,
    pub(crate) path: P,
    pub(crate) query: Q,
    pub(crate) body: B,
}

/// Whether there are no values of this sort.
pub(crate) fn is_nothing<T: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<Nothing>()
}

impl<P, Q, B> Call<P, Q, B>
where
    P: DeserializeOwned + Send + 'static,
    Q: DeserializeOwned,
    B: DeserializeOwned + 'static,
{
    /// # Errors
    /// A value that is not known, is missing, or makes no sense.
    pub(crate) async fn read(website: Arc<Website>, request: Request) -> Result<Self, Refusal> {
        let (mut parts, _) = request.into_parts();
        let (Some(caller), Some(Sent(sent))) =
            (parts.extensions.remove::<Caller>(), parts.extensions.remove::<Sent>())
        else {
            // The route's row has seen to it.
            return Err(Refusal::broken());
        };
        let path = if is_nothing::<P>() {
            serde_json::from_str("{}").map_err(|_| Refusal::broken())?
        } else {
            parts.extract::<Path<P>>().await.map_err(|_| Refusal::missing())?.0
        };
        let query = Query::<Q>::try_from_uri(&parts.uri).map_err(|error| {
            let said =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Refusal::invalid(format!("After the question mark: {said}."))
        })?;
        Ok(Self { website, caller, path, query: query.0, body: body(&sent)? })
    }
}

/// An empty body is an object without anything in it.
fn body<B: DeserializeOwned>(sent: &[u8]) -> Result<B, Refusal> {
    let sent = if sent.is_empty() { b"{}" } else { sent };
    // A list would be taken for an object's values in their order.
    if sent.trim_ascii_start().first() != Some(&b'{') {
        return Err(Refusal::invalid("The body is not a JSON object: {…}."));
    }
    let mut reader = serde_json::Deserializer::from_slice(sent);
    let body = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let place = error.path().to_string();
        let place = if place == "." { String::new() } else { format!(", at {place}") };
        Refusal::invalid(format!("In the body{place}: {}.", error.inner()))
    })?;
    reader.end().map_err(|_| Refusal::invalid("The body goes on after its JSON has ended."))?;
    Ok(body)
}

impl<P, Q, B> Call<P, Q, B> {
    /// The VM that is meant by its label, for one's own and the team's, or by its name or any of its host names. Whether there is one,
    /// and whose it is, is for control to say.
    pub(crate) fn vm(&self, asked: &str) -> Result<VmName, Refusal> {
        let domains = &self.website.site.domains;
        let team = || domains.team().clone();
        let owner = || self.caller.account().clone();
        let own = VmNumber::from_label(asked).map(|number| VmName { number, owner: owner(), team: team() });
        let teams = || VmNumber::from_team_label(asked).map(|number| VmName::of_team(number, team()));
        own.or_else(teams)
            .or_else(|| asked.parse().ok())
            .or_else(|| domains.resolve(asked))
            .ok_or_else(Refusal::missing)
    }

    /// What is to be told of a VM.
    pub(crate) async fn vm_info(&self, name: &VmName) -> Result<VmInfo, Refusal> {
        let acting = &self.caller.acting;
        let vms =
            if name.is_of_team() { acting.team_vms().await? } else { acting.vms(Some(&name.owner)).await? };
        vms.into_iter().find(|vm| vm.name == *name).ok_or_else(Refusal::missing)
    }
}

/// The account of a name; one that nobody can have is as missing as one that nobody has.
pub(crate) fn account(name: &str) -> Result<AccountName, Refusal> {
    name.parse().map_err(|_| Refusal::missing())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[serde(default)]
        wait: u8,
    }

    #[test]
    fn a_body_is_one_object_without_anything_else() {
        assert_eq!(body::<Body>(b"").ok(), Some(Body { wait: 0 }));
        assert_eq!(body::<Body>(b" {\"wait\": 3} ").ok(), Some(Body { wait: 3 }));
        let deep = "[".repeat(100_000);
        for wrong in ["{\"wat\": 3}", "{\"wait\": 3000}", "{\"wait\": 3}{}", "3", "{", "nul", &deep] {
            let refused = body::<Body>(wrong.as_bytes()).unwrap_err().into_response();
            assert_eq!(refused.status(), 422, "{wrong}");
        }
    }
}
