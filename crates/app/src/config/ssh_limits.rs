//! `[ssh.limits]` and `[ssh.penalties]`: what clients may take of the gateway, and who waits.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use berth_gateway::{Limits, Penalties};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    Problem,
    size::{MIB, Size},
    span::Span,
    word,
};

/// A key exchange and a key have to have room.
const LEAST_LOGIN_DATA: Size = Size(32 << 10);
/// What a channel may always have.
const LEAST_MEMORY: Size = Size(MIB);

/// The gateway's limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SshLimits {
    /// How long a client may take to log in.
    pub(crate) login_grace: Span,
    /// Keys that may fail on a connection.
    pub(crate) login_tries: u32,
    /// What a client may send before it has logged in.
    pub(crate) login_data: Size,
    /// Connections that have not logged in.
    pub(crate) logging_in: u32,
    /// Those of one source.
    pub(crate) logging_in_per_source: u32,
    /// Connections of an account that have logged in.
    pub(crate) connections_per_account: u32,
    /// Channels of a connection.
    pub(crate) channels_per_connection: u32,
    /// Channels of an account.
    pub(crate) channels_per_account: u32,
    /// Messages a second that carry nothing.
    pub(crate) idle_messages: u32,
    /// What waits of a connection.
    pub(crate) memory_per_connection: Size,
    /// What waits of an account.
    pub(crate) memory_per_account: Size,
    /// What waits of all.
    pub(crate) memory: Size,
    /// How long a client may take nothing.
    pub(crate) stalled: Span,
}

impl Default for SshLimits {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            login_grace: Span(limits.login_grace),
            login_tries: count_of(limits.login_tries),
            login_data: size_of(limits.login_data),
            logging_in: count_of(limits.logging_in),
            logging_in_per_source: count_of(limits.logging_in_per_source),
            connections_per_account: count_of(limits.connections_per_account),
            channels_per_connection: count_of(limits.channels_per_connection),
            channels_per_account: count_of(limits.channels_per_account),
            idle_messages: limits.idle_messages,
            memory_per_connection: size_of(limits.memory_per_connection),
            memory_per_account: size_of(limits.memory_per_account),
            memory: size_of(limits.memory),
            stalled: Span(limits.stalled),
        }
    }
}

fn count_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn size_of(bytes: usize) -> Size {
    Size(u64::try_from(bytes).unwrap_or(u64::MAX))
}

fn bytes_of(size: Size) -> usize {
    usize::try_from(size.bytes()).unwrap_or(usize::MAX)
}

impl SshLimits {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = vec![];
        for (key, count) in [
            ("ssh.limits.login_tries", self.login_tries),
            ("ssh.limits.logging_in", self.logging_in),
            ("ssh.limits.logging_in_per_source", self.logging_in_per_source),
            ("ssh.limits.connections_per_account", self.connections_per_account),
            ("ssh.limits.channels_per_connection", self.channels_per_connection),
            ("ssh.limits.channels_per_account", self.channels_per_account),
        ] {
            if count == 0 {
                problems.push(Problem::new(key, "With 0 nobody gets in. Give at least 1."));
            }
        }
        for (key, size, least) in [
            ("ssh.limits.login_data", self.login_data, LEAST_LOGIN_DATA),
            ("ssh.limits.memory_per_connection", self.memory_per_connection, LEAST_MEMORY),
            ("ssh.limits.memory_per_account", self.memory_per_account, LEAST_MEMORY),
            ("ssh.limits.memory", self.memory, LEAST_MEMORY),
        ] {
            if size < least {
                problems.push(Problem::new(key, format!("{size} is too little. Give at least {least}.")));
            }
        }
        for (key, span) in
            [("ssh.limits.login_grace", self.login_grace), ("ssh.limits.stalled", self.stalled)]
        {
            if span < Span(Duration::from_secs(1)) {
                problems.push(Problem::new(key, format!("{span} is too short. Give at least 1 s.")));
            }
        }
        problems
    }

    /// What the gateway is told.
    pub(crate) fn limits(&self) -> Limits {
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        Limits {
            login_grace: self.login_grace.duration(),
            login_tries: count(self.login_tries),
            login_data: bytes_of(self.login_data),
            logging_in: count(self.logging_in),
            logging_in_per_source: count(self.logging_in_per_source),
            connections_per_account: count(self.connections_per_account),
            channels_per_connection: count(self.channels_per_connection),
            channels_per_account: count(self.channels_per_account),
            idle_messages: self.idle_messages,
            memory_per_connection: bytes_of(self.memory_per_connection),
            memory_per_account: bytes_of(self.memory_per_account),
            memory: bytes_of(self.memory),
            stalled: self.stalled.duration(),
        }
    }
}

/// Who waits, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SshPenalties {
    /// For a connection without a try to log in.
    pub(crate) no_try: Span,
    /// For keys that were refused.
    pub(crate) refused: Span,
    /// For a grace that is over.
    pub(crate) too_slow: Span,
    /// For what is not the protocol.
    pub(crate) broken: Span,
    /// For a panic.
    pub(crate) crash: Span,
    /// From where on a source is refused; none for never.
    #[serde(with = "word::never")]
    pub(crate) threshold: Option<Span>,
    /// The longest wait.
    pub(crate) most: Span,
    /// Who never waits.
    pub(crate) exempt: Vec<Network>,
}

impl Default for SshPenalties {
    fn default() -> Self {
        let Penalties { no_try, refused, too_slow, broken, crash, threshold, most, exempt } =
            Penalties::default();
        Self {
            no_try: Span(no_try),
            refused: Span(refused),
            too_slow: Span(too_slow),
            broken: Span(broken),
            crash: Span(crash),
            threshold: Some(Span(threshold)),
            most: Span(most),
            exempt: exempt.into_iter().map(Network).collect(),
        }
    }
}

impl SshPenalties {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = vec![];
        let most = self.most;
        if self.threshold.is_some_and(|threshold| threshold > most) {
            let message = format!(
                "Nobody would ever wait: the most is {most} (ssh.penalties.most). Give as much at most, or \"never\"."
            );
            problems.push(Problem::new("ssh.penalties.threshold", message));
        }
        problems
    }

    /// What the gateway is told.
    pub(crate) fn penalties(&self) -> Penalties {
        Penalties {
            no_try: self.no_try.duration(),
            refused: self.refused.duration(),
            too_slow: self.too_slow.duration(),
            broken: self.broken.duration(),
            crash: self.crash.duration(),
            threshold: self.threshold.map_or(Duration::ZERO, Span::duration),
            most: self.most.duration(),
            exempt: self.exempt.iter().map(|network| network.0).collect(),
        }
    }
}

/// A network or an address, written `192.0.2.0/24`, `2001:db8::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Network(IpNet);

/// A text that is no network.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no network: give an address, or a network as \"192.0.2.0/24\" or \"2001:db8::/32\"")]
pub(crate) struct NetworkError(String);

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| address()).map(Self).map_err(|_| NetworkError(text.to_owned()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_gateways() {
        assert_eq!(SshLimits::default().limits(), Limits::default());
        assert_eq!(SshPenalties::default().penalties(), Penalties::default());
        assert_eq!(SshLimits::default().problems(), []);
        assert_eq!(SshPenalties::default().problems(), []);
    }

    #[test]
    fn networks_are_read_and_written() {
        for text in ["192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "::1"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        for text in ["", "192.0.2", "192.0.2.0/33", "all", "192.0.2.0/24 x"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_would_keep_everybody_out_is_named() {
        let limits = SshLimits {
            login_tries: 0,
            login_data: Size(1),
            memory: Size(1),
            stalled: Span(Duration::ZERO),
            ..SshLimits::default()
        };
        let keys: Vec<_> = limits.problems().into_iter().map(|problem| problem.key).collect();
        assert_eq!(
            keys,
            ["ssh.limits.login_tries", "ssh.limits.login_data", "ssh.limits.memory", "ssh.limits.stalled"]
        );
        let penalties = SshPenalties { most: Span(Duration::from_secs(1)), ..SshPenalties::default() };
        assert_eq!(penalties.problems().len(), 1);
        assert_eq!(SshPenalties { threshold: None, ..penalties }.problems(), []);
    }
}
