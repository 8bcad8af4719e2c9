//! How many strangers may be at the door at once.
//!
//! Counts connections that have not logged in: each may cost a key exchange and holds memory until its grace is over.
//! Nothing is remembered of a source that has none open.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// The count of connections that have not logged in.
pub(crate) struct Admission {
    all: usize,
    per_source: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    sources: HashMap<IpAddr, usize>,
}

/// A place at the door; given back when dropped.
pub(crate) struct Place {
    admission: Arc<Admission>,
    source: IpAddr,
}

impl Admission {
    pub(crate) fn new(all: usize, per_source: usize) -> Arc<Self> {
        Arc::new(Self { all, per_source, open: Mutex::default() })
    }

    /// A place for a connection from `from`, if there is one.
    pub(crate) fn admit(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let source = source_of(from);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.sources.get(&source).copied().unwrap_or_default();
        if open.all >= self.all || here >= self.per_source {
            return None;
        }
        open.all += 1;
        open.sources.insert(source, here + 1);
        Some(Place { admission: self.clone(), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.admission.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        if let Some(here) = open.sources.get_mut(&self.source) {
            *here -= 1;
            if *here == 0 {
                open.sources.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, also one that was mapped into IPv6, or an IPv6 /64, which is what one
/// customer has at least.
fn source_of(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_source_fills_only_its_own_places() {
        let door = Admission::new(3, 2);
        let first = door.admit(ip("192.0.2.1"));
        let second = door.admit(ip("::ffff:192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(door.admit(ip("192.0.2.1")).is_none(), "its places are taken, by either spelling");
        let other = door.admit(ip("192.0.2.2"));
        assert!(other.is_some());
        assert!(door.admit(ip("192.0.2.3")).is_none(), "all places are taken");
        drop(second);
        assert!(door.admit(ip("192.0.2.1")).is_some(), "a place given back is free");
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_nothing_stays() {
        let door = Admission::new(9, 1);
        let place = door.admit(ip("2001:db8:0:1::1"));
        assert!(door.admit(ip("2001:db8:0:1:ffff::2")).is_none());
        assert!(door.admit(ip("2001:db8:0:2::1")).is_some());
        drop(place);
        let open = door.open.lock().expect("not poisoned");
        assert_eq!((open.all, open.sources.len()), (0, 0));
    }
}
