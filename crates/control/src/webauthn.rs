//! What of WebAuthn a site needs that asks for no attestation (<https://www.w3.org/TR/webauthn-3/>, sections 7.1 and
//! 7.2): pure functions of what a browser sends, all of it a stranger's.
//!
//! Without attestation nothing that a browser sends about a new passkey is signed: the public key counts as what its
//! account's owner, who is logged in, says that it is. So no CBOR is read: browsers give the key as a
//! SubjectPublicKeyInfo too (section 5.2.1.1). What counts later is that key's signature.

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{
        ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// The algorithms of keys that are taken, the best first: COSE's numbers of ES256, Ed25519 and RS256.
pub(crate) const ALGORITHMS: [i64; 3] = [-7, -8, -257];
/// The longest text that is looked at, in bytes of base64url.
const MAX_TEXT: usize = 8 * 1024;
/// The longest name of a credential, in bytes: section 5.1.
const MAX_CREDENTIAL: usize = 1023;

/// The site, as authenticators know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelyingParty {
    /// Its host name.
    pub(crate) id: String,
    /// Scheme, host name, and port where it is not the usual one.
    origin: String,
}

impl RelyingParty {
    /// That of a website's address.
    pub(crate) fn of(website: &str) -> Self {
        let website = website.to_ascii_lowercase();
        let (scheme, rest) = website.split_once("://").unwrap_or(("https", website.as_str()));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let usual = if scheme == "http" { ":80" } else { ":443" };
        let authority = authority.strip_suffix(usual).unwrap_or(authority);
        let host = authority.split(':').next().unwrap_or_default();
        Self { id: host.to_owned(), origin: format!("{scheme}://{authority}") }
    }
}

/// A new passkey, as a browser's `PublicKeyCredential.toJSON()` writes it.
#[derive(Debug, Clone, Deserialize)]
pub struct NewCredential {
    id: String,
    response: NewResponse,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewResponse {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    authenticator_data: String,
    /// Missing where the browser cannot read it.
    public_key: Option<String>,
    public_key_algorithm: i64,
}

/// The use of a passkey, as a browser's `PublicKeyCredential.toJSON()` writes it.
#[derive(Debug, Clone, Deserialize)]
pub struct Assertion {
    id: String,
    response: AssertionResponse,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AssertionResponse {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    authenticator_data: String,
    signature: String,
    user_handle: Option<String>,
}

/// Why a passkey was not taken, or did not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasskeyError {
    /// It is not what a browser sends.
    #[error("The browser sent something that is no passkey. Try again, or use another browser.")]
    Malformed,
    /// It was made for another site, or in a frame of one.
    #[error("That passkey is for another site. Open the website under its own name and try again.")]
    OtherSite,
    /// It is not an answer to what was asked, or it comes too late.
    #[error("That took too long, or was answered before. Try again.")]
    Challenge,
    /// Nobody touched it, or it did not check who did.
    #[error("The passkey did not check that it is you: by a PIN, a finger or a face. Use one that does.")]
    NotVerified,
    /// Its key is of a kind that is not known here.
    #[error("That passkey has a kind of key that Berth does not know. Use another one.")]
    Algorithm,
    /// The signature is not that of the key.
    #[error("That passkey's signature is wrong.")]
    Signature,
    /// The account has it, or another one.
    #[error("That passkey is there already.")]
    AlreadyThere,
    /// Without a name nobody knows which one to remove.
    #[error("Give the passkey a name of at most 100 characters, for you to know it by.")]
    Label,
}

/// What is kept of a new passkey. Texts are base64url without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) id: String,
    pub(crate) algorithm: i64,
    pub(crate) public_key: String,
    pub(crate) sign_count: u32,
}

impl NewCredential {
    /// What is kept of it, where it is an answer to a challenge for which `asked` holds.
    pub(crate) fn accept(
        &self,
        site: &RelyingParty,
        asked: impl FnOnce(&str) -> bool,
    ) -> Result<Credential, PasskeyError> {
        client_data(&self.response.client_data, "webauthn.create", site, asked)?;
        let data = bytes(&self.response.authenticator_data)?;
        let data = AuthenticatorData::parse(&data)?;
        data.check(site)?;
        let id = bytes(&self.id)?;
        if id.is_empty() || id.len() > MAX_CREDENTIAL || data.credential != Some(id.as_slice()) {
            return Err(PasskeyError::Malformed);
        }
        let algorithm = self.response.public_key_algorithm;
        let public_key = self.response.public_key.as_deref().ok_or(PasskeyError::Algorithm)?;
        let key = bytes(public_key)?;
        ParsedPublicKey::new(verification(algorithm)?, &key).map_err(|_| PasskeyError::Algorithm)?;
        Ok(Credential {
            id: URL_SAFE_NO_PAD.encode(id),
            algorithm,
            public_key: URL_SAFE_NO_PAD.encode(key),
            sign_count: data.sign_count,
        })
    }
}

impl Assertion {
    /// The name of the credential that is said to be used.
    pub(crate) fn credential(&self) -> &str {
        &self.id
    }

    /// Whom the authenticator says that it knows, where it says so.
    pub(crate) fn user_handle(&self) -> Option<&str> {
        self.response.user_handle.as_deref()
    }

    /// The authenticator's count of its signatures, where this is an answer to a challenge for which `asked` holds,
    /// signed with the key.
    pub(crate) fn verify(
        &self,
        site: &RelyingParty,
        algorithm: i64,
        public_key: &str,
        asked: impl FnOnce(&str) -> bool,
    ) -> Result<u32, PasskeyError> {
        let client = client_data(&self.response.client_data, "webauthn.get", site, asked)?;
        let raw = bytes(&self.response.authenticator_data)?;
        let data = AuthenticatorData::parse(&raw)?;
        data.check(site)?;
        let key = ParsedPublicKey::new(verification(algorithm)?, bytes(public_key)?)
            .map_err(|_| PasskeyError::Algorithm)?;
        let signed = [raw.as_slice(), digest(&SHA256, &client).as_ref()].concat();
        let signature = bytes(&self.response.signature)?;
        key.verify_sig(&signed, &signature).map_err(|_| PasskeyError::Signature)?;
        Ok(data.sign_count)
    }
}

fn verification(algorithm: i64) -> Result<&'static dyn VerificationAlgorithm, PasskeyError> {
    match algorithm {
        -7 => Ok(&ECDSA_P256_SHA256_ASN1),
        -8 => Ok(&ED25519),
        -257 => Ok(&RSA_PKCS1_2048_8192_SHA256),
        _ => Err(PasskeyError::Algorithm),
    }
}

/// Section 5.8.1.
#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(rename = "crossOrigin", default)]
    cross_origin: bool,
}

/// The bytes of what the browser says about itself, where it says what it should.
fn client_data(
    text: &str,
    kind: &str,
    site: &RelyingParty,
    asked: impl FnOnce(&str) -> bool,
) -> Result<Vec<u8>, PasskeyError> {
    let raw = bytes(text)?;
    let data: ClientData = serde_json::from_slice(&raw).map_err(|_| PasskeyError::Malformed)?;
    if data.kind != kind {
        Err(PasskeyError::Malformed)
    } else if data.origin != site.origin || data.cross_origin {
        Err(PasskeyError::OtherSite)
    } else if !asked(&data.challenge) {
        Err(PasskeyError::Challenge)
    } else {
        Ok(raw)
    }
}

/// Section 6.1.
struct AuthenticatorData<'a> {
    site: &'a [u8],
    flags: u8,
    sign_count: u32,
    credential: Option<&'a [u8]>,
}

impl<'a> AuthenticatorData<'a> {
    const USER_PRESENT: u8 = 1;
    const USER_VERIFIED: u8 = 1 << 2;
    const HAS_CREDENTIAL: u8 = 1 << 6;
    const AAGUID: usize = 16;

    fn parse(data: &'a [u8]) -> Result<Self, PasskeyError> {
        let malformed = PasskeyError::Malformed;
        let (site, rest) = data.split_at_checked(32).ok_or(malformed)?;
        let (flags, rest) = rest.split_first().ok_or(malformed)?;
        let (count, rest) = rest.split_first_chunk().ok_or(malformed)?;
        let credential = if flags & Self::HAS_CREDENTIAL == 0 {
            None
        } else {
            let (_, rest) = rest.split_at_checked(Self::AAGUID).ok_or(malformed)?;
            let (length, rest) = rest.split_first_chunk().ok_or(malformed)?;
            let length = usize::from(u16::from_be_bytes(*length));
            // The key in CBOR and extensions follow.
            Some(rest.split_at_checked(length).ok_or(malformed)?.0)
        };
        Ok(Self { site, flags: *flags, sign_count: u32::from_be_bytes(*count), credential })
    }

    fn check(&self, site: &RelyingParty) -> Result<(), PasskeyError> {
        let verified = Self::USER_PRESENT | Self::USER_VERIFIED;
        if self.site != digest(&SHA256, site.id.as_bytes()).as_ref() {
            Err(PasskeyError::OtherSite)
        } else if self.flags & verified != verified {
            Err(PasskeyError::NotVerified)
        } else {
            Ok(())
        }
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, PasskeyError> {
    if text.len() > MAX_TEXT {
        return Err(PasskeyError::Malformed);
    }
    URL_SAFE_NO_PAD.decode(text).map_err(|_| PasskeyError::Malformed)
}

#[cfg(test)]
mod tests;
