//! One request to a VM and its answer back.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{
        HeaderValue, Method, Request, StatusCode, Uri, Version,
        header::{CONNECTION, UPGRADE},
        request::Parts,
        uri::PathAndQuery,
    },
    response::Response,
};
use berth_control::{ConnectError, SiteEntry, Status, VisitError};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{
    Asks, Visit,
    bodies::{FromVisitor, FromVm, Progress},
    fields,
    kept::{Connection, Idle, Keep, Kept},
    notice::Notice,
    pass,
    room::Place,
    upgrade::Upgrading,
};
use crate::listen::Peer;

/// After so long a window shows that the VM is waking; most wakes take less, and nobody sees that they slept.
const SHOWN_AFTER: Duration = Duration::from_millis(700);
/// So long anybody else is held until the VM is there.
const HELD: Duration = Duration::from_secs(120);
/// So long a VM may take to answer, or to take more of what it is sent.
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);
/// The most bytes of the header of a VM's answer.
const MAX_HEADER: usize = 64 * 1024;

impl Visit<'_> {
    /// Takes a request to the VM and gives its answer, whose body is still to come.
    pub(super) async fn carry(
        &self,
        entry: SiteEntry,
        mut parts: Parts,
        body: Body,
        place: Place,
    ) -> Result<Response, Notice> {
        let progress = Arc::new(Progress::default());
        let upgrading = Upgrading::of(&mut parts);
        let kept = Kept::of(&parts, &body, &entry).filter(|_| upgrading.is_none());
        if let Some(kept) = &kept
            && let Some((answer, connection)) = self.on_kept(kept, &entry, &parts, &progress).await?
        {
            return self.pass_on(answer, connection, Some(kept.clone().keep(entry)), place);
        }
        let body = FromVisitor::begin(body, Arc::clone(&progress)).await.map_err(|_| Notice::malformed())?;
        let from = Peer::of(&parts.extensions);
        let stream = self.held(&entry, &parts, self.website.control.visit(&entry, from)).await?;
        let after = match (&upgrading, &kept) {
            (Some(upgrading), _) => After::Upgrade(upgrading.protocol().clone()),
            (None, Some(_)) => After::Keep,
            (None, None) => After::Close,
        };
        let request = self.for_the_vm(parts, body, after);
        let mut connection =
            self.speaking_http(stream, entry.clone()).await.ok_or_else(|| self.no_answer())?;
        let answer = match self.asked(&mut connection, request, &progress).await? {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(vm = %self.vm, port = self.port, %error, "no answer from a site");
                return Err(self.no_answer());
            }
        };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgrading = upgrading.ok_or_else(|| self.no_answer())?;
            let stop = self.website.stop.clone();
            return Ok(upgrading.answer(answer, self.host, (connection, place), entry, stop));
        }
        self.pass_on(answer, connection, kept.map(|kept| kept.keep(entry)), place)
    }

    /// What the VM answers on the connection that waits, if there is one. `None` where that had ended: the request only
    /// reads, and may be sent again.
    async fn on_kept(
        &self,
        kept: &Kept,
        entry: &SiteEntry,
        parts: &Parts,
        progress: &Arc<Progress>,
    ) -> Result<Option<(Answer, Connection)>, Notice> {
        let Some(mut connection) = kept.take(entry) else { return Ok(None) };
        if !self.website.control.visit_again(entry) || connection.sender.ready().await.is_err() {
            return Ok(None);
        }
        let Ok(body) = FromVisitor::begin(Body::empty(), Arc::clone(progress)).await else { return Ok(None) };
        let request = self.for_the_vm(parts.clone(), body, After::Keep);
        Ok(self.asked(&mut connection, request, progress).await?.ok().map(|answer| (answer, connection)))
    }

    /// Asks, and waits for the answer as long as a VM may take.
    async fn asked(
        &self,
        connection: &mut Connection,
        request: Request<FromVisitor>,
        progress: &Progress,
    ) -> Result<Result<Answer, hyper::Error>, Notice> {
        tokio::select! {
            answer = connection.sender.send_request(request) => Ok(answer),
            () = progress.stalled(ANSWERS_WITHIN) => {
                Err(Notice::silent(self.vm, self.port, self.website))
            }
        }
    }

    /// Gives an answer to the visitor.
    fn pass_on(
        &self,
        answer: Answer,
        connection: Connection,
        keep: Option<Keep>,
        place: Place,
    ) -> Result<Response, Notice> {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.no_answer());
        }
        let (mut head, body) = answer.into_parts();
        fields::from_vm(&mut head.headers, &self.host.name);
        let mut response = Response::new(Body::new(FromVm::new(body, connection, keep, place)));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    fn no_answer(&self) -> Notice {
        Notice::no_answer(self.vm, self.port, self.website)
    }

    /// Waits for the VM, as long as whoever asks can be made to wait without a word.
    async fn held<T>(
        &self,
        entry: &SiteEntry,
        asked: &Parts,
        visiting: impl Future<Output = Result<T, VisitError>>,
    ) -> Result<T, Notice> {
        let control = &self.website.control;
        let wakes = control.site_status(entry) != Status::Running;
        let shown = wakes && self.asks == Asks::Window;
        let allowed = async {
            let visited = tokio::select! {
                visited = visiting => visited,
                () = entry.ended() => return Err(Notice::missing()),
            };
            match visited {
                Ok(visited) => Ok(visited),
                Err(error) => Err(self.why_not(entry, asked, &error).await),
            }
        };
        match timeout(if shown { SHOWN_AFTER } else { HELD }, allowed).await {
            Ok(visited) => visited,
            Err(_) if shown => Err(Notice::waking(self.vm, control.site_status(entry), self.website)),
            Err(_) => Err(Notice::not_awake_yet(self.vm, self.website)),
        }
    }

    /// The owner of a VM in which nothing listens there is told what does; a window of somebody unknown can ask again as
    /// its owner.
    async fn why_not(&self, entry: &SiteEntry, asked: &Parts, error: &VisitError) -> Notice {
        let notice = Notice::of(error, self.port, self.website);
        if !matches!(error, VisitError::Connect(ConnectError::Refused { .. })) {
            return notice;
        }
        match self.visitor(asked).await {
            Ok(Some(visitor)) => {
                let listeners = self.website.control.listeners(&visitor, entry).await;
                Notice::closed(self.vm, self.port, listeners.as_deref(), self.website)
            }
            Ok(None) if self.asks == Asks::Window => notice.asks_who(self.address_of_entrance("/")),
            Ok(None) | Err(_) => notice,
        }
    }

    /// The request as the VM gets it: by its path, with what this server says of the visitor.
    fn for_the_vm(&self, mut parts: Parts, body: FromVisitor, after: After) -> Request<FromVisitor> {
        let peer = Peer::of(&parts.extensions);
        fields::to_vm(&mut parts.headers, peer, pass::scheme(self.website));
        match after {
            After::Upgrade(protocol) => {
                parts.headers.insert(UPGRADE, protocol);
                parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            }
            After::Close => {
                parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            // What HTTP/1.1 does where nothing is said.
            After::Keep => {}
        }
        let mut request = Request::new(body);
        *request.method_mut() = parts.method;
        *request.uri_mut() = match parts.uri.path_and_query() {
            Some(path) => Uri::from(path.clone()),
            None => Uri::from(PathAndQuery::from_static("/")),
        };
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = parts.headers;
        request
    }

    /// A connection on which requests can be sent, until it is dropped, or the visitor may see the site no longer.
    async fn speaking_http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        entry: SiteEntry,
    ) -> Option<Connection> {
        let mut http = http1::Builder::new();
        http.max_buf_size(MAX_HEADER);
        let (sender, connection) = http.handshake::<_, FromVisitor>(TokioIo::new(stream)).await.ok()?;
        let idle = Arc::<Idle>::default();
        let waiting = Arc::clone(&idle);
        let carried = async move {
            tokio::select! {
                ended = connection.with_upgrades() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection to a site ended early");
                    }
                }
                () = entry.ended() => {}
                () = waiting.too_long() => {}
            }
        };
        // Tracked by its handle alone: whoever drops that ends it.
        let carried = AbortOnDropHandle::new(TaskTracker::new().spawn(carried));
        Some(Connection { sender, idle, _carried: carried })
    }
}

/// What becomes of the connection into the VM after a request.
enum After {
    /// It changes to this protocol.
    Upgrade(HeaderValue),
    /// It waits for another one.
    Keep,
    /// It ends.
    Close,
}

/// Whether a request may ask to change the protocol.
pub(super) fn may_upgrade(parts: &Parts) -> bool {
    parts.version == Version::HTTP_11 && parts.method == Method::GET
}

/// The answer of a VM, before anything of it is passed on.
pub(super) type Answer = hyper::Response<Incoming>;
