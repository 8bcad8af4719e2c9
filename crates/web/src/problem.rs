//! What went wrong, in the house's voice: first what is, then what to do. The one file that turns errors into HTTP.

use std::borrow::Cow;

use askama::Template;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use berth_control::{Error, Kind, MAX_SHARES, WebError};

use crate::{
    frame::{Frame, Here},
    visitor::{Visitor, Wants},
    words::html,
};

/// A refusal or a failure: a heading, and what to do.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) what: Cow<'static, str>,
    pub(crate) next: Cow<'static, str>,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct Page<'a> {
    frame: Frame,
    problem: &'a Problem,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        what: impl Into<Cow<'static, str>>,
        next: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, what: what.into(), next: next.into() }
    }

    /// There is no such page, or none that this visitor may know of.
    pub(crate) fn missing() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "There is no such page.",
            "Check the address, or begin at the start page.",
        )
    }

    pub(crate) fn wrong_method() -> Self {
        let what = "This address does not take that kind of request.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, what, "Begin at the start page.")
    }

    /// A form that another site made.
    pub(crate) fn foreign() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "That did not come from a page of this site.",
            "Nothing was done. If it was you, open the page here and do it again.",
        )
    }

    /// A form of another log-in, or from before this one.
    pub(crate) fn stale_form() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "That page was too old.",
            "Nothing was done. Open it again and repeat what you did. If it goes on, let the browser keep this site’s cookies.",
        )
    }

    /// What is only spoken over a WebSocket.
    pub(crate) fn no_socket() -> Self {
        Self::new(
            StatusCode::UPGRADE_REQUIRED,
            "This address is for the terminal’s page, and not for people.",
            "Open the terminal of one of your VMs.",
        )
    }

    /// A link to watch a terminal that leads to nothing (any more).
    pub(crate) fn not_shared() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "This link does not work any more.",
            "It worked for as long as the terminal was shared. Ask whoever gave it to you for another one.",
        )
    }

    pub(crate) fn too_large(most: usize) -> Self {
        let what = format!("That is more than {} KiB, too much for this.", most / 1024);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, what, "Nothing was done. Send less.")
    }

    /// A body of an operation that is something else.
    pub(crate) fn not_json() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The body is not said to be JSON.",
            "Send it as application/json.",
        )
    }

    pub(crate) fn log_in() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "You are not logged in.", "Log in first.")
    }

    pub(crate) fn too_many_pages() -> Self {
        let what = "Too many pages of this site are open.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, what, "Close some of them.")
    }

    /// Something of ours failed. What, is in the log.
    pub(crate) fn broken() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something went wrong in Berth.",
            "It has been noted for the operator. Try again in a moment.",
        )
    }

    /// As JSON, or as a page without anybody's name: for what is refused before it is known who asks.
    pub(crate) fn alone(&self, wants: Wants) -> Response {
        match wants {
            Wants::Json => self.json(),
            _ => self.page(Frame::of_nobody()),
        }
    }

    pub(crate) fn shown_to(&self, visitor: &Visitor) -> Response {
        match visitor.wants() {
            Wants::Json => self.json(),
            _ => self.page(Frame::new(visitor, Here::Elsewhere)),
        }
    }

    fn json(&self) -> Response {
        let body = serde_json::json!({ "error": { "what": self.what, "next": self.next } });
        (self.status, [("content-type", "application/json")], body.to_string()).into_response()
    }

    fn page(&self, frame: Frame) -> Response {
        match (Page { frame, problem: self }).render() {
            Ok(page) => (self.status, html(page)).into_response(),
            Err(error) => {
                tracing::error!(%error, "a page could not be rendered");
                (self.status, format!("{} {}\n", self.what, self.next)).into_response()
            }
        }
    }
}

/// Left for the guard, which knows in whose frame it is to be shown.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let next = match error.kind() {
            Kind::Missing => return Self::missing(),
            Kind::Unavailable => "Try again in a moment.",
            _ => "Nothing was done.",
        };
        Self::new(status(error.kind()), words(&error), next)
    }
}

impl From<WebError> for Problem {
    fn from(error: WebError) -> Self {
        match error {
            WebError::Other(error) => error.into(),
            WebError::Missing => Self::missing(),
            WebError::LinkGone => Self::new(
                StatusCode::NOT_FOUND,
                "This link does not work any more.",
                "A link works once, and not for long. Ask for a new one, or log in with your password.",
            ),
            error => Self::new(web_status(&error), error.to_string(), "Nothing was done."),
        }
    }
}

impl From<askama::Error> for Problem {
    fn from(error: askama::Error) -> Self {
        tracing::error!(%error, "a page could not be rendered");
        Self::broken()
    }
}

/// The status code of a sort of error.
pub(crate) fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Denied => StatusCode::FORBIDDEN,
        Kind::Missing => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The status code of an error of the log-in.
pub(crate) fn web_status(error: &WebError) -> StatusCode {
    match error {
        WebError::TooManyTries { .. } => StatusCode::TOO_MANY_REQUESTS,
        error => status(error.kind()),
    }
}

/// An error for a member, who has buttons where the operator has commands.
pub(crate) fn words(error: &Error) -> String {
    match error {
        Error::AlwaysOn(vm) => {
            format!("{} is always-on, so it does not sleep. Turn that off first.", vm.label())
        }
        Error::WakeFailed { vm, reason } => format!(
            "{} could not be woken: {reason}. Nothing on its disk was lost. Try again, or start it from its disk, which gives up \
             what ran in it.",
            vm.label()
        ),
        Error::StartFailed { vm, reason } => {
            format!("{} could not start: {reason}. Nothing was lost.", vm.label())
        }
        Error::NotRunning(vm) => format!("{} is not running, so it cannot be put to sleep.", vm.label()),
        Error::InUse(vm) => format!("Somebody is connecting to {} at this moment. Try again.", vm.label()),
        Error::Overruled(vm) => format!("{} was stopped by somebody else in the meantime.", vm.label()),
        Error::BeingRemoved(vm) => format!("{} is being removed.", vm.label()),
        Error::Rebuilding(vm) => format!("{} is being rebuilt. Wait until that is done.", vm.label()),
        Error::NoSuchAccount(_) | Error::NoSuchVm(_) | Error::NoSuchKey { .. } => {
            "It is not there any more.".into()
        }
        Error::OwnVm(vm) => format!("{} is yours already. Share it with somebody else.", vm.label()),
        Error::TooManyShares(vm) => format!(
            "{} is shared with {MAX_SHARES} people, and more are not possible. Take it back from one of them first.",
            vm.label()
        ),
        Error::AmbiguousKey { .. } => "More than one key is called that. Name it by its fingerprint.".into(),
        error => error.to_string(),
    }
}
