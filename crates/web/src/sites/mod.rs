//! The sites of VMs: what is asked of a name below the VMs' domain is taken to the VM's own web server.
//!
//! ```text
//!   host ──► answer ── may this visitor? ──► room ──► control: wake, dial ──► carry: one request, one answer
//!              │            │                                                    ├─ bodies: streamed, never kept
//!              │            │                                                    ├─ kept: the connection, for the next request
//!              │            └ pass: who it is, by a cookie of this host          └─ upgrade: WebSockets
//!              └ notice: what is said instead of a page
//! ```
//!
//! Owns how HTTP gets to a VM and back: which headers, in what time, how many at once. Owns no rule of who may, nor when
//! a VM wakes: `berth-control` has those.
//!
//! A connection into the VM belongs to one connection of a visitor, and only what reads what everybody may see follows
//! another request on it: what one visitor sends can never be taken for the beginning of another one's request.
//!
//! Rule of concurrency: the connection into the VM is a task that ends with the response that it serves or the visitor's
//! connection that keeps it, or with what allowed it. A WebSocket takes the place of the connection that it began on.

mod bodies;
mod carry;
mod fields;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod kept;
mod notice;
mod pass;
mod room;
mod upgrade;

use std::sync::Arc;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, Method, header::ACCEPT, request::Parts},
    response::Response,
};
use berth_control::{SiteEntry, SiteRefusal};
use berth_model::VmName;

use crate::{Website, assets, host::VmHost, listen::Peer};

pub(crate) use kept::Kept;
use notice::Notice;
pub(crate) use pass::{DOOR, OWN_PATHS, scheme};
pub(crate) use room::Room;

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// One request for a site of a VM.
struct Visit<'a> {
    website: &'a Arc<Website>,
    host: &'a VmHost,
    vm: &'a VmName,
    port: u16,
    asks: Asks,
}

/// How a visitor asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// A browser that is about to show the answer in its window.
    Window,
    /// Anything else.
    Otherwise,
}

impl Asks {
    fn of(method: &Method, headers: &HeaderMap) -> Self {
        let says = |name: HeaderName, what: &str| {
            headers.get(name).is_none_or(|value| value.as_bytes() == what.as_bytes())
        };
        let reads = matches!(*method, Method::GET | Method::HEAD);
        if reads
            && wants_html(headers)
            && says(SEC_FETCH_MODE, "navigate")
            && says(SEC_FETCH_DEST, "document")
        {
            Self::Window
        } else {
            Self::Otherwise
        }
    }
}

fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// Answers what is asked of a name below the VMs' domain.
pub(crate) async fn answer(website: Arc<Website>, host: VmHost, request: Request) -> Response {
    let headers = request.headers().clone();
    let told = |notice: Notice| notice.told(&headers);
    let path = request.uri().path();
    if let Some(file) = path.strip_prefix(OWN_PATHS).and_then(own_file) {
        return file.answer(&headers);
    }
    let Some((vm, port)) = &host.site else { return told(Notice::missing()) };
    let asks = Asks::of(request.method(), &headers);
    let visit = Visit { website: &website, host: &host, vm, port: *port, asks };
    if path.starts_with(OWN_PATHS) {
        return visit.at_the_door(request.uri(), request.method(), &headers).await;
    }
    // What is said to a proxy is not for a VM, and an echo would show a page's scripts what is kept from them.
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return told(Notice::wrong_method());
    }
    let (parts, body) = request.into_parts();
    let entry = match visit.admit(&parts).await {
        Ok(entry) => entry,
        Err(refusal) => return *refusal,
    };
    let place = match website.visits.enter(vm, Peer::of(&parts.extensions)) {
        Ok(place) => place,
        Err(full) => return told(Notice::full(full, vm, &website)),
    };
    match visit.carry(entry, parts, body, place).await {
        Ok(response) => response,
        Err(notice) => told(notice),
    }
}

/// The style sheet and the icon of what is said in place of a page.
fn own_file(path: &str) -> Option<&'static assets::Asset> {
    [&assets::STYLE, &assets::ICON].into_iter().find(|asset| asset.path.strip_prefix('/') == Some(path))
}

impl Visit<'_> {
    /// The proof that the visitor may see the site, or what to answer. Boxed, being large.
    async fn admit(&self, parts: &Parts) -> Result<SiteEntry, Box<Response>> {
        let control = &self.website.control;
        let told = |notice: Notice| Box::new(notice.told(&parts.headers));
        let refused = |refusal| {
            told(match refusal {
                SiteRefusal::Unavailable => Notice::unavailable(),
                SiteRefusal::LogIn | SiteRefusal::Missing => Notice::missing(),
            })
        };
        match control.enter_site(None, self.vm, self.port).await {
            Err(SiteRefusal::LogIn) => {}
            known => return known.map_err(refused),
        }
        match self.visitor(parts).await {
            Ok(Some(visitor)) => {
                control.enter_site(Some(&visitor), self.vm, self.port).await.map_err(refused)
            }
            // Only a window can take its person to log in and back.
            Ok(None) if self.asks == Asks::Window => Err(Box::new(self.to_the_website(parts))),
            Ok(None) => Err(told(Notice::missing())),
            Err(error) => {
                tracing::warn!(%error, "who shows a pass cannot be found out");
                Err(told(Notice::unavailable()))
            }
        }
    }
}
