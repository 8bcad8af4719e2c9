//! `/ops/audit`: what happened, and who did it.

use askama::Template;
use axum::{http::StatusCode, response::Response};
use berth_control::{AuditKind, AuditQuery};

use crate::{
    asked::Query,
    frame::{Frame, Here},
    problem::Problem,
    trail::{Trail, kind_in_words},
    visitor::Operator,
    words,
};

#[derive(Template)]
#[template(path = "ops_audit.html")]
struct Page {
    frame: Frame,
    query: String,
    kinds: Vec<Choice>,
    trail: Trail,
    trail_path: String,
}

/// A sort of line to choose.
struct Choice {
    id: &'static str,
    words: String,
    chosen: bool,
}

pub(crate) async fn show(Operator(member): Operator, query: Query) -> Result<Response, Problem> {
    let (text, before) = (query.search(), query.before());
    let kind: Option<AuditKind> = query.get("kind").and_then(|kind| kind.parse().ok());
    let asked = AuditQuery {
        text: Some(text.clone()).filter(|text| !text.is_empty()),
        kind,
        before,
        ..AuditQuery::default()
    };
    let lines = member.acting.audit(&asked).await?;
    let choice =
        |of: &AuditKind| Choice { id: of.as_str(), words: kind_in_words(*of), chosen: Some(*of) == kind };
    let page = Page {
        frame: Frame::new(&member.visitor, Here::Ops("audit")),
        kinds: AuditKind::ALL.iter().map(choice).collect(),
        trail: Trail::new(lines, before.is_some()),
        trail_path: path(&text, kind),
        query: text,
    };
    words::show(StatusCode::OK, &page)
}

/// The same search without a page of it.
fn path(text: &str, kind: Option<AuditKind>) -> String {
    let said = [("q", text), ("kind", kind.map_or("", AuditKind::as_str))];
    let said = said.into_iter().filter(|(_, value)| !value.is_empty());
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(said).finish();
    if query.is_empty() { "/ops/audit".to_owned() } else { format!("/ops/audit?{query}") }
}
