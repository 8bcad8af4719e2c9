//! What is served without TLS where https is served too: the questions of the authority, and the way to https.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{HOST, LOCATION},
        uri::Authority,
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use berth_control::Control;

use super::Tls;
use crate::{api::Refusal, listen::Peer, routes};

/// Where an authority looks (RFC 8555, 8.3).
const CHALLENGE: &str = "/.well-known/acme-challenge/";

struct Plain {
    tls: Tls,
    control: Arc<Control>,
}

/// The router for listeners without TLS beside listeners with it. The site's pages are asked for again by https, from
/// where they are; programs are told to, since what they sent was a secret a moment ago. Sites of VMs stay reachable both
/// ways, and whoever watches this server from this machine needs no certificate.
pub fn plain(router: Router, tls: Tls, control: Arc<Control>) -> Router {
    router.layer(middleware::from_fn_with_state(Arc::new(Plain { tls, control }), pass))
}

async fn pass(State(plain): State<Arc<Plain>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if let Some(answer) = path.strip_prefix(CHALLENGE).and_then(|token| plain.tls.challenge(token)) {
        return ([("content-type", "application/octet-stream")], answer).into_response();
    }
    let settings = plain.control.settings();
    let of_vm = host(&request).is_some_and(|host| settings.domains.is_of_vms(host.host()));
    let watches = routes::is_for_monitors(path) && Peer::of(request.extensions()).is_loopback();
    if of_vm || watches {
        return next.run(request).await;
    }
    if routes::is_api(request.uri()) {
        let message =
            "Use https. This token went over the network for all to read: remove it and make another one.";
        return Refusal::new(StatusCode::FORBIDDEN, message).into_response();
    }
    let rest = request.uri().path_and_query().map_or("/", |rest| rest.as_str());
    // `//` would name another host.
    let rest = if rest.starts_with('/') { rest } else { "/" };
    match HeaderValue::try_from(format!("{}{rest}", settings.website)) {
        Ok(there) => (StatusCode::PERMANENT_REDIRECT, [(LOCATION, there)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// The one host that a request names.
fn host(request: &Request) -> Option<Authority> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
    Authority::try_from(host.as_bytes()).ok()
}
