//! `berth serve`
//!
//! ```text
//!   config ──► lock, addresses ──► store, engine, control ──► gateway, website, admin socket
//!                                                                │ SIGTERM, SIGINT
//!              VMs run on  ◄── control closes ◄── drain, with a deadline ◄┤
//!                                                                │ berth admin upgrade: see `handover`
//!              ends with its last connection ◄── has left ◄──────┘
//! ```
//!
//! Addresses are bound before anything is opened, so that a server that cannot serve touches nothing.

mod adopted;
mod doors;
mod successor;

use std::{
    net::SocketAddr,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use berth_control::{Actor, Control};
use berth_gateway::{Gateway, GatewaySettings, HostKey};
use berth_model::parse_pasted;
use berth_store::Store;
use berth_web::tls::Tls;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    doors::Doors,
    successor::{Origin, Successor},
};
use super::{Context, image};
use crate::{
    admin::{
        answer::{Asked, Desk},
        server,
        wire::{Failure, FailureKind, Upgraded},
    },
    cli::ServeArgs,
    config::Config,
    files,
    handover::{Estate, Other, Say},
    https::Asker,
    known_hosts::{KnownHosts, other_names},
    logging, notify,
    state::{Lock, StateDir},
};

/// So long may requests and connections take to end after the signal.
const DRAIN: Duration = Duration::from_secs(5);

pub(crate) fn run(context: &Context<'_>, args: &ServeArgs) -> Result<(), Failure> {
    let failed = |error: anyhow::Error| Failure::new(FailureKind::Unavailable, format!("{error:#}"));
    let origin = Origin::of_this().context("The path of this program is not known").map_err(failed)?;
    let predecessor = if args.take_over { Some(predecessor().map_err(failed)?) } else { None };
    let told = predecessor.as_ref().map(|before| before.stream.try_clone()).transpose();
    let told = told.context("The server has too many files open").map_err(failed)?;
    let served = begin(context, origin, predecessor);
    if let (Err(failure), Some(told)) = (&served, told) {
        // Whoever asked for it is told by the one that goes on.
        let _ = Say::Failed { message: failure.message.clone() }.write(&told);
    }
    served
}

fn begin(context: &Context<'_>, origin: Origin, predecessor: Option<Predecessor>) -> Result<(), Failure> {
    let config = context.config()?;
    let failed = |error: anyhow::Error| Failure::new(FailureKind::Unavailable, format!("{error:#}"));
    logging::start(&config.log).map_err(|error| Failure::new(FailureKind::Invalid, error))?;
    files::allow_many();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("The server cannot start its threads")
        .map_err(failed)?;
    let file = context.overrides.file.clone();
    let served = runtime.block_on(async {
        let signals = Signals::listen()?;
        match predecessor {
            None => alone(&config, file, origin, signals).await,
            Some(predecessor) => after(predecessor, &config, file, origin, signals).await,
        }
    });
    // What still blocks a thread after the deadline ends with the process.
    runtime.shutdown_background();
    served.map_err(failed)
}

/// A server that runs, and whose place is to be taken.
struct Predecessor {
    estate: Estate,
    stream: UnixStream,
}

/// The server at the other end of standard input, with all that it gives.
fn predecessor() -> anyhow::Result<Predecessor> {
    let unfit = "Servers are replaced with: berth admin upgrade";
    let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().context(unfit)?);
    let estate = Estate::take(&stream).context(unfit)?;
    Ok(Predecessor { estate, stream })
}

async fn alone(
    config: &Config,
    file: Option<PathBuf>,
    origin: Origin,
    signals: Signals,
) -> anyhow::Result<()> {
    let doors = Doors::open(config).await?;
    let control = open(config, &doors).await?;
    let running = Running::start(config, doors, control, file, origin).await?;
    tracing::info!(website = config.website(), "ready");
    notify::ready();
    running.serve(config, signals, None).await;
    Ok(())
}

/// Takes the place of another server. Before it says so, nothing has happened.
async fn after(
    predecessor: Predecessor,
    config: &Config,
    file: Option<PathBuf>,
    origin: Origin,
    signals: Signals,
) -> anyhow::Result<()> {
    let mut other = Other::new(predecessor.stream)?;
    let doors = Doors::take_over(config, predecessor.estate).await?;
    let place = config.database.place(doors.state.database()).map_err(anyhow::Error::msg)?;
    let in_use = doors.state.database_in_use();
    if place.to_string() != in_use {
        anyhow::bail!(
            "The configuration names another database, {place}, than the one of the server that runs, {in_use}. Stop that server \
             and start it again"
        );
    }
    place.rehearse(&doors.state.new_copy(), &config.team).await?;
    other.say(&Say::Prepared).await?;
    if other.hear().await? != Some(Say::Go) {
        anyhow::bail!("The server that runs goes on");
    }
    let control = open(config, &doors).await?;
    control.wait_for_work();
    let mut running = Running::start(config, doors, control, file, origin).await?;
    other.say(&Say::Ready).await?;
    if other.hear().await? != Some(Say::Take) {
        anyhow::bail!("The server that runs goes on");
    }
    if let Err(error) = running.lock.sign() {
        tracing::warn!(%error, "the lock names another process");
    }
    running.control.stay().await;
    tracing::info!(website = config.website(), "ready, in the place of another server");
    running.serve(config, signals, Some(other)).await;
    Ok(())
}

async fn open(config: &Config, doors: &Doors) -> anyhow::Result<Arc<Control>> {
    let store = open_store(config, &doors.state).await?;
    let engine = image::engine(config)?;
    let control = Control::open(config.settings()?, store, engine).await?;
    if let Some(oidc) = config.oidc.settings().map_err(anyhow::Error::msg)? {
        let asker = Asker::new().context("Nobody can be asked over https")?;
        control.offer_oidc(oidc, Arc::new(asker)).context("oidc.issuer")?;
    }
    Ok(control)
}

async fn open_store(config: &Config, state: &StateDir) -> anyhow::Result<Store> {
    let place = config.database.place(state.database()).map_err(anyhow::Error::msg)?;
    state.must_be_what_was_served(&place)?;
    let store = place.open(&config.team).await?;
    state.note_database(&place.to_string()).context("The state folder cannot be written to")?;
    Ok(store)
}

fn desk(
    doors: &Doors,
    control: &Arc<Control>,
    config: Option<PathBuf>,
    upgrades: mpsc::Sender<Asked>,
) -> Desk {
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
        upgrades,
    }
}

/// A server with everything that it does.
struct Running {
    control: Arc<Control>,
    /// All that serves somebody.
    tasks: TaskTracker,
    /// Who is connected is sent away.
    stop: CancellationToken,
    /// Nobody is let in any more.
    left: CancellationToken,
    lock: Lock,
    estate: Estate,
    origin: Origin,
    upgrades: mpsc::Receiver<Asked>,
}

impl Running {
    /// Starts what serves.
    async fn start(
        config: &Config,
        doors: Doors,
        control: Arc<Control>,
        file: Option<PathBuf>,
        origin: Origin,
    ) -> anyhow::Result<Self> {
        let (upgrade, upgrades) = mpsc::channel(1);
        let desk = desk(&doors, &control, file, upgrade);
        desk.known_hosts
            .rewrite(&control)
            .await
            .with_context(|| format!("{} cannot be written", doors.state.known_hosts().display()))?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let left = stop.child_token();
        let (lock, estate) = spawn(config, doors, &control, desk, (&stop, &left), &tasks)?;
        Ok(Self { control, tasks, stop, left, lock, estate, origin, upgrades })
    }

    /// Serves until it is told to stop, or another server serves and nobody is connected any more.
    async fn serve(mut self, config: &Config, mut signals: Signals, mut predecessor: Option<Other>) {
        loop {
            tokio::select! {
                () = signals.come() => break,
                Some(asked) = self.upgrades.recv() => {
                    let handed_over = tokio::select! {
                        biased;
                        handed_over = successor::hand_over(&self.origin, &self.estate, &self.control) => handed_over,
                        // The new one is killed.
                        () = signals.come() => break,
                    };
                    match handed_over {
                        Ok(successor) => {
                            return self.outlast(config, signals, predecessor, successor, asked).await;
                        }
                        Err(failure) => {
                            tracing::warn!(%failure, "the server was not replaced");
                            // Who asked may have gone away.
                            let _ = asked.send(Err(failure));
                        }
                    }
                }
            }
        }
        tracing::info!("stopping; VMs run on");
        send_away(&mut predecessor).await;
        self.end().await;
    }

    /// Serves who is connected, for another server lets in who comes.
    async fn outlast(
        self,
        config: &Config,
        mut signals: Signals,
        mut predecessor: Option<Other>,
        successor: Successor,
        asked: Asked,
    ) {
        let Successor { process, mut other } = successor;
        let serves = process.id();
        notify::server_is(serves);
        let followed = self.control.leave().await;
        let Self { control, tasks, stop, left, lock, estate, origin: _, upgrades } = self;
        let (_, connections) = control.acting(Actor::host()).connections("", 0).unwrap_or_default();
        tracing::info!(serves, connections, "another server serves; this one ends with its connections");
        let _ = asked.send(Ok(Upgraded { serves, left: std::process::id(), connections }));
        // The other one has its own.
        drop((lock, estate, upgrades));
        left.cancel();
        tasks.close();
        let told = async {
            while !matches!(other.hear().await, Ok(Some(Say::End))) {
                // One that crashed has said nothing: its successor serves with the same store.
                sleep(DRAIN).await;
            }
        };
        let all_gone = async {
            tasks.wait().await;
            // The one before it has connections of its own, and is told through this one when they are to end.
            if let Some(before) = &mut predecessor {
                while matches!(before.hear().await, Ok(Some(_))) {}
            }
        };
        tokio::select! {
            () = all_gone => {}
            () = signals.come() => {}
            () = told => {}
            () = sleep(config.upgrade.patience.duration()) => {
                tracing::info!("the connections that are left are ended");
            }
            () = std::future::ready(()), if followed.is_err() => {
                tracing::error!("what is decided cannot be followed: the connections are ended");
            }
        }
        send_away(&mut predecessor).await;
        end(&control, &tasks, &stop).await;
    }

    async fn end(self) {
        end(&self.control, &self.tasks, &self.stop).await;
    }
}

/// Has the server whose place this one took end its connections too: what is stopped is stopped.
async fn send_away(predecessor: &mut Option<Other>) {
    if let Some(other) = predecessor {
        // It may have ended long ago.
        let _ = other.say(&Say::End).await;
    }
}

async fn end(control: &Control, tasks: &TaskTracker, stop: &CancellationToken) {
    stop.cancel();
    tasks.close();
    let drained = async {
        tasks.wait().await;
        control.close().await;
    };
    if timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("some connections did not end in time and are cut");
    }
}

/// Starts everything that serves. The lock is given back, to be held until all of it has ended, and what another server can
/// go on with.
fn spawn(
    config: &Config,
    doors: Doors,
    control: &Arc<Control>,
    desk: Desk,
    (stop, left): (&CancellationToken, &CancellationToken),
    tasks: &TaskTracker,
) -> anyhow::Result<(Lock, Estate)> {
    let domains = &control.settings().domains;
    let ssh_port = doors.ssh_port();
    let site = berth_web::Site {
        domains: domains.clone(),
        ssh_port,
        gateway_fingerprint: fingerprint(&doors.host_key)?,
        metrics_on_loopback: config.http.metrics_on_loopback,
    };
    let router = berth_web::website(site, Arc::clone(control), left.clone());
    let mut plain = router.clone();
    if config.http.tls.is_on() {
        let tls = Tls::open(config.http.tls.settings(&doors.state.certificates()), control)?;
        for listener in doors.https {
            tracing::info!(address = %listener.local_addr()?, "listening for https");
            tasks.spawn(berth_web::serve_tls(
                listener,
                router.clone(),
                tls.clone(),
                control.entrance(),
                left.clone(),
            ));
        }
        tasks.spawn(tls.clone().keep(left.clone()));
        plain = berth_web::tls::plain(router, tls, Arc::clone(control));
    }
    for listener in doors.http {
        tracing::info!(address = %listener.local_addr()?, "listening for http");
        tasks.spawn(berth_web::serve(listener, plain.clone(), control.entrance(), left.clone()));
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
    tasks.spawn(Arc::clone(&desk).follow(left.clone()));
    tasks.spawn(server::serve(doors.admin, desk, left.clone()));
    tracing::info!(state = %config.state_dir.display(), "the state folder");
    Ok((doors.lock, doors.estate))
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

    /// Waits for one.
    async fn come(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
