//! What a client has sent and a VM has not taken yet.
//!
//! russh runs a connection in one task, gives a client credit for what it has received rather than for what was passed
//! on, and waits when a channel's queue is full. A VM that does not read would so stop all channels of its connection,
//! and in the worst case for ever: an echoing VM waits for us to take its answers, which the waiting task cannot send.
//!
//! Therefore the rule: **a channel's task always takes what comes**, so that russh's never waits. What is taken is
//! bounded by credit. A connection with a channel above [`HIGH`] is *choked*: clients get two bytes of credit at a time
//! (see [`Flow::window`]), and only when they have used all that they had, which is at most [`WINDOW`]. A choked
//! connection goes on with everything else: answers, keystrokes of other channels within their credit, keepalives.
//!
//! A channel that passes [`HARD`] has a client that ignores its credit, and is ended.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{Buf, Bytes, BytesMut};

/// The credit of a channel.
pub(crate) const WINDOW: u32 = 2 * 1024 * 1024;
/// A channel with more than this unread chokes its connection.
pub(crate) const HIGH: usize = 1024 * 1024;
/// What russh may have received and the channel's task not taken, on a busy host: its queue of 32 messages.
const ON_THE_WAY: usize = 1024 * 1024;
/// A channel with more than this unread is ended: what chokes, what had not been counted then, what comes until russh
/// next asks, the credit that it has just given then, and some room.
pub(crate) const HARD: usize = HIGH + ON_THE_WAY + WINDOW as usize / 2 + WINDOW as usize + 1024 * 1024;
/// All channels of a connection together.
pub(crate) const HARD_ALL: usize = 64 * 1024 * 1024;
/// Chunks smaller than this are put together, so that a queue of single bytes costs single bytes.
const SMALL: usize = 1024;

/// The state of a connection's backlogs, shared by its channels.
#[derive(Default)]
pub(crate) struct Flow {
    unread: AtomicUsize,
    above: AtomicUsize,
}

impl Flow {
    /// Whether some channel has more unread than it should.
    pub(crate) fn is_choked(&self) -> bool {
        self.above.load(Ordering::Relaxed) > 0
    }

    /// The credit up to which channels are filled from now on.
    ///
    /// russh fills a channel when less than half of this is left, and asks again after each filling. Two bytes is the
    /// least with which it ever fills, hence asks, again.
    pub(crate) fn window(&self) -> u32 {
        if self.is_choked() { 2 } else { WINDOW }
    }
}

/// A channel has more unread than any client may send that keeps to its credit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overfull;

/// The queue of one channel.
pub(crate) struct Backlog {
    flow: Arc<Flow>,
    chunks: VecDeque<Bytes>,
    small: BytesMut,
    len: usize,
}

impl Backlog {
    pub(crate) fn new(flow: Arc<Flow>) -> Self {
        Self { flow, chunks: VecDeque::new(), small: BytesMut::new(), len: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether this channel chokes its connection.
    pub(crate) fn is_high(&self) -> bool {
        self.len > HIGH
    }

    pub(crate) fn push(&mut self, data: Bytes) -> Result<(), Overfull> {
        if data.is_empty() {
            return Ok(());
        }
        let all = self.flow.unread.load(Ordering::Relaxed);
        if self.len.saturating_add(data.len()) > HARD || all.saturating_add(data.len()) > HARD_ALL {
            return Err(Overfull);
        }
        self.resize(self.len + data.len());
        if self.chunks.is_empty() && self.small.is_empty() {
            self.chunks.push_back(data);
        } else if data.len() < SMALL {
            self.small.extend_from_slice(&data);
        } else {
            self.seal();
            self.chunks.push_back(data);
        }
        Ok(())
    }

    /// What is to be written next; empty when there is nothing.
    pub(crate) fn front(&mut self) -> &[u8] {
        if self.chunks.is_empty() {
            self.seal();
        }
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    /// Takes away the first `n` bytes of [`Backlog::front`].
    pub(crate) fn wrote(&mut self, n: usize) {
        let Some(chunk) = self.chunks.front_mut() else { return };
        let n = n.min(chunk.len());
        chunk.advance(n);
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        self.resize(self.len - n);
    }

    /// Takes the next chunk out; it is not counted as unread any more.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if self.chunks.is_empty() {
            self.seal();
        }
        let chunk = self.chunks.pop_front()?;
        self.resize(self.len - chunk.len());
        Some(chunk)
    }

    /// Throws everything away.
    pub(crate) fn clear(&mut self) {
        self.chunks = VecDeque::new();
        self.small = BytesMut::new();
        self.resize(0);
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.small).freeze());
        }
    }

    fn resize(&mut self, len: usize) {
        let was_high = self.is_high();
        if len > self.len {
            self.flow.unread.fetch_add(len - self.len, Ordering::Relaxed);
        } else {
            self.flow.unread.fetch_sub(self.len - len, Ordering::Relaxed);
        }
        self.len = len;
        match (was_high, self.is_high()) {
            (false, true) => self.flow.above.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.flow.above.fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => 0,
        };
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(backlog: &mut Backlog, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !backlog.is_empty() {
            let front = backlog.front();
            let n = step.min(front.len());
            all.extend_from_slice(&front[..n]);
            backlog.wrote(n);
        }
        all
    }

    #[test]
    fn a_high_channel_chokes_its_connection_until_it_is_read_or_gone() {
        let flow = Arc::new(Flow::default());
        let mut slow = Backlog::new(flow.clone());
        let mut stuck = Backlog::new(flow.clone());
        slow.push(Bytes::from(vec![1; HIGH])).expect("room");
        assert_eq!(flow.window(), WINDOW);
        slow.push(Bytes::from_static(b"x")).expect("room");
        stuck.push(Bytes::from(vec![1; HIGH + 1])).expect("room");
        assert_eq!(flow.window(), 2);
        read_all(&mut slow, 4096);
        assert!(flow.is_choked(), "the other one is still high");
        drop(stuck);
        assert_eq!(flow.window(), WINDOW);
        assert_eq!(flow.unread.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_client_that_ignores_its_credit_meets_a_wall() {
        let flow = Arc::new(Flow::default());
        let mut backlog = Backlog::new(flow.clone());
        let chunk = Bytes::from(vec![0; 256 * 1024]);
        let taken = std::iter::repeat_with(|| backlog.push(chunk.clone())).take_while(Result::is_ok).count();
        assert_eq!(taken * chunk.len(), HARD);
        let others: Vec<_> = (0..64)
            .map(|_| {
                let mut other = Backlog::new(flow.clone());
                while other.push(chunk.clone()).is_ok() {}
                other
            })
            .collect();
        assert!(flow.unread.load(Ordering::Relaxed) <= HARD_ALL);
        drop(others);
    }

    #[test]
    fn what_is_taken_out_in_chunks_is_all_and_in_order() {
        let flow = Arc::new(Flow::default());
        let mut backlog = Backlog::new(flow.clone());
        let big = vec![2; SMALL];
        for chunk in [&[1][..], &[1], &big, &[3], &[3]] {
            backlog.push(Bytes::copy_from_slice(chunk)).expect("room");
        }
        backlog.wrote(1);
        let all: Vec<u8> = std::iter::from_fn(|| backlog.pop()).flatten().collect();
        assert_eq!(all, [&[1][..], &big, &[3, 3]].concat());
        assert!(backlog.is_empty() && backlog.pop().is_none());
        assert_eq!(flow.unread.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn single_bytes_cost_single_bytes() {
        let mut backlog = Backlog::new(Arc::default());
        for _ in 0..10_000 {
            backlog.push(Bytes::from_static(b"x")).expect("room");
        }
        assert!(backlog.chunks.len() <= 1);
        assert_eq!(read_all(&mut backlog, usize::MAX).len(), 10_000);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(sizes in proptest::collection::vec((0usize..3000, 0usize..5000), 1..60)) {
            let flow = Arc::new(Flow::default());
            let mut backlog = Backlog::new(flow.clone());
            let (mut sent, mut got, mut next) = (Vec::new(), Vec::new(), 0u8);
            for (pushed, read) in sizes {
                let data: Vec<u8> = (0..pushed).map(|_| { next = next.wrapping_add(1); next }).collect();
                sent.extend_from_slice(&data);
                backlog.push(data.into()).expect("room");
                let front = backlog.front();
                let n = read.min(front.len());
                got.extend_from_slice(&front[..n]);
                backlog.wrote(n);
                prop_assert_eq!(flow.unread.load(Ordering::Relaxed), sent.len() - got.len());
            }
            got.extend(read_all(&mut backlog, 700));
            prop_assert_eq!(sent, got);
            prop_assert!(backlog.is_empty());
        }
    }
}
