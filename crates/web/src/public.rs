//! The first page alone: the website of a server that has not been given its log-in yet.

use std::sync::Arc;

use askama::Template;
use axum::{
    Router,
    http::{HeaderMap, Uri},
    middleware,
    response::IntoResponse,
};

use crate::{
    Site, assets,
    frame::{Frame, Here},
    headers,
    host::{self, Names},
    pages::{environments::Out, files},
    problem::Problem,
    visitor::Wants,
    words::html,
};

/// The first page and the files that it needs, without anything that somebody would log in for. See
/// [`website`](crate::website) for all of it.
///
/// # Errors
/// When the page cannot be rendered, which no content of `site` causes.
pub fn router(site: &Site) -> Result<Router, askama::Error> {
    // Without the link to the log-in.
    let frame = Frame { here: Here::LogIn, ..Frame::of_nobody() };
    let page = Arc::new(Out::new(site, frame).render()?);
    let answer = async move |uri: Uri, headers: HeaderMap| match uri.path() {
        "/" => html(page.as_ref().clone()),
        "/healthz" => files::health().await.into_response(),
        path => match assets::ALL.iter().find(|asset| asset.path == path) {
            Some(asset) => asset.answer(&headers),
            None => Problem::missing().alone(Wants::of(&headers)),
        },
    };
    Ok(Router::new()
        .fallback(answer)
        .layer(middleware::from_fn_with_state(Arc::new(Names::new(&site.domains)), host::check))
        .layer(middleware::from_fn(headers::add)))
}
