//! A site with people on it, and browsers to look at it with.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode, header},
};
use berth_control::{
    Actor, Client, Clock, Control, Invitation, LinkFor, RecordingLimits, RecordingSettings, Role, Settings,
};
use berth_engine::VmSpec;
use berth_model::{AccountName, Domains, Secret, TeamName, VmId, VmName};
use berth_store::Store;
use berth_testkit::FakeEngine;
use berth_web::{Site, website};
use http_body_util::BodyExt;
use ssh_key::{Algorithm, PrivateKey};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) const PASSWORD: &str = "a lemon, two boats";

pub(crate) struct World {
    pub(crate) control: Arc<Control>,
    pub(crate) engine: FakeEngine,
    pub(crate) router: Router,
    pub(crate) stop: CancellationToken,
    store: Store,
}

pub(crate) fn account(name: &str) -> AccountName {
    name.parse().unwrap()
}

/// The line of a new key's .pub file.
pub(crate) fn key(comment: &str) -> String {
    let mut key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap().public_key().clone();
    key.set_comment(comment);
    key.to_openssh().unwrap()
}

impl World {
    /// alice, who is the operator, and bob, with a VM and a key each.
    pub(crate) async fn new() -> Self {
        let world = Self::empty("https://koding.com").await;
        for name in ["alice", "bob"] {
            world.control.add_account(&account(name)).await.unwrap();
            world.control.add_vm(&account(name)).await.unwrap();
            world.control.add_keys(&account(name), &key(name), None).await.unwrap();
        }
        world
    }

    /// As [`World::new`], where programs on this machine may watch.
    pub(crate) async fn with_metrics_on_loopback() -> Self {
        let world = Self::new().await;
        let team: TeamName = "koding".parse().unwrap();
        let domains = Domains::new("koding.com", "kd.io", team).unwrap();
        let site =
            Site { domains, ssh_port: 22, gateway_fingerprint: String::new(), metrics_on_loopback: true };
        let router = website(site, Arc::clone(&world.control), world.stop.clone());
        Self { router, ..world }
    }

    /// Nobody, reached at this address.
    pub(crate) async fn empty(address: &str) -> Self {
        Self::with(address, Store::in_memory(&"koding".parse().unwrap()).await.unwrap()).await
    }

    /// Who is in this store, reached at this address.
    pub(crate) async fn with(address: &str, store: Store) -> Self {
        Self::made(address, store, None).await
    }

    /// alice, who is the operator, and bob, as in [`World::new`], whose sessions are recorded into this folder.
    pub(crate) async fn recording(folder: &Path) -> Self {
        let limits = RecordingLimits { each: 1 << 20, all: 16 << 20 };
        let recording = RecordingSettings { folder: folder.to_owned(), limits, sessions: true };
        let store = Store::in_memory(&"koding".parse().unwrap()).await.unwrap();
        let world = Self::made("https://koding.com", store, Some(recording)).await;
        for name in ["alice", "bob"] {
            world.control.add_account(&account(name)).await.unwrap();
            world.control.add_vm(&account(name)).await.unwrap();
        }
        world
    }

    async fn made(address: &str, store: Store, recording: Option<RecordingSettings>) -> Self {
        let team: TeamName = "koding".parse().unwrap();
        let domains = Domains::new("koding.com", "kd.io", team).unwrap();
        let spec = VmSpec { cpus: 2, memory: 1 << 30, disk: 10 << 30 };
        // Today's, but as fast as a test says.
        let clock =
            Clock::Tokio { start: time::OffsetDateTime::now_utc(), started: tokio::time::Instant::now() };
        let settings =
            Settings { clock, recording, ..Settings::new(domains.clone(), spec, address.to_owned()) };
        let engine = FakeEngine::new();
        let control = Control::open(settings, store.clone(), Arc::new(engine.clone())).await.unwrap();
        let stop = CancellationToken::new();
        let site = Site {
            domains: domains.clone(),
            ssh_port: 22,
            gateway_fingerprint: "SHA256:abc<&>".into(),
            metrics_on_loopback: false,
        };
        Self { router: website(site, Arc::clone(&control), stop.clone()), control, engine, stop, store }
    }

    /// The path of a new link.
    pub(crate) async fn link(&self, name: &str, what: LinkFor) -> String {
        let url = self.control.acting(Actor::host()).make_link(&account(name), what).await.unwrap();
        url.expose().strip_prefix("https://koding.com").unwrap().to_owned()
    }

    /// The path of a new invitation.
    pub(crate) async fn invitation(&self, name: Option<&str>) -> String {
        let invitation = Invitation { name: name.map(account), role: Role::Member, note: String::new() };
        let (_, url) = self.control.acting(Actor::host()).invite(invitation).await.unwrap();
        url.expose().strip_prefix("https://koding.com").unwrap().to_owned()
    }

    /// This world, whose operator is alice, and her browser.
    pub(crate) async fn operated(self) -> (Self, Browser) {
        self.control.acting(Actor::host()).set_role(&account("alice"), Role::Operator).await.unwrap();
        let alice = self.logged_in("alice").await;
        (self, alice)
    }

    /// Lets this much time pass.
    pub(crate) async fn later(&self, time: std::time::Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }

    /// A VM's id, and its private host key.
    pub(crate) async fn insides(&self, vm: &VmName) -> (VmId, String) {
        let row = self.store.vm(vm).await.unwrap().unwrap();
        (row.id, row.host_key.expose().clone())
    }

    pub(crate) fn browser(&self) -> Browser {
        Browser { router: self.router.clone(), cookies: BTreeMap::new(), token: String::new() }
    }

    /// A browser that is logged in.
    pub(crate) async fn logged_in(&self, name: &str) -> Browser {
        let link = self.link(name, LinkFor::LogIn).await;
        let mut browser = self.browser();
        browser.get(&link).await;
        let answer = browser.post(&link, &[]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        browser.get("/account").await;
        browser
    }

    /// Gives an account [`PASSWORD`].
    pub(crate) async fn has_password(&self, name: &str) {
        let link = self.link(name, LinkFor::LogIn).await;
        let token = Secret::new(link.trim_start_matches("/link/").to_owned());
        let client = Client { address: [192, 0, 2, 1].into(), user_agent: "" };
        let session = self.control.log_in_by_link(&token, client).await.unwrap();
        self.control.set_password(&session.login, &Secret::new(PASSWORD.to_owned())).await.unwrap();
        self.control.log_out(&session.login).await.unwrap();
    }
}

/// Keeps cookies and the token of the last form that it was shown, as a person with a browser does.
#[derive(Clone)]
pub(crate) struct Browser {
    pub(crate) router: Router,
    pub(crate) cookies: BTreeMap<String, String>,
    pub(crate) token: String,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: header::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn location(&self) -> &str {
        self.headers.get("location").map_or("", |location| location.to_str().unwrap())
    }
}

impl Browser {
    /// A request as this browser begins it.
    pub(crate) fn request(&self, method: &str, path: &str) -> axum::http::request::Builder {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::builder().method(method).uri(path).header("host", "koding.com");
        if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ")) }
    }

    pub(crate) async fn ask(&mut self, request: Request<Body>) -> Answer {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        for cookie in parts.headers.get_all("set-cookie") {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            let (value, _) = rest.split_once(';').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        if let Some((_, rest)) = body.split_once("name=\"csrf\" value=\"") {
            self.token = rest.split('"').next().unwrap().to_owned();
        }
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let request = self.request("GET", path).body(Body::empty()).unwrap();
        self.ask(request).await
    }

    /// Sends a form as a page of this site does.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let request = self.form(path, &self.token.clone(), fields, &[("origin", "https://koding.com")]);
        self.ask(request).await
    }

    /// A form with this token and these headers.
    pub(crate) fn form(
        &self,
        path: &str,
        token: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Request<Body> {
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("csrf", token)
            .extend_pairs(fields)
            .finish();
        let mut request =
            self.request("POST", path).header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::from(body)).unwrap()
    }

    /// The answer with its body still to come.
    pub(crate) async fn open(&self, path: &str) -> Response<Body> {
        let request = self.request("GET", path).header("accept", "text/event-stream").body(Body::empty());
        self.router.clone().oneshot(request.unwrap()).await.unwrap()
    }
}
