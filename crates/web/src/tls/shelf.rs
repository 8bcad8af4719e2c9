//! The certificates that there are.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::pair::Pair;

/// See the module. Concurrency: one lock, held for a look or a change.
#[derive(Debug)]
pub(super) struct Shelf {
    inner: RwLock<Inner>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    files: Vec<Arc<Pair>>,
    /// By the one name that each is for.
    issued: BTreeMap<String, Arc<Pair>>,
}

impl Default for Shelf {
    fn default() -> Self {
        Self { inner: RwLock::default(), changed: watch::Sender::new(()) }
    }
}

impl Shelf {
    pub(super) fn set_files(&self, files: Vec<Arc<Pair>>) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).files = files;
        self.changed.send_replace(());
    }

    pub(super) fn set_issued(&self, name: String, pair: Arc<Pair>) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).issued.insert(name, pair);
        self.changed.send_replace(());
    }

    /// The pair for a name in small letters.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Pair>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let of_files = inner.files.iter().find(|pair| pair.is_for(name));
        of_files.or_else(|| inner.issued.get(name)).cloned()
    }

    /// Whether a file is for a name.
    pub(super) fn has_file_for(&self, name: &str) -> bool {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.files.iter().any(|pair| pair.is_for(name))
    }

    /// What was issued, by name.
    pub(super) fn issued(&self) -> BTreeMap<String, Option<Arc<Pair>>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.issued.iter().map(|(name, pair)| (name.clone(), Some(Arc::clone(pair)))).collect()
    }

    /// How many were issued since then.
    pub(super) fn issued_since(&self, then: OffsetDateTime) -> usize {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.issued.values().filter(|pair| pair.begins >= then).count()
    }

    /// Whoever waits for a change looks again.
    pub(super) fn told(&self) {
        self.changed.send_replace(());
    }

    /// Told whenever it has changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// For a client that does not say whom it wants.
    fn first(&self) -> Option<Arc<Pair>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.files.first().or_else(|| inner.issued.values().next()).cloned()
    }
}

impl ResolvesServerCert for Shelf {
    /// `None`, which the client is told as such, for a name that there is no certificate for.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pair = match hello.server_name() {
            Some(name) => self.find(&name.to_ascii_lowercase()),
            None => self.first(),
        };
        pair.map(|pair| Arc::clone(&pair.key))
    }
}
