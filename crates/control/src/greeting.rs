//! Whether an sshd is there: it speaks first (RFC 4253, 4.2).
//!
//! One that is told to read its settings anew, that is restarted, or that has too many at its door drops who waits there without a
//! word. Whoever came that way would read "Connection closed by remote host"; here it is tried again.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use berth_engine::Stream;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::timeout,
};

/// How long it may take to speak. Whoever is slower is heard as they are.
const WITHIN: Duration = Duration::from_secs(3);
/// What it says first is shorter, and what is not heard here comes after it.
const HEARD: usize = 256;

/// A connection to an sshd that has spoken, or still may; `None` where it hung up without a word.
pub(crate) async fn greeted(mut inner: Box<dyn Stream>) -> Option<Box<dyn Stream>> {
    let mut said = vec![0; HEARD];
    match timeout(WITHIN, inner.read(&mut said)).await {
        Ok(Ok(0) | Err(_)) => None,
        Ok(Ok(length)) => {
            said.truncate(length);
            Some(Box::new(Greeted { said, inner }))
        }
        Err(_) => Some(inner),
    }
}

/// A stream of which something has been read already.
struct Greeted {
    said: Vec<u8>,
    inner: Box<dyn Stream>,
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.said.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let length = self.said.len().min(buf.remaining());
        let (now, later) = self.said.split_at(length);
        buf.put_slice(now);
        self.said = later.to_vec();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
