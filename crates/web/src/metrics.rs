//! `/metrics`: numbers for the operator's monitoring, in the text format of OpenMetrics, which Prometheus reads.
//!
//! Nothing in it says who did what: routes are named by their templates, and accounts and VMs not at all.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header::CONTENT_TYPE, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use berth_control::{Control, Scope};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};
use rustix::process::{Resource, getrlimit};

use crate::{
    Website,
    api::{
        Refusal,
        gate::{is_for, log_in},
    },
    guard::Gate,
    listen::Peer,
};

const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// In seconds: the aim is 10 ms.
const TOOK: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];
/// What a proxy says of whom it asks for: then it is not this machine that asks.
const FORWARDED: [HeaderName; 3] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    method: &'static str,
    route: &'static str,
    status: u16,
}

/// Where a request went, by the table of routes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Asked {
    pub(crate) method: &'static str,
    pub(crate) route: &'static str,
}

impl Asked {
    /// Whatever is in no row; strangers choose the paths and methods of that.
    pub(crate) const NOWHERE: Self = Self { method: "any", route: "none" };
}

/// What is counted, and the registry that all of it is read from.
pub(crate) struct Metrics {
    registry: Registry,
    answers: Family<Answer, Counter>,
    took: Family<Asked, Histogram, fn() -> Histogram>,
    open_files: Gauge,
    open_files_limit: Gauge,
}

impl Metrics {
    pub(crate) fn new(control: &Control) -> Self {
        let mut registry = Registry::with_prefix("berth");
        let answers = Family::<Answer, Counter>::default();
        let took: Family<Asked, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(TOOK));
        registry.register("http_requests", "Answers of the website", answers.clone());
        let help = "How long the website took to begin an answer";
        registry.register_with_unit("http_request", help, Unit::Seconds, took.clone());
        registry.register("build", "What runs here", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let since = "When this server began, since 1970";
        registry.register_with_unit("start_time", since, Unit::Seconds, ConstGauge::new(began.as_secs_f64()));
        let (open_files, open_files_limit) = (Gauge::default(), Gauge::default());
        let help = "Files that this server has open, connections among them";
        registry.register("open_files", help, open_files.clone());
        registry.register("open_files_limit", "How many it may have open", open_files_limit.clone());
        control.register_metrics(&mut registry);
        Self { registry, answers, took, open_files, open_files_limit }
    }

    /// Sets the gauges of what the system has for this process. A list of some thousand files takes some milliseconds.
    async fn measure(&self) {
        let files = tokio::task::spawn_blocking(|| std::fs::read_dir("/proc/self/fd").map(Iterator::count));
        let files = files.await.ok().and_then(Result::ok).unwrap_or_default();
        self.open_files.set(files.try_into().unwrap_or(i64::MAX));
        let limit = getrlimit(Resource::Nofile).current.and_then(|limit| limit.try_into().ok());
        self.open_files_limit.set(limit.unwrap_or(i64::MAX));
    }

    pub(crate) fn answered(&self, asked: &Asked, status: StatusCode, took: Duration) {
        let Asked { method, route } = *asked;
        self.answers.get_or_create(&Answer { method, route, status: status.as_u16() }).inc();
        self.took.get_or_create(asked).observe(took.as_secs_f64());
    }
}

/// Lets through whoever watches this server: with a token, or from this machine where the operator says so.
pub(crate) async fn pass(gate: &Gate, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match admit(&gate.website, &parts).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn admit(website: &Website, request: &Parts) -> Result<(), Refusal> {
    let peer = Peer::of(&request.extensions);
    if website.site.metrics_on_loopback && peer.is_loopback() && !is_forwarded(&request.headers) {
        return Ok(());
    }
    let login = log_in(website, &request.headers, peer).await?;
    if is_for(&login, Scope::OpsRead) { Ok(()) } else { Err(Refusal::scope(Scope::OpsRead)) }
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDED.iter().any(|name| headers.contains_key(name))
}

pub(crate) async fn show(State(website): State<Arc<Website>>) -> Response {
    website.control.measure();
    website.metrics.measure().await;
    let mut text = String::new();
    match encode(&mut text, &website.metrics.registry) {
        Ok(()) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            Refusal::broken().into_response()
        }
    }
}
