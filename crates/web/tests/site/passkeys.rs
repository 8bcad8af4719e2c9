//! Passkeys through the pages. That a browser's own are taken is tried in a browser: npm/passkeys.mjs.

use std::time::Duration;

use axum::{body::Body, http::StatusCode};
use serde_json::Value;

use crate::world::{Browser, PASSWORD, World};

async fn options(browser: &mut Browser, path: &str) -> (StatusCode, Value) {
    let request = browser.request("GET", path).header("accept", "application/json").body(Body::empty());
    let answer = browser.ask(request.unwrap()).await;
    assert_eq!(answer.headers["content-type"], "application/json");
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

#[tokio::test]
async fn a_browser_is_told_what_to_ask_for() {
    let world = World::new().await;
    let (status, asked) = options(&mut world.browser(), "/log-in/passkey/options").await;
    assert_eq!((status, asked["rpId"].as_str()), (StatusCode::OK, Some("koding.com")));
    let mut alice = world.logged_in("alice").await;
    let (status, asked) = options(&mut alice, "/account/passkeys/options").await;
    assert_eq!((status, asked["user"]["name"].as_str()), (StatusCode::OK, Some("alice")));

    world.later(Duration::from_secs(31 * 60)).await;
    let (status, refused) = options(&mut alice, "/account/passkeys/options").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(refused["error"]["what"], "Confirm first that it is you.");
    assert_eq!(options(&mut alice, "/account/confirm/passkey/options").await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_no_passkey_signed_lets_nobody_in() {
    let world = World::new().await;
    let mut browser = world.browser();
    let page = browser.get("/log-in?to=/account/keys").await.body;
    assert!(page.contains("data-passkey=\"get\"") && page.contains("username webauthn"), "{page}");
    for nonsense in ["", "{", "[]", "{\"id\":1}", "\u{1b}"] {
        let answer = browser.post("/log-in/passkey", &[("credential", nonsense)]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{nonsense}");
    }
    let made_up = r#"{"id":"AAAA","rawId":"AAAA","type":"public-key","response":
        {"clientDataJSON":"e30","authenticatorData":"AAAA","signature":"AAAA","userHandle":"AAAA"}}"#;
    let answer = browser.post("/log-in/passkey", &[("credential", made_up), ("to", "/account/keys")]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.body);
    assert!(answer.body.contains("That passkey does not let you in here."), "{}", answer.body);
    assert!(answer.body.contains("value=\"/account/keys\""), "it is not forgotten where they wanted to go");
    assert!(!browser.cookies.contains_key("__Host-berth"));

    let mut alice = world.logged_in("alice").await;
    let answer = alice.post("/account/confirm/passkey", &[("credential", made_up)]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let large = "a".repeat(70_000);
    let answer = alice.post("/account/passkeys", &[("credential", &large)]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    for path in ["/account/passkeys/1", "/account/passkeys/x"] {
        assert_eq!(alice.get(path).await.status, StatusCode::NOT_FOUND);
        assert_eq!(alice.post(&format!("{path}/remove"), &[]).await.status, StatusCode::NOT_FOUND);
        assert_eq!(alice.post(&format!("{path}/rename"), &[]).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_password_confirms_and_the_page_goes_on_where_it_was() {
    let world = World::new().await;
    world.has_password("alice").await;
    let mut alice = world.logged_in("alice").await;
    world.later(Duration::from_secs(31 * 60)).await;
    assert!(alice.get("/account").await.body.contains("/account/confirm?to=/account%23passkeys"));
    let page = alice.get("/account/confirm?to=/account%23passkeys").await.body;
    assert!(page.contains("name=\"to\" value=\"/account#passkeys\""), "{page}");
    let wrong = alice.post("/account/confirm", &[("old", "nonsense"), ("to", "/account/tokens")]).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.body.contains("That is not your password."), "{}", wrong.body);
    for (to, gone) in [("/account#passkeys", "/account#passkeys"), ("//evil.example", "/account")] {
        let done = alice.post("/account/confirm", &[("old", PASSWORD), ("to", to)]).await;
        assert_eq!((done.status, done.location()), (StatusCode::SEE_OTHER, gone));
    }
    assert!(alice.get("/account").await.body.contains("data-passkey=\"create\""));
}
