//! What a form was sent with.

use axum::{
    body::Body,
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE, request::Parts},
};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

use crate::problem::Problem;

/// The most fields of a form; ours have less than ten.
const MAX_FIELDS: usize = 64;
/// How long a client may take to send what it sends.
const PATIENCE: Duration = Duration::from_secs(30);

/// The fields of a form whose token was right: the guard puts it into the request.
// Without Debug: passwords come this way.
#[derive(Clone)]
pub(crate) struct Fields(Arc<Vec<(String, String)>>);

impl Fields {
    /// Reads a body of at most `most` bytes.
    pub(crate) async fn read(headers: &HeaderMap, body: Body, most: usize) -> Result<Self, Problem> {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "That is not how a form is sent.",
                "Send it as application/x-www-form-urlencoded.",
            ));
        }
        let bytes = read_body(body, most).await?;
        let fields: Vec<_> = form_urlencoded::parse(&bytes).into_owned().take(MAX_FIELDS + 1).collect();
        if fields.len() > MAX_FIELDS {
            let what = "The form has more fields than any form here.";
            return Err(Problem::new(StatusCode::BAD_REQUEST, what, "Open the page again."));
        }
        Ok(Self(Arc::new(fields)))
    }

    /// The first field of this name; empty where there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }

    /// A field of this name with JSON in it that a script of ours put there.
    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, Problem> {
        serde_json::from_str(self.get(name)).map_err(|_| {
            let what = "The browser did not send what was asked for.";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, what, "Try again, or use another way.")
        })
    }

    /// Every field of this name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// The whole of a body of at most `most` bytes.
///
/// # Errors
/// It is longer, is cut off, or takes too long.
pub(crate) async fn read_body(body: Body, most: usize) -> Result<Bytes, Problem> {
    match timeout(PATIENCE, Limited::new(body, most).collect()).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::too_large(most)),
        Ok(Err(_)) => {
            Err(Problem::new(StatusCode::BAD_REQUEST, "What was sent was cut off.", "Send it again."))
        }
        Err(_) => {
            let what = "What was sent took too long to arrive.";
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, what, "Send it again."))
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Fields {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::broken)
    }
}
