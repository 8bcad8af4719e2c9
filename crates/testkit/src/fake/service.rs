//! What answers on a port of a fake VM.

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy_bidirectional},
    net::TcpStream,
};

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What answers on a port: it is given the guest's end of each connection.
#[derive(Clone)]
pub struct Service(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    Refuses,
    Silent,
    Serves(Arc<dyn Fn(DuplexStream) -> Serving + Send + Sync>),
}

impl Service {
    /// A connection is refused, as where no program listens.
    #[must_use]
    pub fn refuses() -> Self {
        Self(Kind::Refuses)
    }

    /// A connection is never answered: dialling takes 10 s and fails.
    #[must_use]
    pub fn silent() -> Self {
        Self(Kind::Silent)
    }

    /// Whatever the test writes.
    pub fn new<F, Fut>(serve: F) -> Self
    where
        F: Fn(DuplexStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self(Kind::Serves(Arc::new(move |stream| Box::pin(serve(stream)))))
    }

    /// Sends back what comes, and the end of it.
    #[must_use]
    pub fn echo() -> Self {
        Self::greeting(b"")
    }

    /// Says `words`, then sends back what comes, and the end of it.
    #[must_use]
    pub fn greeting(words: &'static [u8]) -> Self {
        Self::new(move |stream| async move {
            let (mut from, mut to) = tokio::io::split(stream);
            if to.write_all(words).await.is_ok() && tokio::io::copy(&mut from, &mut to).await.is_ok() {
                let _ended_by_the_peer = to.shutdown().await;
            }
        })
    }

    /// Accepts and never reads nor writes, until the connection or the VM ends.
    #[must_use]
    pub fn stalls() -> Self {
        Self::new(|stream| async move {
            let _held = stream;
            std::future::pending::<()>().await;
        })
    }

    /// Sends `bytes` bytes of a fixed pattern, reads nothing, and ends its sending half.
    #[must_use]
    pub fn pours(bytes: usize) -> Self {
        Self::new(move |mut stream| async move {
            let chunk = [0x5a; 16 * 1024];
            let mut left = bytes;
            while let Some(part) = chunk.get(..left.min(chunk.len())).filter(|part| !part.is_empty()) {
                if stream.write_all(part).await.is_err() {
                    return;
                }
                left -= part.len();
            }
            if stream.shutdown().await.is_ok() {
                let _until_the_peer_ends = stream.read(&mut [0]).await;
            }
        })
    }

    /// Carries connections to a real listener, for example an sshd on loopback.
    #[must_use]
    pub fn tcp(to: SocketAddr) -> Self {
        Self::new(move |mut stream| async move {
            if let Ok(mut target) = TcpStream::connect(to).await {
                let _ended_by_a_peer = copy_bidirectional(&mut stream, &mut target).await;
            }
        })
    }
}
