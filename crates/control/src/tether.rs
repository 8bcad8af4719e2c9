//! A connection that ends with what allowed it, whoever holds it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use berth_engine::Stream;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// See the module.
pub(crate) struct Tethered {
    inner: Box<dyn Stream>,
    /// One for each half: they may be used by different tasks, each to be woken.
    reading: Over,
    writing: Over,
}

/// What is waited for; nothing once it has come.
struct Over(Option<BoxFuture<'static, ()>>);

impl Tethered {
    /// Every read and write fails once `over` has come to its end.
    pub(crate) fn new(inner: Box<dyn Stream>, over: impl Fn() -> BoxFuture<'static, ()>) -> Self {
        Self { inner, reading: Over(Some(over())), writing: Over(Some(over())) }
    }
}

impl Tethered {
    /// What it held.
    pub(crate) fn into_inner(self) -> Box<dyn Stream> {
        self.inner
    }
}

impl Over {
    /// Fails where it is over; has the task woken when it will be.
    fn poll(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(over) = &mut self.0
            && over.as_mut().poll(cx).is_ready()
        {
            self.0 = None;
        }
        if self.0.is_none() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Tethered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reading.poll(cx)?;
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tethered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.writing.poll(cx)?;
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing.poll(cx)?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing.poll(cx)?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn what_is_over_ends_a_read_that_waits_and_all_after_it() {
        let (near, mut far) = tokio::io::duplex(64);
        let over = CancellationToken::new();
        let mut near = Tethered::new(Box::new(near), || Box::pin(over.clone().cancelled_owned()));
        far.write_all(b"x").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'x');
        let ending = async { over.cancel() };
        let (read, ()) = tokio::join!(near.read_u8(), ending);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(near.write_all(b"x").await.is_err());
    }
}
