//! What stands before every route: who may, and whether the form is ours.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, Uri, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;

use crate::{
    Website, api,
    fields::Fields,
    metrics::{self, Asked},
    origin,
    problem::Problem,
    routes::{Forms, Who},
    visitor::{Visitor, Wants},
    words::go,
};

const HX_REDIRECT: HeaderName = HeaderName::from_static("hx-redirect");

/// The rules of one route.
pub(crate) struct Gate {
    pub(crate) website: Arc<Website>,
    pub(crate) who: Who,
    pub(crate) forms: Forms,
    /// What the route is counted as.
    pub(crate) asked: Asked,
}

/// Lets a request through that keeps the rules, and shows what went wrong in the visitor's own frame.
pub(crate) async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let response = match gate.who {
        Who::Token(scope) => api::gate::pass(&gate, scope, request, next).await,
        Who::Monitor => metrics::pass(&gate, request, next).await,
        Who::Anybody | Who::Member | Who::Operator => pass_visitor(&gate, request, next).await,
    };
    gate.website.metrics.answered(&gate.asked, response.status(), began.elapsed());
    response
}

async fn pass_visitor(gate: &Gate, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let visitor = match Visitor::of(&gate.website, &parts).await {
        Ok(visitor) => visitor,
        Err(problem) => return problem.alone(Wants::of(&parts.headers)),
    };
    let mut response = match gate.admit(&visitor, parts, body).await {
        Ok(request) => {
            let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
            answered.unwrap_or_else(|_| Problem::broken().into_response())
        }
        Err(refusal) => *refusal,
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = problem.shown_to(&visitor);
    }
    visitor.mark(&mut response);
    response
}

impl Gate {
    /// The request with the visitor and the form's fields in it. Refusals are boxed, being large.
    async fn admit(
        &self,
        visitor: &Visitor,
        mut parts: Parts,
        mut body: Body,
    ) -> Result<Request, Box<Response>> {
        if matches!(self.forms, Forms::Own { .. } | Forms::Socket) && !origin::is_own(&parts.headers) {
            return Err(Box::new(Problem::foreign().into_response()));
        }
        if self.who != Who::Anybody && visitor.login().is_none() {
            return Err(Box::new(log_in_first(visitor.wants(), &parts.uri, self.forms)));
        }
        // As for a page that is not there: who may not operate need not know what there is to operate.
        if self.who == Who::Operator && !visitor.is_operator() {
            return Err(Box::new(Problem::missing().into_response()));
        }
        if let Forms::Own { most } = self.forms {
            let read = Fields::read(&parts.headers, std::mem::take(&mut body), most).await;
            let fields = read.map_err(|problem| Box::new(problem.into_response()))?;
            if !visitor.made_the_form(fields.get("csrf")) {
                return Err(Box::new(Problem::stale_form().into_response()));
            }
            parts.extensions.insert(fields);
        }
        parts.extensions.insert(visitor.clone());
        Ok(Request::from_parts(parts, body))
    }
}

/// Where somebody is sent who has to log in, and comes back from when it was a page that they asked for.
fn log_in_first(wants: Wants, asked: &Uri, forms: Forms) -> Response {
    let back = match (forms, asked.path_and_query()) {
        (Forms::None | Forms::Asked, Some(path)) if path.as_str() != "/" => {
            let path: String = form_urlencoded::byte_serialize(path.as_str().as_bytes()).collect();
            format!("/log-in?to={path}")
        }
        _ => "/log-in".to_owned(),
    };
    match wants {
        Wants::Page => go(&back),
        Wants::Part => match HeaderValue::try_from(back) {
            Ok(back) => [(HX_REDIRECT, back)].into_response(),
            Err(_) => go("/log-in"),
        },
        Wants::Events => StatusCode::UNAUTHORIZED.into_response(),
        Wants::Json => Problem::log_in().into_response(),
    }
}
