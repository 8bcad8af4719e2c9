//! How many requests are on their way to VMs: so many to one VM, and so many from one place, so that neither a busy site
//! nor a greedy visitor takes what the others need.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use berth_model::VmName;

/// So many requests and WebSockets one VM has at once.
const MOST_OF_A_VM: usize = 256;
/// So many one place has, over all VMs.
const MOST_FROM_A_PLACE: usize = 128;

/// See the module. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Room(Arc<Mutex<HashMap<Key, usize>>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Vm(VmName),
    Place(IpAddr),
}

/// Whose bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Vm,
    Place,
}

/// A place of one request. Dropping it gives it back.
pub(crate) struct Place {
    room: Room,
    keys: Vec<Key>,
}

impl Room {
    /// Takes a place, until it is dropped.
    pub(crate) fn enter(&self, vm: &VmName, from: IpAddr) -> Result<Place, Full> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys = vec![(Key::Vm(vm.clone()), MOST_OF_A_VM, Full::Vm)];
        // A proxy in front, or somebody on the server itself: not one visitor.
        if !from.is_loopback() {
            keys.push((Key::Place(network(from)), MOST_FROM_A_PLACE, Full::Place));
        }
        for (key, most, full) in &keys {
            if taken.get(key).is_some_and(|count| count >= most) {
                return Err(*full);
            }
        }
        let keys: Vec<Key> = keys.into_iter().map(|(key, ..)| key).collect();
        for key in &keys {
            *taken.entry(key.clone()).or_default() += 1;
        }
        Ok(Place { room: self.clone(), keys })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            if let Some(count) = taken.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(key);
                }
            }
        }
    }
}

/// An address of IPv4, or the /64 of one of IPv6, which one host has to itself.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_and_a_place_have_so_many_and_no_more() {
        let room = Room::default();
        let (one, other): (VmName, VmName) =
            ("vm-0.alice.koding".parse().unwrap(), "vm-0.bob.koding".parse().unwrap());
        let mut held: Vec<_> =
            (0..MOST_FROM_A_PLACE).map(|_| room.enter(&one, [192, 0, 2, 1].into()).unwrap()).collect();
        assert_eq!(room.enter(&other, [192, 0, 2, 1].into()).err(), Some(Full::Place));
        held.extend((0..MOST_FROM_A_PLACE).map(|_| room.enter(&one, [192, 0, 2, 2].into()).unwrap()));
        assert_eq!(room.enter(&one, [192, 0, 2, 3].into()).err(), Some(Full::Vm));
        assert_eq!(room.enter(&one, [127, 0, 0, 1].into()).err(), Some(Full::Vm));
        assert!(room.enter(&other, [192, 0, 2, 3].into()).is_ok());
        drop(held.pop());
        assert!(room.enter(&one, [127, 0, 0, 1].into()).is_ok());
        drop(held);
        assert!(room.0.lock().unwrap().is_empty());
    }

    #[test]
    fn one_host_of_ipv6_is_one_place() {
        let network = |text: &str| super::network(text.parse().unwrap());
        assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff::2"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
    }
}
