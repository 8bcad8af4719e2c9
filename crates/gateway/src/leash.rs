//! A client's transport that can be cut and held, and that is read ahead.
//!
//! russh runs a connection in a task of its own, which nobody can abort and which waits for the client in places where
//! it has no timeout: for the first line, in the middle of a key exchange, for the client to close after a disconnect.
//! A cut leash makes its next read or write fail, which ends that task whatever it waits for.
//!
//! russh asks for the length of a packet and then for the rest of it. Asked so, a socket is called three times for each: the
//! last time in vain, since only a read that gets less than there is room for shows that there is no more.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long one hold lasts.
const HOLD: Duration = Duration::from_millis(20);

/// So much is read where less is asked for.
const AHEAD: usize = 16 * 1024;

/// The other end of a leash. Clones are the same end.
#[derive(Clone, Default)]
pub(crate) struct Hand {
    cut: CancellationToken,
    hold: Arc<AtomicBool>,
}

impl Hand {
    /// Makes every read and write fail from now on.
    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }

    /// Reads nothing from the client for 20 ms; writing goes on.
    pub(crate) fn hold(&self) {
        self.hold.store(true, Ordering::Relaxed);
    }
}

/// A transport on a leash.
pub(crate) struct Leash<S> {
    stream: S,
    /// What was read and not asked for yet.
    ahead: Bytes,
    hand: Hand,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    held: Option<Pin<Box<Sleep>>>,
}

impl<S> Leash<S> {
    pub(crate) fn new(stream: S, hand: Hand) -> Self {
        let cut = Box::pin(hand.cut.clone().cancelled_owned());
        Self { stream, ahead: Bytes::new(), hand, cut, held: None }
    }

    /// Fails when the leash is cut; otherwise has the task woken when it will be.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Leash<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_cut(cx)?;
        if this.hand.hold.swap(false, Ordering::Relaxed) {
            this.held = Some(Box::pin(tokio::time::sleep_until(Instant::now() + HOLD)));
        }
        if let Some(held) = &mut this.held {
            ready!(held.as_mut().poll(cx));
            this.held = None;
        }
        if this.ahead.is_empty() {
            if buf.remaining() >= AHEAD {
                return Pin::new(&mut this.stream).poll_read(cx, buf);
            }
            let mut room = [const { MaybeUninit::uninit() }; AHEAD];
            let mut read = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            let (now, later) = read.filled().split_at(buf.remaining().min(read.filled().len()));
            buf.put_slice(now);
            this.ahead = Bytes::copy_from_slice(later);
        } else {
            let now = this.ahead.split_to(buf.remaining().min(this.ahead.remaining()));
            buf.put_slice(&now);
            if this.ahead.is_empty() {
                // Nothing is held where nothing moves.
                this.ahead = Bytes::new();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Leash<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll_cut(cx)?;
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_cut(cx)?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_cut(cx)?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn cutting_ends_a_read_that_waits() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let hand = Hand::default();
        let mut leash = Leash::new(ours, hand.clone());
        let cut = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            hand.cut();
        };
        let (read, ()) = tokio::join!(leash.read_u8(), cut);
        assert_eq!(read.expect_err("cut").kind(), io::ErrorKind::ConnectionAborted);
        assert!(leash.write_all(b"x").await.is_err(), "and every write after it");
    }

    #[tokio::test]
    async fn what_is_read_ahead_is_given_in_its_order() {
        let sent: Vec<u8> = (0..200_000_u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
        let (ours, mut theirs) = tokio::io::duplex(70_000);
        let mut leash = Leash::new(ours, Hand::default());
        let writing = async {
            theirs.write_all(&sent).await.expect("written");
            drop(theirs);
        };
        let reading = async {
            let mut got = vec![];
            for size in [4, 1, 35_000, 0, 16, 4, AHEAD, 3].into_iter().cycle() {
                let mut buf = vec![0; size];
                let n = leash.read(&mut buf).await.expect("read");
                got.extend_from_slice(&buf[..n]);
                if n == 0 && size > 0 {
                    return got;
                }
            }
            got
        };
        let (got, ()) = tokio::join!(reading, writing);
        assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_delays_reading_once_and_writing_never() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let hand = Hand::default();
        let mut leash = Leash::new(ours, hand.clone());
        theirs.write_all(b"ab").await.expect("written");
        hand.hold();
        let begun = Instant::now();
        leash.write_all(b"out").await.expect("written");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(leash.read_u8().await.expect("read"), b'a');
        assert_eq!(begun.elapsed(), HOLD);
        assert_eq!(leash.read_u8().await.expect("read"), b'b');
        assert_eq!(begun.elapsed(), HOLD);
    }
}
