//! Logging in with an account elsewhere, through the pages.

use std::time::Duration;

use axum::http::StatusCode;

use crate::{
    issuer::Issuer,
    world::{Browser, World},
};

const COOKIE: &str = "__Host-berth-oidc";

/// Connects an account at the issuer with that of who is logged in.
async fn connect(browser: &mut Browser, issuer: &Issuer, subject: &str) {
    browser.get("/account").await;
    let sent = browser.post("/account/oidc", &[]).await;
    let back = issuer.log_in(&sent.body, subject);
    assert_eq!(browser.get(&back).await.location(), "/account#connected");
}

#[tokio::test]
async fn without_an_issuer_there_is_no_button() {
    let world = World::new().await;
    let mut browser = world.browser();
    assert!(!browser.get("/log-in").await.body.contains("/log-in/oidc"));
    let refused = browser.post("/log-in/oidc", &[]).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert!(!world.logged_in("alice").await.get("/account").await.body.contains("/account/oidc"));
}

#[tokio::test]
async fn an_account_is_connected_lets_in_and_is_removed() {
    let world = World::new().await;
    let issuer = Issuer::offered_by(&world);
    let mut alice = world.logged_in("alice").await;
    connect(&mut alice, &issuer, "eve").await;
    let page = alice.get("/account").await.body;
    assert!(page.contains("eve@example.com") && page.contains("https://id.example"), "{page}");

    let mut browser = world.browser();
    assert!(browser.get("/log-in?to=/account/keys").await.body.contains("Log in with Example"));
    let sent = browser.post("/log-in/oidc", &[("to", "/account/keys")]).await;
    let cookie = sent.headers["set-cookie"].to_str().unwrap();
    for part in
        ["__Host-berth-oidc=", "; HttpOnly", "; SameSite=Lax", "; Secure", "; Path=/", "; Max-Age=300"]
    {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(sent.headers["content-security-policy"].to_str().unwrap().contains("form-action 'self'"));
    let back = issuer.log_in(&sent.body, "eve");
    let entered = browser.get(&back).await;
    assert_eq!((entered.status, entered.location()), (StatusCode::SEE_OTHER, "/account/keys"));
    assert!(!browser.cookies.contains_key(COOKIE), "it is over");
    assert!(browser.get("/account").await.body.contains("<dd>alice</dd>"));

    let page = browser.get("/account").await.body;
    let (_, rest) = page.split_once("action=\"/account/oidc/").unwrap();
    let path = format!("/account/oidc/{}", rest.split('"').next().unwrap());
    let mut bob = world.logged_in("bob").await;
    assert_eq!(bob.post(&path, &[]).await.status, StatusCode::NOT_FOUND, "somebody else's");
    assert_eq!(browser.post(&path, &[]).await.location(), "/account#connected");
    let mut again = world.browser();
    again.get("/log-in").await;
    let sent = again.post("/log-in/oidc", &[]).await;
    let refused = again.get(&issuer.log_in(&sent.body, "eve")).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.body.contains("is not connected with an account here"), "{}", refused.body);
    assert!(!again.cookies.contains_key("__Host-berth"));
}

#[tokio::test]
async fn an_answer_counts_once_and_only_in_the_browser_that_was_sent() {
    let world = World::new().await;
    let issuer = Issuer::offered_by(&world);
    let mut alice = world.logged_in("alice").await;
    connect(&mut alice, &issuer, "eve").await;
    let mut browser = world.browser();
    browser.get("/log-in").await;
    let back = issuer.log_in(&browser.post("/log-in/oidc", &[]).await.body, "eve");

    // A link that somebody sends: it would log its victim in as whoever made it.
    let mut victim = world.browser();
    assert_eq!(victim.get(&back).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!victim.cookies.contains_key("__Host-berth"));
    let kept = browser.clone();
    assert_eq!(browser.get(&back).await.status, StatusCode::SEE_OTHER);
    assert_eq!(kept.clone().get(&back).await.status, StatusCode::UNPROCESSABLE_ENTITY, "replayed");
    for odd in ["/log-in/oidc", "/log-in/oidc?error=access_denied&state=x", "/log-in/oidc?state=%00&code=%1b"]
    {
        let answer = world.browser().get(odd).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{odd}");
        assert!(answer.body.contains("<h1>Log in</h1>"), "{odd}");
    }
}

#[tokio::test]
async fn where_to_go_after_it_is_on_this_site() {
    let world = World::new().await;
    let issuer = Issuer::offered_by(&world);
    connect(&mut world.logged_in("alice").await, &issuer, "eve").await;
    for evil in ["//evil.example", "https://evil.example", "/\\evil.example", ""] {
        let mut browser = world.browser();
        browser.get("/log-in").await;
        let sent = browser.post("/log-in/oidc", &[("to", evil)]).await;
        assert_eq!(browser.get(&issuer.log_in(&sent.body, "eve")).await.location(), "/", "{evil}");
    }
}

#[tokio::test]
async fn who_logged_in_long_ago_confirms_first() {
    let world = World::new().await;
    let _issuer = Issuer::offered_by(&world);
    let mut alice = world.logged_in("alice").await;
    world.later(Duration::from_secs(31 * 60)).await;
    let first = alice.post("/account/oidc", &[]).await;
    assert_eq!(first.location(), "/account/confirm?to=%2Faccount%23connected");
    assert!(alice.get(first.location()).await.body.contains("<h1>Confirm that it is you</h1>"));
}
