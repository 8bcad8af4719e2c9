//! What of OpenID Connect a site needs that logs people in by the code flow: pure functions of what an issuer sends
//! (<https://openid.net/specs/openid-connect-core-1_0.html>).
//!
//! An ID token comes from the issuer itself over TLS, and its signature is verified all the same: an issuer's token
//! endpoint is an address in a document.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use berth_store::OidcIdentity;
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

/// Clocks differ by so many seconds.
const LEEWAY: i64 = 120;
/// The longest `sub`: section 2.
const MAX_SUBJECT: usize = 255;

/// What an issuer says about itself (OpenID Connect Discovery, section 3).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Discovery {
    pub(crate) issuer: String,
    pub(crate) authorization_endpoint: String,
    pub(crate) token_endpoint: String,
    pub(crate) jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

impl Discovery {
    /// Reads what was found at an issuer's address; `None` where it is another's, or leads to what is not safe.
    pub(crate) fn parse(text: &[u8], issuer: &str) -> Option<Self> {
        let found: Self = serde_json::from_slice(text).ok()?;
        let addresses = [&found.authorization_endpoint, &found.token_endpoint, &found.jwks_uri];
        (found.issuer == issuer && addresses.into_iter().all(|address| is_safe(address))).then_some(found)
    }

    /// Whether the client's secret goes into the form: where its issuer takes it nowhere else.
    pub(crate) fn secret_in_form(&self) -> bool {
        let takes = |method: &str| self.token_endpoint_auth_methods_supported.iter().any(|one| one == method);
        takes("client_secret_post") && !takes("client_secret_basic")
    }
}

/// Whether what is sent there can be read on the way by nobody: over TLS, or not leaving this machine.
pub(crate) fn is_safe(address: &str) -> bool {
    let local = ["http://localhost", "http://127.0.0.1", "http://[::1]"];
    let is_local = local.iter().any(|local| {
        address.strip_prefix(local).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    });
    (address.starts_with("https://") || is_local)
        && address.bytes().all(|byte| byte.is_ascii_graphic())
        && !address.contains(['@', '#', '"', '<', '>', '\\'])
}

/// An issuer's keys (RFC 7517).
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Keys {
    keys: Vec<Value>,
}

#[derive(Debug, Clone, Deserialize)]
struct Key {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Why an ID token counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdTokenError {
    #[error("it is no token")]
    Malformed,
    #[error("it is signed by a way that is not accepted")]
    Algorithm,
    #[error("it is signed with a key that its issuer does not have")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("it is another issuer's, for another client, or an answer to something else")]
    NotForUs,
    #[error("its time is over, or is yet to come")]
    Time,
}

/// What an ID token has to be.
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) now: OffsetDateTime,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
    email: Option<String>,
    preferred_username: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Who an ID token is about, where everything is right with it: section 3.1.3.7.
pub(crate) fn verify(
    token: &str,
    keys: &Keys,
    expected: &Expected<'_>,
) -> Result<OidcIdentity, IdTokenError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(IdTokenError::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(IdTokenError::Malformed)?;
    let header: Header = json(header)?;
    keys.verify(&header, signed.as_bytes(), &bytes(signature)?)?;
    let claims: Claims = json(claims)?;
    check(&claims, expected)?;
    if claims.sub.is_empty() || claims.sub.len() > MAX_SUBJECT {
        return Err(IdTokenError::Malformed);
    }
    let label = [claims.email, claims.preferred_username, claims.name].into_iter().flatten().next();
    Ok(OidcIdentity {
        issuer: claims.iss,
        label: label.unwrap_or_else(|| claims.sub.clone()),
        subject: claims.sub,
    })
}

fn check(claims: &Claims, expected: &Expected<'_>) -> Result<(), IdTokenError> {
    let for_us = match &claims.aud {
        Audience::One(one) => one == expected.client_id,
        Audience::Many(many) => many.iter().any(|one| one == expected.client_id),
    };
    let several = matches!(&claims.aud, Audience::Many(many) if many.len() > 1);
    let party = match &claims.azp {
        Some(party) => party == expected.client_id,
        None => !several,
    };
    let answers = claims.nonce.as_deref() == Some(expected.nonce);
    if claims.iss != expected.issuer || !for_us || !party || !answers {
        return Err(IdTokenError::NotForUs);
    }
    let now = expected.now.unix_timestamp();
    let begins = claims.nbf.unwrap_or(claims.iat).max(claims.iat);
    if claims.exp.saturating_add(LEEWAY) <= now || begins > now.saturating_add(LEEWAY) {
        return Err(IdTokenError::Time);
    }
    Ok(())
}

impl Keys {
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Keys of kinds that are not known here may stand among them.
    fn verify(&self, header: &Header, signed: &[u8], signature: &[u8]) -> Result<(), IdTokenError> {
        let kind = match header.alg.as_str() {
            "RS256" => ("RSA", None),
            "ES256" => ("EC", Some("P-256")),
            "EdDSA" => ("OKP", Some("Ed25519")),
            _ => return Err(IdTokenError::Algorithm),
        };
        let fits = |key: &Key| {
            key.kty == kind.0
                && kind.1.is_none_or(|curve| key.crv.as_deref() == Some(curve))
                && key.usage.as_deref().is_none_or(|usage| usage == "sig")
                && (header.kid.is_none() || key.kid == header.kid)
        };
        let keys = self.keys.iter().filter_map(|key| Key::deserialize(key).ok()).filter(fits);
        let mut found = Err(IdTokenError::UnknownKey);
        for key in keys {
            match key.verify(signed, signature) {
                Ok(()) => return Ok(()),
                Err(error) => found = Err(error),
            }
        }
        found
    }
}

impl Key {
    fn verify(&self, signed: &[u8], signature: &[u8]) -> Result<(), IdTokenError> {
        let part = |part: &Option<String>| bytes(part.as_deref().ok_or(IdTokenError::UnknownKey)?);
        let wrong = |_| IdTokenError::Signature;
        match self.kty.as_str() {
            "RSA" => RsaPublicKeyComponents { n: part(&self.n)?, e: part(&self.e)? }
                .verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
                .map_err(wrong),
            "EC" => {
                // An uncompressed point: SEC 1, 2.3.3.
                let point = [vec![4], part(&self.x)?, part(&self.y)?].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(signed, signature)
                    .map_err(wrong)
            }
            _ => UnparsedPublicKey::new(&ED25519, part(&self.x)?).verify(signed, signature).map_err(wrong),
        }
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, IdTokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| IdTokenError::Malformed)
}

fn json<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, IdTokenError> {
    serde_json::from_slice(&bytes(text)?).map_err(|_| IdTokenError::Malformed)
}

#[cfg(test)]
mod tests;
