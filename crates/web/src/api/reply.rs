//! The answers of operations: each says for the document what it is.

use axum::{
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use super::Refusal;

/// Named schemas.
pub(crate) type Schemas = Vec<(String, RefOr<Schema>)>;

/// One answer that an operation may give.
pub(crate) struct Shape {
    pub(crate) status: StatusCode,
    pub(crate) what: &'static str,
    /// The name of what is in its body.
    pub(crate) body: Option<String>,
}

/// An answer.
pub(crate) trait Reply: IntoResponse {
    /// What it may be. Adds to `schemas` what its bodies are made of.
    fn shapes(schemas: &mut Schemas) -> Vec<Shape>;
}

/// The name of a shape, which is added to `schemas` with all that it is made of.
pub(crate) fn named<T: ToSchema>(schemas: &mut Schemas) -> String {
    let name = T::name().into_owned();
    schemas.push((name.clone(), <T as PartialSchema>::schema()));
    T::schemas(schemas);
    name
}

/// What was asked for.
pub(crate) struct Shown<T>(pub(crate) T);

/// What was made.
pub(crate) struct Made<T>(pub(crate) T);

/// It is done.
pub(crate) struct Done;

/// It is done, or goes on by itself.
pub(crate) enum Begun {
    Done,
    UnderWay,
}

impl<T: Serialize + ToSchema> Reply for Shown<T> {
    fn shapes(schemas: &mut Schemas) -> Vec<Shape> {
        vec![Shape { status: StatusCode::OK, what: "What was asked for.", body: Some(named::<T>(schemas)) }]
    }
}

impl<T: Serialize + ToSchema> Reply for Made<T> {
    fn shapes(schemas: &mut Schemas) -> Vec<Shape> {
        vec![Shape { status: StatusCode::CREATED, what: "What was made.", body: Some(named::<T>(schemas)) }]
    }
}

impl Reply for Done {
    fn shapes(_: &mut Schemas) -> Vec<Shape> {
        vec![Shape { status: StatusCode::NO_CONTENT, what: "It is done.", body: None }]
    }
}

impl Reply for Begun {
    fn shapes(_: &mut Schemas) -> Vec<Shape> {
        let under_way =
            "It takes longer than `wait`, and goes on by itself: ask for the VM to see how it ends.";
        vec![
            Shape { status: StatusCode::NO_CONTENT, what: "It is done.", body: None },
            Shape { status: StatusCode::ACCEPTED, what: under_way, body: None },
        ]
    }
}

impl<T: Serialize> IntoResponse for Shown<T> {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self.0)
    }
}

impl<T: Serialize> IntoResponse for Made<T> {
    fn into_response(self) -> Response {
        json(StatusCode::CREATED, &self.0)
    }
}

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl IntoResponse for Begun {
    fn into_response(self) -> Response {
        match self {
            Self::Done => StatusCode::NO_CONTENT,
            Self::UnderWay => StatusCode::ACCEPTED,
        }
        .into_response()
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            Refusal::broken().into_response()
        }
    }
}
