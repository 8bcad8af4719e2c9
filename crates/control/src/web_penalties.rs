//! Those who get it wrong wait, longer each time.
//!
//! Counted are the tries that went wrong of one network at one account, of one network at all accounts, and of all
//! networks at one account. The first two make a network wait. The third makes nobody wait: it only takes from other
//! networks what they may get wrong for free. So whoever guesses at an account from many places gets few guesses from
//! each, and its owner, who comes from another one, always has a try.
//!
//! A network is what one subscriber has: a /24 of IPv4, a /48 of IPv6. A try counts as wrong from its beginning until it
//! turns out to be right, so that many at once gain nothing.
//!
//! Owns nothing that outlives the process, and at most [`MAX_ENTRIES`] entries of a kind. Concurrency: one lock, held
//! for a few instructions, or for one pass over the entries when there are too many.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use berth_model::AccountName;
use tokio::time::Instant;

/// Of one network at one account.
const FREE: u32 = 5;
/// The same, while somebody guesses at the account from everywhere.
const FREE_WHEN_GUESSED_AT: u32 = 1;
/// Of one network at all accounts: an office is one.
const FREE_OF_NETWORK: u32 = 30;
/// So many tries at one account from everywhere are guessing.
const GUESSING: u32 = 50;
/// The first pause; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_AT_MOST: Duration = Duration::from_secs(15 * 60);
/// What went wrong is forgotten so long after the last time.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);
/// So many entries of a kind are kept.
const MAX_ENTRIES: usize = 10_000;

/// One subscriber's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network(IpAddr);

impl Network {
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << 8)).into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 80)).into(),
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    wrong: u32,
    last: Instant,
}

impl Entry {
    /// How long from `now` until the next try, where so many are free.
    fn wait(self, free: u32, now: Instant) -> Duration {
        let Some(beyond) = self.wrong.checked_sub(free) else { return Duration::ZERO };
        let pause = PAUSE.saturating_mul(2_u32.saturating_pow(beyond)).min(PAUSE_AT_MOST);
        (self.last + pause).saturating_duration_since(now)
    }

    fn is_forgotten(self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= FORGOTTEN
    }
}

#[derive(Debug)]
struct Table<K>(HashMap<K, Entry>);

impl<K: Eq + Hash + Clone> Table<K> {
    fn get(&self, key: &K, now: Instant) -> Entry {
        let entry = self.0.get(key).copied().filter(|entry| !entry.is_forgotten(now));
        entry.unwrap_or(Entry { wrong: 0, last: now })
    }

    fn charge(&mut self, key: K, now: Instant) {
        if self.0.len() >= MAX_ENTRIES && !self.0.contains_key(&key) {
            self.make_room(now);
        }
        let entry = Entry { wrong: self.get(&key, now).wrong.saturating_add(1), last: now };
        self.0.insert(key, entry);
    }

    fn refund(&mut self, key: &K) {
        if let Some(entry) = self.0.get_mut(key) {
            entry.wrong = entry.wrong.saturating_sub(1);
            if entry.wrong == 0 {
                self.0.remove(key);
            }
        }
    }

    /// Forgets what is over, and where that is not enough the tenth that matters least.
    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, entry| !entry.is_forgotten(now));
        if self.0.len() < MAX_ENTRIES {
            return;
        }
        let mut least: Vec<_> =
            self.0.iter().map(|(key, entry)| (entry.wrong, entry.last, key.clone())).collect();
        least.sort_by_key(|(wrong, last, _)| (*wrong, *last));
        for (.., key) in least.into_iter().take(MAX_ENTRIES / 10) {
            self.0.remove(&key);
        }
    }
}

/// Who waits. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Penalties(Arc<Mutex<Tables>>);

#[derive(Debug)]
struct Tables {
    pairs: Table<(AccountName, Network)>,
    networks: Table<Network>,
    accounts: Table<AccountName>,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            pairs: Table(HashMap::new()),
            networks: Table(HashMap::new()),
            accounts: Table(HashMap::new()),
        }
    }
}

impl Penalties {
    /// Begins a try, which counts as wrong until it is said to be right: at an account, or at none where it is by
    /// something that nobody can guess, or by a name that nobody can have. Then it counts for its network only.
    ///
    /// # Errors
    /// How long to wait for the next try.
    pub(crate) fn begin(&self, account: Option<&AccountName>, from: IpAddr) -> Result<Try, Duration> {
        let (network, now) = (Network::of(from), Instant::now());
        let pair = account.map(|account| (account.clone(), network));
        let mut tables = self.lock();
        let mut wait = tables.networks.get(&network, now).wait(FREE_OF_NETWORK, now);
        if let Some(pair) = &pair {
            let guessed_at = tables.accounts.get(&pair.0, now).wrong >= GUESSING;
            let free = if guessed_at { FREE_WHEN_GUESSED_AT } else { FREE };
            wait = wait.max(tables.pairs.get(pair, now).wait(free, now));
        }
        if !wait.is_zero() {
            return Err(wait);
        }
        tables.networks.charge(network, now);
        if let Some(pair) = &pair {
            tables.accounts.charge(pair.0.clone(), now);
            tables.pairs.charge(pair.clone(), now);
        }
        Ok(Try { penalties: self.clone(), network, pair })
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A try under way. Dropped, it was wrong.
#[derive(Debug)]
#[must_use]
pub(crate) struct Try {
    penalties: Penalties,
    network: Network,
    pair: Option<(AccountName, Network)>,
}

impl Try {
    /// It was right: what its network got wrong at this account before is forgotten.
    pub(crate) fn right(self) {
        let mut tables = self.penalties.lock();
        tables.networks.refund(&self.network);
        if let Some(pair) = &self.pair {
            tables.accounts.refund(&pair.0);
            tables.pairs.0.remove(pair);
        }
    }

    /// Nobody found out whether it was right.
    pub(crate) fn undecided(self) {
        let mut tables = self.penalties.lock();
        tables.networks.refund(&self.network);
        if let Some(pair) = &self.pair {
            tables.accounts.refund(&pair.0);
            tables.pairs.refund(pair);
        }
    }
}

#[cfg(test)]
mod tests;
