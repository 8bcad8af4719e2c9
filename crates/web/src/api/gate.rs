//! What stands before every operation: whose token it is, and whether it is for this. Cookies mean nothing here, and
//! none is set.

use std::{net::IpAddr, panic::AssertUnwindSafe, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{
        HeaderMap,
        header::{AUTHORIZATION, CONTENT_TYPE},
        request::Parts,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use berth_control::{Acting, ApiLogin, Role, Scope};
use berth_model::{AccountName, Secret};
use bytes::Bytes;
use futures::FutureExt;

use super::Refusal;
use crate::{Website, fields, guard::Gate, listen::Peer, problem::Problem, routes::Forms, slots::Slot};

/// No token of ours is longer.
const MAX_TOKEN: usize = 128;
/// So many requests of an account may be under way at once. Most take a moment; some wait for a VM.
pub(crate) const MAX_UNDER_WAY: usize = 16;
/// When to come back.
const SOON: Duration = Duration::from_secs(1);

/// Who asks, by their token. The gate puts it into the request.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) login: ApiLogin,
    /// What they do goes this way: it asks whether they may, and writes it down.
    pub(crate) acting: Acting,
}

impl Caller {
    pub(crate) fn account(&self) -> &AccountName {
        self.login.account()
    }
}

/// What the request came with, within its bound.
#[derive(Clone)]
pub(crate) struct Sent(pub(crate) Bytes);

/// Lets a request through whose token is for `scope`.
pub(crate) async fn pass(gate: &Gate, scope: Scope, request: Request, next: Next) -> Response {
    match admit(gate, scope, request).await {
        Ok((request, _slot)) => {
            let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
            answered.unwrap_or_else(|_| Refusal::broken().into_response())
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn admit(gate: &Gate, scope: Scope, request: Request) -> Result<(Request, Slot), Refusal> {
    let (mut parts, body) = request.into_parts();
    let website = &gate.website;
    let login = log_in(website, &parts.headers, Peer::of(&parts.extensions)).await?;
    if !is_for(&login, scope) {
        return Err(Refusal::scope(scope));
    }
    let slot = website.calls.open(login.account()).ok_or_else(|| {
        Refusal::too_many("Too many requests of yours are under way. Wait for some of them.", SOON)
    })?;
    let sent = sent(&parts, body, gate.forms).await?;
    let acting = website.control.acting(login.actor());
    parts.extensions.insert(Caller { login, acting });
    parts.extensions.insert(sent);
    Ok((Request::from_parts(parts, Body::empty()), slot))
}

/// Whose token a request came with.
///
/// # Errors
/// With none, with nobody's, or it cannot be found out now.
pub(crate) async fn log_in(
    website: &Website,
    headers: &HeaderMap,
    from: IpAddr,
) -> Result<ApiLogin, Refusal> {
    let token = token(headers)?;
    website.control.api_login(&token, from).await?.ok_or_else(Refusal::bad_token)
}

/// Whether a token is for this, or for what an operator needs to do it to everybody.
pub(crate) fn is_for(login: &ApiLogin, scope: Scope) -> bool {
    let as_operator = login.role() == Role::Operator && login.scopes().contains(&scope.of_operators());
    login.scopes().contains(&scope) || as_operator
}

fn token(headers: &HeaderMap) -> Result<Secret<String>, Refusal> {
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let value = match (sent.next(), sent.next()) {
        (None, _) => return Err(Refusal::no_token()),
        (Some(value), None) => value.to_str().map_err(|_| Refusal::bad_token())?,
        // Which of them counts is not ours to guess.
        _ => return Err(Refusal::bad_token()),
    };
    match bearer(value) {
        Some(token) if token.len() <= MAX_TOKEN => Ok(Secret::new(token.to_owned())),
        Some(_) => Err(Refusal::bad_token()),
        None => Err(Refusal::no_token()),
    }
}

/// The token of an `Authorization` (RFC 6750, 2.1), whose scheme is in any case of letters.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then_some(token)
}

/// Whether a request came with a token, good or not: then its cookies mean nothing.
pub(crate) fn has_token(headers: &HeaderMap) -> bool {
    let values = headers.get_all(AUTHORIZATION).iter();
    values.filter_map(|value| value.to_str().ok()).any(|value| bearer(value).is_some())
}

async fn sent(parts: &Parts, body: Body, forms: Forms) -> Result<Sent, Refusal> {
    let Forms::Token { most } = forms else { return Ok(Sent(Bytes::new())) };
    let bytes = fields::read_body(body, most).await?;
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !bytes.is_empty() && !kind.eq_ignore_ascii_case("application/json") {
        return Err(Problem::not_json().into());
    }
    Ok(Sent(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn sent(values: &[&'static str]) -> Option<String> {
        let values = values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(name, value);
        }
        token(&headers).ok().map(|token| token.expose().clone())
    }

    #[test]
    fn one_bearer_token_counts() {
        assert_eq!(sent(&["Bearer berth_x"]).as_deref(), Some("berth_x"));
        assert_eq!(sent(&["bEARER berth_x"]).as_deref(), Some("berth_x"));
        assert_eq!(sent(&["Basic YTpi"]), None);
        assert_eq!(sent(&["Bearer"]), None);
        assert_eq!(sent(&["Bearer a", "Bearer b"]), None);
        assert_eq!(sent(&[]), None);
    }
}
