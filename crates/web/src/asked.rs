//! What an address asks for besides its route. Whatever cannot be read is as if it were not there, or a page that is not.

use std::convert::Infallible;

use axum::{
    RequestPartsExt,
    extract::{FromRequestParts, Path},
    http::request::Parts,
};

use berth_control::AuditId;

use crate::{problem::Problem, words::plain};

/// The parameter in the path.
pub(crate) struct Named(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.extract::<Path<String>>().await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(_) => Err(Problem::missing()),
        }
    }
}

/// What comes after the question mark. The header's bound is its bound.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// The first value of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// After which line of the audit trail a page of it begins.
    pub(crate) fn before(&self) -> Option<AuditId> {
        self.get("before")?.parse().ok()
    }

    /// After what a page of a list begins.
    pub(crate) fn after(&self) -> Option<&str> {
        self.get("after").filter(|after| !after.is_empty())
    }

    /// What is searched for, of at most 100 characters.
    pub(crate) fn search(&self) -> String {
        const MOST: usize = 100;
        plain(self.get("q").unwrap_or_default(), MOST)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}
