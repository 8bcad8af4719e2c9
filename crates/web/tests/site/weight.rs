//! What the first page costs on the wire.

use std::io::Write;

use axum::{body::Body, http::header::ACCEPT_ENCODING};
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::world::{Browser, World};

/// The bytes of an answer as a browser that takes Brotli gets it, with its headers.
async fn sent(browser: &Browser, path: &str) -> (usize, String) {
    let request = browser.request("GET", path).header(ACCEPT_ENCODING, "br, gzip").body(Body::empty());
    let (parts, body) = browser.router.clone().oneshot(request.unwrap()).await.unwrap().into_parts();
    let headers: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let body = body.collect().await.unwrap().to_bytes();
    (headers + body.len(), String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn the_first_page_and_all_that_it_loads_are_less_than_a_hundred_kilobytes() {
    const MOST: usize = 100 * 1024;
    let world = World::new().await;
    for _ in 0..4 {
        world.control.add_vm(&crate::world::account("alice")).await.unwrap();
    }
    let alice = world.logged_in("alice").await;
    let (mut sum, page) = sent(&alice, "/").await;
    let mut said = format!("/: {sum}");
    let mut assets: Vec<&str> = page.split('"').filter(|part| part.starts_with("/assets/")).collect();
    assets.sort_unstable();
    assets.dedup();
    assert!(assets.len() >= 4, "{assets:?}");
    for asset in assets {
        let (bytes, _) = sent(&alice, asset).await;
        said += &format!(", {asset}: {bytes}");
        sum += bytes;
    }
    // Shown with --nocapture.
    let _ = writeln!(std::io::stdout(), "{sum} bytes ({said})");
    assert!(sum <= MOST, "{sum} bytes: {said}");
}
