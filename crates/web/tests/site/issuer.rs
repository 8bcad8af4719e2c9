//! An issuer of OpenID Connect, whom people log in at as who they say that they are.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use berth_control::{Https, HttpsError, OidcSettings};
use berth_model::Secret;
use serde_json::json;

use crate::world::World;

const ADDRESS: &str = "https://id.example";

/// See the module.
pub(crate) struct Issuer {
    key: EcdsaKeyPair,
    /// The nonce and the subject for each code.
    codes: Mutex<HashMap<String, (String, String)>>,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    /// One that this world's people can log in with.
    pub(crate) fn offered_by(world: &World) -> Arc<Self> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let issuer = Arc::new(Self { key, codes: Mutex::default() });
        let settings = OidcSettings {
            name: "Example".to_owned(),
            issuer: ADDRESS.to_owned(),
            client_id: "berth".to_owned(),
            client_secret: Secret::new("s&cret".to_owned()),
        };
        world.control.offer_oidc(settings, issuer.clone()).unwrap();
        issuer
    }

    /// Somebody logs in there, upon a page that sends the browser on: the path with which it comes back.
    pub(crate) fn log_in(&self, page: &str, subject: &str) -> String {
        let (_, rest) = page.split_once("content=\"0; url=").expect("it is sent on");
        let address = rest.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
        let (at, query) = address.split_once('?').unwrap();
        assert_eq!(at, "https://id.example/authorize");
        let query: HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        assert_eq!(query["redirect_uri"], "https://koding.com/log-in/oidc");
        let code = format!("code-{}", rand::random::<u64>());
        self.codes.lock().unwrap().insert(code.clone(), (query["nonce"].clone(), subject.to_owned()));
        let pairs = [("state", query["state"].as_str()), ("code", &code)];
        let answer = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        format!("/log-in/oidc?{answer}")
    }
}

#[async_trait]
impl Https for Issuer {
    async fn get(&self, address: &str) -> Result<Vec<u8>, HttpsError> {
        let point = self.key.public_key().as_ref();
        let answer = if address.ends_with("/openid-configuration") {
            json!({
                "issuer": ADDRESS, "authorization_endpoint": "https://id.example/authorize",
                "token_endpoint": "https://id.example/token", "jwks_uri": "https://id.example/keys",
            })
        } else {
            json!({ "keys": [{
                "kty": "EC", "crv": "P-256", "kid": "1", "x": b64(&point[1..33]), "y": b64(&point[33..]),
            }] })
        };
        Ok(answer.to_string().into_bytes())
    }

    async fn post(
        &self,
        _: &str,
        _: Option<&Secret<String>>,
        form: &Secret<String>,
    ) -> Result<Vec<u8>, HttpsError> {
        let form: HashMap<_, _> = form_urlencoded::parse(form.expose().as_bytes()).into_owned().collect();
        let begun = self.codes.lock().unwrap().remove(&form["code"]);
        let (nonce, subject) = begun.ok_or(HttpsError::Status(400))?;
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let claims = json!({
            "iss": ADDRESS, "sub": subject, "aud": "berth", "exp": now + 300, "iat": now, "nonce": nonce,
            "email": format!("{subject}@example.com"),
        });
        let header = json!({ "alg": "ES256", "kid": "1" });
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        let token = format!("{signed}.{}", b64(signature));
        Ok(json!({ "token_type": "Bearer", "id_token": token }).to_string().into_bytes())
    }
}
