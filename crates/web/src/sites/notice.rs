//! What is said in place of a VM's page, in the look of this site: no cookie, no script, nothing from elsewhere.

use std::sync::Arc;

use askama::Template;
use axum::{
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{self, ACCEPT},
    },
    response::{IntoResponse, Response},
};
use berth_control::{ConnectError, Listener, Status, VisitError};
use berth_model::VmName;

use super::{OWN_PATHS, room::Full, wants_html};
use crate::{Website, assets, words::html};

const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];
const SSH: u16 = 22;
/// After so many seconds a page that waits is asked for again.
const AGAIN: &str = "1";

/// A heading, what to do, and perhaps where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    status: StatusCode,
    what: String,
    next: String,
    /// Words, and an address.
    link: Option<(&'static str, String)>,
    /// It changes by itself: the page asks again.
    waits: bool,
}

#[derive(Template)]
#[template(path = "site_notice.html")]
struct Page<'a> {
    notice: &'a Notice,
    style: String,
    icon: String,
}

impl Notice {
    fn new(status: StatusCode, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { status, what: what.into(), next: next.into(), link: None, waits: false }
    }

    pub(super) fn missing() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "There is no site of this name here.",
            "Check the address that you typed.",
        )
    }

    pub(super) fn unavailable() -> Self {
        let what = "This site cannot be looked up right now.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, what, "Try again in a minute.")
    }

    pub(super) fn wrong_method() -> Self {
        let what = "A site of a VM does not take that kind of request.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, what, "Open its start page.")
    }

    /// The body is not what its header says it is.
    pub(super) fn malformed() -> Self {
        let what = "That request is not HTTP as it should be.";
        Self::new(StatusCode::BAD_REQUEST, what, "Nothing of it went to the VM. Send it again.")
    }

    pub(super) fn spent_ticket(to: &str) -> Self {
        let what = "That took too long, or it was done before.";
        let notice = Self::new(StatusCode::FORBIDDEN, what, "You are not let in by this address again.");
        Self { link: Some(("Open the site", to.to_owned())), ..notice }
    }

    pub(super) fn full(full: Full, vm: &VmName, website: &Website) -> Self {
        match full {
            Full::Vm => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{} is busy: too many requests are open to it.", called(vm, website)),
                "Try again in a moment.",
            ),
            Full::Place => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many requests from your address are open.",
                "Close some pages, and try again.",
            ),
        }
    }

    /// What a window shows while the VM comes up.
    pub(super) fn waking(vm: &VmName, status: Status, website: &Website) -> Self {
        let does = if status == Status::Starting { "Starting" } else { "Waking" };
        let what = format!("{does} {}…", called(vm, website));
        let next = "This page becomes the site as soon as it is there.";
        Self { waits: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, what, next) }
    }

    /// It was waited for, and is not there yet.
    pub(super) fn not_awake_yet(vm: &VmName, website: &Website) -> Self {
        let what = format!("{} is not awake yet.", called(vm, website));
        Self::new(StatusCode::GATEWAY_TIMEOUT, what, "Try again in a minute.")
    }

    /// What listens there answers nothing, or nothing that is HTTP.
    pub(super) fn no_answer(vm: &VmName, port: u16, website: &Website) -> Self {
        let vm = called(vm, website);
        let what = format!("What listens on port {port} of {vm} gave no answer that is HTTP.");
        Self::new(StatusCode::BAD_GATEWAY, what, "If it is yours, look at what your program says.")
    }

    /// It connects, and nothing comes.
    pub(super) fn silent(vm: &VmName, port: u16, website: &Website) -> Self {
        let what = format!("{} does not answer on port {port}.", called(vm, website));
        Self::new(StatusCode::GATEWAY_TIMEOUT, what, "It is running. Try again in a minute.")
    }

    /// It runs, and nothing listens there; its owner sees what does.
    pub(super) fn closed(vm: &VmName, port: u16, listeners: Option<&[Listener]>, website: &Website) -> Self {
        let what = format!("Nothing listens on port {port} of {}.", called(vm, website));
        let everywhere = format!("let it listen on all addresses of port {port}, not on localhost alone.");
        let next = match listeners {
            None => format!("It is running. If it is yours, start your program, and {everywhere}"),
            Some(listeners) if listeners.iter().any(|one| one.port == port) => format!(
                "It is running, and your program listens on port {port} of localhost, where only the VM itself reaches \
                 it: {everywhere} Often that is the option --host 0.0.0.0."
            ),
            Some(listeners) => {
                format!("It is running. {} Start your program, and {everywhere}", in_words(listeners))
            }
        };
        Self::new(StatusCode::BAD_GATEWAY, what, next)
    }

    /// The same page for who may be its owner and has not said so: with a way to say it.
    pub(super) fn asks_who(self, address: String) -> Self {
        Self { link: Some(("See what listens, if it is yours", address)), ..self }
    }

    /// Why the VM could not be connected to: to strangers no more than that, to its owner where there is more.
    pub(super) fn of(error: &VisitError, port: u16, website: &Arc<Website>) -> Self {
        let off = |vm: &VmName, what: &str, next: &str, link: &'static str| {
            let what = format!("{} {what}", called(vm, website));
            let page = format!("{}/vms/{vm}", website.control.settings().website);
            let notice = Self::new(StatusCode::SERVICE_UNAVAILABLE, what, next);
            Self { link: Some((link, page)), ..notice }
        };
        let failed = |vm: &VmName, what: &str| {
            off(vm, what, "Nothing was lost. Its owner can see why.", "See why, if it is yours")
        };
        match error {
            VisitError::Off(vm) => off(
                vm,
                "is off.",
                "Its site is there again when its owner turns it on.",
                "Turn it on, if it is yours",
            ),
            VisitError::Failed(vm) => failed(vm, "could not start."),
            VisitError::Connect(error) => match error {
                ConnectError::StartFailed { vm, .. } => failed(vm, "could not start."),
                ConnectError::WakeFailed { vm, .. } => failed(vm, "could not be woken."),
                ConnectError::Unavailable { vm, .. } => failed(vm, "cannot be reached."),
                ConnectError::Stopped { vm } => failed(vm, "was stopped."),
                ConnectError::Removed { .. } | ConnectError::NotShared { .. } => Self::missing(),
                ConnectError::Silent { vm, .. } => Self::silent(vm, port, website),
                ConnectError::Refused { vm, .. } => Self::closed(vm, port, None, website),
            },
        }
    }

    /// As a page, as data or as a line of text, as the visitor's program wants it.
    pub(super) fn told(&self, asked: &HeaderMap) -> Response {
        let accepts = |kind| {
            let accept = asked.get(ACCEPT).and_then(|accept| accept.to_str().ok());
            accept.is_some_and(|accept| accept.contains(kind))
        };
        let mut response = if wants_html(asked) {
            self.page()
        } else if accepts("application/json") {
            let body = serde_json::json!({ "error": { "what": self.what, "next": self.next } });
            ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
        } else {
            format!("{} {}\n", self.what, self.next).into_response()
        };
        *response.status_mut() = self.status;
        response.headers_mut().extend(HEADERS);
        if self.waits {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(AGAIN));
            response.headers_mut().insert(header::REFRESH, HeaderValue::from_static(AGAIN));
        }
        response
    }

    fn page(&self) -> Response {
        let own = |asset: &assets::Asset| format!("{}{}", OWN_PATHS.trim_end_matches('/'), asset.path);
        let page = Page { notice: self, style: own(&assets::STYLE), icon: own(&assets::ICON) };
        match page.render() {
            Ok(page) => html(page).into_response(),
            Err(error) => {
                tracing::error!(%error, "a page could not be rendered");
                format!("{} {}\n", self.what, self.next).into_response()
            }
        }
    }
}

/// The ports that could be meant: not ssh's own.
fn in_words(listeners: &[Listener]) -> String {
    let words = |one: &Listener| {
        if one.local { format!("{} (on localhost alone)", one.port) } else { one.port.to_string() }
    };
    let mut ports: Vec<_> = listeners.iter().filter(|one| one.port != SSH).map(words).collect();
    match (ports.pop(), ports.is_empty()) {
        (None, _) => "Nothing listens in it but ssh.".to_owned(),
        (Some(port), true) => format!("What listens in it: port {port}."),
        (Some(last), false) => format!("What listens in it: ports {} and {last}.", ports.join(", ")),
    }
}

/// What people call a VM: `vm-0.alice`, with its team where that is not the default one.
fn called(vm: &VmName, website: &Website) -> String {
    if vm.team == *website.site.domains.team() { vm.short() } else { vm.to_string() }
}
