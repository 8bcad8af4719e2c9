use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn expected() -> Expected<'static> {
    Expected {
        issuer: "https://id.example",
        client_id: "berth",
        nonce: "nonce",
        now: OffsetDateTime::from_unix_timestamp(NOW).unwrap(),
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example", "sub": "248289761001", "aud": "berth", "exp": NOW + 300, "iat": NOW,
        "nonce": "nonce", "email": "bob@example.com", "name": "Bob",
    })
}

struct Issuer(EcdsaKeyPair);

impl Issuer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn key(&self) -> Value {
        let point = self.0.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "kid": "1", "use": "sig", "x": b64(&point[1..33]), "y": b64(&point[33..]) })
    }

    fn keys(&self) -> Keys {
        let keys = json!({ "keys": [{ "kty": "new" }, 7, self.key()] });
        Keys::parse(keys.to_string().as_bytes()).unwrap()
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", b64(signature))
    }

    fn verify(&self, claims: &Value) -> Result<OidcIdentity, IdTokenError> {
        verify(&self.token(&json!({ "alg": "ES256", "kid": "1" }), claims), &self.keys(), &expected())
    }
}

#[test]
fn a_token_that_is_right_tells_who_it_is() {
    let issuer = Issuer::new();
    let identity = OidcIdentity {
        issuer: "https://id.example".to_owned(),
        subject: "248289761001".to_owned(),
        label: "bob@example.com".to_owned(),
    };
    assert_eq!(issuer.verify(&claims()), Ok(identity.clone()));
    let mut several = claims();
    several["aud"] = json!(["berth", "other"]);
    several["azp"] = json!("berth");
    assert_eq!(issuer.verify(&several), Ok(identity));
    let mut nameless = claims();
    nameless.as_object_mut().unwrap().retain(|name, _| name != "email" && name != "name");
    assert_eq!(issuer.verify(&nameless).unwrap().label, "248289761001");
}

#[test]
fn a_token_that_is_not_for_us_or_not_for_now_is_refused() {
    let issuer = Issuer::new();
    for (name, value, refused) in [
        ("iss", json!("https://id.example/"), IdTokenError::NotForUs),
        ("aud", json!("other"), IdTokenError::NotForUs),
        ("aud", json!(["other"]), IdTokenError::NotForUs),
        ("aud", json!(["berth", "other"]), IdTokenError::NotForUs),
        ("azp", json!("other"), IdTokenError::NotForUs),
        ("nonce", json!("another"), IdTokenError::NotForUs),
        ("nonce", json!(null), IdTokenError::NotForUs),
        ("exp", json!(NOW - 121), IdTokenError::Time),
        ("iat", json!(NOW + 121), IdTokenError::Time),
        ("nbf", json!(NOW + 121), IdTokenError::Time),
        ("exp", json!("soon"), IdTokenError::Malformed),
        ("sub", json!(""), IdTokenError::Malformed),
        ("sub", json!("x".repeat(256)), IdTokenError::Malformed),
        ("sub", json!(null), IdTokenError::Malformed),
    ] {
        let mut claims = claims();
        claims[name] = value.clone();
        assert_eq!(issuer.verify(&claims), Err(refused), "{name} {value}");
    }
}

#[test]
fn a_signature_counts_by_the_issuers_key_and_no_other_way() {
    let issuer = Issuer::new();
    let token = |header: Value| issuer.token(&header, &claims());
    let judge = |token: &str| verify(token, &issuer.keys(), &expected());
    assert!(judge(&token(json!({ "alg": "ES256" }))).is_ok(), "the only one that fits");
    for algorithm in ["none", "HS256", "RS512", ""] {
        assert_eq!(judge(&token(json!({ "alg": algorithm, "kid": "1" }))), Err(IdTokenError::Algorithm));
    }
    assert_eq!(judge(&token(json!({ "alg": "RS256", "kid": "1" }))), Err(IdTokenError::UnknownKey));
    assert_eq!(judge(&token(json!({ "alg": "ES256", "kid": "2" }))), Err(IdTokenError::UnknownKey));
    let strangers = Issuer::new().token(&json!({ "alg": "ES256", "kid": "1" }), &claims());
    assert_eq!(judge(&strangers), Err(IdTokenError::Signature));
    for text in ["", ".", "..", "a.b.c", "e30.e30.e30"] {
        assert_eq!(judge(text), Err(IdTokenError::Malformed), "{text}");
    }
}

#[test]
fn the_other_kinds_of_key_work_too() {
    let signed_by = |alg: &str, key: Value, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        let signed = format!("{}.{}", b64(json!({ "alg": alg }).to_string()), b64(claims().to_string()));
        let token = format!("{signed}.{}", b64(sign(signed.as_bytes())));
        let keys = Keys::parse(json!({ "keys": [key] }).to_string().as_bytes()).unwrap();
        verify(&token, &keys, &expected()).is_ok()
    };
    let ed = Ed25519KeyPair::generate().unwrap();
    let key = json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(ed.public_key().as_ref()) });
    assert!(signed_by("EdDSA", key, &|data| ed.sign(data).as_ref().to_vec()));
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    // RSAPublicKey (RFC 8017, A.1.1): two headers and a sign before the modulus, and 65537 at the end.
    let der = rsa.public_key().as_ref();
    let key = json!({ "kty": "RSA", "n": b64(&der[9..265]), "e": b64(&der[der.len() - 3..]) });
    assert!(signed_by("RS256", key, &|data| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature).unwrap();
        signature
    }));
}

#[test]
fn an_issuer_speaks_for_itself_over_tls_or_on_this_machine() {
    let document = |issuer: &str, token: &str| {
        json!({
            "issuer": issuer, "authorization_endpoint": "https://id.example/authorize", "token_endpoint": token,
            "jwks_uri": "https://id.example/keys", "token_endpoint_auth_methods_supported": ["client_secret_post"],
        })
        .to_string()
    };
    let parse = |issuer: &str, token: &str| {
        Discovery::parse(document(issuer, token).as_bytes(), "https://id.example")
    };
    assert!(parse("https://id.example", "https://id.example/token").unwrap().secret_in_form());
    assert_eq!(parse("https://evil.example", "https://id.example/token"), None);
    assert_eq!(parse("https://id.example", "http://id.example/token"), None);
    for (address, safe) in [
        ("http://localhost:8080/x", true),
        ("http://127.0.0.1/x", true),
        ("http://[::1]:80", true),
        ("http://localhost.evil.example", false),
        ("http://127.0.0.1@evil.example", false),
        ("https://id.example/ x", false),
        ("ftp://id.example", false),
        ("file:///etc/passwd", false),
        ("", false),
    ] {
        assert_eq!(is_safe(address), safe, "{address}");
    }
}

proptest! {
    #[test]
    fn a_token_of_which_anything_was_changed_is_refused(at in 0..10_000usize, byte in any::<u8>()) {
        let issuer = Issuer::new();
        let token = issuer.token(&json!({ "alg": "ES256", "kid": "1" }), &claims());
        let mut changed = token.clone().into_bytes();
        let at = at % changed.len();
        prop_assume!(changed[at] != byte);
        changed[at] = byte;
        if let Ok(changed) = String::from_utf8(changed) {
            prop_assert!(verify(&changed, &issuer.keys(), &expected()).is_err());
        }
    }

    #[test]
    fn strangers_texts_are_refused_and_nothing_worse(text in "\\PC{0,200}") {
        prop_assert!(verify(&text, &Issuer::new().keys(), &expected()).is_err());
        let _ = Keys::parse(text.as_bytes());
        let _ = Discovery::parse(text.as_bytes(), "https://id.example");
    }
}
