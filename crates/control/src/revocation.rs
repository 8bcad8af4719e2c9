//! Telling those who were let in by a key, or by a cookie, that it is gone.
//!
//! Owns one switch for each that somebody is logged in with, and forgets it with the last of them.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use berth_model::Fingerprint;
use tokio_util::sync::CancellationToken;

/// The switches of all keys in use, or of others of their sort.
#[derive(Debug)]
pub(crate) struct Revocations<K = Fingerprint> {
    switches: Mutex<HashMap<K, Weak<CancellationToken>>>,
}

impl<K> Default for Revocations<K> {
    fn default() -> Self {
        Self { switches: Mutex::default() }
    }
}

/// The switch of one key. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Revocation(Arc<CancellationToken>);

impl Revocation {
    /// Waits until the key is removed.
    pub(crate) async fn revoked(&self) {
        self.0.cancelled().await;
    }

    /// Whether it was removed.
    pub(crate) fn is_revoked(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl<K: Eq + Hash + Clone> Revocations<K> {
    /// The switch of a key, made if it is the first one.
    pub(crate) fn of(&self, key: &K) -> Revocation {
        let mut switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = switches.get(key).and_then(Weak::upgrade) {
            return Revocation(token);
        }
        switches.retain(|_, token| token.strong_count() > 0);
        let token = Arc::new(CancellationToken::new());
        switches.insert(key.clone(), Arc::downgrade(&token));
        Revocation(token)
    }

    /// All that somebody is in by.
    pub(crate) fn keys(&self) -> Vec<K> {
        let switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = switches.iter().filter(|(_, token)| token.strong_count() > 0);
        in_use.map(|(key, _)| key.clone()).collect()
    }

    /// Ends all that keys let in for which `which` holds.
    pub(crate) fn revoke_where(&self, which: impl Fn(&K) -> bool) {
        let mut switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        switches.retain(|key, token| {
            let goes = which(key);
            if let Some(token) = token.upgrade().filter(|_| goes) {
                token.cancel();
            }
            !goes
        });
    }

    /// Ends all that the key let in. Who asks for its switch from now on gets a new one.
    pub(crate) fn revoke(&self, key: &K) {
        let token = self.switches.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        if let Some(token) = token.and_then(|token| token.upgrade()) {
            token.cancel();
        }
    }
}
