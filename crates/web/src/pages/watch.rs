//! `/watch/LINK`: another member's terminal. What it shows comes over [`crate::terminal::watch`], once its visitor has
//! said that they want to see it, since the owner sees their name then.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::WatchRight;
use berth_model::Secret;

use crate::{
    Website,
    asked::Named,
    frame::{Frame, Here},
    problem::Problem,
    visitor::Member,
    words,
};

#[derive(Template)]
#[template(path = "watch.html")]
struct Page {
    frame: Frame,
    by: String,
    label: String,
    number: u8,
    typing: bool,
    you: String,
    path: String,
    /// What is said where it is recorded.
    recorded: Option<&'static str>,
}

pub(crate) async fn show(
    State(website): State<Arc<Website>>,
    member: Member,
    Named(link): Named,
) -> Result<Response, Problem> {
    let secret = Secret::new(link);
    let (view, label, number) = member.acting.watched(&secret).ok_or_else(Problem::not_shared)?;
    let page = Page {
        // Watching is no reason for anybody's VM to be awake.
        frame: Frame::new(&member.visitor, Here::Elsewhere).still(),
        recorded: website.control.recording_notice(),
        by: view.by.to_string(),
        label,
        number,
        typing: view.right == WatchRight::Type,
        you: member.account().to_string(),
        path: format!("/watch/{}", secret.expose()),
    };
    words::show(StatusCode::OK, &page)
}
