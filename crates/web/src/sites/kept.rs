//! A connection into a VM that waits for the next request on the same connection of a visitor.
//!
//! It is for what everybody may see, so that no one's rights are another's; for requests that only read and have no body,
//! after which nothing of a request can be left in it; and for the visitor's own connection, which it ends with. Nothing
//! is shared between visitors. Whatever else happens on it ends it, and so do some seconds without a request.
//!
//! Rule of concurrency: HTTP/1.1 has one request at a time, so there is one place; where two came at once the later one
//! stays.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody as _},
    http::{Extensions, Method, request::Parts},
};
use berth_control::SiteEntry;
use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::bodies::FromVisitor;

/// So long one waits, and at most twice as long: a server in a VM may have few places.
const WAITS: Duration = Duration::from_secs(2);

/// Since when a connection waits, if it does.
#[derive(Default)]
pub(super) struct Idle(Mutex<Option<Instant>>);

impl Idle {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Waits until the connection has waited for too long.
    pub(super) async fn too_long(&self) {
        loop {
            sleep(WAITS).await;
            let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if since.is_some_and(|since| since.elapsed() >= WAITS) {
                return;
            }
        }
    }
}

/// A connection on which HTTP is spoken with a VM.
pub(super) struct Connection {
    pub(super) sender: SendRequest<FromVisitor>,
    pub(super) idle: Arc<Idle>,
    /// What carries it, until it is dropped.
    pub(super) _carried: AbortOnDropHandle<()>,
}

/// The place of one connection of a visitor. The server that accepts it puts it into the extensions of its requests.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Option<(SiteEntry, Connection)>>>);

/// Where a connection goes when its answer has been passed on, if the VM and the visitor agree.
pub(super) struct Keep {
    place: Kept,
    entry: SiteEntry,
}

impl Kept {
    /// The place of a request that may use one.
    pub(super) fn of(parts: &Parts, body: &Body, entry: &SiteEntry) -> Option<Self> {
        let reads = matches!(parts.method, Method::GET | Method::HEAD) && body.is_end_stream();
        let place = |extensions: &Extensions| extensions.get::<Self>().cloned();
        place(&parts.extensions).filter(|_| reads && entry.is_for_everybody())
    }

    /// The connection that waits, if it leads where this entry does, and is open.
    pub(super) fn take(&self, entry: &SiteEntry) -> Option<Connection> {
        let (kept_by, connection) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        connection.idle.set(None);
        let fits = kept_by.leads_where(entry) && !connection.sender.is_closed();
        fits.then_some(connection)
    }

    pub(super) fn keep(self, entry: SiteEntry) -> Keep {
        Keep { place: self, entry }
    }
}

impl Keep {
    /// Has a connection wait, whose answer is at its end.
    pub(super) fn put(self, connection: Connection) {
        let Self { place, entry } = self;
        connection.idle.set(Some(Instant::now()));
        *place.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((entry, connection));
    }
}
