//! What the operator may set.

use std::time::Duration;

/// How the gateway is reached, and its limits.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// The gateway's own address as people type it after `@`, with the port where that is not 22: `ssh.koding.com`,
    /// `localhost:2222`. It stands in texts that say what to type.
    pub address: String,
    /// How long a client may take to log in.
    pub login_grace: Duration,
    /// Connections that have not logged in yet: all of them.
    pub max_unauthenticated: usize,
    /// Connections that have not logged in yet: from one source, which is an IPv4 address or an IPv6 /64.
    pub max_unauthenticated_per_source: usize,
}

impl GatewaySettings {
    /// The limits of the design, for a gateway that is reached at `address`.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            login_grace: Duration::from_secs(20),
            max_unauthenticated: 1024,
            max_unauthenticated_per_source: 256,
        }
    }
}
