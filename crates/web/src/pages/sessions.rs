//! `/account/sessions`: where you are logged in.

use std::{cmp::Reverse, sync::Arc};

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::{LoginWay, SessionInfo};

use crate::{
    Website,
    asked::Named,
    cookies::Cookie,
    frame::{Frame, Here},
    problem::Problem,
    visitor::{Member, with_cookie},
    words::{self, Moment, browser, go},
};

#[derive(Template)]
#[template(path = "sessions.html")]
struct Page {
    frame: Frame,
    sessions: Vec<Session>,
}

struct Session {
    id: String,
    browser: String,
    way: &'static str,
    from: String,
    seen: Moment,
    since: Moment,
    this: bool,
}

impl From<SessionInfo> for Session {
    fn from(info: SessionInfo) -> Self {
        Self {
            id: info.id.to_string(),
            browser: browser(&info.user_agent),
            way: match info.way {
                LoginWay::Password => "by password",
                LoginWay::Link => "by a link",
                LoginWay::Invitation => "by an invitation",
                LoginWay::Passkey => "by passkey",
                LoginWay::Oidc => "by another site",
            },
            from: info.address.to_string(),
            seen: Moment::new(info.seen),
            since: Moment::new(info.created),
            this: info.current,
        }
    }
}

pub(crate) async fn show(State(website): State<Arc<Website>>, member: Member) -> Result<Response, Problem> {
    let mut infos = website.control.web_sessions(&member.login).await?;
    infos.sort_by_key(|info| (!info.current, Reverse(info.seen)));
    let frame = Frame::new(&member.visitor, Here::Account("sessions"));
    words::show(StatusCode::OK, &Page { frame, sessions: infos.into_iter().map(Session::from).collect() })
}

pub(crate) async fn end(
    State(website): State<Arc<Website>>,
    member: Member,
    Named(id): Named,
) -> Result<Response, Problem> {
    let id = id.parse().map_err(|_| Problem::missing())?;
    website.control.end_session(&member.login, id).await?;
    if id == member.login.session() {
        return Ok(with_cookie(go("/"), Cookie::LogIn.clear(website.secure)));
    }
    Ok(go("/account/sessions"))
}

pub(crate) async fn end_others(
    State(website): State<Arc<Website>>,
    member: Member,
) -> Result<Response, Problem> {
    website.control.end_other_sessions(&member.login).await?;
    Ok(go("/account/sessions"))
}
