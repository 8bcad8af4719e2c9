//! Log-in with an account elsewhere: the browser is sent there, and comes back to `/log-in/oidc`.
//!
//! What it comes back with is no form of ours, and counts only in the browser that was sent: the cookie that it was given
//! says so. The same cookie carries where the person wanted to go.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use berth_control::{OidcAnswer, OidcDone, OidcInfo, OidcStart, WebError};
use berth_model::Secret;

use super::{account, confirm, log_in};
use crate::{
    Website,
    asked::{Named, Query},
    cookies::Cookie,
    fields::Fields,
    frame::{Frame, Here},
    origin::own_path,
    problem::Problem,
    visitor::{Member, Visitor, with_cookie},
    words::{self, Moment, go},
};

/// Where connected accounts are listed.
const LIST: &str = "/account#connected";
/// A longer path is not carried along.
const MAX_CARRIED: usize = 256;

/// An account elsewhere that lets in.
pub(crate) struct OidcView {
    pub(crate) id: String,
    pub(crate) issuer: String,
    pub(crate) label: String,
    pub(crate) added: Moment,
    pub(crate) used: Option<(Moment, String)>,
}

impl From<OidcInfo> for OidcView {
    fn from(info: OidcInfo) -> Self {
        Self {
            id: info.id.to_string(),
            issuer: info.issuer,
            label: info.label,
            added: Moment::new(info.added),
            used: info.last_used.map(|used| (Moment::new(used.at), used.from.to_string())),
        }
    }
}

/// A redirect would not do: the policy of these pages lets forms be answered by this site alone.
#[derive(Template)]
#[template(path = "oidc_go.html")]
struct Go {
    frame: Frame,
    name: String,
    address: String,
}

/// Sends the browser to the issuer.
fn send(
    website: &Website,
    visitor: &Visitor,
    start: &OidcStart,
    to: &str,
    here: Here,
) -> Result<Response, Problem> {
    let name = website.control.oidc_name().unwrap_or_default().to_owned();
    let page = Go { frame: Frame::new(visitor, here), name, address: start.address.clone() };
    let value = format!("{}.{}", start.cookie.expose(), carried(to));
    let response = words::show(StatusCode::OK, &page)?;
    Ok(with_cookie(response, Cookie::Oidc.set(&value, website.secure)))
}

fn carried(to: &str) -> String {
    let short = own_path(to).filter(|to| to.len() <= MAX_CARRIED);
    URL_SAFE_NO_PAD.encode(short.unwrap_or("/"))
}

/// What the cookie says: what the issuer was asked, and where to go then.
fn read(cookie: &str) -> (&str, String) {
    let (asked, to) = cookie.split_once('.').unwrap_or((cookie, ""));
    let to = URL_SAFE_NO_PAD.decode(to).ok().and_then(|to| String::from_utf8(to).ok()).unwrap_or_default();
    (asked, own_path(&to).unwrap_or("/").to_owned())
}

pub(crate) async fn begin_log_in(
    State(website): State<Arc<Website>>,
    visitor: Visitor,
    fields: Fields,
) -> Result<Response, Problem> {
    let to = own_path(fields.get("to")).unwrap_or("/");
    match website.control.begin_oidc_log_in().await {
        Ok(start) => send(&website, &visitor, &start, to, Here::LogIn),
        Err(error) => log_in::refused(&website, &visitor, to, &error),
    }
}

pub(crate) async fn begin_connect(
    State(website): State<Arc<Website>>,
    member: Member,
) -> Result<Response, Problem> {
    match website.control.begin_oidc_connect(&member.login).await {
        Ok(start) => send(&website, &member.visitor, &start, LIST, Here::Account("profile")),
        Err(WebError::NotFresh) => Ok(confirm::first(LIST)),
        Err(error @ WebError::Oidc(_)) => account::with_oidc_refused(&website, &member, &error).await,
        Err(error) => Err(error.into()),
    }
}

/// The issuer sends the browser back.
pub(crate) async fn finish(
    State(website): State<Arc<Website>>,
    visitor: Visitor,
    member: Result<Member, Problem>,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, Problem> {
    let cookie = Cookie::Oidc.read(&headers, website.secure).unwrap_or_default();
    let (asked, to) = read(&cookie);
    let text = |name| query.get(name).unwrap_or_default().to_owned();
    let answer = OidcAnswer {
        cookie: Secret::new(asked.to_owned()),
        state: text("state"),
        code: Secret::new(text("code")),
    };
    let done = website.control.finish_oidc(visitor.login(), &answer, visitor.client()).await;
    let response = match (done, member) {
        (Ok(OidcDone::LoggedIn(session)), _) => log_in::enter(&website, &visitor, &session, &to).await,
        (Ok(OidcDone::Connected(_)), _) => go(LIST),
        (Err(error), Ok(member)) => account::with_oidc_refused(&website, &member, &error).await?,
        (Err(error), Err(_)) => log_in::refused(&website, &visitor, &to, &error)?,
    };
    Ok(with_cookie(response, Cookie::Oidc.clear(website.secure)))
}

pub(crate) async fn remove(
    State(website): State<Arc<Website>>,
    member: Member,
    Named(asked): Named,
) -> Result<Response, Problem> {
    let id = asked.parse().map_err(|_| Problem::missing())?;
    match website.control.remove_oidc(&member.login, id).await {
        Ok(()) => Ok(go(LIST)),
        Err(WebError::NotFresh) => Ok(confirm::first(LIST)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_go_is_carried_along_and_is_of_this_site() {
        for to in ["/", "/account/keys?x=1#y"] {
            let cookie = format!("abc-_1.{}", carried(to));
            assert_eq!(read(&cookie), ("abc-_1", to.to_owned()));
        }
        let long = format!("/{}", "a".repeat(300));
        for evil in ["//evil.example", "https://evil.example", "", &long] {
            assert_eq!(read(&format!("a.{}", carried(evil))).1, "/");
            assert!(own_path(&read(&format!("a.{}", URL_SAFE_NO_PAD.encode(evil))).1).is_some());
        }
        assert_eq!(read(""), ("", "/".to_owned()));
        assert_eq!(read("a.%%%"), ("a", "/".to_owned()));
    }
}
