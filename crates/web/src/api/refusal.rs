//! What went wrong, as JSON: a kind for programs and a sentence for people. The one file that turns errors into answers
//! of the API.

use std::{borrow::Cow, time::Duration};

use axum::{
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use berth_control::{Error, Kind, Scope, WebError};

use crate::problem::{self, Problem};

/// A refusal or a failure.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    message: Cow<'static, str>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), header: None }
    }

    fn with(self, name: HeaderName, value: impl Into<String>) -> Self {
        Self { header: HeaderValue::try_from(value.into()).ok().map(|value| (name, value)), ..self }
    }

    /// There is none of this name, or it is somebody else's: the same words for both.
    pub(crate) fn missing() -> Self {
        Self::new(StatusCode::NOT_FOUND, "There is no such thing, or none for you.")
    }

    pub(crate) fn wrong_method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "This address does not take that kind of request. See /api.",
        )
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// The challenges are those of RFC 6750, section 3.
    pub(crate) fn no_token() -> Self {
        let message = "Send a token: Authorization: Bearer berth_…  You make one at /account/tokens.";
        Self::new(StatusCode::UNAUTHORIZED, message).with(WWW_AUTHENTICATE, "Bearer realm=\"Berth\"")
    }

    pub(crate) fn bad_token() -> Self {
        let message = "This token is none, or it is over or was removed. You make one at /account/tokens.";
        let challenge = "Bearer realm=\"Berth\", error=\"invalid_token\"";
        Self::new(StatusCode::UNAUTHORIZED, message).with(WWW_AUTHENTICATE, challenge)
    }

    /// The token is for other things.
    pub(crate) fn scope(scope: Scope) -> Self {
        let challenge = format!("Bearer realm=\"Berth\", error=\"insufficient_scope\", scope=\"{scope}\"");
        Self::new(StatusCode::FORBIDDEN, Error::NotInScope(scope).to_string())
            .with(WWW_AUTHENTICATE, challenge)
    }

    pub(crate) fn too_many(message: impl Into<Cow<'static, str>>, wait: Duration) -> Self {
        // Rounded up: who comes back too early is refused again.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self::new(StatusCode::TOO_MANY_REQUESTS, message).with(RETRY_AFTER, seconds.max(1).to_string())
    }

    pub(crate) fn broken() -> Self {
        Problem::broken().into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": { "kind": kind(self.status), "message": self.message } });
        let mut response =
            (self.status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response();
        response.headers_mut().extend(self.header);
        response
    }
}

/// What programs compare.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => "invalid",
        StatusCode::UNAUTHORIZED => "unauthenticated",
        StatusCode::FORBIDDEN => "denied",
        StatusCode::NOT_FOUND => "missing",
        StatusCode::METHOD_NOT_ALLOWED => "wrong_method",
        StatusCode::REQUEST_TIMEOUT => "too_slow",
        StatusCode::CONFLICT => "conflict",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported",
        StatusCode::TOO_MANY_REQUESTS => "too_many",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        _ => "broken",
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::new(problem.status, format!("{} {}", problem.what, problem.next))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match (error.kind(), error) {
            (_, Error::NotInScope(scope)) => Self::scope(scope),
            (Kind::Missing, _) => Self::missing(),
            (kind, Error::WakeFailed { vm, reason }) => Self::new(
                problem::status(kind),
                format!(
                    "{} could not be woken: {reason}. Nothing on its disk was lost. Start it with \"from_disk\": true to give up what \
                     was open in it.",
                    vm.label()
                ),
            ),
            (kind, error) => Self::new(problem::status(kind), problem::words(&error)),
        }
    }
}

impl From<WebError> for Refusal {
    fn from(error: WebError) -> Self {
        match error {
            WebError::Other(error) => error.into(),
            WebError::Missing | WebError::LinkGone => Self::missing(),
            WebError::TooManyTries { wait } => Self::too_many(error.to_string(), wait),
            error => Self::new(problem::status(error.kind()), error.to_string()),
        }
    }
}
