//! The HTTP API: who may, what goes in and out, and that the document says so.

use std::collections::BTreeSet;

use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use berth_control::{Client, LinkFor, Scope};
use berth_model::Secret;
use berth_web::{Route, Who, routes};
use serde_json::{Value, json};

use crate::{
    routes::filled,
    world::{Answer, World, key},
};

/// A program with a token.
pub(crate) struct Program<'a> {
    world: &'a World,
    token: String,
}

impl World {
    /// A token of an account for these things.
    pub(crate) async fn token(&self, name: &str, scopes: &[Scope]) -> String {
        let link = self.link(name, LinkFor::LogIn).await;
        let token = Secret::new(link.trim_start_matches("/link/").to_owned());
        let client = Client { address: [192, 0, 2, 1].into(), user_agent: "" };
        let login = self.control.log_in_by_link(&token, client).await.unwrap().login;
        let scopes = scopes.iter().copied().collect();
        let (_, token) = self.control.make_token(&login, "test", scopes, None).await.unwrap();
        token.expose().clone()
    }

    pub(crate) async fn program(&self, name: &str, scopes: &[Scope]) -> Program<'_> {
        Program { world: self, token: self.token(name, scopes).await }
    }
}

impl Program<'_> {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut browser = self.world.browser();
        let mut request = browser.request(method, path);
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = browser.ask(request.body(Body::from(body.to_owned())).unwrap()).await;
        assert!(!answer.headers.contains_key("set-cookie"), "{method} {path}");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        told(self.send("GET", path, &[], "").await)
    }

    pub(crate) async fn delete(&self, path: &str) -> (u16, Value) {
        told(self.send("DELETE", path, &[], "").await)
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.json("POST", path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        self.json("PUT", path, body).await
    }

    async fn json(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        told(self.send(method, path, &[("content-type", "application/json")], &body.to_string()).await)
    }
}

fn told(answer: Answer) -> (u16, Value) {
    let body = if answer.body.is_empty() { Value::Null } else { serde_json::from_str(&answer.body).unwrap() };
    (answer.status.as_u16(), body)
}

fn api() -> impl Iterator<Item = (Route, Scope)> {
    routes().into_iter().filter_map(|route| match route.who {
        Who::Token(scope) => Some((route, scope)),
        _ => None,
    })
}

#[tokio::test]
async fn nobody_gets_in_without_a_token_that_is_for_it() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    let all: BTreeSet<_> = Scope::ALL.iter().copied().collect();
    let mut of_all_but = std::collections::BTreeMap::new();
    for scope in Scope::ALL {
        let others: Vec<_> =
            all.iter().copied().filter(|other| other != scope && *other != scope.of_operators()).collect();
        of_all_but.insert(scope, world.program("alice", &others).await);
    }
    for (route, scope) in api() {
        let (path, method) = (filled(&route), route.method.as_str());
        // The operator's own browser, from a page of this site and of another.
        for origin in ["https://koding.com", "https://evil.example"] {
            let request = alice.request(method, &path).header("origin", origin);
            let answer = alice.ask(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{route}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"Berth\"", "{route}");
        }
        for token in ["berth_x", "", "x y", &"b".repeat(4000)] {
            let request = alice.request(method, &path).header("authorization", format!("Bearer {token}"));
            let answer = alice.ask(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{route} {token}");
            assert!(answer.headers["www-authenticate"].to_str().unwrap().contains("invalid_token"));
        }
        let answer = of_all_but[&scope].send(method, &path, &[], "").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{route}");
        assert!(answer.body.contains(&format!("it lacks the scope {scope}.")), "{route} {}", answer.body);
        let challenge = answer.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.contains(&format!("scope=\"{scope}\"")), "{challenge}");
    }
}

#[tokio::test]
async fn a_cookie_never_counts_where_a_token_is_sent() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    for header in ["Bearer berth_x", "bearer x"] {
        let page = alice.request("GET", "/account").header("authorization", header);
        let answer = alice.ask(page.body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/log-in?to=%2Faccount"));
    }
    let token = format!("Bearer {}", world.token("alice", Scope::ALL).await);
    let page = alice.request("GET", "/ops").header("authorization", token);
    assert_eq!(alice.ask(page.body(Body::empty()).unwrap()).await.status, StatusCode::SEE_OTHER);
    assert_eq!(alice.get("/account").await.status, StatusCode::OK, "and the log-in is still there");
}

#[tokio::test]
async fn what_is_somebody_elses_is_as_what_does_not_exist() {
    let world = World::new().await;
    let scopes = [Scope::VmsRead, Scope::VmsWrite, Scope::KeysRead, Scope::KeysWrite];
    // alice runs this Berth, but this token of hers is not for that.
    for (name, other) in [("bob", "alice"), ("alice", "bob")] {
        let program = world.program(name, &scopes).await;
        let theirs = format!("vm-0.{other}.koding");
        let missing = program.get("/api/v1/vms/vm-7").await;
        assert_eq!(missing.0, 404);
        for vm in [theirs.as_str(), "vm-7.nobody.koding", "vm-7", "%3Cx%3E", &format!("{theirs}.kd.io")] {
            let path = format!("/api/v1/vms/{vm}");
            assert_eq!(program.get(&path).await, missing, "{path}");
            assert_eq!(program.delete(&path).await, missing, "{path}");
            for what in ["why", "boot-log"] {
                assert_eq!(program.get(&format!("{path}/{what}")).await, missing, "{path}/{what}");
            }
            for what in ["start", "stop", "sleep"] {
                let asked = program.post(&format!("{path}/{what}"), json!({})).await;
                assert_eq!(asked, missing, "{path}/{what}");
            }
            let always = program.put(&format!("{path}/always-on"), json!({"always_on": true})).await;
            assert_eq!(always, missing);
            assert_eq!(program.put(&format!("{path}/snooze"), json!({"seconds": 9})).await, missing);
        }
        assert_eq!(program.delete("/api/v1/keys/SHA256:abc").await, missing);
        assert_eq!(program.delete("/api/v1/keys/alice").await, missing, "only by the fingerprint");
        assert_eq!(program.get("/api/v1/nothing").await, missing);
    }
}

#[tokio::test]
async fn a_vm_is_made_started_and_removed() {
    let world = World::new().await;
    let bob = world.program("bob", &[Scope::VmsRead, Scope::VmsWrite]).await;
    let (status, made) = bob.post("/api/v1/vms", json!({})).await;
    assert_eq!((status, &made["name"], &made["state"]), (201, &json!("vm-1.bob.koding"), &json!("off")));
    assert!(made["created"].as_str().unwrap().ends_with('Z'), "{made}");
    assert_eq!(bob.post("/api/v1/vms/vm-1/start", json!({"wait": 60})).await, (204, Value::Null));
    let (_, vm) = bob.get("/api/v1/vms/vm-1.bob.koding.kd.io").await;
    assert_eq!(
        (&vm["state"], &vm["owner"], &vm["label"]),
        (&json!("running"), &json!("bob"), &json!("vm-1"))
    );
    let (status, why) = bob.get("/api/v1/vms/vm-1/why").await;
    assert!(status == 200 && why["why"].as_str().unwrap().ends_with('.'), "{why}");
    assert_eq!(bob.get("/api/v1/vms/vm-1/boot-log").await.0, 200);
    assert_eq!(bob.put("/api/v1/vms/vm-1/snooze", json!({"seconds": 60})).await.0, 204);
    assert_eq!(bob.put("/api/v1/vms/vm-1/title", json!({"title": "shop"})).await.0, 204);
    assert_eq!(bob.get("/api/v1/vms/vm-1").await.1["title"], "shop");
    assert_eq!(bob.put("/api/v1/vms/vm-1/title", json!({"title": null})).await.0, 204);
    assert_eq!(bob.put("/api/v1/vms/vm-1/ports/3000", json!({"access": "team"})).await.0, 204);
    let (_, ports) = bob.get("/api/v1/vms/vm-1/ports").await;
    assert_eq!(ports["items"][1]["host"], "vm-1--3000.bob.koding.kd.io", "{ports}");
    assert_eq!(bob.put("/api/v1/vms/vm-1/ports/3000", json!({"access": null})).await.0, 204);
    assert_eq!(bob.put("/api/v1/vms/vm-1/ports/22", json!({"access": "public"})).await.0, 422);
    assert_eq!(bob.put("/api/v1/vms/vm-1/ports/x", json!({"access": "public"})).await.0, 404);
    assert_eq!(bob.put("/api/v1/vms/vm-1/title", json!({"title": "\u{202e}x"})).await.0, 422);
    assert_eq!(bob.put("/api/v1/vms/vm-1/always-on", json!({"always_on": true})).await.0, 204);
    let (status, refused) = bob.post("/api/v1/vms/vm-1/sleep", json!({})).await;
    assert_eq!((status, &refused["error"]["kind"]), (409, &json!("conflict")));
    assert!(refused["error"]["message"].as_str().unwrap().starts_with("vm-1 is always-on"), "{refused}");
    assert_eq!(bob.put("/api/v1/vms/vm-1/always-on", json!({"always_on": false})).await.0, 204);
    assert_eq!(bob.post("/api/v1/vms/vm-1/sleep", json!({})).await.0, 204);
    assert_eq!(bob.get("/api/v1/vms/vm-1").await.1["state"], "asleep");
    assert_eq!(bob.post("/api/v1/vms/vm-1/start", json!({"from_disk": true})).await.0, 204);
    assert_eq!(bob.send("POST", "/api/v1/vms/vm-1/stop", &[], "").await.status, StatusCode::NO_CONTENT);
    let (_, list) = bob.get("/api/v1/vms?limit=1").await;
    assert_eq!((&list["items"][0]["label"], &list["next"]), (&json!("vm-0"), &json!("vm-0.bob.koding")));
    let (_, rest) = bob.get("/api/v1/vms?after=vm-0.bob.koding").await;
    assert_eq!((&rest["items"][0]["label"], &rest["next"]), (&json!("vm-1"), &Value::Null));
    assert_eq!(bob.delete("/api/v1/vms/vm-1").await.0, 204);
    assert_eq!(bob.get("/api/v1/vms/vm-1").await.0, 404);
}

#[tokio::test]
async fn who_may_only_change_need_not_see() {
    let world = World::new().await;
    let bob = world.program("bob", &[Scope::VmsWrite, Scope::KeysWrite]).await;
    assert_eq!(bob.post("/api/v1/vms/vm-0/start", json!({})).await.0, 204);
    assert_eq!(bob.get("/api/v1/vms").await.0, 403);
    let (status, added) = bob.post("/api/v1/keys", json!({"keys": key("x"), "label": "new"})).await;
    assert_eq!((status, &added["items"][0]["result"]), (200, &json!("added")));
    let fingerprint = added["items"][0]["key"]["fingerprint"].as_str().unwrap();
    let path = format!("/api/v1/keys/{}", fingerprint.replace('/', "%2F"));
    let (status, renamed) = bob.put(&format!("{path}/label"), json!({"label": "  the old\u{7} one "})).await;
    assert_eq!((status, renamed["label"].as_str()), (200, Some("the old one")), "{renamed}");
    assert_eq!(bob.put(&format!("{path}/label"), json!({"label": ""})).await.0, 422);
    assert_eq!(
        bob.put("/api/v1/keys/old/label", json!({"label": "x"})).await.0,
        404,
        "only by the fingerprint"
    );
    assert_eq!(bob.delete(&path).await, (204, Value::Null));
    assert_eq!(bob.delete(&path).await.0, 404);
}

#[tokio::test]
async fn keys_are_judged_each() {
    let world = World::new().await;
    let bob = world.program("bob", &[Scope::KeysRead, Scope::KeysWrite]).await;
    let good = key("desk");
    let (status, both) = bob.post("/api/v1/keys", json!({"keys": format!("{good}\nssh-dss AAAA x")})).await;
    assert_eq!(status, 200, "{both}");
    assert_eq!(both["items"][0]["result"], "added");
    assert_eq!(both["items"][1]["result"], "refused");
    let (status, again) = bob.post("/api/v1/keys", json!({"keys": good})).await;
    assert_eq!((status, &again["items"][0]["result"]), (200, &json!("already_there")));
    let (status, bad) = bob.post("/api/v1/keys", json!({"keys": "ssh-dss AAAA x"})).await;
    assert_eq!((status, &bad["error"]["kind"]), (422, &json!("invalid")));
    let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
    let (status, private) = bob.post("/api/v1/keys", json!({"keys": private})).await;
    assert_eq!(status, 422);
    assert!(private["error"]["message"].as_str().unwrap().contains("private key"), "{private}");
    assert_eq!(bob.get("/api/v1/keys").await.1["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_goes_in_is_bounded_and_known() {
    let world = World::new().await;
    let bob = world.program("bob", Scope::ALL.get(..5).unwrap()).await;
    let start = "/api/v1/vms/vm-0/start";
    let json_type = [("content-type", "application/json; charset=utf-8")];
    for (path, headers, body, status, kind) in [
        (start, &json_type[..], "{\"wat\":1}", 422, "invalid"),
        (start, &json_type, "{\"wait\":301}", 422, "invalid"),
        (start, &json_type, "{\"wait\":-1}", 422, "invalid"),
        (start, &json_type, "[]", 422, "invalid"),
        (start, &json_type, "{}{}", 422, "invalid"),
        (start, &json_type, &"[".repeat(8000), 422, "invalid"),
        (start, &json_type, &"x".repeat(9000), 413, "too_large"),
        (start, &[("content-type", "text/plain")], "{}", 415, "unsupported"),
        (start, &[], "{}", 415, "unsupported"),
        ("/api/v1/keys", &json_type, "{\"keys\":\"\",\"account\":\"alice\"}", 422, "invalid"),
    ] {
        let (got, told) = told(bob.send("POST", path, headers, body).await);
        assert_eq!((got, &told["error"]["kind"]), (status, &json!(kind)), "{path} {told}");
    }
    for query in ["limit=0", "limit=501", "limit=x", "after=x", "wat=1", "limit=1&limit=2"] {
        let (status, told) = bob.get(&format!("/api/v1/vms?{query}")).await;
        assert_eq!((status, &told["error"]["kind"]), (422, &json!("invalid")), "{query} {told}");
    }
    let (status, told) = bob.delete("/api/v1/vms").await;
    assert_eq!((status, &told["error"]["kind"]), (405, &json!("wrong_method")));
}

#[tokio::test]
async fn operators_do_what_operators_do() {
    let world = World::new().await;
    let alice = world.program("alice", &[Scope::OpsRead, Scope::OpsWrite]).await;
    assert_eq!(alice.post("/api/v1/accounts", json!({"name": "carol"})).await.0, 204);
    assert_eq!(alice.post("/api/v1/accounts", json!({"name": "carol"})).await.0, 409);
    let (status, told) = alice.post("/api/v1/accounts", json!({"name": "C!"})).await;
    assert_eq!((status, &told["error"]["kind"]), (422, &json!("invalid")));
    let (_, list) = alice.get("/api/v1/accounts?limit=2").await;
    assert_eq!((&list["items"][1]["name"], &list["next"]), (&json!("bob"), &json!("bob")));
    assert_eq!(alice.get("/api/v1/accounts?after=bob").await.1["items"][0]["name"], "carol");

    assert_eq!(alice.post("/api/v1/accounts/carol/vms", json!({})).await.1["name"], "vm-0.carol.koding");
    assert_eq!(alice.get("/api/v1/accounts/carol/vms").await.1["items"][0]["owner"], "carol");
    assert_eq!(alice.post("/api/v1/vms/vm-0.carol.koding/start", json!({})).await.0, 204);
    assert_eq!(alice.get("/api/v1/connections").await.1["items"], json!([]));
    assert_eq!(alice.get("/api/v1/all-vms").await.1["items"].as_array().unwrap().len(), 3);
    assert_eq!(alice.post("/api/v1/accounts/carol/keys", json!({"keys": key("c")})).await.0, 200);
    assert_eq!(alice.get("/api/v1/accounts/carol/keys").await.1["items"][0]["label"], "c");

    let limits = "/api/v1/accounts/carol/limits";
    assert_eq!(alice.put(limits, json!({"vms": 2, "memory": "unlimited"})).await.0, 204);
    let (_, told) = alice.get(limits).await;
    assert_eq!(told["own"], json!({"vms": 2, "cpus": null, "memory": "unlimited", "disk": null}));
    assert_eq!(told["in_force"]["vms"], 2);
    assert_eq!(told["in_force"]["memory"], Value::Null);
    assert_eq!(alice.put(limits, json!({"vms": "many"})).await.0, 422);

    let (status, link) = alice.post("/api/v1/accounts/carol/links", json!({"for": "reset"})).await;
    assert!(status == 201 && link["url"].as_str().unwrap().starts_with("https://koding.com/link/"), "{link}");
    assert_eq!(alice.post("/api/v1/accounts/alice/links", json!({"for": "log_in"})).await.0, 403);
    assert_eq!(alice.put("/api/v1/accounts/alice/role", json!({"role": "member"})).await.0, 403);
    assert_eq!(alice.put("/api/v1/accounts/carol/role", json!({"role": "operator"})).await.0, 204);
    assert_eq!(alice.put("/api/v1/accounts/carol/blocked", json!({"blocked": true})).await.0, 204);
    assert!(alice.get("/api/v1/accounts/carol").await.1["blocked"].is_string());
    assert_eq!(alice.put("/api/v1/accounts/carol/blocked", json!({"blocked": false})).await.0, 204);

    let (_, invited) = alice.post("/api/v1/invitations", json!({"name": "dave", "note": "d\u{202e}"})).await;
    assert_eq!(invited["invitation"]["note"], "d");
    let id = invited["invitation"]["id"].as_str().unwrap();
    assert_eq!(alice.get("/api/v1/invitations").await.1["items"][0]["id"], id);
    assert_eq!(alice.delete(&format!("/api/v1/invitations/{id}")).await.0, 204);
    assert_eq!(alice.delete(&format!("/api/v1/invitations/{id}")).await.0, 404);

    let (_, trail) = alice.get("/api/v1/audit?kind=role_set&by=alice&about=carol").await;
    assert_eq!(trail["items"].as_array().unwrap().len(), 1, "{trail}");
    assert_eq!(
        (&trail["items"][0]["way"], &trail["items"][0]["detail"]),
        (&json!("api"), &json!("operator"))
    );
    assert_eq!(alice.get("/api/v1/audit?until=2020-01-01T00:00:00Z").await.1["items"], json!([]));
    for query in ["kind=x", "since=yesterday", "after=x", "limit=3"] {
        assert_eq!(alice.get(&format!("/api/v1/audit?{query}")).await.0, 422, "{query}");
    }
    assert_eq!(alice.delete("/api/v1/accounts/carol").await.0, 204);
    assert_eq!(alice.get("/api/v1/accounts/carol").await.0, 404);
}

#[tokio::test]
async fn a_token_says_what_it_is_and_ends_at_once() {
    let world = World::new().await;
    let bob = world.program("bob", &[Scope::AccountRead]).await;
    let (status, own) = bob.get("/api/v1/account").await;
    assert_eq!(status, 200);
    assert_eq!((&own["name"], &own["role"]), (&json!("bob"), &json!("member")));
    assert_eq!(own["scopes"], json!(["account:read"]));
    let (_, activity) = bob.get("/api/v1/account/activity").await;
    assert_eq!(activity["items"][0]["account"], "bob");
    let alice = world.program("alice", &[Scope::OpsWrite]).await;
    alice.put("/api/v1/accounts/bob/blocked", json!({"blocked": true})).await;
    assert_eq!(bob.get("/api/v1/account").await.0, 401);
}

#[tokio::test]
async fn too_many_at_once_are_told_to_come_back() {
    let world = World::new().await;
    let (bob, alice) =
        (world.program("bob", &[Scope::VmsRead]).await, world.program("alice", &[Scope::VmsRead]).await);
    let write = world.token("bob", &[Scope::VmsWrite]).await;
    let mut held = tokio::task::JoinSet::new();
    let mut answer = bob.send("GET", "/api/v1/vms", &[], "").await;
    while answer.status != StatusCode::TOO_MANY_REQUESTS && held.len() < 200 {
        // A body that never ends: its request stays under way.
        let request = world.browser().request("POST", "/api/v1/vms/vm-0/start");
        let request = request.header("authorization", format!("Bearer {write}"));
        let never = futures::stream::pending::<Result<bytes::Bytes, std::convert::Infallible>>();
        let request = request.body(Body::from_stream(never)).unwrap();
        held.spawn(tower::ServiceExt::oneshot(world.router.clone(), request));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        answer = bob.send("GET", "/api/v1/vms", &[], "").await;
    }
    assert!(held.len() >= 16, "{}", held.len());
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{}", answer.body);
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(alice.get("/api/v1/vms").await.0, 200);
    held.shutdown().await;
    assert_eq!(bob.get("/api/v1/vms").await.0, 200);
}

#[tokio::test]
async fn the_document_and_the_table_are_one() {
    let world = World::new().await;
    let answer = world.browser().get("/api/openapi.json").await;
    assert_eq!(answer.status, StatusCode::OK);
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let mut described = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let scopes = operation["security"][0]["token"].as_array().unwrap();
            assert_eq!((operation["security"].as_array().unwrap().len(), scopes.len()), (1, 1));
            described.insert((path.clone(), method.to_uppercase(), scopes[0].as_str().unwrap().to_owned()));
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{operation}");
            assert!(!operation["summary"].as_str().unwrap().is_empty());
            let in_path: BTreeSet<_> = path.split('/').filter(|part| part.starts_with('{')).collect();
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let parameters: Vec<_> = parameters.filter(|one| one["in"] == "path").collect();
            assert!(parameters.iter().all(|one| one["required"] == true), "{path}");
            let named = parameters.iter().map(|one| format!("{{{}}}", one["name"].as_str().unwrap()));
            let named: BTreeSet<_> = named.collect();
            assert_eq!(named, in_path.iter().map(ToString::to_string).collect(), "{path}");
            assert_eq!(
                operation.get("requestBody").is_some(),
                ["POST", "PUT"].contains(&&*method.to_uppercase())
            );
        }
    }
    let rows: BTreeSet<_> = api()
        .map(|(route, scope)| (route.path.to_owned(), route.method.to_string(), scope.to_string()))
        .collect();
    assert!(rows.iter().all(|(path, ..)| path.starts_with("/api/v1/")) && rows.len() > 30);
    assert_eq!(described, rows);
    for reference in answer.body.split("\"$ref\": \"#").skip(1) {
        let place = reference.split('"').next().unwrap();
        assert!(document.pointer(place).is_some(), "{place}");
    }
}

#[tokio::test]
async fn the_reference_has_every_operation() {
    let world = World::new().await;
    let page = world.browser().get("/api").await;
    assert_eq!(page.status, StatusCode::OK);
    for (route, scope) in api() {
        let heading = format!("<code>{} {}</code></h3>", route.method, route.path);
        let after = page.body.split_once(&heading).map(|(_, after)| after).unwrap_or_default();
        let words: String = after.chars().take(400).collect();
        assert!(words.contains(&format!("Needs <code>{scope}</code>")), "{route} {words}");
    }
    assert!(page.body.contains("for how many seconds") || page.body.contains("For how many seconds"));
    assert!(!page.body.contains("null</td>") || page.body.contains("string or null"));
}

#[test]
fn what_reads_is_a_get() {
    for (route, scope) in api() {
        let reads = scope.as_str().ends_with(":read");
        assert_eq!(reads, route.method == Method::GET, "{route}");
    }
}
