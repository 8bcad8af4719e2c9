//! The pages, each answering one question.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{Html, IntoResponse, Response},
};
use berth_model::VmNumber;

use crate::Site;

/// The pages that are the same for everybody, as HTML.
pub(crate) struct Pages {
    home: String,
    keys: String,
}

impl Pages {
    pub(crate) fn render(site: &Site) -> Result<Self, askama::Error> {
        let domains = &site.domains;
        let gateway = domains.gateway_host();
        let port = if site.ssh_port == 22 { String::new() } else { format!("-p {} ", site.ssh_port) };
        let home = Home {
            vm_domain: domains.vm_domain(),
            first_vm: &format!("vm-{}.alice.{}.{}", VmNumber::FIRST, domains.team(), domains.vm_domain()),
            proxy_command: &format!("ssh {port}%r@{gateway} nc %h %p"),
            gateway: &gateway,
            fingerprint: &site.gateway_fingerprint,
            on_this_machine: domains.app_domain().ends_with("localhost"),
        };
        Ok(Self { home: home.render()?, keys: Keys {}.render()? })
    }
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'a> {
    vm_domain: &'a str,
    first_vm: &'a str,
    proxy_command: &'a str,
    gateway: &'a str,
    fingerprint: &'a str,
    on_this_machine: bool,
}

#[derive(Template)]
#[template(path = "keys.html")]
struct Keys {}

#[derive(Template)]
#[template(path = "problem.html")]
struct Problem<'a> {
    what: &'a str,
    next: &'a str,
}

pub(crate) async fn home(State(pages): State<Arc<Pages>>) -> Html<String> {
    Html(pages.home.clone())
}

pub(crate) async fn keys(State(pages): State<Arc<Pages>>) -> Html<String> {
    Html(pages.keys.clone())
}

/// For whatever watches this server: it is up and serves.
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

pub(crate) async fn missing(uri: Uri) -> Response {
    tracing::debug!(path = uri.path(), "no such page");
    problem(StatusCode::NOT_FOUND, "There is no such page.", "Check the address, or begin at the start page.")
}

pub(crate) async fn wrong_method(method: Method) -> Response {
    tracing::debug!(%method, "no such method");
    problem(StatusCode::METHOD_NOT_ALLOWED, "This page can only be read.", "Begin at the start page.")
}

/// A page that says what is wrong, as its heading, and what to do next.
pub(crate) fn problem(status: StatusCode, what: &str, next: &str) -> Response {
    match (Problem { what, next }).render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            (status, format!("{what} {next}\n")).into_response()
        }
    }
}
