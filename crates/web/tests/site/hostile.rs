//! What somebody who means harm tries.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use berth_control::LinkFor;
use berth_web::routes;

use crate::world::{PASSWORD, World, account, key};

#[tokio::test]
async fn a_name_that_is_not_ours_is_misdirected() {
    let world = World::new().await;
    let mut browser = world.browser();
    for host in ["evil.example", "koding.com.evil.example", "vm-0.alice.koding.kd.io.", "koding.com."] {
        for path in ["/", "/healthz", "/nothing", "/log-in"] {
            let request = Request::get(path).header("host", host).body(Body::empty()).unwrap();
            let answer = browser.ask(request).await;
            assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{host}{path}");
            assert!(answer.body.contains("There is no site of this name here."), "{}", answer.body);
            assert!(answer.headers.contains_key("content-security-policy"));
        }
    }
    let absolute =
        Request::get("http://evil.example/").header("host", "koding.com").body(Body::empty()).unwrap();
    assert_eq!(browser.ask(absolute).await.status, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn no_host_two_hosts_and_nonsense_are_bad_requests() {
    let world = World::new().await;
    let none = Request::get("/").body(Body::empty()).unwrap();
    let two = Request::get("/").header("host", "koding.com").header("host", "koding.com");
    let nonsense = Request::get("/").header("host", "a b/c").body(Body::empty()).unwrap();
    for request in [none, two.body(Body::empty()).unwrap(), nonsense] {
        assert_eq!(world.browser().ask(request).await.status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn nobody_is_sent_to_another_site() {
    let world = World::new().await;
    world.has_password("alice").await;
    for evil in [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/%0d%0aset-cookie:a=b\r\nx: y",
        "javascript:alert(1)",
        "",
    ] {
        let mut browser = world.browser();
        let query: String = form_urlencoded::byte_serialize(evil.as_bytes()).collect();
        let page = browser.get(&format!("/log-in?to={query}")).await;
        assert!(page.body.contains("name=\"to\" value=\"/\""), "{evil}");
        let fields = [("name", "alice"), ("password", PASSWORD), ("to", evil)];
        let answer = browser.post("/log-in", &fields).await;
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/"), "{evil}");
        // Logged in, the page goes on at once.
        assert_eq!(browser.get(&format!("/log-in?to={query}")).await.location(), "/", "{evil}");
        browser.get("/").await;
        let answer = browser.post("/vms/vm-0/always-on", &[("to", "off"), ("back", evil)]).await;
        assert_eq!(answer.location(), "/", "{evil}");
    }
}

#[tokio::test]
async fn whom_a_page_sends_to_log_in_comes_back_to_it() {
    let world = World::new().await;
    world.has_password("alice").await;
    let mut browser = world.browser();
    let sent = browser.get("/account/activity?before=7").await.location().to_owned();
    assert_eq!(sent, "/log-in?to=%2Faccount%2Factivity%3Fbefore%3D7");
    browser.get(&sent).await;
    let fields = [("name", "alice"), ("password", PASSWORD), ("to", "/account/activity?before=7")];
    assert_eq!(browser.post("/log-in", &fields).await.location(), "/account/activity?before=7");
}

const MARKUP: &str = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'{{7*7}}\u{1b}[31m\u{202e}";

fn harmless(body: &str, what: &str) {
    assert!(!body.contains("<script>") && !body.contains("<img src=x"), "{what}: {body}");
    assert!(!body.contains('\u{1b}'), "{what}");
}

/// Every field that a form of this site has. One that a template has and this list has not fails a test below.
const FIELDS: [&str; 29] = [
    "name",
    "size",
    "password",
    "old",
    "to",
    "back",
    "until",
    "zone",
    "key",
    "label",
    "note",
    "scope",
    "days",
    "credential",
    "operator",
    "vms",
    "cpus",
    "memory",
    "disk",
    "q",
    "state",
    "kind",
    "port",
    "access",
    "account",
    "sudo",
    "vm",
    "ca",
    "krl",
];

#[test]
fn every_field_of_every_form_is_tried() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/templates");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let plain = text.split(" name=\"").skip(1).filter_map(|rest| rest.split('"').next());
        let called = text.split("parts::field(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let technical = ["csrf", "viewport", "color-scheme", "htmx-config", "system"];
        for name in plain.chain(called).filter(|name| !name.contains('{') && !technical.contains(name)) {
            assert!(FIELDS.contains(&name), "{} has a field {name}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[tokio::test]
async fn markup_in_any_field_stays_text() {
    let world = World::new().await;
    world.has_password("alice").await;
    let mut alice = world.logged_in("alice").await;
    let evil: Vec<_> = FIELDS.map(|name| (name, MARKUP)).to_vec();
    for route in routes().into_iter().filter(|route| route.method != "GET" && route.path != "/log-out") {
        let path = route.path.replace("{vm}", "vm-0").replace("{account}", "bob");
        harmless(&alice.clone().post(&path, &evil).await.body, &route.to_string());
        let invitation = world.invitation(None).await;
        let mut nobody = world.browser();
        nobody.get(&invitation).await;
        harmless(&nobody.post(&invitation, &evil).await.body, "invitation");
    }
    let comment = format!("{} {MARKUP}", key("").trim());
    let comment = comment.replace(['\u{1b}', '\u{202e}'], "");
    let fields = [("key", comment.as_str()), ("label", "\"><script>alert(1)</script>")];
    assert_eq!(alice.post("/account/keys", &fields).await.status, StatusCode::OK);
    alice.post("/account/tokens", &[("name", MARKUP), ("scope", "vms:read"), ("days", "30")]).await;
    alice.post("/ops/invitations", &[("note", MARKUP)]).await;
    let query: String = form_urlencoded::byte_serialize(MARKUP.as_bytes()).collect();
    for path in [
        "/",
        "/account",
        "/account/keys",
        "/account/tokens",
        "/account/sessions",
        "/account/activity",
        "/ops",
        "/ops/audit",
        &format!("/ops?q={query}"),
        &format!("/ops/vms?q={query}"),
        &format!("/ops/audit?q={query}&kind={query}"),
        &format!("/ops/vms?state={query}&after={query}"),
        &format!("/ops/connections?q={query}"),
        &format!("/team?q={query}&after={query}"),
        &format!("/account/confirm?to={query}"),
        &format!("/log-in/oidc?state={query}&code={query}&error={query}"),
        "/ops/health",
        "/ops/accounts/bob",
        "/vms/vm-0",
        &format!("/log-in?to={query}"),
        &format!("/vms/{query}"),
        &format!("/link/{query}"),
    ] {
        harmless(&alice.get(path).await.body, path);
    }
    let keys = alice.get("/account/keys").await.body;
    assert!(keys.contains("&#60;script&#62;alert(1)&#60;/script&#62;"), "it is shown, as text");
}

#[tokio::test]
async fn what_a_browser_says_of_itself_stays_text() {
    let world = World::new().await;
    let link = world.link("alice", LinkFor::LogIn).await;
    let mut browser = world.browser();
    browser.get(&link).await;
    let agent = "<script>alert(1)</script>";
    let request =
        browser.form(&link, &browser.token, &[], &[("origin", "https://koding.com"), ("user-agent", agent)]);
    assert_eq!(browser.ask(request).await.status, StatusCode::SEE_OTHER);
    harmless(&browser.get("/account/sessions").await.body, "sessions");
}

#[tokio::test]
async fn a_session_is_never_one_that_was_there_before() {
    let world = World::new().await;
    world.has_password("alice").await;
    let fields = [("name", "alice"), ("password", PASSWORD)];
    let planted = "a".repeat(43);
    let mut browser = world.browser();
    browser.cookies.insert("__Host-berth".into(), planted.clone());
    browser.get("/log-in").await;
    browser.post("/log-in", &fields).await;
    let first = browser.cookies["__Host-berth"].clone();
    assert_ne!(first, planted);

    // A log-in over another one ends that.
    let link = world.link("alice", LinkFor::LogIn).await;
    browser.get(&link).await;
    browser.post(&link, &[]).await;
    let second = browser.cookies["__Host-berth"].clone();
    assert_ne!(first, second);
    let mut old = world.browser();
    old.cookies.insert("__Host-berth".into(), first);
    assert_eq!(old.get("/account").await.status, StatusCode::SEE_OTHER);
    assert_eq!(browser.get("/account").await.status, StatusCode::OK);
}

#[tokio::test]
async fn two_cookies_of_one_name_are_none() {
    let world = World::new().await;
    let alice = world.logged_in("alice").await;
    let cookie = &alice.cookies["__Host-berth"];
    let twice = Request::get("/account")
        .header("host", "koding.com")
        .header("cookie", format!("__Host-berth={cookie}; __Host-berth={cookie}"))
        .body(Body::empty())
        .unwrap();
    assert_eq!(world.browser().ask(twice).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn cookies_are_kept_to_this_host_where_that_can_be() {
    let world = World::new().await;
    let link = world.link("alice", LinkFor::LogIn).await;
    let mut browser = world.browser();
    browser.get(&link).await;
    let answer = browser.post(&link, &[]).await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-berth=") && cookie.contains("; Secure"), "{cookie}");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Lax"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");

    let plain = World::empty("http://berth.localhost:8080").await;
    let answer = plain.browser().get("/log-in").await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("berth-form-on-loopback=") && !cookie.contains("Secure"), "{cookie}");
}

#[tokio::test]
async fn what_is_somebody_elses_is_not_there() {
    let world = World::new().await;
    let (mut alice, mut bob) = (world.logged_in("alice").await, world.logged_in("bob").await);
    let key = world.control.keys(&account("alice")).await.unwrap().remove(0).id;
    let session = {
        let page = alice.get("/account/sessions").await.body;
        let (_, rest) = page.split_once("/account/sessions/").unwrap();
        rest.split('/').next().unwrap().to_owned()
    };
    for path in [
        "/vms/vm-0.alice.koding".to_owned(),
        "/vms/vm-0.alice.koding/remove".to_owned(),
        "/vms/vm-0.alice.koding/boot".to_owned(),
        "/vms/vm-0.alice.koding/rebuild".to_owned(),
        "/vms/vm-0.alice.koding/erase".to_owned(),
        "/vms/vm-0.alice.koding/resize".to_owned(),
        "/live/vms/vm-0.alice.koding".to_owned(),
        "/vms/vm-7".to_owned(),
        format!("/account/keys/{key}/remove"),
        format!("/account/keys/{key}/rename"),
    ] {
        let answer = bob.get(&path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.body.contains("There is no such page."), "{path}");
    }
    for path in [
        "/vms/vm-0.alice.koding/power".to_owned(),
        "/vms/vm-0.alice.koding/remove".to_owned(),
        "/vms/vm-0.alice.koding/rebuild".to_owned(),
        "/vms/vm-0.alice.koding/erase".to_owned(),
        "/vms/vm-0.alice.koding/resize".to_owned(),
        "/vms/vm-0.alice.koding/always-on".to_owned(),
        "/vms/vm-0.alice.koding/snooze".to_owned(),
        "/vms/vm-0.alice.koding/label".to_owned(),
        "/vms/vm-0.alice.koding/boot".to_owned(),
        format!("/account/keys/{key}/remove"),
        format!("/account/keys/{key}/rename"),
        format!("/account/sessions/{session}/end"),
    ] {
        let answer = bob.post(&path, &[("to", "on"), ("name", "vm-0"), ("size", "20")]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(alice.get("/account").await.status, StatusCode::OK);
    assert_eq!(world.control.keys(&account("alice")).await.unwrap().len(), 1);
    assert_eq!(world.control.vms(Some(&account("alice"))).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_private_key_is_not_shown_again() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    let key = ssh_key::PrivateKey::random(&mut rand::rng(), ssh_key::Algorithm::Ed25519).unwrap();
    let pem = key.to_openssh(ssh_key::LineEnding::LF).unwrap();
    let answer = alice.post("/account/keys", &[("key", &pem)]).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.body.contains("That is a private key. It was not stored."), "{}", answer.body);
    let secret = pem.lines().nth(2).unwrap();
    assert!(!answer.body.contains(secret) && !answer.body.contains("PRIVATE KEY-----"));
}

#[tokio::test]
async fn looking_at_a_link_does_not_use_it_up_and_using_it_does() {
    let world = World::new().await;
    let link = world.link("alice", LinkFor::LogIn).await;
    let mut scanner = world.browser();
    for _ in 0..3 {
        let page = scanner.get(&link).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(!scanner.cookies.contains_key("__Host-berth"), "nobody is logged in by looking");
    }
    let mut alice = world.browser();
    alice.get(&link).await;
    assert_eq!(alice.post(&link, &[]).await.status, StatusCode::SEE_OTHER);
    let again = scanner.get(&link).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND);
    assert!(again.body.contains("This link does not work any more."), "{}", again.body);
}
