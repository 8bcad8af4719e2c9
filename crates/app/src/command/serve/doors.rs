//! What a server has to have before it touches anything else: the state folder for itself, its addresses, its key.

use std::{net::SocketAddr, os::fd::OwnedFd};

use anyhow::Context as _;
use berth_gateway::HostKey;
use tokio::net::{TcpListener, UnixListener};

use super::super::check_config::cannot_listen;
use crate::{
    admin::server,
    config::Config,
    handover::{Estate, Place, Way},
    known_hosts::reachable,
    state::{Lock, StateDir},
};

/// See the module.
pub(super) struct Doors {
    pub(super) lock: Lock,
    pub(super) state: StateDir,
    pub(super) ssh: Vec<TcpListener>,
    pub(super) http: Vec<TcpListener>,
    pub(super) https: Vec<TcpListener>,
    pub(super) admin: UnixListener,
    pub(super) host_key: HostKey,
    /// Where the gateway listens: the configuration's addresses, with the port that the system chose for a 0.
    pub(super) ssh_addresses: Vec<SocketAddr>,
    /// All of it once more, for another server.
    pub(super) estate: Estate,
}

impl Doors {
    /// Of a server that starts by itself.
    pub(super) async fn open(config: &Config) -> anyhow::Result<Self> {
        let state = StateDir::at(&config.state_dir);
        state.make()?;
        let lock = state.lock()?;
        state.forget_copies();
        let ssh = listen(&config.ssh.listen, vec![]).await?;
        let http = listen(&config.http.listen, vec![]).await?;
        let https = listen(&config.http.tls.listen, vec![]).await?;
        let socket = state.admin_socket();
        let admin = server::bind(&socket).with_context(|| format!("{} cannot be made", socket.display()))?;
        Self::with(config, lock, admin, [ssh, http, https])
    }

    /// Of one that takes the place of another: an address that was not listened on is bound now.
    pub(super) async fn take_over(config: &Config, mut estate: Estate) -> anyhow::Result<Self> {
        let ssh = estate.listeners_for(Way::Ssh, &config.ssh.listen);
        let http = estate.listeners_for(Way::Http, &config.http.listen);
        let https = estate.listeners_for(Way::Https, &config.http.tls.listen);
        let ssh = listen(&config.ssh.listen, ssh).await?;
        let http = listen(&config.http.listen, http).await?;
        let https = listen(&config.http.tls.listen, https).await?;
        let admin = UnixListener::from_std(estate.admin.into()).context("The admin socket")?;
        Self::with(config, Lock::given(estate.lock), admin, [ssh, http, https])
    }

    fn with(
        config: &Config,
        lock: Lock,
        admin: UnixListener,
        [ssh, http, https]: [Vec<TcpListener>; 3],
    ) -> anyhow::Result<Self> {
        let state = StateDir::at(&config.state_dir);
        let ssh_addresses = ssh.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let mut listeners = vec![];
        for (way, addresses, bound) in [
            (Way::Ssh, &config.ssh.listen, &ssh),
            (Way::Http, &config.http.listen, &http),
            (Way::Https, &config.http.tls.listen, &https),
        ] {
            for (address, listener) in addresses.iter().zip(bound) {
                listeners.push((Place { way, address: *address }, copy(listener)?));
            }
        }
        let estate = Estate { lock: lock.share()?, admin: copy(&admin)?, listeners };
        let host_key = HostKey::load_or_create(&state.host_key())?;
        Ok(Self { lock, state, ssh, http, https, admin, host_key, ssh_addresses, estate })
    }

    /// The gateway's first address, from this machine.
    pub(super) fn gateway(&self) -> Option<SocketAddr> {
        self.ssh_addresses.first().map(|address| SocketAddr::new(reachable(address.ip()), address.port()))
    }

    pub(super) fn ssh_port(&self) -> u16 {
        self.ssh_addresses.first().map_or(22, SocketAddr::port)
    }
}

fn copy(file: &impl std::os::fd::AsFd) -> anyhow::Result<OwnedFd> {
    file.as_fd().try_clone_to_owned().context("The server has too many files open")
}

/// Listens on each address, by the listener that there is for it or a new one.
async fn listen(addresses: &[SocketAddr], given: Vec<Option<OwnedFd>>) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = vec![];
    let given = given.into_iter().chain(std::iter::repeat_with(|| None));
    for (address, given) in addresses.iter().zip(given) {
        let bound = match given {
            Some(listener) => TcpListener::from_std(listener.into()),
            None => TcpListener::bind(address).await,
        };
        listeners.push(bound.map_err(|error| anyhow::anyhow!(cannot_listen(*address, &error)))?);
    }
    Ok(listeners)
}
