//! Who waits before the next connection, after OpenSSH's PerSourcePenalties.
//!
//! Each thing that a source should not do costs it a time. Times add up from the moment that they are given, up to a
//! most, and pass by themselves. While a source has more before it than the threshold, it is refused; and once it is, until
//! all of it has passed. Keys cannot be guessed: what is spared here are key exchanges and the places of others.
//!
//! Owns nothing that outlives the process, and at most [`MAX_SOURCES`] of each family of addresses: beyond that whoever
//! would be free first is free at once. Concurrency: one lock, held for a few instructions.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{settings, source::source_of};

/// So many sources are remembered, of IPv4 and of IPv6.
const MAX_SOURCES: usize = 65_536;

/// What a source did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offence {
    NoTry,
    Refused,
    TooSlow,
    Broken,
    Crash,
}

/// See the module.
pub(crate) struct Penalties {
    settings: settings::Penalties,
    v4: Mutex<Table>,
    v6: Mutex<Table>,
}

#[derive(Debug, Clone, Copy)]
struct Sentence {
    /// All of it has passed then.
    until: Instant,
    /// It has come to more than the threshold.
    refused: bool,
}

#[derive(Default)]
struct Table {
    sources: HashMap<IpAddr, Sentence>,
    /// The same, by who is free first.
    order: BTreeSet<(Instant, IpAddr)>,
}

impl Penalties {
    pub(crate) fn new(settings: settings::Penalties) -> Self {
        Self { settings, v4: Mutex::default(), v6: Mutex::default() }
    }

    /// How long this source is refused yet.
    pub(crate) fn wait(&self, from: IpAddr) -> Option<Duration> {
        let source = source_of(from);
        let now = Instant::now();
        let table = self.table(source);
        let sentence = table.sources.get(&source).filter(|sentence| sentence.refused)?;
        Some(sentence.until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// Gives a source the time for what it did.
    pub(crate) fn give(&self, from: IpAddr, what: Offence) {
        let settings::Penalties { threshold, most, exempt, .. } = &self.settings;
        let address = from.to_canonical();
        if threshold.is_zero() || exempt.iter().any(|network| network.contains(&address)) {
            return;
        }
        let (source, now) = (source_of(from), Instant::now());
        self.table(source).give(source, self.time_of(what), *threshold, *most, now);
    }

    /// How many sources are refused now.
    pub(crate) fn refused(&self) -> usize {
        let now = Instant::now();
        let refused = |table: &Mutex<Table>| {
            let mut table = lock(table);
            table.forget(now);
            table.sources.values().filter(|sentence| sentence.refused).count()
        };
        refused(&self.v4) + refused(&self.v6)
    }

    fn time_of(&self, what: Offence) -> Duration {
        match what {
            Offence::NoTry => self.settings.no_try,
            Offence::Refused => self.settings.refused,
            Offence::TooSlow => self.settings.too_slow,
            Offence::Broken => self.settings.broken,
            Offence::Crash => self.settings.crash,
        }
    }

    fn table(&self, source: IpAddr) -> MutexGuard<'_, Table> {
        lock(if source.is_ipv4() { &self.v4 } else { &self.v6 })
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    fn give(&mut self, source: IpAddr, time: Duration, threshold: Duration, most: Duration, now: Instant) {
        if time.is_zero() {
            return;
        }
        self.forget(now);
        let before = self.sources.get(&source).copied();
        let from = before.map_or(now, |sentence| sentence.until.max(now));
        let until = (from + time).min(now + most);
        let refused = before.is_some_and(|sentence| sentence.refused) || until >= now + threshold;
        if let Some(before) = before {
            self.order.remove(&(before.until, source));
        } else if self.sources.len() >= MAX_SOURCES
            && let Some((_, first)) = self.order.pop_first()
        {
            self.sources.remove(&first);
        }
        self.sources.insert(source, Sentence { until, refused });
        self.order.insert((until, source));
    }

    /// Forgets whose time has passed.
    fn forget(&mut self, now: Instant) {
        while self.order.first().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, source)) = self.order.pop_first() {
                self.sources.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn penalties() -> Penalties {
        Penalties::new(settings::Penalties::default())
    }

    #[tokio::test(start_paused = true)]
    async fn times_add_up_and_pass() {
        let penalties = penalties();
        let (flood, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        for n in 1..=9 {
            penalties.give(flood, Offence::Refused);
            assert_eq!(penalties.wait(flood), None, "{n} times three seconds");
        }
        penalties.give(flood, Offence::Refused);
        assert_eq!(penalties.wait(flood), Some(30 * SECOND));
        assert_eq!(penalties.wait(ip("::ffff:192.0.2.1")), Some(30 * SECOND), "by either spelling");
        assert_eq!((penalties.wait(other), penalties.refused()), (None, 1));
        tokio::time::advance(29 * SECOND).await;
        assert_eq!(penalties.wait(flood), Some(SECOND), "and not only while it is above the threshold");
        tokio::time::advance(SECOND).await;
        assert_eq!((penalties.wait(flood), penalties.refused()), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_errs_now_and_then_never_waits_and_nobody_waits_for_ever() {
        let penalties = penalties();
        let monitor = ip("2001:db8::1");
        for _ in 0..1000 {
            penalties.give(monitor, Offence::NoTry);
            tokio::time::advance(SECOND).await;
            assert_eq!(penalties.wait(monitor), None);
        }
        let flood = ip("2001:db8:0:1::1");
        for _ in 0..1000 {
            penalties.give(flood, Offence::Crash);
        }
        assert_eq!(penalties.wait(flood), Some(600 * SECOND));
        assert_eq!(penalties.wait(ip("2001:db8:0:1:ffff::2")), Some(600 * SECOND), "its /64 is one source");
    }

    #[tokio::test(start_paused = true)]
    async fn the_exempt_never_wait() {
        let settings = settings::Penalties {
            exempt: vec!["192.0.2.0/24".parse().expect("a network"), "2001:db8::/32".parse().expect("one")],
            ..settings::Penalties::default()
        };
        let penalties = Penalties::new(settings);
        let off = settings::Penalties { threshold: Duration::ZERO, ..settings::Penalties::default() };
        let none = Penalties::new(off);
        for _ in 0..20 {
            for from in ["192.0.2.9", "::ffff:192.0.2.9", "2001:db8:9::9", "198.51.100.1"] {
                penalties.give(ip(from), Offence::Crash);
                none.give(ip(from), Offence::Crash);
            }
        }
        for free in ["192.0.2.9", "::ffff:192.0.2.9", "2001:db8:9::9"] {
            assert_eq!(penalties.wait(ip(free)), None, "{free}");
        }
        assert!(penalties.wait(ip("198.51.100.1")).is_some());
        assert_eq!(none.wait(ip("198.51.100.1")), None);
        assert!(
            Penalties::new(settings::Penalties::default())
                .settings
                .exempt
                .iter()
                .all(|network| { network.contains(&ip("127.0.0.1")) || network.contains(&ip("::1")) })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_from_everywhere_takes_bounded_memory_and_frees_the_least() {
        let penalties = penalties();
        let worst = ip("192.0.2.1");
        penalties.give(worst, Offence::Crash);
        for n in 0..MAX_SOURCES as u32 + 100 {
            penalties.give(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), Offence::NoTry);
        }
        let table = lock(&penalties.v4);
        assert_eq!((table.sources.len(), table.order.len()), (MAX_SOURCES, MAX_SOURCES));
        drop(table);
        assert!(penalties.wait(worst).is_some(), "who did most is still remembered");
        penalties.give(ip("2001:db8::1"), Offence::Crash);
        assert_eq!(lock(&penalties.v6).sources.len(), 1, "the families do not push out each other");
    }
}
