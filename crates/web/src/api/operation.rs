//! An operation: a row of the table of routes, with what the document says of it. Both are made of the types of the one
//! function that answers.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::Method,
    response::IntoResponse,
    routing::{MethodFilter, on},
};
use berth_control::Scope;
use serde::de::DeserializeOwned;
use utoipa::{
    IntoParams, ToSchema,
    openapi::path::{Parameter, ParameterIn},
};

use super::{
    Refusal,
    call::{Call, is_nothing},
    reply::{Reply, Schemas, Shape, named},
};
use crate::{
    Website,
    routes::{Forms, Route, Row, SHORT, Who},
};

/// What an operation is about: a chapter of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Chapter {
    Vms,
    Keys,
    Account,
    Accounts,
    Operators,
}

impl Chapter {
    pub(crate) const ALL: [Self; 5] = [Self::Vms, Self::Keys, Self::Account, Self::Accounts, Self::Operators];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Vms => "VMs",
            Self::Keys => "SSH keys",
            Self::Account => "Your account",
            Self::Accounts => "Accounts, for operators",
            Self::Operators => "This Berth, for operators",
        }
    }
}

/// What the document says of an operation.
pub(crate) struct Operation {
    pub(crate) chapter: Chapter,
    /// A word for programs that are made from the document.
    pub(crate) id: &'static str,
    /// A sentence or two.
    pub(crate) what: &'static str,
    pub(crate) parameters: Vec<Parameter>,
    /// The name of what is in its body.
    pub(crate) body: Option<String>,
    pub(crate) replies: Vec<Shape>,
    /// What the bodies are made of.
    pub(crate) schemas: Schemas,
}

/// Where an operation is, and who may.
pub(crate) struct At {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) scope: Scope,
}

/// What is said of it.
pub(crate) struct About {
    pub(crate) chapter: Chapter,
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
}

/// The row of an operation that is answered by `answer`.
pub(crate) fn row<P, Q, B, R, F, Answering>(at: At, about: About, answer: F) -> Row
where
    P: DeserializeOwned + IntoParams + Send + 'static,
    Q: DeserializeOwned + IntoParams + Send + 'static,
    B: DeserializeOwned + ToSchema + Send + 'static,
    R: Reply,
    F: Fn(Call<P, Q, B>) -> Answering + Clone + Send + Sync + 'static,
    Answering: Future<Output = Result<R, Refusal>> + Send + 'static,
{
    let forms = if at.method == Method::GET { Forms::None } else { Forms::Token { most: SHORT } };
    let filter = MethodFilter::try_from(at.method.clone()).unwrap_or(MethodFilter::GET);
    let handler = move |State(website): State<Arc<Website>>, request: Request| {
        let answer = answer.clone();
        async move {
            let answered = match Call::read(website, request).await {
                Ok(call) => answer(call).await,
                Err(refusal) => Err(refusal),
            };
            answered.map_or_else(IntoResponse::into_response, IntoResponse::into_response)
        }
    };
    let mut schemas = vec![];
    let mut parameters = P::into_params(|| Some(ParameterIn::Path));
    parameters.extend(Q::into_params(|| Some(ParameterIn::Query)));
    let operation = Operation {
        chapter: about.chapter,
        id: about.id,
        what: about.what,
        parameters,
        body: if is_nothing::<B>() { None } else { Some(named::<B>(&mut schemas)) },
        replies: R::shapes(&mut schemas),
        schemas,
    };
    let route = Route { method: at.method, path: at.path, who: Who::Token(at.scope), forms };
    Row { route, answer: on(filter, handler), operation: Some(operation) }
}
