//! The website: where a member gets in without knowing any of this, and an operator sees everything.
//!
//! Owns the routes, the pages, what every answer's header says, who may ask for what, and how an HTTP connection is
//! served. Owns no account, key, VM or log-in: `berth-control` has those, and decides.
//!
//! ```text
//!   listen ── bounds, time-outs ──► host: is this name ours? ──► routes: the table ──► guard ──► pages ──► control
//!                                     │    └── headers: on every answer, refusals too    │
//!                                     │        who asks, whose form it is, how errors look ┘
//!                                     └ a VM's? ──► sites: may this one? ──► the VM's own web server
//! ```
//!
//! Rule of concurrency: nothing is kept between requests but how many live streams an account has open, and how many
//! requests are on their way to a VM. A stream is part of its response: when the connection goes, so does all that it
//! held.

mod api;
mod asked;
mod assets;
mod cookies;
mod fields;
mod frame;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod guard;
mod headers;
mod host;
mod listen;
mod live;
mod metrics;
mod origin;
mod own_vm;
mod pager;
mod pages;
mod plot;
mod problem;
mod routes;
mod sites;
mod slots;
mod terminal;
pub mod tls;
mod trail;
mod views;
mod visitor;
mod way_in;
mod words;

use std::sync::Arc;

use axum::{Router, middleware};
use berth_control::Control;
use berth_model::Domains;
use tokio_util::sync::CancellationToken;

pub use listen::{Peer, serve, serve_tls};
pub use routes::{Forms, Route, Who, routes};

use crate::{host::Names, metrics::Metrics, sites::Room, slots::Slots};

/// What the pages say about this installation.
#[derive(Debug, Clone)]
pub struct Site {
    /// The domains and the default team.
    pub domains: Domains,
    /// The port of the gateway, as members reach it.
    pub ssh_port: u16,
    /// The SHA256 fingerprint of the gateway's host key, as ssh prints it.
    pub gateway_fingerprint: String,
    /// Whether `/metrics` is open to programs on this machine that come without a token. A proxy on this machine that does
    /// not say for whom it asks would open it to everybody.
    pub metrics_on_loopback: bool,
}

/// What every page needs.
pub(crate) struct Website {
    site: Site,
    control: Arc<Control>,
    /// People reach it by https, so cookies can be kept to that.
    secure: bool,
    /// Live streams.
    streams: Slots,
    /// Terminals.
    terminals: Slots,
    /// Terminals of others that are watched.
    watched: Slots,
    /// Requests of programs.
    calls: Slots,
    metrics: Metrics,
    /// How many requests are on their way to VMs.
    visits: Room,
    names: Names,
    stop: CancellationToken,
}

/// The routes of the website, ready for [`serve`] or a test. Live streams end with `stop`.
///
/// Answers to `app_domain` and to the loopback's names, on any port, and carries what is asked of a name below `vm_domain`
/// to the VM; any other `Host` gets a 421 (RFC 9110, 15.5.20), so that a page under a name of a stranger's cannot read
/// this site through the visitor's browser.
pub fn website(site: Site, control: Arc<Control>, stop: CancellationToken) -> Router {
    let names = Names::new(&site.domains);
    let secure = control.settings().website.starts_with("https://");
    let (streams, calls) = (Slots::new(live::MAX_STREAMS), Slots::new(api::gate::MAX_UNDER_WAY));
    let terminals = Slots::new(terminal::MAX_TERMINALS);
    let watched = Slots::new(terminal::watch::MAX_WATCHED);
    let (metrics, visits) = (Metrics::new(&control), Room::default());
    let website = Arc::new(Website {
        site,
        control,
        secure,
        streams,
        terminals,
        watched,
        calls,
        metrics,
        visits,
        names,
        stop,
    });
    routes::built(&website)
        .layer(middleware::from_fn(headers::add))
        .layer(middleware::from_fn_with_state(website, host::dispatch))
}
