//! What a VM has sent on a channel and its client has not taken yet.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};

use crate::backlog::{FLOOR, Flow};

/// As much may wait, and less while all together have much that waits. A VM that has sent more is not read until the client
/// has taken some, or only at the pace that its neighbours need: see `trickle.rs`.
pub(super) const ROOM: usize = 1024 * 1024;
/// As much may wait where there are neighbours: what trickles in until the channel is given up for them. It is less than half
/// of what a connection may have by default, beyond which everything would be short.
const ROOM_BESIDE_OTHERS: usize = 31 * 1024 * 1024;
/// Data that comes in pieces smaller than this is put together, up to so much, so that a queue of single bytes costs single
/// bytes.
const SMALL: (usize, usize) = (1024, 32 * 1024);
/// What an item costs beside its bytes.
const ITEM: usize = 64;

/// One thing for the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Data(Bytes),
    Extended(u32, Bytes),
    Status(u32),
    Signal { name: String, core_dumped: bool, message: String },
    Eof,
}

impl Item {
    fn cost(&self) -> usize {
        ITEM + match self {
            Self::Data(data) | Self::Extended(_, data) => data.len(),
            Self::Signal { name, message, .. } => name.len() + message.len(),
            Self::Status(_) | Self::Eof => 0,
        }
    }
}

/// A queue of them, in order.
pub(super) struct Down {
    flow: Arc<Flow>,
    items: VecDeque<Item>,
    cost: usize,
}

impl Down {
    pub(super) fn new(flow: Arc<Flow>) -> Self {
        Self { flow, items: VecDeque::new(), cost: 0 }
    }

    pub(super) fn push(&mut self, item: Item) {
        match (self.items.back_mut(), &item) {
            (Some(Item::Data(last)), Item::Data(more)) if fits(last, more) => {
                append(last, more);
                self.resize(self.cost + more.len());
            }
            (Some(Item::Extended(one, last)), Item::Extended(other, more))
                if one == other && fits(last, more) =>
            {
                append(last, more);
                self.resize(self.cost + more.len());
            }
            _ => {
                self.resize(self.cost + item.cost());
                self.items.push_back(item);
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.resize(self.cost - item.cost());
        Some(item)
    }

    /// Throws everything away.
    pub(super) fn clear(&mut self) {
        self.items = VecDeque::new();
        self.resize(0);
    }

    pub(super) fn is_full(&self) -> bool {
        self.cost >= ROOM || (self.cost >= FLOOR && self.flow.is_tight())
    }

    /// Whether a little more may wait although it is full, so that neighbours do not.
    pub(super) fn has_room_beside_others(&self) -> bool {
        self.cost < ROOM_BESIDE_OTHERS && !self.flow.is_tight()
    }

    fn resize(&mut self, cost: usize) {
        self.flow.resized(self.cost, cost);
        self.cost = cost;
    }
}

fn fits(last: &Bytes, more: &Bytes) -> bool {
    more.len() < SMALL.0 && last.len() + more.len() <= SMALL.1
}

fn append(last: &mut Bytes, more: &[u8]) {
    let mut all = std::mem::take(last).try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
    all.extend_from_slice(more);
    *last = all.freeze();
}

impl Drop for Down {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::{backlog::Pool, limit::Limit};

    fn flow(room: usize) -> (Arc<Flow>, Arc<Pool>) {
        let pool = |limit| Arc::new(Pool::new(room, limit));
        let all = pool(Limit::Memory);
        (Flow::new(room, pool(Limit::MemoryPerAccount), all.clone(), Arc::new(|_| {})), all)
    }

    #[test]
    fn where_memory_is_short_less_waits() {
        let (flow, all) = flow(ROOM);
        let mut downs = [Down::new(flow.clone()), Down::new(flow)];
        let data = || Item::Data(vec![0; FLOOR].into());
        downs[0].push(data());
        assert!(!downs[0].is_full());
        while !downs[1].is_full() {
            downs[1].push(data());
        }
        assert!(all.used() > ROOM / 2 && all.used() < ROOM, "{}", all.used());
        assert!(downs[0].is_full());
        downs[1].clear();
        assert!(!downs[0].is_full());
        drop(downs);
        assert_eq!(all.used(), 0);
    }

    #[test]
    fn single_bytes_cost_single_bytes_and_stay_in_order() {
        let mut down = Down::new(flow(usize::MAX).0);
        let kept = Bytes::from_static(b"first");
        down.push(Item::Data(kept.clone()));
        for _ in 0..100_000 {
            down.push(Item::Data(Bytes::from_static(b"x")));
        }
        for text in ["a", "b"] {
            down.push(Item::Extended(1, Bytes::from_static(text.as_bytes())));
        }
        down.push(Item::Extended(2, Bytes::from_static(b"c")));
        down.push(Item::Data(Bytes::from_static(b"last")));
        assert!(down.cost < 101_000, "{}", down.cost);
        let (mut data, mut extended) = (Vec::new(), Vec::new());
        while let Some(item) = down.pop() {
            match item {
                Item::Data(bytes) => data.extend_from_slice(&bytes),
                Item::Extended(stream, bytes) => extended.push((stream, bytes)),
                _ => unreachable!("{item:?}"),
            }
        }
        assert_eq!(data, [&b"first"[..], &[b'x'; 100_000], b"last"].concat());
        assert_eq!(extended, [(1, Bytes::from_static(b"ab")), (2, Bytes::from_static(b"c"))]);
        assert_eq!((down.cost, &*kept), (0, &b"first"[..]));
    }

    #[test]
    fn things_of_no_bytes_fill_it_too() {
        let mut down = Down::new(flow(usize::MAX).0);
        let pushed = (0..).take_while(|_| {
            down.push(Item::Status(1));
            !down.is_full()
        });
        assert_eq!(pushed.count() + 1, ROOM / ITEM);
        while down.pop().is_some() {}
        assert_eq!(down.cost, 0);
    }
}
