//! Serving HTTP connections, with a bound on each thing that a stranger could make long.
//!
//! A connection may last as long as it likes, since live streams do. What ends it is silence: a client that takes
//! nothing of what is written to it for [`PATIENCE`], whether it reads too slowly or has vanished without a word. With
//! it goes all that its requests held, such as "somebody has the site open".

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body, http::Extensions};
use berth_control::Entrance;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_user_timeout,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{sites::Kept, tls::Tls};

/// So many connections are served at once; the next ones wait in the listener's backlog. Every open page has one.
const MAX_CONNECTIONS: usize = 2048;
/// So long may a client take to send a request's header, and so long may a connection idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// So long may a client leave unread what it is sent, or unacknowledged.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A connection on which nothing is sent is asked for a sign of life after so long, and again every
/// [`KEEPALIVE_EVERY`]; after [`KEEPALIVES`] without an answer it has ended.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVES: u32 = 3;
/// The most bytes of a request's header.
const MAX_HEADER: usize = 16 * 1024;
/// The pause after a failed accept, which fails again at once when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// So long may a handshake of TLS take, with all that it waits for.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where a request came from: put into its extensions by [`serve`].
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

impl Peer {
    /// The address; `0.0.0.0` for a request that came over no connection.
    pub(crate) fn of(extensions: &Extensions) -> IpAddr {
        extensions.get::<Self>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0)
    }
}

/// The connection that a request came on, for what goes on with it after HTTP: a WebSocket. [`serve`] puts it into the
/// request's extensions.
#[derive(Clone)]
pub(crate) struct Carrier {
    permit: Arc<OwnedSemaphorePermit>,
    tasks: TaskTracker,
    ended: CancellationToken,
}

impl Carrier {
    /// Does `work` in the place of the connection: it counts as one, is waited for when the server stops, and is dropped
    /// when the server cannot wait any longer.
    pub(crate) fn go_on(self, work: impl Future<Output = ()> + Send + 'static) {
        let Self { permit, tasks, ended } = self;
        tasks.spawn(async move {
            ended.run_until_cancelled(work).await;
            drop(permit);
        });
    }
}

/// Whether a request came by https to this very server: put into its extensions by [`serve_tls`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByTls;

/// As [`serve`], by https. A connection has a place among all from its first byte on, and loses it after ten seconds
/// without a handshake.
pub async fn serve_tls(
    listener: TcpListener,
    router: Router,
    tls: Tls,
    entrance: Entrance,
    stop: CancellationToken,
) {
    serve_by(listener, router, Some(tls), entrance, stop).await;
}

/// Serves `router` on `listener` through `entrance` until that is shut or `stop`, then lets the requests under way finish and returns. Whoever cannot wait
/// for slow clients drops the future, which ends their connections.
pub async fn serve(listener: TcpListener, router: Router, entrance: Entrance, stop: CancellationToken) {
    serve_by(listener, router, None, entrance, stop).await;
}

async fn serve_by(
    listener: TcpListener,
    router: Router,
    tls: Option<Tls>,
    mut entrance: Entrance,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    let ended = CancellationToken::new();
    let _end_on_drop = ended.clone().drop_guard();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = entrance.next(|| accept(&listener, &room)) => accepted,
        };
        let Some(accepted) = accepted else { break };
        match accepted {
            Ok((stream, peer, permit)) => {
                let carrier =
                    Carrier { permit: Arc::new(permit), tasks: connections.clone(), ended: ended.clone() };
                let (router, stop) = (router.clone(), stop.clone());
                let served = shaken(stream, peer, tls.clone(), carrier.clone(), router, stop);
                carrier.go_on(served);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    // A peer that is gone without a word acknowledges nothing; without this the kernel believes in it for a quarter of
    // an hour.
    set_tcp_user_timeout(&stream, PATIENCE.as_millis().try_into().unwrap_or(u32::MAX))?;
    // One to which nothing is written, such as an idle WebSocket, would be believed in for ever.
    set_socket_keepalive(&stream, true)?;
    set_tcp_keepidle(&stream, KEEPALIVE_AFTER)?;
    set_tcp_keepintvl(&stream, KEEPALIVE_EVERY)?;
    set_tcp_keepcnt(&stream, KEEPALIVES)?;
    Ok((stream, Peer(peer.ip().to_canonical()), permit))
}

async fn shaken(
    stream: TcpStream,
    peer: Peer,
    tls: Option<Tls>,
    carrier: Carrier,
    router: Router,
    stop: CancellationToken,
) {
    let Some(tls) = tls else { return connection(stream, peer, None, carrier, router, stop).await };
    match stop.run_until_cancelled(timeout(HANDSHAKE, tls.accept(stream))).await {
        Some(Ok(Ok(stream))) => connection(stream, peer, Some(ByTls), carrier, router, stop).await,
        Some(Ok(Err(error))) => tracing::debug!(%error, "a TLS handshake failed"),
        Some(Err(_)) => tracing::debug!("a TLS handshake took too long"),
        None => {}
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    by_tls: Option<ByTls>,
    carrier: Carrier,
    router: Router,
    stop: CancellationToken,
) {
    let kept = Kept::default();
    let answer = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        if let Some(by_tls) = by_tls {
            request.extensions_mut().insert(by_tls);
        }
        request.extensions_mut().insert(carrier.clone());
        request.extensions_mut().insert(kept.clone());
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(Patient::new(stream)), answer)
        .with_upgrades();
    tokio::pin!(connection);
    let served = async {
        tokio::select! {
            result = connection.as_mut() => return result,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    if let Err(error) = served.await {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

/// A stream on which a write that gets nowhere for [`PATIENCE`] fails.
struct Patient<S> {
    stream: S,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(stream: S) -> Self {
        Self { stream, stalled: None }
    }

    /// Passes a result on; one that is not there yet for too long is an error.
    fn within_patience<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.within_patience(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.within_patience(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.within_patience(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.within_patience(polled, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (near, far) = tokio::io::duplex(16);
        let begun = Instant::now();
        let error = Patient::new(near).write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), PATIENCE);
        drop(far);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_that_takes_something_is_served() {
        let (near, mut far) = tokio::io::duplex(16);
        let reader = async {
            let mut buffer = [0; 16];
            for _ in 0..4 {
                sleep(PATIENCE - Duration::from_secs(1)).await;
                far.read_exact(&mut buffer).await.unwrap();
            }
        };
        let mut near = Patient::new(near);
        let (written, ()) = tokio::join!(near.write_all(&[0; 64]), reader);
        written.unwrap();
    }
}
