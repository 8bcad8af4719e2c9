//! A public key in its canonical form, and its fingerprint.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use ssh_key::{
    HashAlg,
    public::{EcdsaPublicKey, Ed25519PublicKey, KeyData, RsaPublicKey},
};

use super::{
    KeyError,
    blob::{self, Kind},
    comment,
};

/// The least size of an RSA key.
pub const MIN_RSA_BITS: usize = 2048;
/// The greatest size of an RSA key: signatures of larger ones are not verified by the SSH library, so that such a
/// key would be accepted here and fail at every log-in.
pub const MAX_RSA_BITS: usize = 8192;
/// The greatest RSA exponent, with the same reason: 2³³ − 1.
const MAX_RSA_EXPONENT: u64 = (1 << 33) - 1;

/// The first byte of an uncompressed point (SEC 1, 2.3.3), the only form that SSH uses (RFC 5656, 3.1).
const UNCOMPRESSED: u8 = 4;

/// A public key that Berth accepts: ed25519, ecdsa, RSA from [`MIN_RSA_BITS`] to [`MAX_RSA_BITS`], or one of the two
/// security key types, whose point is on its curve and whose encoding is the only one of that key.
///
/// Equality is that of the key material. It has no comment and no options.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(KeyData);

impl PublicKey {
    /// Reads one line `type base64 [comment]`; options and other formats are for [`super::parse_pasted`].
    ///
    /// # Errors
    /// Why the key is not accepted.
    pub fn from_openssh(line: &str) -> Result<Self, KeyError> {
        let mut words = line.split_ascii_whitespace();
        let (Some(word), Some(base64)) = (words.next(), words.next()) else { return Err(KeyError::NotAKey) };
        if base64.len() > blob::MAX_BASE64_LEN {
            return Err(KeyError::Damaged);
        }
        let bytes = STANDARD.decode(base64).map_err(|_| KeyError::Damaged)?;
        let key = Self::from_blob(&bytes)?;
        if key.algorithm() != word {
            return Err(KeyError::TypeMismatch { word: comment::quotable(word), holds: key.algorithm() });
        }
        Ok(key)
    }

    /// The key that a client offers.
    ///
    /// # Errors
    /// Why the key is not accepted: then no account can have it.
    pub fn from_ssh_key(key: &ssh_key::PublicKey) -> Result<Self, KeyError> {
        Self::from_blob(&key.to_bytes().map_err(|_| KeyError::Damaged)?)
    }

    /// Reads the binary form (RFC 4253, 6.6), all of it.
    pub(crate) fn from_blob(bytes: &[u8]) -> Result<Self, KeyError> {
        let name = blob::type_name(bytes).ok_or(KeyError::Damaged)?;
        match blob::kind(name) {
            Some(Kind::Accepted { .. }) => {}
            Some(Kind::Dsa) => return Err(KeyError::Dsa),
            Some(Kind::Certificate) => return Err(KeyError::Certificate),
            None => return Err(KeyError::UnknownType(comment::quotable(name))),
        }
        let key = ssh_key::PublicKey::from_bytes(bytes).map_err(|_| KeyError::Damaged)?;
        check(key.key_data())?;
        // One key has one encoding, or it could be added twice under two fingerprints.
        if key.to_bytes().ok().as_deref() != Some(bytes) {
            return Err(KeyError::Damaged);
        }
        Ok(Self(key.into()))
    }

    /// The binary form (RFC 4253, 6.6), which is the only one of this key.
    pub(crate) fn to_blob(&self) -> Vec<u8> {
        // A key that was read can be written.
        ssh_key::PublicKey::from(self.0.clone()).to_bytes().unwrap_or_default()
    }

    /// The key as the SSH library knows it.
    #[must_use]
    pub fn key_data(&self) -> &KeyData {
        &self.0
    }

    /// Its type as in `authorized_keys`, for example `ssh-ed25519`.
    #[must_use]
    pub fn algorithm(&self) -> String {
        self.0.algorithm().to_string()
    }

    /// Its SHA-256 fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        // The library's answer to a request for SHA-256 is SHA-256.
        Fingerprint(self.0.fingerprint(HashAlg::Sha256).sha256().unwrap_or_default())
    }

    /// `type base64`, without a comment. [`PublicKey::from_openssh`] gives back the same key.
    #[must_use]
    pub fn to_openssh(&self) -> String {
        format!("{} {}", self.algorithm(), STANDARD.encode(self.to_blob()))
    }
}

fn check(key: &KeyData) -> Result<(), KeyError> {
    let sound = match key {
        KeyData::Ed25519(key) => ed25519_is_sound(key),
        KeyData::SkEd25519(key) => ed25519_is_sound(key.public_key()),
        KeyData::Ecdsa(key) => ecdsa_is_sound(key),
        KeyData::SkEcdsaSha2NistP256(key) => p256_is_sound(key.ec_point().as_bytes()),
        KeyData::Rsa(key) => return check_rsa(key),
        other => return Err(KeyError::UnknownType(comment::quotable(other.algorithm().as_str()))),
    };
    if sound { Ok(()) } else { Err(KeyError::Damaged) }
}

/// A point on the curve in its only encoding (RFC 8032, 5.1.3), and none of the few for which anybody can make a
/// signature.
fn ed25519_is_sound(key: &Ed25519PublicKey) -> bool {
    ed25519_dalek::VerifyingKey::from_bytes(&key.0)
        .is_ok_and(|point| !point.is_weak() && point.to_edwards().compress().to_bytes() == key.0)
}

fn p256_is_sound(point: &[u8]) -> bool {
    point.first() == Some(&UNCOMPRESSED) && p256::PublicKey::from_sec1_bytes(point).is_ok()
}

fn ecdsa_is_sound(key: &EcdsaPublicKey) -> bool {
    let point = key.as_sec1_bytes();
    match key {
        EcdsaPublicKey::NistP256(_) => p256_is_sound(point),
        EcdsaPublicKey::NistP384(_) => {
            point.first() == Some(&UNCOMPRESSED) && p384::PublicKey::from_sec1_bytes(point).is_ok()
        }
        EcdsaPublicKey::NistP521(_) => {
            point.first() == Some(&UNCOMPRESSED) && p521::PublicKey::from_sec1_bytes(point).is_ok()
        }
    }
}

fn check_rsa(key: &RsaPublicKey) -> Result<(), KeyError> {
    let (Some(modulus), Some(exponent)) = (key.n().as_positive_bytes(), key.e().as_positive_bytes()) else {
        return Err(KeyError::Damaged);
    };
    let bits = bit_length(modulus);
    if bits < MIN_RSA_BITS {
        return Err(KeyError::RsaTooSmall(bits));
    }
    if bits > MAX_RSA_BITS {
        return Err(KeyError::RsaTooLarge(bits));
    }
    let odd = |bytes: &[u8]| bytes.last().is_some_and(|byte| byte % 2 == 1);
    let value =
        exponent.iter().try_fold(0_u64, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
    let exponent_fits = value.is_some_and(|value| (3..=MAX_RSA_EXPONENT).contains(&value));
    if odd(modulus) && odd(exponent) && exponent_fits { Ok(()) } else { Err(KeyError::Damaged) }
}

fn bit_length(bytes: &[u8]) -> usize {
    let zeros = bytes.first().map_or(0, |byte| byte.leading_zeros() as usize);
    (bytes.len() * 8).saturating_sub(zeros)
}

/// The SHA-256 of a public key, written as OpenSSH does: `SHA256:` and unpadded base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ssh_key::Fingerprint::Sha256(self.0).fmt(f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let fingerprint: ssh_key::Fingerprint = text.parse().map_err(|_| KeyError::NotAFingerprint)?;
        fingerprint.sha256().map(Self).ok_or(KeyError::NotAFingerprint)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}
