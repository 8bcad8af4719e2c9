//! `/team`: who else is here, and what their VMs are called.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::TeamMember;

use super::ports::address;
use crate::{
    Website,
    asked::Query,
    frame::{Frame, Here},
    pager::{Pager, ROWS},
    problem::Problem,
    visitor, words,
};

#[derive(Template)]
#[template(path = "team.html")]
struct Page {
    frame: Frame,
    team: String,
    query: String,
    members: Vec<Member>,
    pager: Pager,
}

/// Somebody, and the websites of their VMs.
struct Member {
    name: String,
    /// Addresses and names.
    hosts: Vec<(String, String)>,
}

impl Member {
    fn new(website: &Website, info: TeamMember) -> Self {
        let site = |host: String| (address(website, &host), host);
        Self { name: info.name.to_string(), hosts: info.hosts.into_iter().map(site).collect() }
    }
}

pub(crate) async fn show(
    State(website): State<Arc<Website>>,
    member: visitor::Member,
    query: Query,
) -> Result<Response, Problem> {
    let (text, after) = (query.search().to_lowercase(), query.after());
    let found = member.acting.team(&text, after.and_then(|after| after.parse().ok()), ROWS).await?;
    let last = found.rows.last().filter(|_| found.more).map(|member| member.name.as_str());
    let page = Page {
        frame: Frame::new(&member.visitor, Here::Team),
        team: website.control.settings().domains.team().to_string(),
        pager: Pager::new("/team", &[("q", &text)], after, last),
        query: text,
        members: found.rows.into_iter().map(|info| Member::new(&website, info)).collect(),
    };
    words::show(StatusCode::OK, &page)
}
