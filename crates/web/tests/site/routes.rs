//! The table of routes: what it says, and that it is so.

use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use berth_web::{Forms, Route, Who, routes};

use crate::world::{Browser, World};

/// The table as it was agreed on. A new route is added here by somebody who has thought about who may and whose form.
const AGREED: &str = "
DELETE /api/v1/accounts/{account} | Token(OpsWrite) | with its token
DELETE /api/v1/accounts/{account}/keys/{key} | Token(OpsWrite) | with its token
DELETE /api/v1/invitations/{invitation} | Token(OpsWrite) | with its token
DELETE /api/v1/keys/{key} | Token(KeysWrite) | with its token
DELETE /api/v1/shared-vms/{vm} | Token(VmsWrite) | with its token
DELETE /api/v1/team-cas/{ca} | Token(OpsWrite) | with its token
DELETE /api/v1/vms/{vm} | Token(VmsWrite) | with its token
DELETE /api/v1/vms/{vm}/shares/{account} | Token(VmsWrite) | with its token
GET / | Anybody | reads
GET /account | Member | reads
GET /account/activity | Member | reads
GET /account/confirm | Member | reads
GET /account/confirm/passkey/options | Member | reads
GET /account/keys | Member | reads
GET /account/keys/{key}/remove | Member | reads
GET /account/keys/{key}/rename | Member | reads
GET /account/passkeys/options | Member | reads
GET /account/passkeys/{passkey} | Member | reads
GET /account/sessions | Member | reads
GET /account/tokens | Member | reads
GET /api | Anybody | reads
GET /api/openapi.json | Anybody | reads
GET /api/v1/account | Token(AccountRead) | reads
GET /api/v1/account/activity | Token(AccountRead) | reads
GET /api/v1/accounts | Token(OpsRead) | reads
GET /api/v1/accounts/{account} | Token(OpsRead) | reads
GET /api/v1/accounts/{account}/keys | Token(OpsRead) | reads
GET /api/v1/accounts/{account}/limits | Token(OpsRead) | reads
GET /api/v1/accounts/{account}/vms | Token(OpsRead) | reads
GET /api/v1/all-vms | Token(OpsRead) | reads
GET /api/v1/audit | Token(OpsRead) | reads
GET /api/v1/connections | Token(OpsRead) | reads
GET /api/v1/invitations | Token(OpsRead) | reads
GET /api/v1/keys | Token(KeysRead) | reads
GET /api/v1/shared-vms | Token(VmsRead) | reads
GET /api/v1/team-cas | Token(OpsRead) | reads
GET /api/v1/team-vms | Token(VmsRead) | reads
GET /api/v1/vms | Token(VmsRead) | reads
GET /api/v1/vms/{vm} | Token(VmsRead) | reads
GET /api/v1/vms/{vm}/boot-log | Token(VmsRead) | reads
GET /api/v1/vms/{vm}/ports | Token(VmsRead) | reads
GET /api/v1/vms/{vm}/shares | Token(VmsRead) | reads
GET /api/v1/vms/{vm}/why | Token(VmsRead) | reads
GET /enter | Member | reads
GET /healthz | Anybody | reads
GET /help | Member | reads
GET /link/{token} | Anybody | reads
GET /live | Member | reads
GET /live/environments | Member | reads
GET /live/keys | Member | reads
GET /live/vms/{vm} | Member | reads
GET /log-in | Anybody | reads
GET /log-in/oidc | Anybody | asked answer
GET /log-in/passkey/options | Anybody | reads
GET /metrics | Monitor | reads
GET /ops | Operator | reads
GET /ops/accounts/{account} | Operator | reads
GET /ops/audit | Operator | reads
GET /ops/connections | Operator | reads
GET /ops/health | Operator | reads
GET /ops/recordings | Operator | reads
GET /ops/recordings/{recording} | Operator | reads
GET /ops/team | Operator | reads
GET /ops/vms | Operator | reads
GET /team | Member | reads
GET /vms/{vm} | Member | reads
GET /vms/{vm}/boot | Member | reads
GET /vms/{vm}/erase | Member | reads
GET /vms/{vm}/rebuild | Member | reads
GET /vms/{vm}/remove | Member | reads
GET /vms/{vm}/resize | Member | reads
GET /vms/{vm}/terminal | Member | reads
GET /vms/{vm}/terminal/open | Member | own WebSocket
GET /watch/{link} | Member | reads
GET /watch/{link}/open | Member | own WebSocket
POST /account/confirm | Member | own form
POST /account/confirm/passkey | Member | own form
POST /account/keys | Member | own form
POST /account/keys/{key}/remove | Member | own form
POST /account/keys/{key}/rename | Member | own form
POST /account/oidc | Member | own form
POST /account/oidc/{oidc}/remove | Member | own form
POST /account/passkeys | Member | own form
POST /account/passkeys/{passkey}/remove | Member | own form
POST /account/passkeys/{passkey}/rename | Member | own form
POST /account/password | Member | own form
POST /account/sessions/end-others | Member | own form
POST /account/sessions/{session}/end | Member | own form
POST /account/tokens | Member | own form
POST /account/tokens/{token}/remove | Member | own form
POST /api/v1/accounts | Token(OpsWrite) | with its token
POST /api/v1/accounts/{account}/keys | Token(OpsWrite) | with its token
POST /api/v1/accounts/{account}/links | Token(OpsWrite) | with its token
POST /api/v1/accounts/{account}/vms | Token(OpsWrite) | with its token
POST /api/v1/invitations | Token(OpsWrite) | with its token
POST /api/v1/keys | Token(KeysWrite) | with its token
POST /api/v1/team-cas | Token(OpsWrite) | with its token
POST /api/v1/team-vms | Token(OpsWrite) | with its token
POST /api/v1/vms | Token(VmsWrite) | with its token
POST /api/v1/vms/{vm}/rebuild | Token(VmsWrite) | with its token
POST /api/v1/vms/{vm}/sleep | Token(VmsWrite) | with its token
POST /api/v1/vms/{vm}/start | Token(VmsWrite) | with its token
POST /api/v1/vms/{vm}/stop | Token(VmsWrite) | with its token
POST /link/{token} | Anybody | own form
POST /log-in | Anybody | own form
POST /log-in/oidc | Anybody | own form
POST /log-in/passkey | Anybody | own form
POST /log-out | Member | own form
POST /ops/accounts/{account}/block | Operator | own form
POST /ops/accounts/{account}/limits | Operator | own form
POST /ops/accounts/{account}/link | Operator | own form
POST /ops/accounts/{account}/role | Operator | own form
POST /ops/invitations | Operator | own form
POST /ops/invitations/{invitation}/remove | Operator | own form
POST /ops/recordings/{recording}/remove | Operator | own form
POST /ops/team/cas | Operator | own form
POST /ops/team/cas/remove | Operator | own form
POST /ops/team/krl | Operator | own form
POST /ops/team/vms | Operator | own form
POST /shared/accept | Member | own form
POST /shared/leave | Member | own form
POST /vms | Member | own form
POST /vms/{vm}/always-on | Member | own form
POST /vms/{vm}/boot | Member | own form
POST /vms/{vm}/erase | Member | own form
POST /vms/{vm}/label | Member | own form
POST /vms/{vm}/people | Member | own form
POST /vms/{vm}/people/remove | Member | own form
POST /vms/{vm}/ports | Member | own form
POST /vms/{vm}/power | Member | own form
POST /vms/{vm}/rebuild | Member | own form
POST /vms/{vm}/remove | Member | own form
POST /vms/{vm}/resize | Member | own form
POST /vms/{vm}/snooze | Member | own form
PUT /api/v1/accounts/{account}/blocked | Token(OpsWrite) | with its token
PUT /api/v1/accounts/{account}/limits | Token(OpsWrite) | with its token
PUT /api/v1/accounts/{account}/role | Token(OpsWrite) | with its token
PUT /api/v1/keys/{key}/label | Token(KeysWrite) | with its token
PUT /api/v1/shared-vms/{vm} | Token(VmsWrite) | with its token
PUT /api/v1/team-krl | Token(OpsWrite) | with its token
PUT /api/v1/vms/{vm}/always-on | Token(VmsWrite) | with its token
PUT /api/v1/vms/{vm}/disk | Token(VmsWrite) | with its token
PUT /api/v1/vms/{vm}/ports/{port} | Token(VmsWrite) | with its token
PUT /api/v1/vms/{vm}/shares/{account} | Token(VmsWrite) | with its token
PUT /api/v1/vms/{vm}/snooze | Token(VmsWrite) | with its token
PUT /api/v1/vms/{vm}/title | Token(VmsWrite) | with its token
";

#[test]
fn the_table_is_as_agreed() {
    let (assets, mut rows): (Vec<_>, Vec<_>) =
        routes().into_iter().partition(|route| route.path.starts_with("/assets/"));
    rows.sort_by_key(ToString::to_string);
    let rows: Vec<_> = rows.iter().map(ToString::to_string).collect();
    let agreed: Vec<_> = AGREED.trim().lines().collect();
    assert_eq!(rows, agreed);
    for asset in assets {
        assert_eq!(
            (asset.method, asset.who, asset.forms),
            (Method::GET, Who::Anybody, Forms::None),
            "{}",
            asset.path
        );
    }
}

#[test]
fn nothing_but_the_table_makes_a_route() {
    let mut looked_at = 0;
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "routes.rs" {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(!text.contains(".route(") && !text.contains(".nest("), "{}", path.display());
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 20);
}

/// A path with something in place of its parameters.
pub(crate) fn filled(route: &Route) -> String {
    route
        .path
        .replace("{vm}", "vm-0")
        .replace("{account}", "bob")
        .replace("{token}", "1")
        .replace("{key}", "1")
        .replace("{session}", "1")
        .replace("{invitation}", "1")
        .replace("{port}", "3000")
        .replace("{passkey}", "1")
        .replace("{oidc}", "1")
}

fn is_for_programs(route: &Route) -> bool {
    matches!(route.who, Who::Token(_) | Who::Monitor)
}

/// What browsers send forms to.
fn unsafe_routes() -> impl Iterator<Item = Route> {
    routes().into_iter().filter(|route| route.method != Method::GET && !is_for_programs(route))
}

#[test]
fn what_changes_something_has_a_rule_and_what_has_none_only_reads() {
    for route in routes() {
        let changes = route.method != Method::GET;
        assert_eq!(matches!(route.forms, Forms::Own { .. } | Forms::Token { .. }), changes, "{route}");
        if changes {
            assert_eq!(matches!(route.forms, Forms::Token { .. }), is_for_programs(&route), "{route}");
        }
    }
}

#[tokio::test]
async fn who_is_not_logged_in_is_sent_to_log_in() {
    let world = World::new().await;
    for route in routes().into_iter().filter(|route| route.who != Who::Anybody && !is_for_programs(route)) {
        let (path, mut nobody) = (filled(&route), world.browser());
        nobody.get("/log-in").await;
        let answer = match route.forms {
            Forms::None | Forms::Asked => nobody.get(&path).await,
            Forms::Own { .. } | Forms::Token { .. } => nobody.post(&path, &[]).await,
            Forms::Socket => {
                let own = nobody.request("GET", &path).header("origin", "https://koding.com");
                nobody.ask(own.body(Body::empty()).unwrap()).await
            }
        };
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{route}");
        assert!(answer.location().starts_with("/log-in"), "{route}: {}", answer.location());

        let events = nobody.request(route.method.as_str(), &path).header("accept", "text/event-stream");
        let events = events.header("origin", "https://koding.com").body(Body::empty()).unwrap();
        assert_eq!(nobody.ask(events).await.status, StatusCode::UNAUTHORIZED, "{route}");
        let part = nobody.request(route.method.as_str(), &path).header("hx-request", "true");
        let part = part.header("origin", "https://koding.com").body(Body::empty()).unwrap();
        assert!(
            nobody.ask(part).await.headers["hx-redirect"].to_str().unwrap().starts_with("/log-in"),
            "{route}"
        );
    }
}

#[tokio::test]
async fn operators_pages_are_not_there_for_members() {
    let world = World::new().await;
    let mut bob = world.logged_in("bob").await;
    let missing = bob.get("/nothing/of/this/name").await;
    for route in routes().into_iter().filter(|route| route.who == Who::Operator) {
        let answer = match route.forms {
            Forms::None | Forms::Asked => bob.get(&filled(&route)).await,
            Forms::Own { .. } | Forms::Token { .. } => bob.post(&filled(&route), &[]).await,
            Forms::Socket => unreachable!("operators have none"),
        };
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{route}");
        // Even the words are those of a page that is not there, but for the tokens in it.
        assert!(
            answer.body.contains("There is no such page.") && missing.body.contains("There is no such page.")
        );
    }
}

#[tokio::test]
async fn a_form_of_another_site_is_refused_everywhere() {
    let world = World::new().await;
    let alice = world.logged_in("alice").await;
    for route in unsafe_routes() {
        for headers in [
            &[][..],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[("origin", "https://vm-0.alice.koding.kd.io")],
            &[("origin", "https://koding.com.evil.example")],
            &[("origin", "https://koding.com"), ("sec-fetch-site", "cross-site")],
            &[("origin", "https://koding.com"), ("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "https://koding.com"), ("origin", "https://evil.example")],
        ] {
            let request = alice.form(&filled(&route), &alice.token, &[("to", "off")], headers);
            let answer = alice.clone().ask(request).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{route} {headers:?}");
            assert!(answer.body.contains("did not come from a page of this site"), "{route} {headers:?}");
        }
    }
}

#[tokio::test]
async fn a_form_without_its_own_token_is_refused_everywhere() {
    let world = World::new().await;
    let (mut alice, bob) = (world.logged_in("alice").await, world.logged_in("bob").await);
    let mut nobody = world.browser();
    nobody.get("/log-in").await;
    let own = [("origin", "https://koding.com"), ("sec-fetch-site", "same-origin")];
    for route in unsafe_routes() {
        let mut asker = if route.who == Who::Anybody { nobody.clone() } else { alice.clone() };
        for token in ["", "x", &bob.token, &"0".repeat(64)] {
            let request = asker.form(&filled(&route), token, &[], &own);
            let answer = asker.ask(request).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{route} {token}");
            assert!(answer.body.contains("That page was too old."), "{route} {token}");
        }
    }
    assert_eq!(alice.get("/account").await.status, StatusCode::OK);
}

#[tokio::test]
async fn every_page_keeps_to_the_policy_and_has_its_tokens() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    let key = world.control.keys(&crate::world::account("alice")).await.unwrap().remove(0).id;
    for route in routes().into_iter().filter(|route| route.forms == Forms::None) {
        let path = filled(&route).replace("/keys/1/", &format!("/keys/{key}/"));
        let path = path.replace("/enter", "/enter?to=https://vm-0--3000.alice.koding.kd.io/");
        if !is_page(&path) {
            continue;
        }
        let answer = alice.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        keeps_to_the_policy(&answer.body, &path);
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
    }
    let mut nobody = world.browser();
    for path in ["/", "/log-in", "/nothing", "/link/x"] {
        let answer = nobody.get(path).await;
        keeps_to_the_policy(&answer.body, path);
    }
}

/// Whether there is a page for alice, who has logged in a moment ago and has one VM, which is off.
fn is_page(path: &str) -> bool {
    let data = path.starts_with("/live") || path.starts_with("/assets") || path.starts_with("/api/");
    let data = data || path.ends_with("/options") || path == "/metrics";
    let elsewhere = [
        "/healthz",
        "/log-in",
        "/log-in/oidc",
        "/link/1",
        "/vms/vm-0/boot",
        "/account/passkeys/1",
        "/watch/{link}",
        "/ops/recordings/{recording}",
    ];
    !data && !elsewhere.contains(&path)
}

pub(crate) fn keeps_to_the_policy(body: &str, path: &str) {
    for inline in ["style=", "<style", " onclick", " onload", "javascript:", "hx-on"] {
        assert!(!body.contains(inline), "{path} has {inline}");
    }
    assert_eq!(body.matches("<script").count(), body.matches("<script src=\"/assets/").count(), "{path}");
    assert_eq!(body.matches("<h1>").count(), 1, "{path}");
    let posts = body.matches("method=\"post\"").count();
    assert_eq!(body.matches("name=\"csrf\" value=\"").count(), posts, "{path}");
    assert!(!body.contains("value=\"\" name=\"csrf\""), "{path}");
}

#[tokio::test]
async fn every_answer_has_the_headers() {
    let world = World::new().await;
    let mut browser = world.browser();
    for path in ["/", "/healthz", "/nothing", "/account", "/ops"] {
        guarded(&mut browser, path).await;
    }
}

async fn guarded(browser: &mut Browser, path: &str) {
    let answer = browser.get(path).await;
    let policy = answer.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{path}: {policy}");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
    assert_eq!(answer.headers["referrer-policy"], "same-origin", "{path}");
    assert_eq!(answer.headers["x-frame-options"], "DENY", "{path}");
}

#[tokio::test]
async fn files_are_kept_for_ever_and_sent_small() {
    let world = World::new().await;
    let mut browser = world.browser();
    for asset in routes().into_iter().filter(|route| route.path.starts_with("/assets/")) {
        let plain = browser.get(asset.path).await;
        assert_eq!(plain.status, StatusCode::OK, "{}", asset.path);
        assert_eq!(plain.headers["cache-control"], "public, max-age=31536000, immutable", "{}", asset.path);
        assert!(!plain.headers.contains_key("set-cookie"), "{}", asset.path);
        for coding in ["br", "gzip"] {
            let request = browser.request("GET", asset.path).header("accept-encoding", coding);
            let response =
                tower::ServiceExt::oneshot(world.router.clone(), request.body(Body::empty()).unwrap());
            assert_eq!(response.await.unwrap().headers()["content-encoding"], coding, "{}", asset.path);
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_a_page_or_data() {
    let world = World::new().await;
    let mut browser = world.browser();
    browser.get("/").await;
    let answer = browser.get("/vms/../../etc/passwd").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.body.contains("There is no such page."));

    let wrong = browser.request("DELETE", "/").body(Body::empty()).unwrap();
    let answer = browser.ask(wrong).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(answer.body.contains("<h1>"), "{}", answer.body);

    let data = browser.request("GET", "/nothing").header("accept", "application/json").body(Body::empty());
    let answer = browser.ask(data.unwrap()).await;
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(answer.body.contains("\"what\":\"There is no such page.\""), "{}", answer.body);

    let large = "a".repeat(20_000);
    let answer = browser.post("/log-in", &[("name", &large)]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.body.contains("more than 8 KiB"), "{}", answer.body);

    let json = browser.request("POST", "/log-in").header("origin", "https://koding.com");
    let json = json.header("content-type", "application/json").body(Body::from("{}")).unwrap();
    assert_eq!(browser.ask(json).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let many: Vec<_> = (0..100).map(|_| ("a", "b")).collect();
    assert_eq!(browser.post("/log-in", &many).await.status, StatusCode::BAD_REQUEST);
}
