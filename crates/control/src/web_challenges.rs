//! What a browser is asked, and answers once.
//!
//! A challenge is signed by the server and remembered by nobody, so that asking costs nothing and crowds nobody out. It
//! is good for five minutes, unless it is told otherwise, and for one purpose; one that was answered rightly is
//! remembered for as long, and counts no more.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use berth_model::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use time::OffsetDateTime;

/// How long a browser has for its answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(5 * 60);
const NONCE: usize = 16;
/// So many right answers are remembered: as many in five minutes are no people's.
const MAX_USED: usize = 100_000;

/// One challenge of ours that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    nonce: [u8; NONCE],
    /// Seconds since 1970.
    end: i64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Challenges {
    key: [u8; 32],
    life: Duration,
    used: Mutex<BTreeMap<[u8; NONCE], i64>>,
}

impl Challenges {
    pub(crate) fn new() -> Self {
        Self::lasting(ANSWER)
    }

    /// Those that are good for so long.
    pub(crate) fn lasting(life: Duration) -> Self {
        Self { key: rand::random(), life, used: Mutex::default() }
    }

    fn mac(&self, purpose: &str, nonce: &[u8], end: [u8; 8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        let mac = mac.chain_update(b"challenge ");
        mac.chain_update(nonce).chain_update(end).chain_update(purpose.as_bytes())
    }

    /// A new one, for this.
    pub(crate) fn make(&self, purpose: &str, now: OffsetDateTime) -> String {
        let (nonce, end) = (rand::random::<[u8; NONCE]>(), (now + self.life).unix_timestamp().to_be_bytes());
        let mac = self.mac(purpose, &nonce, end).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode([nonce.as_slice(), &end, &mac].concat())
    }

    /// A secret that belongs to a challenge, another one for each purpose. Only the server can tell it.
    pub(crate) fn secret_of(&self, purpose: &str, challenge: &str) -> Secret<String> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        let mac =
            mac.chain_update(b"secret ").chain_update(purpose).chain_update(b" ").chain_update(challenge);
        Secret::new(URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    /// What was asked, where it was made here for this and has not ended.
    pub(crate) fn read(&self, purpose: &str, text: &str, now: OffsetDateTime) -> Option<Asked> {
        // Longer ones are not worth decoding.
        let raw = URL_SAFE_NO_PAD.decode(text.get(..128).map_or(text, |_| "")).ok()?;
        let (nonce, rest) = raw.split_first_chunk::<NONCE>()?;
        let (end, mac) = rest.split_first_chunk::<8>()?;
        self.mac(purpose, nonce, *end).verify_slice(mac).ok()?;
        let end = i64::from_be_bytes(*end);
        (end > now.unix_timestamp()).then_some(Asked { nonce: *nonce, end })
    }

    /// Uses a challenge up; false where it was.
    pub(crate) fn use_up(&self, Asked { nonce, end }: Asked, now: OffsetDateTime) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, end| *end > now.unix_timestamp());
        used.len() < MAX_USED && used.insert(nonce, end).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_for_its_purpose_its_time_and_once() {
        let (challenges, now) = (Challenges::new(), OffsetDateTime::UNIX_EPOCH);
        let text = challenges.make("log in", now);
        let read = challenges.read("log in", &text, now).unwrap();
        assert_eq!(challenges.read("log in", &text, now + ANSWER - Duration::from_secs(1)), Some(read));
        assert_eq!(challenges.read("log in", &text, now + ANSWER), None);
        assert_eq!(challenges.read("add 1", &text, now), None);
        assert_eq!(Challenges::new().read("log in", &text, now), None);
        for other in ["", "AAAA", text.get(1..).unwrap(), &format!("{text}A"), &"A".repeat(10_000)] {
            assert_eq!(challenges.read("log in", other, now), None, "{other}");
        }
        assert!(challenges.use_up(read, now));
        assert!(!challenges.use_up(read, now));
        assert_ne!(challenges.make("log in", now), text);
        let secret = |purpose: &str, text: &str| challenges.secret_of(purpose, text).expose().clone();
        assert_eq!(secret("state", &text), secret("state", &text));
        assert_ne!(secret("state", &text), secret("nonce", &text));
        assert_ne!(secret("state", &text), secret("state", "another"));
        challenges.use_up(Asked { nonce: [1; NONCE], end: read.end + 10 }, now + ANSWER);
        assert_eq!(challenges.used.lock().unwrap().len(), 1, "what is over is forgotten");
    }
}
