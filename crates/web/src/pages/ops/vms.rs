//! `/ops/vms`: what runs here, and what room it takes.

use askama::Template;
use axum::{http::StatusCode, response::Response};
use berth_control::{Status, VmCounts, VmsQuery};

use crate::{
    asked::Query,
    frame::{Frame, Here},
    pager::{Pager, ROWS},
    problem::Problem,
    views::{STATES, VmView},
    visitor::Operator,
    words::{self, size},
};

#[derive(Template)]
#[template(path = "ops_vms.html")]
struct Page {
    frame: Frame,
    counts: VmCounts,
    memory_taken: String,
    memory_room: Option<String>,
    query: String,
    state: String,
    vms: Vec<VmView>,
    pager: Pager,
}

/// The state that is meant by its word.
fn status(word: &str) -> Option<Status> {
    STATES.into_iter().find(|status| status.to_string() == word)
}

pub(crate) async fn show(Operator(member): Operator, query: Query) -> Result<Response, Problem> {
    let (text, after) = (query.search().to_lowercase(), query.after());
    let status = status(query.get("state").unwrap_or_default());
    let asked = VmsQuery {
        text: text.clone(),
        status,
        after: after.and_then(|after| after.parse().ok()),
        most: ROWS,
    };
    let found = member.acting.vms_page(&asked).await?;
    let room = member.acting.vm_room()?;
    let last = found.rows.last().filter(|_| found.more).map(|vm| vm.name.to_string());
    let state = status.map(|status| status.to_string()).unwrap_or_default();
    let page = Page {
        frame: Frame::new(&member.visitor, Here::Ops("vms")),
        counts: room.vms,
        memory_taken: size(room.memory_taken),
        memory_room: room.memory.map(size),
        pager: Pager::new("/ops/vms", &[("q", &text), ("state", &state)], after, last.as_deref()),
        query: text,
        state,
        vms: found.rows.iter().map(VmView::new).collect(),
    };
    words::show(StatusCode::OK, &page)
}
