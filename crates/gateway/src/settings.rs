//! What the operator may set.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

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
    /// What strangers and members may take of it.
    pub limits: Limits,
    /// Who waits before the next try.
    pub penalties: Penalties,
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
            limits: Limits::default(),
            penalties: Penalties::default(),
        }
    }
}

/// What strangers and members may take. docs/configuration.md says what is seen at each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a client may take to log in.
    pub login_grace: Duration,
    /// How many keys may fail on a connection.
    pub login_tries: usize,
    /// The bytes that a client may send before it has logged in, the key exchange included.
    pub login_data: usize,
    /// Connections that have not logged in yet: all of them.
    pub logging_in: usize,
    /// Connections that have not logged in yet: from one source, which is an IPv4 address or an IPv6 /64.
    pub logging_in_per_source: usize,
    /// Connections of one account that have logged in.
    pub connections_per_account: usize,
    /// Channels, which tunnels and sessions are, that a connection has open.
    pub channels_per_connection: usize,
    /// Channels that all connections of an account have open.
    pub channels_per_account: usize,
    /// Messages a second of a connection that carry nothing. Ten seconds' worth may come at once.
    pub idle_messages: u32,
    /// The bytes that one side of a connection has sent and the other not taken.
    pub memory_per_connection: usize,
    /// The same of all connections of an account.
    pub memory_per_account: usize,
    /// The same of all connections.
    pub memory: usize,
    /// How long a client may take nothing of what it is sent.
    pub stalled: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            login_grace: Duration::from_secs(20),
            login_tries: 6,
            login_data: 256 << 10,
            logging_in: 1024,
            logging_in_per_source: 256,
            connections_per_account: 512,
            channels_per_connection: 64,
            channels_per_account: 1024,
            idle_messages: 200,
            memory_per_connection: 64 << 20,
            memory_per_account: 128 << 20,
            memory: 512 << 20,
            stalled: Duration::from_secs(15 * 60),
        }
    }
}

/// How long a source waits for what it did. Times add up, and while they come to more than the threshold its connections
/// are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Penalties {
    /// For a connection that went without a try to log in.
    pub no_try: Duration,
    /// For one whose keys were refused.
    pub refused: Duration,
    /// For one that had not logged in when the grace was over.
    pub too_slow: Duration,
    /// For one that does not speak the protocol, or too much of it.
    pub broken: Duration,
    /// For one that made its task here panic.
    pub crash: Duration,
    /// Nobody waits for less. Zero for nobody at all.
    pub threshold: Duration,
    /// Nobody waits for more.
    pub most: Duration,
    /// Who never waits.
    pub exempt: Vec<IpNet>,
}

impl Default for Penalties {
    fn default() -> Self {
        Self {
            no_try: Duration::from_secs(1),
            refused: Duration::from_secs(3),
            too_slow: Duration::from_secs(10),
            broken: Duration::from_secs(10),
            crash: Duration::from_secs(90),
            threshold: Duration::from_secs(30),
            most: Duration::from_secs(10 * 60),
            exempt: loopback(),
        }
    }
}

/// Whoever is on this machine, as everybody is behind a load balancer on it.
fn loopback() -> Vec<IpNet> {
    let v4 = IpNet::new(IpAddr::from([127, 0, 0, 0]), 8);
    let v6 = IpNet::new(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]), 128);
    [v4, v6].into_iter().flatten().collect()
}
