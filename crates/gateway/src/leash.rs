//! A client's transport that can be cut and held, that keeps its client within limits, and that is read ahead.
//!
//! russh runs a connection in a task of its own, which nobody can abort and which waits for the client in places where
//! it has no timeout: for the first line, in the middle of a key exchange, for the client to close after a disconnect.
//! A cut leash makes its next read or write fail, which ends that task whatever it waits for.
//!
//! Until a client has logged in it may send so many bytes, and is read only in its source's turn (see `admission.rs`).
//! Later it may send so many messages a second that carry nothing (see `pace.rs`). Always it has to take, some time,
//! what it is sent.
//!
//! russh asks for the length of a packet and then for the rest of it. Asked so, a socket is called three times for each: the
//! last time in vain, since only a read that gets less than there is room for shows that there is no more.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};
use tokio_util::sync::{CancellationToken, PollSemaphore, WaitForCancellationFutureOwned};

use crate::{
    limit::{Limit, Tell},
    pace::Pace,
};

/// How long one hold lasts.
const HOLD: Duration = Duration::from_millis(20);

/// So much is read where less is asked for: the packets of a log-in and of somebody who types, whole. Of larger ones what is
/// read so is copied once more.
const AHEAD: usize = 2 * 1024;

/// The other end of a leash. Clones are the same end.
#[derive(Clone, Default)]
pub(crate) struct Hand(Arc<Shared>);

#[derive(Default)]
struct Shared {
    cut: CancellationToken,
    hold: AtomicBool,
    /// Whom to tell of the limits of a client; there is nobody until it has logged in.
    logged_in: OnceLock<Tell>,
    reached: OnceLock<Limit>,
    /// A key was refused.
    refused: AtomicBool,
    /// Messages that carried something, since the leash last asked.
    carried: AtomicU32,
    /// The turn in which the last bytes are dealt with.
    turn: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Hand {
    /// Makes every read and write fail from now on.
    pub(crate) fn cut(&self) {
        self.0.cut.cancel();
    }

    /// Reads nothing from the client for 20 ms; writing goes on.
    pub(crate) fn hold(&self) {
        self.0.hold.store(true, Ordering::Relaxed);
    }

    /// The limits of strangers do not count any more. `tell` is told of the others.
    pub(crate) fn logged_in(&self, tell: Tell) {
        let _ = self.0.logged_in.set(tell);
        self.end_turn();
    }

    /// The answer to what came last waits for something else than this host's processors.
    pub(crate) fn end_turn(&self) {
        self.set_turn(None);
    }

    /// Notes which limit the connection has reached; the first counts.
    pub(crate) fn reach(&self, limit: Limit) {
        let _ = self.0.reached.set(limit);
    }

    /// The limit that ended the connection.
    pub(crate) fn reached(&self) -> Option<Limit> {
        self.0.reached.get().copied()
    }

    /// Notes that a key was refused.
    pub(crate) fn refused(&self) {
        self.0.refused.store(true, Ordering::Relaxed);
    }

    /// Whether one was.
    pub(crate) fn was_refused(&self) -> bool {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// A message came that carried something.
    pub(crate) fn carried(&self) {
        self.0.carried.fetch_add(1, Ordering::Relaxed);
    }

    fn set_turn(&self, turn: Option<OwnedSemaphorePermit>) {
        *self.0.turn.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }
}

/// What a leash keeps its client within.
pub(crate) struct Bounds {
    /// Of a stranger.
    pub(crate) turns: Arc<Semaphore>,
    /// That a stranger may send.
    pub(crate) login_data: usize,
    /// How long a client may take nothing.
    pub(crate) stalled: Duration,
    pub(crate) pace: Pace,
}

/// A socket that can be asked whether there is something to be read.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Transport for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
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
    /// Until it has logged in: whose turns they are, and how much it may send yet.
    stranger: Option<(PollSemaphore, usize)>,
    pace: Pace,
    stall: Stall,
}

impl<S> Leash<S> {
    pub(crate) fn new(stream: S, hand: Hand, bounds: Bounds) -> Self {
        let cut = Box::pin(hand.0.cut.clone().cancelled_owned());
        let Bounds { turns, login_data, stalled, pace } = bounds;
        let stranger = Some((PollSemaphore::new(turns), login_data));
        let stall = Stall { patience: stalled, since: None, alarm: None };
        Self { stream, ahead: Bytes::new(), hand, cut, held: None, stranger, pace, stall }
    }

    /// Fails when the leash is cut; otherwise has the task woken when it will be.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn fail(&self, limit: Limit) -> io::Error {
        self.hand.reach(limit);
        io::ErrorKind::ConnectionAborted.into()
    }
}

impl<S: Transport> Leash<S> {
    /// Waits for the turn to read, where there are turns.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stranger.is_some() && self.hand.0.logged_in.get().is_some() {
            self.stranger = None;
        }
        let Some((turns, _)) = &mut self.stranger else { return Poll::Ready(Ok(())) };
        self.hand.end_turn();
        if self.ahead.is_empty() {
            ready!(self.stream.poll_readable(cx))?;
        }
        let turn = ready!(turns.poll_acquire(cx));
        self.hand.set_turn(turn);
        Poll::Ready(Ok(()))
    }

    /// Reads, and more than is asked for.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            if buf.remaining() >= AHEAD {
                return Pin::new(&mut self.stream).poll_read(cx, buf);
            }
            let mut room = [const { MaybeUninit::uninit() }; AHEAD];
            let mut read = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            let (now, later) = read.filled().split_at(buf.remaining().min(read.filled().len()));
            buf.put_slice(now);
            self.ahead = Bytes::copy_from_slice(later);
        } else {
            let now = self.ahead.split_to(buf.remaining().min(self.ahead.remaining()));
            buf.put_slice(&now);
            if self.ahead.is_empty() {
                // Nothing is held where nothing moves.
                self.ahead = Bytes::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Counts what was read: so many bytes into so much room.
    fn count(&mut self, bytes: usize, room: usize) -> io::Result<()> {
        if let Some((_, left)) = &mut self.stranger {
            let Some(rest) = left.checked_sub(bytes) else { return Err(self.fail(Limit::LoginData)) };
            *left = rest;
        } else if bytes > 0 && self.pace.is_too_fast(room, &self.hand.0.carried) {
            self.hand.hold();
            if let Some(tell) = self.hand.0.logged_in.get() {
                tell(Limit::IdleMessages);
            }
        }
        Ok(())
    }
}

impl<S: Transport> AsyncRead for Leash<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_cut(cx)?;
        if this.hand.0.hold.swap(false, Ordering::Relaxed) {
            this.held = Some(Box::pin(tokio::time::sleep_until(Instant::now() + HOLD)));
        }
        if let Some(held) = &mut this.held {
            ready!(held.as_mut().poll(cx));
            this.held = None;
        }
        ready!(this.poll_turn(cx))?;
        let (before, room) = (buf.filled().len(), buf.remaining());
        match this.poll_ahead(cx, buf) {
            Poll::Ready(Ok(())) => Poll::Ready(this.count(buf.filled().len() - before, room)),
            not_read => {
                if this.stranger.is_some() {
                    this.hand.end_turn();
                }
                not_read
            }
        }
    }
}

impl<S: Transport> AsyncWrite for Leash<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll_cut(cx)?;
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        match &written {
            Poll::Ready(Ok(bytes)) => {
                this.stall.since = None;
                this.pace.wrote(*bytes);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if this.stranger.is_some() {
                    this.hand.end_turn();
                }
                if this.stall.poll(cx).is_ready() {
                    return Poll::Ready(Err(this.fail(Limit::Stalled)));
                }
            }
        }
        written
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

/// A client that takes nothing.
struct Stall {
    patience: Duration,
    since: Option<Instant>,
    /// Set when there is none, and not moved with each pause: pauses are many.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// Ready when the client has taken nothing for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        loop {
            let end = since + self.patience;
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
            ready!(alarm.as_mut().poll(cx));
            self.alarm = None;
            if Instant::now() >= end {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    impl Transport for DuplexStream {
        fn poll_readable(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    const STALLED: Duration = Duration::from_secs(60);

    fn bounds() -> Bounds {
        Bounds {
            turns: Arc::new(Semaphore::new(1)),
            login_data: 1 << 20,
            stalled: STALLED,
            pace: Pace::new(0),
        }
    }

    #[tokio::test]
    async fn a_stranger_is_read_in_the_turn_of_its_source() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (hand, bounds) = (Hand::default(), bounds());
        let turns = bounds.turns.clone();
        let mut leash = Leash::new(ours, hand.clone(), bounds);
        theirs.write_all(b"abcd").await.expect("written");
        assert_eq!(leash.read_u8().await.expect("read"), b'a');
        assert_eq!(turns.available_permits(), 0, "its turn lasts");
        assert_eq!(leash.read_u8().await.expect("read"), b'b');
        hand.end_turn();
        let other = turns.clone().try_acquire_owned().expect("it has ended");
        let mut third = Box::pin(leash.read_u8());
        assert!(futures_poll(third.as_mut()).is_none(), "another's turn");
        drop(other);
        assert_eq!(third.await.expect("read"), b'c');
        hand.logged_in(Arc::new(|_| {}));
        assert_eq!(leash.read_u8().await.expect("read"), b'd');
        assert_eq!(turns.available_permits(), 1, "no turns any more");
    }

    /// What a future has come to, asked once.
    fn futures_poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn a_stranger_that_sends_too_much_is_cut() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let hand = Hand::default();
        let mut leash = Leash::new(ours, hand.clone(), Bounds { login_data: 3, ..bounds() });
        theirs.write_all(b"abcd").await.expect("written");
        leash.read_exact(&mut [0; 3]).await.expect("read");
        assert!(leash.read_u8().await.is_err());
        assert_eq!(hand.reached(), Some(Limit::LoginData));
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_something_now_and_then_is_not_stalled() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let hand = Hand::default();
        let mut leash = Leash::new(ours, hand.clone(), bounds());
        let begun = Instant::now();
        let taking = async {
            for _ in 0..5 {
                tokio::time::sleep(STALLED - Duration::from_secs(1)).await;
                theirs.read_exact(&mut [0; 8]).await.expect("read");
            }
            std::future::pending::<()>().await;
        };
        let wrote = tokio::select! {
            wrote = leash.write_all(&[0; 1000]) => wrote,
            () = taking => Ok(()),
        };
        assert!(wrote.is_err());
        assert_eq!(begun.elapsed(), 5 * (STALLED - Duration::from_secs(1)) + STALLED);
        assert_eq!(hand.reached(), Some(Limit::Stalled));
    }

    #[tokio::test(start_paused = true)]
    async fn cutting_ends_a_read_that_waits() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let hand = Hand::default();
        let mut leash = Leash::new(ours, hand.clone(), bounds());
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
        let mut leash = Leash::new(ours, Hand::default(), bounds());
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
        let mut leash = Leash::new(ours, hand.clone(), bounds());
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
