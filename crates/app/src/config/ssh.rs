//! `[ssh]`: the gateway.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{
    Problem,
    ssh_limits::{SshLimits, SshPenalties},
};

/// The gateway's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ssh {
    /// The addresses that the gateway listens on. Members are told the port of the first.
    pub(crate) listen: Vec<SocketAddr>,
    /// Whether clients that know only old algorithms get in.
    pub(crate) old_algorithms: bool,
    pub(crate) limits: SshLimits,
    pub(crate) penalties: SshPenalties,
}

impl Default for Ssh {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 2222))],
            old_algorithms: false,
            limits: SshLimits::default(),
            penalties: SshPenalties::default(),
        }
    }
}

impl Ssh {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = listen_problems("ssh.listen", "127.0.0.1:2222", &self.listen);
        problems.extend(self.limits.problems());
        problems.extend(self.penalties.problems());
        problems
    }
}

/// What is wrong with a list of addresses to listen on.
pub(super) fn listen_problems(key: &'static str, example: &str, listen: &[SocketAddr]) -> Vec<Problem> {
    if listen.is_empty() {
        return vec![Problem::new(
            key,
            format!("There is no address to listen on. Give one, for example \"{example}\"."),
        )];
    }
    let twice = listen
        .iter()
        .enumerate()
        .find(|(i, address)| address.port() != 0 && listen.iter().take(*i).any(|other| other == *address));
    twice
        .map(|(_, address)| Problem::new(key, format!("{address} is there twice. Leave one of them out.")))
        .into_iter()
        .collect()
}
