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
//!
//! What waits is also counted for each connection, for each account and for all of them ([`Pool`]). Beyond half of what
//! one of these may have, connections with more than [`FLOOR`] are choked, and what a VM sends is taken in smaller
//! pieces; beyond all of it a channel may have [`FLOOR`] and is ended when it sends more.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::{Buf, Bytes, BytesMut};

use crate::limit::{Limit, Tell};

/// The credit of a channel.
pub(crate) const WINDOW: u32 = 2 * 1024 * 1024;
/// A channel with more than this unread chokes its connection.
pub(crate) const HIGH: usize = 1024 * 1024;
/// What russh may have received and the channel's task not taken, on a busy host: its queue of 32 messages.
const ON_THE_WAY: usize = 1024 * 1024;
/// A channel with more than this unread is ended: what chokes, what had not been counted then, what comes until russh
/// next asks, the credit that it has just given then, and some room.
pub(crate) const HARD: usize = HIGH + ON_THE_WAY + WINDOW as usize / 2 + WINDOW as usize + 1024 * 1024;
/// What a channel may have in any case.
pub(crate) const FLOOR: usize = 64 * 1024;
/// Chunks smaller than this are put together, so that a queue of single bytes costs single bytes.
const SMALL: usize = 1024;

/// What waits of many channels together.
pub(crate) struct Pool {
    used: AtomicUsize,
    room: usize,
    limit: Limit,
}

impl Pool {
    pub(crate) fn new(room: usize, limit: Limit) -> Self {
        Self { used: AtomicUsize::new(0), room, limit }
    }

    /// In bytes.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn is_tight(&self) -> bool {
        self.used() > self.room / 2
    }
}

/// The state of a connection's queues, shared by its channels.
pub(crate) struct Flow {
    /// The connection's own, its account's, and everybody's.
    pools: [Arc<Pool>; 3],
    above: AtomicUsize,
    tell: Tell,
}

impl Flow {
    pub(crate) fn new(room: usize, account: Arc<Pool>, all: Arc<Pool>, tell: Tell) -> Arc<Self> {
        let own = Arc::new(Pool::new(room, Limit::MemoryPerConnection));
        Arc::new(Self { pools: [own, account, all], above: AtomicUsize::new(0), tell })
    }

    /// Whether some channel has more unread than it should, or all together have and this connection more than its share.
    pub(crate) fn is_choked(&self) -> bool {
        self.above.load(Ordering::Relaxed) > 0 || (self.unread() > FLOOR && self.is_tight())
    }

    /// Whether what waits comes near to what may.
    pub(crate) fn is_tight(&self) -> bool {
        self.pools.iter().any(|pool| pool.is_tight())
    }

    fn unread(&self) -> usize {
        let [own, ..] = &self.pools;
        own.used()
    }

    /// The pool that has no room for so much.
    fn full(&self, more: usize) -> Option<Limit> {
        self.pools.iter().find(|pool| pool.used().saturating_add(more) > pool.room).map(|pool| pool.limit)
    }

    /// A queue has grown or shrunk.
    pub(crate) fn resized(&self, before: usize, after: usize) {
        for Pool { used, .. } in self.pools.iter().map(|pool| &**pool) {
            if after > before {
                used.fetch_add(after - before, Ordering::Relaxed);
            } else {
                used.fetch_sub(before - after, Ordering::Relaxed);
            }
        }
    }

    /// The credit up to which channels are filled from now on.
    ///
    /// russh fills a channel when less than half of this is left, and asks again after each filling. Two bytes is the
    /// least with which it ever fills, hence asks, again.
    pub(crate) fn window(&self) -> u32 {
        if self.is_choked() { 2 } else { WINDOW }
    }
}

/// A channel has more unread than any client may send that keeps to its credit, or than there is room for.
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
        let len = self.len.saturating_add(data.len());
        if len > HARD {
            return Err(Overfull);
        }
        if len > FLOOR
            && let Some(limit) = self.flow.full(data.len())
        {
            (self.flow.tell)(limit);
            return Err(Overfull);
        }
        self.resize(len);
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
        self.flow.resized(self.len, len);
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
    use std::sync::Mutex;

    const ALL: usize = 64 << 20;

    fn flow() -> Arc<Flow> {
        let [account, all] = [Limit::MemoryPerAccount, Limit::Memory].map(|limit| Pool::new(ALL, limit));
        Flow::new(ALL, Arc::new(account), Arc::new(all), Arc::new(|_| {}))
    }

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
        let flow = flow();
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
        assert_eq!(flow.unread(), 0);
    }

    #[test]
    fn a_client_that_ignores_its_credit_meets_a_wall() {
        let flow = flow();
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
        assert!(flow.unread() <= ALL);
        drop(others);
    }

    #[test]
    fn memory_is_counted_for_connections_accounts_and_all() {
        let told = Arc::new(Mutex::new(vec![]));
        let telling = told.clone();
        let tell: Tell = Arc::new(move |limit| telling.lock().expect("not poisoned").push(limit));
        let all = Arc::new(Pool::new(6 * FLOOR, Limit::Memory));
        let account = || Arc::new(Pool::new(4 * FLOOR, Limit::MemoryPerAccount));
        let (alice, bob) = (account(), account());
        let connection = |of: &Arc<Pool>| Flow::new(3 * FLOOR, of.clone(), all.clone(), tell.clone());
        let mut queues = [&alice, &alice, &bob].map(|of| Backlog::new(connection(of)));
        let piece = Bytes::from(vec![0; FLOOR]);
        let mut fill = |queue: &mut Backlog| {
            std::iter::repeat_with(|| queue.push(piece.clone())).take_while(Result::is_ok).count()
        };
        assert_eq!(queues.each_mut().map(&mut fill), [3, 1, 2]);
        let reached = [Limit::MemoryPerConnection, Limit::MemoryPerAccount, Limit::Memory];
        assert_eq!(*told.lock().expect("not poisoned"), reached);
        assert!(queues.iter().all(|queue| queue.flow.is_tight()));
        assert_eq!(queues.each_ref().map(|queue| queue.flow.window()), [2, WINDOW, 2]);
        let mut late = Backlog::new(connection(&bob));
        assert_eq!(fill(&mut late), 1, "a little is always taken");
        drop((queues, late));
        assert_eq!((alice.used(), bob.used(), all.used()), (0, 0, 0));
    }

    #[test]
    fn what_is_taken_out_in_chunks_is_all_and_in_order() {
        let flow = flow();
        let mut backlog = Backlog::new(flow.clone());
        let big = vec![2; SMALL];
        for chunk in [&[1][..], &[1], &big, &[3], &[3]] {
            backlog.push(Bytes::copy_from_slice(chunk)).expect("room");
        }
        backlog.wrote(1);
        let all: Vec<u8> = std::iter::from_fn(|| backlog.pop()).flatten().collect();
        assert_eq!(all, [&[1][..], &big, &[3, 3]].concat());
        assert!(backlog.is_empty() && backlog.pop().is_none());
        assert_eq!(flow.unread(), 0);
    }

    #[test]
    fn single_bytes_cost_single_bytes() {
        let mut backlog = Backlog::new(flow());
        for _ in 0..10_000 {
            backlog.push(Bytes::from_static(b"x")).expect("room");
        }
        assert!(backlog.chunks.len() <= 1);
        assert_eq!(read_all(&mut backlog, usize::MAX).len(), 10_000);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(sizes in proptest::collection::vec((0usize..3000, 0usize..5000), 1..60)) {
            let flow = flow();
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
                prop_assert_eq!(flow.unread(), sent.len() - got.len());
            }
            got.extend(read_all(&mut backlog, 700));
            prop_assert_eq!(sent, got);
            prop_assert!(backlog.is_empty());
        }
    }
}
