//! Passkeys, with an authenticator of the test's own.

use std::time::Duration;

use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::AsDer,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use berth_control::{Assertion, LoginWay, NewCredential, PasskeyError, PasskeyInfo, WebError, WebLogin};
use futures::FutureExt;
use serde_json::{Value, json};

use crate::{
    time::{Time, settings},
    web::{PASSWORD, client, secret},
    world::{HOME, World, account},
};

/// One passkey, somewhere in a pocket.
struct Authenticator {
    key: EcdsaKeyPair,
    credential: String,
    user: String,
    count: u32,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn client_data(kind: &str, options: &Value) -> String {
    json!({ "type": kind, "challenge": options["challenge"], "origin": "https://koding.com", "crossOrigin": false })
        .to_string()
}

impl Authenticator {
    /// Answers `navigator.credentials.create`.
    fn create(options: &Value) -> (Self, NewCredential) {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let id: [u8; 16] = rand::random();
        let user = options["user"]["id"].as_str().unwrap().to_owned();
        let this = Self { key, credential: b64(id), user, count: 1 };
        let mut data = this.data(options["rp"]["id"].as_str().unwrap(), 0b100_0101);
        data.extend([[0; 16].as_slice(), &16_u16.to_be_bytes(), &id].concat());
        let new = json!({
            "id": this.credential,
            "response": {
                "clientDataJSON": b64(client_data("webauthn.create", options)),
                "authenticatorData": b64(data),
                "publicKey": b64(this.key.public_key().as_der().unwrap().as_ref()),
                "publicKeyAlgorithm": -7,
            },
        });
        (this, serde_json::from_value(new).unwrap())
    }

    /// Answers `navigator.credentials.get`.
    fn sign(&mut self, options: &Value) -> Assertion {
        self.count += 1;
        let data = self.data(options["rpId"].as_str().unwrap(), 0b101);
        let client = client_data("webauthn.get", options);
        let signed = [data.as_slice(), digest(&SHA256, client.as_bytes()).as_ref()].concat();
        let signature = self.key.sign(&SystemRandom::new(), &signed).unwrap();
        let assertion = json!({
            "id": self.credential,
            "response": {
                "clientDataJSON": b64(client), "authenticatorData": b64(data),
                "signature": b64(signature.as_ref()), "userHandle": self.user,
            },
        });
        serde_json::from_value(assertion).unwrap()
    }

    fn data(&self, site: &str, flags: u8) -> Vec<u8> {
        [digest(&SHA256, site.as_bytes()).as_ref(), &[flags], &self.count.to_be_bytes()].concat()
    }
}

async fn add(world: &World, login: &WebLogin, label: &str) -> (Authenticator, PasskeyInfo) {
    let options = world.control.begin_passkey(login).await.unwrap();
    let (authenticator, new) = Authenticator::create(&options);
    let info = world.control.add_passkey(login, label, &new).await.unwrap();
    (authenticator, info)
}

async fn log_in(world: &World, with: &Assertion) -> Result<berth_control::NewSession, WebError> {
    world.control.log_in_by_passkey(with, client(HOME)).await
}

fn is_refused<T: std::fmt::Debug>(result: &Result<T, WebError>) -> bool {
    matches!(result, Err(WebError::PasskeyRefused))
}

#[tokio::test]
async fn a_passkey_lets_its_owner_in_without_a_name() {
    let (world, ..) = World::new().await;
    let bob = world.log_in_by_link("bob").await.login;
    let (mut phone, info) = add(&world, &bob, " phone ").await;
    assert_eq!((info.label.as_str(), &info.last_used), ("phone", &None));

    let new = log_in(&world, &phone.sign(&world.control.begin_passkey_log_in())).await.unwrap();
    assert_eq!((new.login.account(), new.login.way()), (&account("bob"), LoginWay::Passkey));
    assert!(new.login.is_fresh() && world.lets_in(&new.cookie).await);
    let known = world.control.identities(&bob).await.unwrap().passkeys;
    assert_eq!((known.len(), known[0].last_used.as_ref().map(|used| used.from)), (1, Some(HOME)));
    assert!(world.trail().await.iter().any(|line| line == "passkey_added bob by bob/web phone"));
    assert!(world.trail().await.iter().any(|line| line == "log_in bob by bob/web passkey"));

    world.control.remove_passkey(&bob, info.id).await.unwrap();
    assert!(is_refused(&log_in(&world, &phone.sign(&world.control.begin_passkey_log_in())).await));
    assert!(new.login.ended().now_or_never().is_none(), "what it began goes on");
}

#[tokio::test]
async fn an_answer_counts_once_and_only_for_what_was_asked() {
    let (world, ..) = World::new().await;
    let (alice, bob) = (world.log_in_by_link("alice").await.login, world.log_in_by_link("bob").await.login);
    let (mut phone, _) = add(&world, &bob, "phone").await;
    let answer = phone.sign(&world.control.begin_passkey_log_in());
    log_in(&world, &answer).await.unwrap();
    assert!(is_refused(&log_in(&world, &answer).await), "replayed");

    let proof = world.control.begin_passkey_proof(&bob).await.unwrap();
    assert!(is_refused(&log_in(&world, &phone.sign(&proof)).await));
    let made_up = json!({ "rpId": "koding.com", "challenge": b64([0; 56]) });
    assert!(is_refused(&log_in(&world, &phone.sign(&made_up)).await));
    let elsewhere =
        json!({ "rpId": "kd.io", "challenge": world.control.begin_passkey_log_in()["challenge"] });
    assert!(is_refused(&log_in(&world, &phone.sign(&elsewhere)).await));

    // What one session is asked another one cannot answer.
    let options = world.control.begin_passkey(&alice).await.unwrap();
    let (_, new) = Authenticator::create(&options);
    let refused = world.control.add_passkey(&bob, "hers", &new).await;
    assert!(matches!(refused, Err(WebError::Passkey(PasskeyError::Challenge))), "{refused:?}");
    world.control.add_passkey(&alice, "hers", &new).await.unwrap();
    let again = world.control.add_passkey(&alice, "hers", &new).await;
    assert!(matches!(again, Err(WebError::Passkey(PasskeyError::Challenge))), "{again:?}");
}

#[tokio::test]
async fn one_that_says_it_is_somebody_elses_or_counts_back_is_refused() {
    let (world, ..) = World::new().await;
    let (alice, bob) = (world.log_in_by_link("alice").await.login, world.log_in_by_link("bob").await.login);
    let (phone, _) = add(&world, &bob, "phone").await;
    let (mut hers, _) = add(&world, &alice, "hers").await;
    let bobs = std::mem::replace(&mut hers.user, phone.user.clone());
    assert!(is_refused(&log_in(&world, &hers.sign(&world.control.begin_passkey_log_in())).await));
    hers.user = bobs;
    log_in(&world, &hers.sign(&world.control.begin_passkey_log_in())).await.unwrap();
    hers.count -= 2;
    let copied = hers.sign(&world.control.begin_passkey_log_in());
    assert!(is_refused(&log_in(&world, &copied).await), "a copy that lags behind");
    hers.credential = phone.credential;
    assert!(log_in(&world, &hers.sign(&world.control.begin_passkey_log_in())).await.is_err());
}

#[tokio::test]
async fn a_passkey_proves_who_holds_the_session() {
    let time = Time::stop();
    let world = World::with(settings()).await;
    for name in ["alice", "bob"] {
        world.control.add_account(&account(name)).await.unwrap();
    }
    let new = world.log_in_by_link("bob").await;
    let (mut phone, info) = add(&world, &new.login, "phone").await;
    let alice = world.log_in_by_link("alice").await.login;
    let (mut hers, _) = add(&world, &alice, "hers").await;
    tokio::time::advance(Duration::from_secs(31 * 60)).await;
    let stale = world.control.web_login(&new.cookie, HOME).await.unwrap().unwrap();
    assert!(matches!(world.control.begin_passkey(&stale).await, Err(WebError::NotFresh)));
    assert!(matches!(world.control.remove_passkey(&stale, info.id).await, Err(WebError::NotFresh)));

    let options = world.control.begin_passkey_proof(&stale).await.unwrap();
    assert_eq!(options["allowCredentials"][0]["id"], phone.credential.as_str());
    assert!(is_refused(&world.control.prove_by_passkey(&stale, &hers.sign(&options), client(HOME)).await));
    let options = world.control.begin_passkey_proof(&stale).await.unwrap();
    let answer = phone.sign(&options);
    let fresh = world.control.prove_by_passkey(&stale, &answer, client(HOME)).await.unwrap();
    assert!(fresh.is_fresh());
    assert!(world.control.web_login(&new.cookie, HOME).await.unwrap().unwrap().is_fresh());

    let late = world.control.begin_passkey_log_in();
    tokio::time::advance(Duration::from_secs(5 * 60)).await;
    assert!(is_refused(&log_in(&world, &phone.sign(&late)).await));
    drop(time);
}

#[tokio::test]
async fn passkeys_are_named_and_kept_apart_and_a_blocked_accounts_do_not_count() {
    let (world, ..) = World::new().await;
    let (alice, bob) = (world.log_in_by_link("alice").await.login, world.log_in_by_link("bob").await.login);
    let (mut phone, info) = add(&world, &bob, "phone").await;
    for label in ["", "  ", &"x".repeat(101)] {
        let refused = world.control.rename_passkey(&bob, info.id, label).await;
        assert!(matches!(refused, Err(WebError::Passkey(PasskeyError::Label))));
    }
    assert!(matches!(world.control.rename_passkey(&alice, info.id, "mine").await, Err(WebError::Missing)));
    assert!(matches!(world.control.remove_passkey(&alice, info.id).await, Err(WebError::Missing)));
    world.control.rename_passkey(&bob, info.id, "key ring").await.unwrap();
    assert_eq!(world.control.identities(&bob).await.unwrap().passkeys[0].label, "key ring");
    let options = world.control.begin_passkey(&bob).await.unwrap();
    assert_eq!(options["excludeCredentials"][0]["id"], phone.credential.as_str());
    assert_eq!(options["rp"]["id"], "koding.com");

    world.host().block_account(&account("bob")).await.unwrap();
    assert!(is_refused(&log_in(&world, &phone.sign(&world.control.begin_passkey_log_in())).await));
    world.host().unblock_account(&account("bob")).await.unwrap();
    log_in(&world, &phone.sign(&world.control.begin_passkey_log_in())).await.unwrap();
    world.has_password("bob").await;
    assert!(world.control.log_in_by_password("bob", &secret(PASSWORD), client(HOME)).await.is_ok());
}
