//! Logging in with an account elsewhere, with an issuer of the test's own.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use berth_control::{
    Https, HttpsError, LoginWay, OidcAnswer, OidcDone, OidcError, OidcSettings, OidcStart, WebError, WebLogin,
};
use berth_model::Secret;
use serde_json::json;

use crate::{
    time::{Time, settings},
    web::{client, secret},
    world::{HOME, World, account},
};

const ISSUER: &str = "https://id.example";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What the issuer knows of a log-in that somebody began there.
struct Begun {
    nonce: String,
    challenge: String,
    subject: String,
}

struct Issuer {
    key: Mutex<(String, EcdsaKeyPair)>,
    begun: Mutex<HashMap<String, Begun>>,
    asked: AtomicUsize,
    down: Mutex<bool>,
}

fn new_key(id: &str) -> (String, EcdsaKeyPair) {
    (id.to_owned(), EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
}

fn pairs(query: &str) -> HashMap<String, String> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

impl Issuer {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            key: Mutex::new(new_key("1")),
            begun: Mutex::default(),
            asked: AtomicUsize::new(0),
            down: Mutex::new(false),
        })
    }

    /// Somebody logs in there: what the browser comes back with.
    fn log_in(&self, start: &OidcStart, subject: &str) -> OidcAnswer {
        let (at, query) = start.address.split_once('?').unwrap();
        let query = pairs(query);
        assert_eq!(at, "https://id.example/authorize");
        assert_eq!(query["redirect_uri"], "https://koding.com/log-in/oidc");
        assert_eq!((query["client_id"].as_str(), query["code_challenge_method"].as_str()), ("berth", "S256"));
        let code = format!("code-{}", rand::random::<u64>());
        let begun = Begun {
            nonce: query["nonce"].clone(),
            challenge: query["code_challenge"].clone(),
            subject: subject.to_owned(),
        };
        self.begun.lock().unwrap().insert(code.clone(), begun);
        OidcAnswer { cookie: start.cookie.clone(), state: query["state"].clone(), code: secret(&code) }
    }

    fn token(&self, begun: &Begun) -> String {
        let (id, key) = &*self.key.lock().unwrap();
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let header = json!({ "alg": "ES256", "kid": id });
        let claims = json!({
            "iss": ISSUER, "sub": begun.subject, "aud": "berth", "exp": now + 300, "iat": now,
            "nonce": begun.nonce, "email": format!("{}@example.com", begun.subject),
        });
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", b64(signature))
    }
}

#[async_trait]
impl Https for Issuer {
    async fn get(&self, address: &str) -> Result<Vec<u8>, HttpsError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if *self.down.lock().unwrap() {
            return Err(HttpsError::Unreachable("refused".to_owned()));
        }
        let (id, key) = &*self.key.lock().unwrap();
        let point = key.public_key().as_ref();
        let answer = match address {
            "https://id.example/.well-known/openid-configuration" => json!({
                "issuer": ISSUER, "authorization_endpoint": "https://id.example/authorize",
                "token_endpoint": "https://id.example/token", "jwks_uri": "https://id.example/keys",
            }),
            "https://id.example/keys" => json!({ "keys": [{
                "kty": "EC", "crv": "P-256", "kid": id, "x": b64(&point[1..33]), "y": b64(&point[33..]),
            }] }),
            _ => return Err(HttpsError::Status(404)),
        };
        Ok(answer.to_string().into_bytes())
    }

    async fn post(
        &self,
        address: &str,
        authorization: Option<&Secret<String>>,
        form: &Secret<String>,
    ) -> Result<Vec<u8>, HttpsError> {
        assert_eq!(address, "https://id.example/token");
        // berth:s%26cret
        assert_eq!(authorization.unwrap().expose(), "Basic YmVydGg6cyUyNmNyZXQ=");
        let form = pairs(form.expose());
        let begun = self.begun.lock().unwrap().remove(&form["code"]).ok_or(HttpsError::Status(400))?;
        if b64(digest(&SHA256, form["code_verifier"].as_bytes())) != begun.challenge {
            return Err(HttpsError::Status(400));
        }
        Ok(json!({ "access_token": "x", "token_type": "Bearer", "id_token": self.token(&begun) })
            .to_string()
            .into_bytes())
    }
}

fn offer(world: &World, issuer: &Arc<Issuer>) {
    let settings = OidcSettings {
        name: "Example".to_owned(),
        issuer: ISSUER.to_owned(),
        client_id: "berth".to_owned(),
        client_secret: secret("s&cret"),
    };
    world.control.offer_oidc(settings, issuer.clone()).unwrap();
}

async fn world() -> (World, Arc<Issuer>) {
    let ((world, ..), issuer) = (World::new().await, Issuer::new());
    offer(&world, &issuer);
    (world, issuer)
}

async fn connect(
    world: &World,
    issuer: &Issuer,
    login: &WebLogin,
    subject: &str,
) -> Result<OidcDone, WebError> {
    let start = world.control.begin_oidc_connect(login).await.unwrap();
    world.control.finish_oidc(Some(login), &issuer.log_in(&start, subject), client(HOME)).await
}

async fn log_in(world: &World, issuer: &Issuer, subject: &str) -> Result<OidcDone, WebError> {
    let start = world.control.begin_oidc_log_in().await?;
    world.control.finish_oidc(None, &issuer.log_in(&start, subject), client(HOME)).await
}

fn refusal(result: Result<OidcDone, WebError>) -> OidcError {
    match result {
        Err(WebError::Oidc(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_account_elsewhere_lets_in_once_it_is_connected() {
    let (world, issuer) = world().await;
    assert_eq!(world.control.oidc_name(), Some("Example"));
    let refused = refusal(log_in(&world, &issuer, "bob").await);
    assert_eq!(
        refused.to_string(),
        "bob@example.com at Example is not connected with an account here. Log in another way first, and connect it \
         under Account."
    );
    let (alice, bob) = (world.log_in_by_link("alice").await.login, world.log_in_by_link("bob").await.login);
    let OidcDone::Connected(info) = connect(&world, &issuer, &bob, "bob").await.unwrap() else { panic!() };
    assert_eq!((info.issuer.as_str(), info.label.as_str()), (ISSUER, "bob@example.com"));
    for login in [&alice, &bob] {
        assert_eq!(refusal(connect(&world, &issuer, login, "bob").await), OidcError::Connected);
    }
    let OidcDone::LoggedIn(new) = log_in(&world, &issuer, "bob").await.unwrap() else { panic!() };
    assert_eq!((new.login.account(), new.login.way()), (&account("bob"), LoginWay::Oidc));
    assert!(world.lets_in(&new.cookie).await && new.login.is_fresh());
    assert_eq!(world.control.identities(&bob).await.unwrap().oidc.len(), 1);

    assert!(matches!(world.control.remove_oidc(&alice, info.id).await, Err(WebError::Missing)));
    world.host().block_account(&account("bob")).await.unwrap();
    assert!(matches!(refusal(log_in(&world, &issuer, "bob").await), OidcError::NotConnected { .. }));
    world.host().unblock_account(&account("bob")).await.unwrap();
    let OidcDone::LoggedIn(new) = log_in(&world, &issuer, "bob").await.unwrap() else { panic!() };
    world.control.remove_oidc(&new.login, info.id).await.unwrap();
    assert!(matches!(refusal(log_in(&world, &issuer, "bob").await), OidcError::NotConnected { .. }));
    let trail = world.trail().await;
    for line in ["oidc_added bob by bob/web bob@example.com https://id.example", "log_in bob by bob/web oidc"]
    {
        assert!(trail.iter().any(|said| said == line), "{trail:?}");
    }
}

#[tokio::test]
async fn an_answer_counts_once_in_the_browser_that_asked() {
    let (world, issuer) = world().await;
    let (alice, bob) = (world.log_in_by_link("alice").await.login, world.log_in_by_link("bob").await.login);
    connect(&world, &issuer, &bob, "bob").await.unwrap();
    let finish = async |login: Option<&WebLogin>, answer: &OidcAnswer| {
        world.control.finish_oidc(login, answer, client(HOME)).await
    };
    let start = world.control.begin_oidc_log_in().await.unwrap();
    let answer = issuer.log_in(&start, "bob");

    // Somebody has another one come back with their own answer: to log it in as themselves.
    let other = world.control.begin_oidc_log_in().await.unwrap();
    let planted = OidcAnswer { cookie: other.cookie, ..answer.clone() };
    assert_eq!(refusal(finish(None, &planted).await), OidcError::Stale);
    let stateless = OidcAnswer { state: String::new(), ..answer.clone() };
    assert_eq!(refusal(finish(None, &stateless).await), OidcError::Stale);
    for cookie in ["", "x", &"A".repeat(75)] {
        let cookieless = OidcAnswer { cookie: secret(cookie), ..answer.clone() };
        assert_eq!(refusal(finish(None, &cookieless).await), OidcError::Stale);
    }
    finish(None, &answer).await.unwrap();
    assert_eq!(refusal(finish(None, &answer).await), OidcError::Stale, "replayed");

    // What one session began another one does not end, and neither does a browser without one.
    let start = world.control.begin_oidc_connect(&bob).await.unwrap();
    let answer = issuer.log_in(&start, "eve");
    for login in [Some(&alice), None] {
        assert_eq!(refusal(finish(login, &answer).await), OidcError::Stale);
    }
    // Somebody else's code, put into one's own answer, is for another verifier.
    let mine = world.control.begin_oidc_log_in().await.unwrap();
    let stolen = issuer.log_in(&world.control.begin_oidc_log_in().await.unwrap(), "bob");
    let swapped = OidcAnswer { code: stolen.code, ..issuer.log_in(&mine, "eve") };
    assert_eq!(refusal(finish(None, &swapped).await), OidcError::Stale);
}

#[tokio::test]
async fn an_issuer_that_changes_its_key_is_asked_again_and_one_that_is_down_is_left_alone() {
    let time = Time::stop();
    let (world, issuer) = (World::with(settings_of_today()).await, Issuer::new());
    offer(&world, &issuer);
    world.control.add_account(&account("bob")).await.unwrap();
    let bob = world.log_in_by_link("bob").await.login;
    connect(&world, &issuer, &bob, "bob").await.unwrap();
    log_in(&world, &issuer, "bob").await.unwrap();
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 2, "its configuration and its keys, once");

    *issuer.key.lock().unwrap() = new_key("2");
    assert!(matches!(refusal(log_in(&world, &issuer, "bob").await), OidcError::Issuer { .. }), "not at once");
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 2, "nobody makes us ask again and again");
    tokio::time::advance(Duration::from_secs(61)).await;
    log_in(&world, &issuer, "bob").await.unwrap();
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 4);

    *issuer.down.lock().unwrap() = true;
    tokio::time::advance(Duration::from_secs(3601)).await;
    for _ in 0..5 {
        assert!(matches!(refusal(log_in(&world, &issuer, "bob").await), OidcError::Issuer { .. }));
    }
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 5);
    *issuer.down.lock().unwrap() = false;
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(world.control.begin_oidc_log_in().await.is_ok());
    drop(time);
}

/// The issuer of the test knows no clock but the host's.
fn settings_of_today() -> berth_control::Settings {
    berth_control::Settings { clock: berth_control::Clock::System, ..settings() }
}

#[tokio::test]
async fn without_an_issuer_there_is_none() {
    let (world, ..) = World::new().await;
    assert_eq!(world.control.oidc_name(), None);
    assert!(matches!(world.control.begin_oidc_log_in().await, Err(WebError::Oidc(OidcError::NotOffered))));
    let plain = OidcSettings {
        name: "Example".to_owned(),
        issuer: "http://id.example".to_owned(),
        client_id: "berth".to_owned(),
        client_secret: secret("x"),
    };
    assert!(world.control.offer_oidc(plain, Issuer::new()).is_err());
    assert_eq!(world.control.oidc_name(), None);
}
