//! A public key in its canonical form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use ssh_key::public::KeyData;

use super::KeyError;

/// A public key that Berth accepts. Equality is that of the key material; it has no comment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(KeyData);

impl PublicKey {
    /// Reads one line `type base64 [comment]`; options and other formats are for [`super::parse_pasted`].
    ///
    /// # Errors
    /// Why the key is not accepted.
    pub fn from_openssh(_line: &str) -> Result<Self, KeyError> {
        unimplemented!()
    }

    /// The key that a client offers.
    ///
    /// # Errors
    /// Why the key is not accepted; no account can have it.
    pub fn from_ssh_key(_key: &ssh_key::PublicKey) -> Result<Self, KeyError> {
        unimplemented!()
    }

    /// The key as the ssh library knows it.
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
        unimplemented!()
    }

    /// `type base64`, without a comment.
    #[must_use]
    pub fn to_openssh(&self) -> String {
        unimplemented!()
    }
}

/// The SHA-256 of a public key, written as OpenSSH does: `SHA256:` and unpadded base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = KeyError;

    fn from_str(_text: &str) -> Result<Self, KeyError> {
        unimplemented!()
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
