//! `berth serve`
//!
//! ```text
//!   config ──► lock, addresses ──► store, engine, control ──► gateway, website, admin socket
//!                                                                │ SIGTERM, SIGINT
//!              VMs run on  ◄── control closes ◄── drain, with a deadline ◄┘
//! ```
//!
//! Addresses are bound before anything is opened, so that a server that cannot serve touches nothing.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use berth_control::Control;
use berth_gateway::{Gateway, GatewaySettings, HostKey};
use berth_model::parse_pasted;
use berth_store::Store;
use berth_web::tls::Tls;
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Context, check_config::cannot_listen, image};
use crate::{
    admin::{
        answer::Desk,
        server,
        wire::{Failure, FailureKind},
    },
    config::Config,
    files,
    https::Asker,
    known_hosts::{KnownHosts, other_names, reachable},
    logging,
    state::{Lock, StateDir},
};

/// So long may requests and connections take to end after the signal.
const DRAIN: Duration = Duration::from_secs(5);

pub(crate) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let config = context.config()?;
    let failed = |error: anyhow::Error| Failure::new(FailureKind::Unavailable, format!("{error:#}"));
    logging::start(&config.log).map_err(|error| Failure::new(FailureKind::Invalid, error))?;
    files::allow_many();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("The server cannot start its threads")
        .map_err(failed)?;
    let served = runtime.block_on(serve(&config, context.overrides.file.clone())).map_err(failed);
    // What still blocks a thread after the deadline ends with the process.
    runtime.shutdown_background();
    served
}

async fn serve(config: &Config, file: Option<PathBuf>) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let doors = Doors::open(config).await?;
    let control = open(config, &doors).await?;
    let desk = desk(&doors, &control, file);
    desk.known_hosts
        .rewrite(&control)
        .await
        .with_context(|| format!("{} cannot be written", doors.state.known_hosts().display()))?;

    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let _lock = spawn(config, doors, &control, desk, &stop, &tasks)?;
    tracing::info!(website = config.website(), "ready");

    signals.wait().await;
    tracing::info!("stopping; VMs run on");
    stop.cancel();
    tasks.close();
    let drained = async {
        tasks.wait().await;
        control.close().await;
    };
    if timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("some connections did not end in time and are cut");
    }
    Ok(())
}

/// What a server has to have before it touches anything else: the state folder for itself, its addresses, its key.
struct Doors {
    lock: Lock,
    state: StateDir,
    ssh: Vec<TcpListener>,
    http: Vec<TcpListener>,
    https: Vec<TcpListener>,
    admin: UnixListener,
    host_key: HostKey,
    /// Where the gateway listens: the configuration's addresses, with the port that the system chose for a 0.
    ssh_addresses: Vec<SocketAddr>,
}

impl Doors {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let state = StateDir::at(&config.state_dir);
        state.make()?;
        let lock = state.lock()?;
        state.forget_copies();
        let ssh = listen(&config.ssh.listen).await?;
        let http = listen(&config.http.listen).await?;
        let https = listen(&config.http.tls.listen).await?;
        let ssh_addresses = ssh.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        let socket = state.admin_socket();
        let admin = server::bind(&socket).with_context(|| format!("{} cannot be made", socket.display()))?;
        let host_key = HostKey::load_or_create(&state.host_key())?;
        Ok(Self { lock, state, ssh, http, https, admin, host_key, ssh_addresses })
    }

    /// The gateway's first address, from this machine.
    fn gateway(&self) -> Option<SocketAddr> {
        self.ssh_addresses.first().map(|address| SocketAddr::new(reachable(address.ip()), address.port()))
    }

    fn ssh_port(&self) -> u16 {
        self.ssh_addresses.first().map_or(22, SocketAddr::port)
    }
}

async fn listen(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = vec![];
    for address in addresses {
        let bound = TcpListener::bind(address).await;
        listeners.push(bound.map_err(|error| anyhow::anyhow!(cannot_listen(*address, &error)))?);
    }
    Ok(listeners)
}

async fn open(config: &Config, doors: &Doors) -> anyhow::Result<Arc<Control>> {
    let database = doors.state.database();
    let store = Store::open(&database, &config.team).await?;
    let engine = image::engine(config)?;
    let control = Control::open(config.settings()?, store, Arc::new(engine)).await?;
    if let Some(oidc) = config.oidc.settings().map_err(anyhow::Error::msg)? {
        let asker = Asker::new().context("Nobody can be asked over https")?;
        control.offer_oidc(oidc, Arc::new(asker)).context("oidc.issuer")?;
    }
    Ok(control)
}

fn desk(doors: &Doors, control: &Arc<Control>, config: Option<PathBuf>) -> Desk {
    let path = doors.state.known_hosts();
    let gateway = control.settings().domains.gateway_host();
    let key = doors.host_key.public_line();
    Desk {
        control: Arc::clone(control),
        known_hosts: KnownHosts::new(path.clone(), &gateway, &doors.ssh_addresses, &key),
        gateway: doors.gateway().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], doors.ssh_port()))),
        known_hosts_path: path,
        state: doors.state.clone(),
        config: config.map(|file| std::path::absolute(&file).unwrap_or(file)),
    }
}

/// Starts everything that serves. The lock is given back, to be held until all of it has ended.
fn spawn(
    config: &Config,
    doors: Doors,
    control: &Arc<Control>,
    desk: Desk,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> anyhow::Result<Lock> {
    let domains = &control.settings().domains;
    let ssh_port = doors.ssh_port();
    let site = berth_web::Site {
        domains: domains.clone(),
        ssh_port,
        gateway_fingerprint: fingerprint(&doors.host_key)?,
        metrics_on_loopback: config.http.metrics_on_loopback,
    };
    let router = berth_web::website(site, Arc::clone(control), stop.clone());
    let mut plain = router.clone();
    if config.http.tls.is_on() {
        let tls = Tls::open(config.http.tls.settings(&doors.state.certificates()), control)?;
        for listener in doors.https {
            tracing::info!(address = %listener.local_addr()?, "listening for https");
            tasks.spawn(berth_web::serve_tls(listener, router.clone(), tls.clone(), stop.clone()));
        }
        tasks.spawn(tls.clone().keep(stop.clone()));
        plain = berth_web::tls::plain(router, tls, Arc::clone(control));
    }
    for listener in doors.http {
        tracing::info!(address = %listener.local_addr()?, "listening for http");
        tasks.spawn(berth_web::serve(listener, plain.clone(), stop.clone()));
    }
    let settings = GatewaySettings {
        other_names: other_names(&doors.ssh_addresses),
        old_algorithms: config.ssh.old_algorithms,
        limits: config.ssh.limits.limits(),
        penalties: config.ssh.penalties.penalties(),
        ..GatewaySettings::new(domains.gateway_host(), ssh_port)
    };
    tasks.spawn(Gateway::serve(Arc::clone(control), doors.ssh, doors.host_key, settings, stop.clone()));
    let desk = Arc::new(desk);
    tasks.spawn(Arc::clone(&desk).follow(stop.clone()));
    tasks.spawn(server::serve(doors.admin, desk, stop.clone()));
    tracing::info!(state = %config.state_dir.display(), "the state folder");
    Ok(doors.lock)
}

fn fingerprint(key: &HostKey) -> anyhow::Result<String> {
    let parsed = parse_pasted(&key.public_line())?;
    let key = parsed.into_iter().next().context("The host key has no public half")??;
    Ok(key.key.fingerprint().to_string())
}

/// The signals that end the server, caught from before anything is opened.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let caught = "Signals cannot be caught";
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context(caught)?,
            interrupt: signal(SignalKind::interrupt()).context(caught)?,
        })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
