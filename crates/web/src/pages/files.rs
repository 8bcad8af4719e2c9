//! What is no page: the files that pages refer to, and the answer for whatever watches this server.

use std::sync::Arc;

use axum::{
    http::HeaderMap,
    routing::{MethodRouter, get},
};

use crate::{Website, assets};

/// It is up and serves.
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

/// Each file with its path.
pub(crate) fn assets() -> impl Iterator<Item = (&'static str, MethodRouter<Arc<Website>>)> {
    let all = assets::COMMON.into_iter().chain(assets::TERMINAL);
    all.map(|asset| (asset.path, get(move |asked: HeaderMap| async move { asset.answer(&asked) })))
}
