//! What a VM has sent on a channel and its client has not taken yet.

use std::collections::VecDeque;

use bytes::Bytes;

/// As much may wait. A VM that has sent more is not read until the client has taken some.
pub(super) const ROOM: usize = 1024 * 1024;
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
#[derive(Default)]
pub(super) struct Down {
    items: VecDeque<Item>,
    cost: usize,
}

impl Down {
    pub(super) fn push(&mut self, item: Item) {
        self.cost += item.cost();
        self.items.push_back(item);
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.cost -= item.cost();
        Some(item)
    }

    pub(super) fn is_full(&self) -> bool {
        self.cost >= ROOM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_of_no_bytes_fill_it_too() {
        let mut down = Down::default();
        let pushed = (0..).take_while(|_| {
            down.push(Item::Status(1));
            !down.is_full()
        });
        assert_eq!(pushed.count() + 1, ROOM / ITEM);
        while down.pop().is_some() {}
        assert_eq!(down.cost, 0);
    }
}
