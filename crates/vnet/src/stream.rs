//! A TCP connection into the guest, as tokio's traits.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use smoltcp::socket::tcp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{Handle, stack::Id};

/// A TCP connection to a port inside the guest.
///
/// - Reading gives what the guest sent, then end of file if it finished, or `ConnectionReset` if it, or the
///   whole guest, broke off.
/// - Writing goes into a buffer of about 1 MiB and waits when that is full. After the guest broke off it is
///   `ConnectionReset`, after [shutdown](tokio::io::AsyncWriteExt::shutdown) `BrokenPipe`.
/// - Shutdown sends a FIN behind what was written and returns at once; reading goes on.
/// - Dropping it never loses what was written: that is still delivered, as long as the guest keeps taking it.
///   Then a guest that has not finished, or was not heard out, sees a reset.
/// - While the network is [frozen](crate::Network::freeze), what was received can be read, and writing fills the
///   buffer.
///
/// At most one task reads and one writes at a time.
pub struct Stream {
    handle: Arc<Handle>,
    id: Id,
    shut: bool,
}

impl Stream {
    /// Takes over a connection: from here on, dropping the stream abandons it.
    pub(crate) fn new(handle: Arc<Handle>, id: Id) -> Self {
        Self { handle, id, shut: false }
    }

    /// Ready when the guest has accepted (`true`), or refused or gone away (`false`).
    pub(crate) fn poll_connected(&self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.handle.shared.lock();
        let socket = state.stack.socket(self.id);
        match socket.state() {
            tcp::State::SynSent | tcp::State::SynReceived => {
                socket.register_send_waker(context.waker());
                Poll::Pending
            }
            tcp::State::Closed => Poll::Ready(false),
            _ => Poll::Ready(true),
        }
    }

    /// Whether the connection ended because the guest went away.
    pub(crate) fn is_cut(&self) -> bool {
        self.handle.shared.lock().stack.is_cut(self.id)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.handle.shared.lock();
        let socket = state.stack.socket(self.id);
        let received = socket.recv(|data| {
            let count = data.len().min(buffer.remaining());
            let (taken, _) = data.split_at(count);
            buffer.put_slice(taken);
            (count, count)
        });
        match received {
            Ok(0) => {
                socket.register_recv_waker(context.waker());
                Poll::Pending
            }
            Ok(_) => {
                drop(state);
                // The window may have opened.
                self.handle.shared.kick();
                Poll::Ready(Ok(()))
            }
            Err(tcp::RecvError::Finished) => Poll::Ready(Ok(())),
            Err(tcp::RecvError::InvalidState) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut state = self.handle.shared.lock();
        let socket = state.stack.socket(self.id);
        match socket.send_slice(data) {
            Ok(0) => {
                socket.register_send_waker(context.waker());
                Poll::Pending
            }
            Ok(count) => {
                state.stack.wrote(self.id);
                state.call();
                drop(state);
                self.handle.shared.kick();
                Poll::Ready(Ok(count))
            }
            Err(tcp::SendError::InvalidState) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        let mut state = self.handle.shared.lock();
        if state.stack.finish(self.id) {
            state.call();
        }
        drop(state);
        self.handle.shared.kick();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.handle.shared.lock();
        let now = state.clock.now();
        if state.stack.abandon(self.id, now) {
            state.call();
        }
        drop(state);
        self.handle.shared.kick();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stream").field("id", &self.id).finish_non_exhaustive()
    }
}
