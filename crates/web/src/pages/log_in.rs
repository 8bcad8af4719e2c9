//! `/log-in` and `/log-out`.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::{Assertion, NewSession, WebError};
use berth_model::Secret;

use crate::{
    Website,
    asked::Query,
    cookies::Cookie,
    fields::Fields,
    frame::{Frame, Here},
    origin::own_path,
    problem::{Problem, web_status},
    visitor::{Member, Visitor, with_cookie},
    way_in,
    words::{self, go},
};

/// So much of a name that was wrong stays in the field.
const MAX_NAME: usize = 64;

#[derive(Template)]
#[template(path = "log_in.html")]
struct Page {
    frame: Frame,
    said: Option<&'static str>,
    wrong: Option<String>,
    to: String,
    name: String,
    oidc_name: Option<String>,
    ssh_log_in: String,
}

pub(crate) async fn show(
    State(website): State<Arc<Website>>,
    visitor: Visitor,
    query: Query,
) -> Result<Response, Problem> {
    let to = query.get("to").and_then(own_path).unwrap_or("/");
    if visitor.login().is_some() {
        return Ok(go(to));
    }
    let said = (to != "/").then_some("Log in to see that page.");
    let page = Page { said, to: to.to_owned(), ..Page::new(&website, &visitor) };
    words::show(StatusCode::OK, &page)
}

impl Page {
    fn new(website: &Website, visitor: &Visitor) -> Self {
        Self {
            frame: Frame::new(visitor, Here::LogIn),
            said: None,
            wrong: None,
            to: "/".into(),
            name: String::new(),
            oidc_name: website.control.oidc_name().map(str::to_owned),
            ssh_log_in: way_in::log_in_command(website, None),
        }
    }
}

pub(crate) async fn by_password(
    State(website): State<Arc<Website>>,
    visitor: Visitor,
    fields: Fields,
) -> Result<Response, Problem> {
    let (name, password) = (fields.get("name").trim(), Secret::new(fields.get("password").to_owned()));
    let to = own_path(fields.get("to")).unwrap_or("/");
    match website.control.log_in_by_password(name, &password, visitor.client()).await {
        Ok(session) => Ok(enter(&website, &visitor, &session, to).await),
        Err(error) => {
            let page = Page {
                wrong: Some(error.to_string()),
                to: to.to_owned(),
                name: words::plain(name, MAX_NAME),
                ..Page::new(&website, &visitor)
            };
            words::show(web_status(&error), &page)
        }
    }
}

/// What the browser is to ask for.
pub(crate) async fn passkey_options(State(website): State<Arc<Website>>) -> Response {
    words::json(&website.control.begin_passkey_log_in())
}

pub(crate) async fn by_passkey(
    State(website): State<Arc<Website>>,
    visitor: Visitor,
    fields: Fields,
) -> Result<Response, Problem> {
    let to = own_path(fields.get("to")).unwrap_or("/");
    let assertion: Assertion = fields.json("credential")?;
    match website.control.log_in_by_passkey(&assertion, visitor.client()).await {
        Ok(session) => Ok(enter(&website, &visitor, &session, to).await),
        Err(error) => refused(&website, &visitor, to, &error),
    }
}

/// The page with what went wrong with another way than the password.
pub(crate) fn refused(
    website: &Website,
    visitor: &Visitor,
    to: &str,
    error: &WebError,
) -> Result<Response, Problem> {
    let page = Page { wrong: Some(error.to_string()), to: to.to_owned(), ..Page::new(website, visitor) };
    words::show(web_status(error), &page)
}

/// Gives the browser its new session and takes it where it wanted to go. A session that it had before ends: the cookie
/// of one log-in is never that of another.
pub(crate) async fn enter(website: &Website, visitor: &Visitor, session: &NewSession, to: &str) -> Response {
    if let Some(before) = visitor.login()
        && let Err(error) = website.control.log_out(before).await
    {
        tracing::warn!(%error, "a session that was replaced could not be ended");
    }
    with_cookie(go(to), Cookie::LogIn.set(session.cookie.expose(), website.secure))
}

pub(crate) async fn out(State(website): State<Arc<Website>>, member: Member) -> Result<Response, Problem> {
    website.control.log_out(&member.login).await?;
    Ok(with_cookie(go("/"), Cookie::LogIn.clear(website.secure)))
}
