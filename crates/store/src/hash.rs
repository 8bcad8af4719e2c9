//! What the store keeps of a secret that is random.

use std::fmt;

use berth_model::Secret;
use sha2::{Digest, Sha256};

/// The SHA-256 of a random secret of at least 128 bits: enough to know it again, and nothing to find it out from.
///
/// Secrets are looked up and compared by their hashes only. How long that takes may tell something of the hash, which
/// is worth nothing to somebody who would have to choose secrets by their hashes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of a secret.
    #[must_use]
    pub fn of(secret: &Secret<String>) -> Self {
        Self(Sha256::digest(secret.expose()).into())
    }
}

/// Sixty-four hexadecimal digits.
impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Enough to tell two apart in a log, and too little to look one up.
impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretHash({:.6}…)", self.to_string())
    }
}

/// Why a text is no [`SecretHash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("It is not 64 hexadecimal digits.")]
pub struct SecretHashError;

impl std::str::FromStr for SecretHash {
    type Err = SecretHashError;

    fn from_str(text: &str) -> Result<Self, SecretHashError> {
        let mut hash = [0; 32];
        if text.len() != 2 * hash.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(SecretHashError);
        }
        for (index, byte) in hash.iter_mut().enumerate() {
            let digits = text.get(2 * index..2 * index + 2).ok_or(SecretHashError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| SecretHashError)?;
        }
        Ok(Self(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_the_text_and_comes_back() {
        let hash = SecretHash::of(&Secret::new("abc".to_owned()));
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.parse(), Ok(hash));
        assert_eq!(format!("{hash:?}"), "SecretHash(ba7816…)");
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for text in ["", "ba78", &"g".repeat(64), &"é".repeat(32), &"a".repeat(65), &"+a".repeat(32)] {
            assert_eq!(text.parse::<SecretHash>(), Err(SecretHashError), "{text}");
        }
    }
}
