//! How many strangers may be at the door at once, and whose turn it is to be answered.
//!
//! Counts connections that have not logged in: each may cost a key exchange and holds memory until its grace is over.
//! Nothing is remembered of a source that has none open.
//!
//! **Who is refused.** A source has a number of places, so one source never takes all. Where all places are taken, whoever
//! comes takes the place of the oldest connection of the neighbourhood (an IPv4 /24, an IPv6 /48) that has the most,
//! unless that is their own: a flood pushes out itself, and of strangers from everywhere those go first that have
//! been there for longest. Who logs in is not there for long.
//!
//! **Turns.** What a stranger sends is dealt with in the turn of their source, and a source has one turn less at a time
//! than this host has processors, and one at least. A turn ends when the next bytes are asked for, or what the answer
//! depends on is waited for. So exchanges of keys that a source begins by the hundred are done one after the other, and
//! the exchange of another source stands behind one of them and not behind all.
//!
//! Concurrency: one lock, held for a few instructions, or for one pass over the places when all are taken.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
};

use tokio::sync::Semaphore;

use crate::{
    leash::Hand,
    limit::Limit,
    source::{neighbourhood_of, source_of},
};

/// The count of connections that have not logged in.
pub(crate) struct Admission {
    all: usize,
    per_source: usize,
    turns: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    /// The number of the next place.
    next: u64,
    sources: HashMap<IpAddr, Source>,
}

/// The places of one source.
struct Source {
    /// From the oldest to the newest.
    places: VecDeque<(u64, Hand)>,
    turns: Arc<Semaphore>,
}

/// A place at the door; given back when dropped.
pub(crate) struct Place {
    admission: Arc<Admission>,
    source: IpAddr,
    number: u64,
    turns: Arc<Semaphore>,
}

impl Admission {
    pub(crate) fn new(all: usize, per_source: usize) -> Arc<Self> {
        let turns = available_parallelism().map_or(1, |workers| workers.get() - 1).max(1);
        Arc::new(Self { all, per_source, turns, open: Mutex::default() })
    }

    /// A place for a connection from `from`, if there is one or one can be made. `hand` is cut when it is taken away.
    ///
    /// # Errors
    /// What is full.
    pub(crate) fn admit(self: &Arc<Self>, from: IpAddr, hand: &Hand) -> Result<Place, Limit> {
        let source = source_of(from);
        let mut open = self.lock();
        if open.sources.get(&source).is_some_and(|here| here.places.len() >= self.per_source) {
            return Err(Limit::LoggingInPerSource);
        }
        if open.all >= self.all && !open.push_out(neighbourhood_of(from)) {
            return Err(Limit::LoggingIn);
        }
        let number = open.next;
        open.next += 1;
        open.all += 1;
        let here = open.sources.entry(source).or_insert_with(|| Source {
            places: VecDeque::new(),
            turns: Arc::new(Semaphore::new(self.turns)),
        });
        here.places.push_back((number, hand.clone()));
        let turns = here.turns.clone();
        Ok(Place { admission: self.clone(), source, number, turns })
    }

    /// How many have not logged in.
    pub(crate) fn count(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Makes a place for somebody of this neighbourhood, unless it has as many as any.
    fn push_out(&mut self, newcomer: IpAddr) -> bool {
        // How many there are, and the number of the oldest.
        let mut neighbourhoods: HashMap<IpAddr, (usize, u64)> = HashMap::new();
        for (source, Source { places, .. }) in &self.sources {
            let (count, oldest) = neighbourhoods.entry(neighbourhood_of(*source)).or_insert((0, u64::MAX));
            *count += places.len();
            *oldest = places.front().map_or(*oldest, |(number, _)| (*oldest).min(*number));
        }
        let own = neighbourhoods.get(&newcomer).map_or(0, |(count, _)| *count);
        let fullest = neighbourhoods.values().max_by_key(|(count, oldest)| (*count, u64::MAX - oldest));
        let Some(&(count, oldest)) = fullest else { return false };
        if count <= own {
            return false;
        }
        let of_oldest = |source: &Source| source.places.front().is_some_and(|(number, _)| *number == oldest);
        let Some(source) = self.sources.iter().find_map(|(at, source)| of_oldest(source).then_some(*at))
        else {
            return false;
        };
        if let Some(hand) = self.remove(source, oldest) {
            hand.reach(Limit::LoggingIn);
            hand.cut();
        }
        true
    }

    fn remove(&mut self, source: IpAddr, number: u64) -> Option<Hand> {
        let here = self.sources.get_mut(&source)?;
        let at = here.places.iter().position(|(place, _)| *place == number)?;
        let (_, hand) = here.places.remove(at)?;
        if here.places.is_empty() {
            self.sources.remove(&source);
        }
        self.all -= 1;
        Some(hand)
    }
}

impl Place {
    /// The turns of its source.
    pub(crate) fn turns(&self) -> Arc<Semaphore> {
        self.turns.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It is not there any more where it was taken away.
        self.admission.lock().remove(self.source, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn admit(door: &Arc<Admission>, from: &str) -> Result<Place, Limit> {
        door.admit(ip(from), &Hand::default())
    }

    #[test]
    fn a_source_fills_only_its_own_places() {
        let door = Admission::new(3, 2);
        let first = admit(&door, "192.0.2.1");
        let second = admit(&door, "::ffff:192.0.2.1");
        assert!(first.is_ok() && second.is_ok());
        let third = admit(&door, "192.0.2.1");
        assert_eq!(third.err(), Some(Limit::LoggingInPerSource), "its places are taken, by either spelling");
        let other = admit(&door, "192.0.2.2");
        assert!(other.is_ok());
        let neighbour = admit(&door, "192.0.2.3");
        assert_eq!(neighbour.err(), Some(Limit::LoggingIn), "all are taken, and by their own neighbourhood");
        drop(second);
        assert!(admit(&door, "192.0.2.1").is_ok(), "a place given back is free");
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_nothing_stays() {
        let door = Admission::new(9, 1);
        let place = admit(&door, "2001:db8:0:1::1");
        assert!(admit(&door, "2001:db8:0:1:ffff::2").is_err());
        assert!(admit(&door, "2001:db8:0:2::1").is_ok());
        drop(place);
        let open = door.lock();
        assert_eq!((open.all, open.sources.len()), (0, 0));
    }

    #[test]
    fn a_flood_pushes_out_itself() {
        let door = Admission::new(4, 2);
        let quiet = Hand::default();
        let quiet_place = door.admit(ip("198.51.100.7"), &quiet).expect("a place");
        // Of one network by many addresses.
        let flood: Vec<Hand> = (0..3).map(|_| Hand::default()).collect();
        let places: Vec<_> = (0..)
            .zip(&flood)
            .map(|(n, hand)| door.admit(ip(&format!("2001:db8:0:{n}::1")), hand).expect("a place"))
            .collect();
        assert_eq!(admit(&door, "2001:db8:0:9::1").err(), Some(Limit::LoggingIn));
        let newcomer = admit(&door, "203.0.113.1").expect("a place for somebody else");
        let cut = |hand: &Hand| hand.reached() == Some(Limit::LoggingIn);
        assert_eq!(
            flood.iter().map(cut).collect::<Vec<_>>(),
            [true, false, false],
            "the oldest of the flood"
        );
        assert!(!cut(&quiet));
        drop((places, newcomer, quiet_place));
        let open = door.lock();
        assert_eq!((open.all, open.sources.len()), (0, 0), "and nobody is counted twice");
    }

    #[test]
    fn of_strangers_from_everywhere_the_oldest_goes() {
        let door = Admission::new(2, 2);
        let hands = [Hand::default(), Hand::default()];
        let _first = door.admit(ip("192.0.2.1"), &hands[0]);
        let _second = door.admit(ip("198.51.100.1"), &hands[1]);
        assert!(admit(&door, "203.0.113.1").is_ok());
        assert_eq!(hands.map(|hand| hand.reached().is_some()), [true, false]);
    }

    #[test]
    fn a_source_has_turns_of_its_own() {
        let door = Admission::new(9, 9);
        let (one, same, other) =
            (admit(&door, "192.0.2.1"), admit(&door, "192.0.2.1"), admit(&door, "192.0.2.2"));
        let turns = |place: &Result<Place, Limit>| place.as_ref().expect("a place").turns();
        assert!(Arc::ptr_eq(&turns(&one), &turns(&same)));
        assert!(!Arc::ptr_eq(&turns(&one), &turns(&other)));
        assert!(turns(&one).available_permits() >= 1);
    }
}
