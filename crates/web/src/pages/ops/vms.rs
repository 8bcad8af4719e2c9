//! `/ops/vms`: what runs here, and what room it takes.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use berth_control::{Status, VmInfo};

use crate::{
    Website,
    asked::Query,
    frame::{Frame, Here},
    problem::Problem,
    views::VmView,
    visitor::Operator,
    words::{self, size},
};

/// So many VMs are shown at once; the search finds the others.
const SHOWN: usize = 200;

#[derive(Template)]
#[template(path = "ops_vms.html")]
struct Page {
    frame: Frame,
    counts: Counts,
    memory_used: String,
    memory_room: Option<String>,
    query: String,
    vms: Vec<VmView>,
    /// How many are not shown.
    more: usize,
}

/// How many VMs do what.
#[derive(Default)]
struct Counts {
    running: usize,
    asleep: usize,
    off: usize,
    failed: usize,
    connections: usize,
}

impl Counts {
    fn of(vms: &[VmInfo]) -> Self {
        let mut counts = Self::default();
        for vm in vms {
            counts.connections += vm.connections;
            match vm.status {
                Status::Asleep => counts.asleep += 1,
                Status::Off | Status::Removing => counts.off += 1,
                Status::Failed => counts.failed += 1,
                Status::Running | Status::Waking | Status::Starting | Status::Stopping => counts.running += 1,
            }
        }
        counts
    }
}

/// Whether it has its memory.
fn is_awake(vm: &VmInfo) -> bool {
    matches!(vm.status, Status::Running | Status::Waking | Status::Starting | Status::Stopping)
}

pub(crate) async fn show(
    State(website): State<Arc<Website>>,
    Operator(member): Operator,
    query: Query,
) -> Result<Response, Problem> {
    let all = member.acting.vms(None).await?;
    let search = query.search().to_lowercase();
    let found: Vec<_> = all
        .iter()
        .filter(|vm| vm.name.to_string().contains(&search) || vm.status.to_string() == search)
        .collect();
    let page = Page {
        frame: Frame::new(&member.visitor, Here::Ops("vms")),
        counts: Counts::of(&all),
        memory_used: size(all.iter().filter(|vm| is_awake(vm)).map(|vm| vm.memory).sum()),
        memory_room: website.control.settings().memory.map(size),
        query: search.clone(),
        more: found.len().saturating_sub(SHOWN),
        vms: found.into_iter().take(SHOWN).map(VmView::new).collect(),
    };
    words::show(StatusCode::OK, &page)
}
