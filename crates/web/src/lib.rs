//! The website: what this installation is and how to get in.
//!
//! Owns the routes, the pages, what every answer's header says, and how an HTTP connection is served. Owns no account,
//! key or VM: there is nothing to log in to yet, so every page is the same for everybody and nothing here has a secret.
//!
//! ```text
//!   listen ── bounds, time-outs ──► router ── host: is this name ours? ──► pages
//!                                     └────── headers: on every answer, refusals too
//! ```
//!
//! Rule of concurrency: what a page shows is rendered once, when the router is made, and shared by reference; nothing
//! changes afterwards.

mod assets;
mod headers;
mod host;
mod listen;
mod pages;

use std::sync::Arc;

use axum::{Router, middleware, routing::get};
use berth_model::Domains;

pub use listen::serve;

/// What the pages say about this installation.
#[derive(Debug, Clone)]
pub struct Site {
    /// The domains and the default team.
    pub domains: Domains,
    /// The port of the gateway, as members reach it.
    pub ssh_port: u16,
    /// The SHA256 fingerprint of the gateway's host key, as ssh prints it.
    pub gateway_fingerprint: String,
}

/// The routes of the website, ready for [`serve`] or a test.
///
/// Answers to `app_domain` and to the loopback's names, on any port; any other `Host` gets a 421 (RFC 9110, 15.5.20),
/// so that a page under a name of a stranger's cannot read this site through the visitor's browser.
///
/// # Errors
/// When a page cannot be rendered, which no content of `site` causes.
pub fn router(site: &Site) -> Result<Router, askama::Error> {
    let pages = Arc::new(pages::Pages::render(site)?);
    let names = Arc::new(host::Names::new(&site.domains));
    Ok(Router::new()
        .route("/", get(pages::home))
        .route("/account/keys", get(pages::keys))
        .route("/healthz", get(pages::health))
        .route("/assets/berth.css", get(assets::style))
        .route("/assets/copy.js", get(assets::script))
        .route("/assets/icon.svg", get(assets::icon))
        .fallback(pages::missing)
        .method_not_allowed_fallback(pages::wrong_method)
        .with_state(pages)
        .layer(middleware::from_fn_with_state(names, host::check))
        .layer(middleware::from_fn(headers::add)))
}
