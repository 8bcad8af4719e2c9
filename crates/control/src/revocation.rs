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

/// The switches of all keys in use, or of others of their sort; and by what of theirs somebody was let in, where that is noted.
#[derive(Debug)]
pub(crate) struct Revocations<K = Fingerprint, G = ()> {
    switches: Mutex<HashMap<K, Switch<G>>>,
}

#[derive(Debug)]
struct Switch<G> {
    token: Weak<CancellationToken>,
    grounds: Option<G>,
}

impl<K, G> Default for Revocations<K, G> {
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

impl<K: Eq + Hash + Clone, G: Clone> Revocations<K, G> {
    /// The switch of a key, made if it is the first one.
    pub(crate) fn of(&self, key: &K) -> Revocation {
        let mut switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = switches.get(key).and_then(|switch| switch.token.upgrade()) {
            return Revocation(token);
        }
        switches.retain(|_, switch| switch.token.strong_count() > 0);
        let token = Arc::new(CancellationToken::new());
        switches.insert(key.clone(), Switch { token: Arc::downgrade(&token), grounds: None });
        Revocation(token)
    }

    /// Notes by what somebody is let in who has the key's switch. What was noted first, and somebody is in by, stays.
    pub(crate) fn note(&self, key: &K, grounds: G) {
        let mut switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(switch) = switches.get_mut(key) {
            switch.grounds.get_or_insert(grounds);
        }
    }

    /// All that somebody is in by.
    pub(crate) fn keys(&self) -> Vec<K> {
        self.grounds().into_iter().map(|(key, _)| key).collect()
    }

    /// The same, with what was noted.
    pub(crate) fn grounds(&self) -> Vec<(K, Option<G>)> {
        let switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = switches.iter().filter(|(_, switch)| switch.token.strong_count() > 0);
        in_use.map(|(key, switch)| (key.clone(), switch.grounds.clone())).collect()
    }

    /// Ends all that keys let in for which `which` holds.
    pub(crate) fn revoke_where(&self, which: impl Fn(&K) -> bool) {
        let mut switches = self.switches.lock().unwrap_or_else(PoisonError::into_inner);
        switches.retain(|key, switch| {
            let goes = which(key);
            if let Some(token) = switch.token.upgrade().filter(|_| goes) {
                token.cancel();
            }
            !goes
        });
    }

    /// Ends all that the key let in. Who asks for its switch from now on gets a new one.
    pub(crate) fn revoke(&self, key: &K) {
        let switch = self.switches.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        if let Some(token) = switch.and_then(|switch| switch.token.upgrade()) {
            token.cancel();
        }
    }
}
