//! The limits that can be reached, and what is told of it: a count of each, and a line in the log now and then.
//!
//! Whoever reaches one may do so any number of times a second, so each has one line a minute at most, which says how many
//! went without one.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use berth_control::Control;
use tokio::time::Instant;
use tracing::warn;

/// A limit has one line in so long.
const ONE_LINE_EVERY: Duration = Duration::from_secs(60);

/// A limit that somebody can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    LoginGrace,
    LoginTries,
    LoginData,
    LoggingIn,
    LoggingInPerSource,
    Penalty,
    ConnectionsPerAccount,
    ChannelsPerConnection,
    ChannelsEver,
    ChannelsPerAccount,
    IdleMessages,
    MemoryPerConnection,
    MemoryPerAccount,
    Memory,
    Stalled,
}

/// Tells that a client has reached a limit.
pub(crate) type Tell = Arc<dyn Fn(Limit) + Send + Sync>;

impl Limit {
    const COUNT: usize = Self::Stalled as usize + 1;

    /// In metrics and in the log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::LoginGrace => "login_grace",
            Self::LoginTries => "login_tries",
            Self::LoginData => "login_data",
            Self::LoggingIn => "logging_in",
            Self::LoggingInPerSource => "logging_in_per_source",
            Self::Penalty => "penalty",
            Self::ConnectionsPerAccount => "connections_per_account",
            Self::ChannelsPerConnection => "channels_per_connection",
            Self::ChannelsEver => "channels_ever",
            Self::ChannelsPerAccount => "channels_per_account",
            Self::IdleMessages => "idle_messages",
            Self::MemoryPerConnection => "memory_per_connection",
            Self::MemoryPerAccount => "memory_per_account",
            Self::Memory => "memory",
            Self::Stalled => "stalled",
        }
    }
}

/// Where it is told that a limit was reached.
pub(crate) struct Notices {
    control: Arc<Control>,
    lines: Lines,
}

impl Notices {
    pub(crate) fn new(control: Arc<Control>) -> Arc<Self> {
        Arc::new(Self { control, lines: Lines::default() })
    }

    /// Counts it, and writes a line if there was none for a while. `who` is the account, where one has logged in.
    pub(crate) fn reached(&self, limit: Limit, from: IpAddr, who: Option<&str>) {
        self.control.count_ssh_limit(limit.as_str());
        if let Some(others) = self.lines.next(limit, Instant::now()) {
            let (limit, account) = (limit.as_str(), who.unwrap_or("-"));
            warn!(limit, %from, account, others, "a limit of the ssh gateway was reached");
        }
    }
}

/// Of each limit: when there was a line, and how many had none since.
#[derive(Default)]
struct Lines(Mutex<[(Option<Instant>, u64); Limit::COUNT]>);

impl Lines {
    /// How many had no line, if there is to be one now.
    fn next(&self, limit: Limit, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, others) = told.get_mut(limit as usize)?;
        if last.is_some_and(|last| now.saturating_duration_since(last) < ONE_LINE_EVERY) {
            *others += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_does_not_fill_the_log() {
        let told = Lines::default();
        let mut lines = vec![];
        for _ in 0..130 {
            lines.extend((0..10).filter_map(|_| told.next(Limit::Penalty, Instant::now())));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(lines, [0, 599, 599]);
        assert_eq!(told.next(Limit::Stalled, Instant::now()), Some(0), "each limit has its own");
    }
}
