//! Clients, which are the same for both.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Empty};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{
    super::rate::{Rate, rate},
    target::{PAGE, Zeros},
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// How to get to the target through one of them.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    /// What the target is called there.
    pub(super) host: String,
}

/// A connection.
struct Client {
    requests: SendRequest<Either<Empty<Bytes>, Zeros>>,
    host: String,
    _carried: AbortOnDropHandle<()>,
}

/// A WebSocket that is open.
pub(super) struct Socket {
    _upgraded: Upgraded,
    _client: Client,
}

impl Client {
    /// Asks, and gives the answer when its header is there.
    async fn ask(&mut self, method: Method, path: &str, sent: usize) -> anyhow::Result<Response<Incoming>> {
        let asked = Request::builder().method(method).uri(path).header(HOST, &self.host);
        let body = if sent > 0 { Either::Right(Zeros(sent)) } else { Either::Left(Empty::new()) };
        let asked = asked.body(body)?;
        self.answer(asked).await
    }

    async fn answer(
        &mut self,
        asked: Request<Either<Empty<Bytes>, Zeros>>,
    ) -> anyhow::Result<Response<Incoming>> {
        self.requests.ready().await?;
        timeout(PATIENCE, self.requests.send_request(asked))
            .await
            .context("There is no answer")?
            .map_err(Into::into)
    }

    /// Asks for a page of so many bytes and reads it.
    async fn get(&mut self, path: &str, bytes: usize) -> anyhow::Result<()> {
        let answer = self.ask(Method::GET, path, 0).await?;
        ensure!(answer.status() == StatusCode::OK, "The answer to {path} is {}", answer.status());
        let (mut body, mut heard) = (answer.into_body(), 0);
        while let Some(frame) = timeout(PATIENCE, body.frame()).await.context("An answer does not end")? {
            heard += frame?.data_ref().map_or(0, Bytes::len);
        }
        ensure!(heard == bytes, "The answer to {path} has {heard} bytes in place of {bytes}");
        Ok(())
    }
}

impl Door {
    async fn client(&self) -> anyhow::Result<Client> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        let carried = async move {
            let _ended_by_the_peer = connection.with_upgrades().await;
        };
        let carried = AbortOnDropHandle::new(TaskTracker::new().spawn(carried));
        Ok(Client { requests, host: self.host.clone(), _carried: carried })
    }

    /// How many requests a second are answered to so many clients at once, each on one connection; and how many there
    /// were.
    pub(super) async fn requests(&self, clients: u32, time: Duration) -> anyhow::Result<Rate> {
        let mut connected = vec![];
        for _ in 0..clients {
            connected.push(self.client().await?);
        }
        let once = |mut client: Client| async move {
            client.get("/", PAGE.len()).await?;
            Ok(client)
        };
        rate(connected, time, once).await
    }

    /// How long a page of so many bytes takes.
    pub(super) async fn download(&self, bytes: usize) -> anyhow::Result<Duration> {
        let mut client = self.client().await?;
        let began = Instant::now();
        client.get("/bulk", bytes).await?;
        Ok(began.elapsed())
    }

    /// How long it takes until so many bytes are at the target.
    pub(super) async fn upload(&self, bytes: usize) -> anyhow::Result<Duration> {
        let mut client = self.client().await?;
        let began = Instant::now();
        let answer = client.ask(Method::POST, "/sink", bytes).await?;
        ensure!(answer.status() == StatusCode::OK, "The answer to an upload is {}", answer.status());
        answer.into_body().collect().await?;
        Ok(began.elapsed())
    }

    /// Opens a WebSocket, which says nothing.
    pub(super) async fn websocket(&self) -> anyhow::Result<Socket> {
        let mut client = self.client().await?;
        let asked = Request::builder()
            .uri("/socket")
            .header(HOST, &self.host)
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .body(Either::Left(Empty::new()))?;
        let answer = client.answer(asked).await?;
        ensure!(
            answer.status() == StatusCode::SWITCHING_PROTOCOLS,
            "The answer to a WebSocket is {}",
            answer.status()
        );
        Ok(Socket { _upgraded: hyper::upgrade::on(answer).await?, _client: client })
    }
}
