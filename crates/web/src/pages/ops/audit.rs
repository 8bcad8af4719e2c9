//! `/ops/audit`: what happened, and who did it.

use askama::Template;
use axum::{http::StatusCode, response::Response};
use berth_control::AuditQuery;

use crate::{
    asked::Query,
    frame::{Frame, Here},
    problem::Problem,
    trail::Trail,
    visitor::Operator,
    words,
};

#[derive(Template)]
#[template(path = "ops_audit.html")]
struct Page {
    frame: Frame,
    query: String,
    trail: Trail,
    trail_path: String,
}

pub(crate) async fn show(Operator(member): Operator, query: Query) -> Result<Response, Problem> {
    let (text, before) = (query.search(), query.before());
    let asked = AuditQuery {
        text: Some(text.clone()).filter(|text| !text.is_empty()),
        before,
        ..AuditQuery::default()
    };
    let lines = member.acting.audit(&asked).await?;
    let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    let page = Page {
        frame: Frame::new(&member.visitor, Here::Ops("audit")),
        trail: Trail::new(lines, before.is_some()),
        trail_path: if text.is_empty() { "/ops/audit".into() } else { format!("/ops/audit?q={encoded}") },
        query: text,
    };
    words::show(StatusCode::OK, &page)
}
