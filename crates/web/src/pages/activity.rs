//! `/account/activity`: what happened on your account.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};

use crate::{
    Website,
    asked::Query,
    frame::{Frame, Here},
    problem::Problem,
    trail::Trail,
    visitor::Member,
    words,
};

#[derive(Template)]
#[template(path = "activity.html")]
struct Page {
    frame: Frame,
    trail: Trail,
    trail_path: &'static str,
}

pub(crate) async fn show(
    State(website): State<Arc<Website>>,
    member: Member,
    query: Query,
) -> Result<Response, Problem> {
    let before = query.before();
    let lines = website.control.activity(&member.login, before).await?;
    let page = Page {
        frame: Frame::new(&member.visitor, Here::Account("activity")),
        trail: Trail::new(lines, before.is_some()),
        trail_path: "/account/activity",
    };
    words::show(StatusCode::OK, &page)
}
