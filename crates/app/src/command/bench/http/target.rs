//! What is asked for: the same for both, on a port of the loopback.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Frame, Incoming, SizeHint},
    header::{CONNECTION, HeaderValue, UPGRADE},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

/// The bytes of a small page: Apache's hello page has about as many.
pub(super) const PAGE: &[u8] = &[b'.'; 1024];
const CHUNK: usize = 256 << 10;

/// Where it listens, until the runtime ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) port: u16,
}

impl Target {
    /// `/` is a small page, `/bulk` one of so many bytes; what is sent to `/sink` is read; `/socket` changes the protocol
    /// and then says nothing.
    pub(super) async fn open(bulk: usize, tasks: &TaskTracker) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let port = listener.local_addr()?.port();
        let spawner = tasks.clone();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _no_delay = stream.set_nodelay(true);
                let answering = service_fn(move |asked| answer(asked, bulk));
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answering)
                    .with_upgrades();
                spawner.spawn(async move {
                    let _ended_by_the_peer = served.await;
                });
            }
        });
        Ok(Self { port })
    }
}

async fn answer(
    mut asked: Request<Incoming>,
    bulk: usize,
) -> Result<Response<Either<Full<Bytes>, Zeros>>, Infallible> {
    let small = |body: &'static [u8]| Response::new(Either::Left(Full::new(Bytes::from_static(body))));
    Ok(match asked.uri().path() {
        "/bulk" => Response::new(Either::Right(Zeros(bulk))),
        "/sink" => {
            while let Some(Ok(_)) = asked.body_mut().frame().await {}
            small(b"all of it")
        }
        "/socket" => {
            let upgrade = hyper::upgrade::on(&mut asked);
            TaskTracker::new().spawn(async move {
                if let Ok(upgraded) = upgrade.await {
                    let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
                    let _ended_by_the_peer = tokio::io::copy(&mut from, &mut to).await;
                }
            });
            let mut response = small(b"");
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            response
        }
        _ => small(PAGE),
    })
}

/// So many zeros.
pub(super) struct Zeros(pub(super) usize);

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static ZEROS: [u8; CHUNK] = [0; CHUNK];
        let now = self.0.min(CHUNK);
        if now == 0 {
            return Poll::Ready(None);
        }
        self.0 -= now;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROS).slice(..now)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0 as u64)
    }
}
