//! What the operator may set.

use std::time::Duration;

/// How the gateway is reached, and its limits.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// The gateway's own address as people type it after `@`, with the port where that is not 22: `ssh.koding.com`,
    /// `localhost:2222`. It stands in texts that say what to type.
    pub address: String,
    /// Its host name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What else it is reached by: names and addresses. Its certificate has them too.
    pub other_names: Vec<String>,
    /// Whether algorithms are spoken that old clients need and that ssh-audit warns of: exchanges over NIST's curves and a
    /// group of 2048 bits, and MACs over the text.
    pub old_algorithms: bool,
    /// How long a client may take to log in.
    pub login_grace: Duration,
    /// Connections that have not logged in yet: all of them.
    pub max_unauthenticated: usize,
    /// Connections that have not logged in yet: from one source, which is an IPv4 address or an IPv6 /64.
    pub max_unauthenticated_per_source: usize,
}

impl GatewaySettings {
    /// The limits of the design, for a gateway that is reached at this host name and port.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        Self {
            address: if port == 22 { host.clone() } else { format!("{host}:{port}") },
            host,
            port,
            other_names: vec![],
            old_algorithms: false,
            login_grace: Duration::from_secs(20),
            max_unauthenticated: 1024,
            max_unauthenticated_per_source: 256,
        }
    }
}
