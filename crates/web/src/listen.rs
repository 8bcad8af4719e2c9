//! Serving HTTP connections, with a bound on each thing that a stranger could make long.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// So many connections are served at once; the next ones wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 512;
/// So long may a client take to send a request's header, and so long may a connection idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// So long may a connection last. No page takes long: whoever is still here reads on purpose slowly.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// The most bytes of a request's header.
const MAX_HEADER: usize = 16 * 1024;
/// The pause after a failed accept, which fails again at once when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `stop`, then lets the requests under way finish and returns. Whoever cannot wait
/// for slow clients drops the future, which ends their connections.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    let ended = CancellationToken::new();
    let _end_on_drop = ended.clone().drop_guard();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let connection = connection(stream, router.clone(), stop.clone());
                let ended = ended.clone();
                connections.spawn(async move {
                    ended.run_until_cancelled(connection).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let served = timeout(CONNECTION_TIMEOUT, async {
        tokio::select! {
            result = connection.as_mut() => return result,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    });
    match served.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection ended early"),
        Err(_) => tracing::debug!("an HTTP connection lasted too long"),
    }
}
