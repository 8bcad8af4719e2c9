//! `/ops/health`: is all well here, and if not, what to do.

use askama::Template;
use axum::{http::StatusCode, response::Response};
use berth_control::{Health, VmCounts, Warning};
use time::OffsetDateTime;

use crate::{
    frame::{Frame, Here},
    problem::Problem,
    visitor::Operator,
    words::{self, Moment, size, span},
};

#[derive(Template)]
#[template(path = "ops_health.html")]
struct Page {
    frame: Frame,
    warnings: Vec<Warning>,
    failed: Vec<(String, String, String)>,
    version: String,
    uptime: String,
    since: Moment,
    accounts: usize,
    vms: VmCounts,
    database: String,
    engine: Option<String>,
    memory: Option<String>,
    memory_taken: String,
    memory_free: Option<String>,
    waiting: usize,
    disk_free: Option<String>,
}

impl Page {
    fn new(frame: Frame, health: Health) -> Self {
        let uptime = (OffsetDateTime::now_utc() - health.since).unsigned_abs();
        let failed =
            |(vm, reason): (berth_model::VmName, String)| (vm.to_string(), vm.owner.to_string(), reason);
        Self {
            frame,
            warnings: health.warnings,
            failed: health.failed.into_iter().map(failed).collect(),
            version: health.version,
            uptime: span(uptime),
            since: Moment::new(health.since),
            accounts: health.accounts,
            vms: health.vms,
            database: size(health.database),
            engine: health.engine,
            memory: health.memory.map(size),
            memory_taken: size(health.memory_taken),
            memory_free: health.memory_free.map(size),
            waiting: health.waiting,
            disk_free: health.disk_free.map(size),
        }
    }
}

pub(crate) async fn show(Operator(member): Operator) -> Result<Response, Problem> {
    let health = member.acting.health().await?;
    words::show(StatusCode::OK, &Page::new(Frame::new(&member.visitor, Here::Ops("health")), health))
}
