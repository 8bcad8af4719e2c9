//! The shim: the small process that owns one running VM.
//!
//! ```text
//!   engine ══ socket ══ serve ──commands──► supervisor ──► QEMU (a child that dies with this process)
//!                         │  ◄──observed────   │  ▲            │ control: qmp
//!                         │                 life  │            │ agent:   agent ◄── bring_up
//!                         └── dial ──► vnet ══════╪════════════╡ network
//!                                                 └─ events ───┤ console ──► console.log
//!                                      wall ══ way_out ════════╡ way out
//!                                       ║
//!                                     passt
//! ```
//!
//! It is a session of its own and needs nothing of the process that started it, so that `berth serve` can come and go.
//! It owns the VM's lock, socket, QEMU and network; not the disk's contents, nor who may do what.
//!
//! Concurrency: one thread, because the kernel ties QEMU's life to the thread that started it. The supervisor is the
//! only writer of what is observed and of how it ended. `ended.json` is written before the lock and the socket are let
//! go: whoever finds nobody running the VM reads how it ended.

mod agent;
mod bring_up;
mod life;
mod qemu;
mod qmp;
mod serve;
pub(crate) mod spec;
mod supervisor;
mod wall;
mod way_out;

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use berth_engine::{Ending, Guest, Observed};
use berth_vnet::Network;
use rustix::process::{Resource, Rlimit};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::{Mutex, mpsc, watch},
};
use tokio_util::task::TaskTracker;

use self::{
    agent::Agent,
    qmp::Qmp,
    serve::{Command, Desk},
    spec::{Hello, MAX_SPEC, ShimSpec},
    supervisor::Supervisor,
    way_out::{through_passt, through_user_network},
};
use crate::{
    console,
    egress::{self, WayOut},
    ending,
    lock::VmLock,
    paths::{VmPaths, remove_file},
};

/// A QEMU whose shim was killed takes a moment to die.
const LOCK_WITHIN: Duration = Duration::from_secs(5);
/// When the host shuts down, so long may the guest take.
const FAREWELL: Duration = Duration::from_secs(60);
const COMMANDS: usize = 16;

/// Runs one VM until it is off. This is what the shim program does and all that it does; it expects to be started by
/// [`crate::QemuEngine`], with the VM's description on standard input, and to have no other thread.
///
/// `arguments` say in lists of processes which VM it is, and are not looked at.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    drop(arguments.into_iter());
    // Where the program has set a log up already, that one is used.
    drop(tracing_subscriber::fmt().with_writer(|| Log).with_ansi(false).try_init());
    match begin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the VM does not start");
            say(&Hello::Failed { reason: error.to_string() });
            ExitCode::FAILURE
        }
    }
}

/// The log, on standard error. A host whose disk is full loses lines of it, and not the VM.
struct Log;

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        drop(io::stderr().write_all(text));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn begin() -> io::Result<()> {
    let mut text = Vec::new();
    io::stdin().take(MAX_SPEC).read_to_end(&mut text)?;
    let spec: ShimSpec = serde_json::from_slice(&text)?;
    drop(text);
    // It fails for the leader of a process group only, which has no terminal to lose then.
    let _session = rustix::process::setsid();
    raise_open_files();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(own(spec))
}

/// The engine has one connection open for each that goes into the guest.
fn raise_open_files() {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(4096, |maximum| maximum.min(4096));
    let _best_effort =
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
}

fn say(hello: &Hello) {
    let mut line = serde_json::to_vec(hello).unwrap_or_default();
    line.push(b'\n');
    // An engine that is gone will find the socket.
    drop(io::stdout().write_all(&line).and_then(|()| io::stdout().flush()));
}

async fn own(spec: ShimSpec) -> io::Result<()> {
    let Some(lock) = VmLock::take(&spec.paths, LOCK_WITHIN).await? else {
        say(&Hello::Busy);
        return Ok(());
    };
    ending::write(&spec.paths, &ending::cut_off())?;
    remove_file(&spec.paths.socket)?;
    let listener = UnixListener::bind(&spec.paths.socket)?;
    say(&Hello::Owns);
    let paths = spec.paths.clone();
    let ending = match live(spec, listener, &lock).await {
        Ok(ending) => ending,
        Err(error) => {
            tracing::error!(%error, "the VM does not start");
            Ending::Failed { reason: "it could not be started on the host".to_owned() }
        }
    };
    tracing::info!(?ending, "the VM is off");
    // It goes with the process, and not before: what finds it free finds nothing of this shim.
    std::mem::forget(lock);
    let_go(&paths, &ending)
}

/// On a full disk the ending that was written at the start has to do; the socket goes in any case.
fn let_go(paths: &VmPaths, ending: &Ending) -> io::Result<()> {
    if let Err(error) = ending::write(paths, ending) {
        tracing::error!(%error, "how the VM ended cannot be kept");
    }
    remove_file(&paths.socket)
}

/// One run, from QEMU's start to its end.
async fn live(spec: ShimSpec, listener: UnixListener, lock: &VmLock) -> io::Result<Ending> {
    let tasks = TaskTracker::new();
    let console = console::begin(&spec.paths).await?;
    let started = qemu::start(&spec, lock, &tasks)?;
    tasks.spawn(console.record(started.console));
    match (spec.way_out, started.way_out) {
        (WayOut::Passt { program }, Some((guest, _))) => {
            tasks.spawn(async move { through_passt(guest, &program).await });
        }
        (WayOut::UserNetwork, Some((guest, Some(world)))) => {
            tasks.spawn(through_user_network(guest, world, egress::USER_NETWORK_PREFIX));
        }
        _ => {}
    }
    let network = Network::spawn(&tasks);
    network.attach(started.network);

    let (observed, seen) = watch::channel(Observed::Booting);
    let (commands, asked) = mpsc::channel(COMMANDS);
    let desk = Arc::new(Desk {
        observed: seen,
        commands: commands.clone(),
        guest: watch::Sender::new(Arc::new(Guest::from(spec.guest))),
        agent: Arc::new(Mutex::new(Agent::new(started.agent))),
        network,
    });
    tasks.spawn(serve::serve(listener, Arc::clone(&desk), tasks.clone()));
    tasks.spawn(stop_when_the_host_does(commands)?);

    let mut qemu = started.child;
    let mut complaints = started.complaints;
    let (qmp, events) = tokio::select! {
        opened = Qmp::open(started.control, &tasks) => match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(%error, "QEMU does not come up");
                drop(qemu.start_kill());
                let status = qemu.wait().await?;
                return Ok(Ending::Failed { reason: complaints.explain(Some(status)).await });
            }
        },
        status = qemu.wait() => {
            return Ok(Ending::Failed { reason: complaints.explain(Some(status?)).await });
        }
    };
    let supervisor = Supervisor {
        qemu,
        complaints,
        qmp: Arc::new(qmp),
        events,
        commands: asked,
        observed,
        desk,
        boot_within: spec.boot_within,
    };
    Ok(supervisor.run().await)
}

fn stop_when_the_host_does(commands: mpsc::Sender<Command>) -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        while terminate.recv().await.is_some() {
            if commands.send(Command::Stop(FAREWELL)).await.is_err() {
                return;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::StateDir;

    #[test]
    fn the_socket_goes_also_when_the_ending_cannot_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        let paths = StateDir::open(dir.path()).unwrap().vm(&berth_model::VmId::random());
        std::fs::create_dir_all(paths.ended().join("in the way")).unwrap();
        std::fs::create_dir_all(paths.socket.parent().unwrap()).unwrap();
        std::fs::write(&paths.socket, "").unwrap();
        assert!(ending::write(&paths, &Ending::PoweredOff).is_err(), "what the test is about");
        let_go(&paths, &Ending::PoweredOff).unwrap();
        assert!(!paths.socket.exists());
    }
}
