//! The shim: the small process that owns one VM, while it runs, and while it sleeps with connections open into it or a
//! sleep that is not copied to the disk yet.
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
//! Concurrency: one thread, because the kernel ties QEMU's life to the thread that started it; others only copy files. The supervisor is the
//! only writer of what is observed and of how it ended. `ended.json` is written before the lock and the socket are let
//! go: whoever finds nobody running the VM reads how it ended.

mod act;
mod agent;
mod bring_up;
mod copying;
mod desk;
mod disks;
#[doc(hidden)]
pub mod fault;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod gate;
mod life;
mod outside;
mod put_away;
mod qemu;
mod qmp;
mod serve;
mod settling;
pub(crate) mod spec;
mod start;
mod supervisor;
mod vm;
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
use rustix::{
    fs::Uid,
    process::{Resource, Rlimit},
};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::{Mutex, mpsc, oneshot, watch},
};
use tokio_util::task::TaskTracker;

use self::{
    agent::Agent,
    desk::{Command, Desk},
    life::Life,
    outside::Outside,
    spec::{Begin, Hello, MAX_SPEC, ShimSpec},
    supervisor::{Host, Outcome, Supervisor},
};
use crate::{
    egress::WayOut,
    ending,
    lock::VmLock,
    paths::{VmPaths, private_dir, remove_file, remove_tree},
    sandbox::Sandbox,
    sleep,
    user::VmUser,
};

/// A QEMU whose shim was killed takes a moment to die.
const LOCK_WITHIN: Duration = Duration::from_secs(5);
/// When the host shuts down, so long may the guest take.
const FAREWELL: Duration = Duration::from_secs(60);
const COMMANDS: usize = 16;

/// Runs one VM until it is off. This is what the shim program does and all that it does; it expects to be started by
/// [`crate::QemuEngine`], with the VM's description on standard input, and to have no other thread.
///
/// `arguments` say in lists of processes which VM it is, or make this the small process that starts passt for a shim.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    // Where the program has set a log up already, that one is used.
    drop(tracing_subscriber::fmt().with_writer(|| Log).with_ansi(false).try_init());
    let outside = arguments.next().is_some_and(|first| first == outside::ROLE);
    if let (true, Some(passt)) = (outside, arguments.next()) {
        let served = outside::serve(&passt)
            .inspect_err(|error| tracing::error!(%error, "no passt is started any more"));
        return if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
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
    let paths = &spec.paths;
    match (&spec.begin, sleep::is_asleep(paths)) {
        // Somebody else was quicker, and is done.
        (Begin::Boot { .. }, true) | (Begin::Asleep, false) => {
            say(&Hello::Busy);
            return Ok(());
        }
        (Begin::Boot { .. }, false) | (Begin::Asleep, true) => {}
    }
    // If it is killed after a wake, there is nobody to write it. Written already, it costs a wake no time.
    if ending::read(paths) != Some(ending::cut_off()) {
        ending::write(paths, &ending::cut_off())?;
    }
    sleep::clear_leftovers(paths)?;
    remove_tree(&paths.freed())?;
    remove_file(&paths.socket)?;
    let listener = UnixListener::bind(&paths.socket)?;
    // Who may ask, which is whoever has started this: the shim is another one in its sandbox.
    let server = rustix::process::geteuid();
    let outside = shut_in(&spec)?;
    say(&Hello::Owns);
    let (paths, begin) = (spec.paths, spec.begin);
    let tasks = TaskTracker::new();
    let lock_kept = lock.try_clone()?;
    let (vm, qemu, way_out) = (spec.vm, spec.qemu, spec.way_out);
    let host = Host { vm, paths: paths.clone(), qemu, way_out, outside, lock, tasks };
    let outcome = live(host, begin, listener, server).await.unwrap_or_else(|error| {
        tracing::error!(%error, "the VM does not start");
        Outcome::Off(Ending::Failed { reason: "it could not be started on the host".to_owned() })
    });
    tracing::info!(?outcome, "the VM is off or asleep");
    // It goes with the process, and not before: what finds it free finds nothing of this shim.
    std::mem::forget(lock_kept);
    let_go(&paths, &outcome)
}

/// Enters the sandbox, for good. What has to stay outside is started before.
fn shut_in(spec: &ShimSpec) -> io::Result<Option<Arc<Outside>>> {
    let outside = match &spec.way_out {
        WayOut::Passt { program } => Some(Arc::new(Outside::start(program)?)),
        WayOut::UserNetwork | WayOut::Nothing => None,
    };
    private_dir(&spec.paths.memory)?;
    let sandbox = Sandbox {
        own: [&spec.paths.dir, &spec.paths.memory],
        reads: &spec.reads,
        qemu: &spec.qemu,
        user_network: spec.way_out == WayOut::UserNetwork,
        user: VmUser::own(spec.vm, &spec.paths, spec.kvm)?,
    };
    sandbox.enter().map_err(io::Error::other)?;
    Ok(outside)
}

/// On a full disk the ending that was written at the start has to do; the socket goes in any case.
fn let_go(paths: &VmPaths, outcome: &Outcome) -> io::Result<()> {
    if let Outcome::Off(ending) = outcome {
        if let Err(error) = ending::write(paths, ending) {
            tracing::error!(%error, "how the VM ended cannot be kept");
        }
        // It is the memory of nobody; whoever starts the VM next deletes what is left.
        drop(sleep::clear_memory(paths));
    }
    match remove_file(&paths.socket) {
        // Sockets of other VMs are beside it. Nobody listens there, which is for the next who looks to see.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        removed => removed,
    }
}

/// From here to the VM's end, or to a sleep that nobody has to be there for.
async fn live(host: Host, begin: Begin, listener: UnixListener, server: Uid) -> io::Result<Outcome> {
    let tasks = host.tasks.clone();
    let (observed, seen) = watch::channel(match begin {
        Begin::Boot { .. } => Observed::Booting,
        Begin::Asleep => Observed::Asleep { called: false },
    });
    let (commands, asked) = mpsc::channel(COMMANDS);
    let desk = Arc::new(Desk {
        observed: seen,
        commands: commands.clone(),
        guest: watch::Sender::new(None),
        given: watch::Sender::new(None),
        agent: Arc::new(Mutex::new(Agent::nobody()?)),
        network: Network::spawn(&tasks),
        qemu: watch::Sender::new(None),
        memory: host.paths.warm().memory(),
        disk: host.paths.disk(),
        copying: Mutex::new(()),
    });
    tasks.spawn(serve::serve(listener, server, Arc::clone(&desk), tasks.clone()));
    tasks.spawn(stop_when_the_host_does(commands)?);
    let mut supervisor = Supervisor::new(host, Arc::clone(&desk), asked, observed);
    let effects = match begin {
        Begin::Boot { machine, guest } => {
            desk.guest.send_replace(guest.map(Guest::from).map(Arc::new));
            supervisor.boot(machine)?;
            vec![]
        }
        Begin::Asleep => {
            let (life, effects) = Life::asleep();
            supervisor.life = life;
            effects
        }
    };
    Ok(supervisor.run(effects).await)
}

/// Does something that blocks, on a thread that nothing waits for at the end of the process.
fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> impl Future<Output = io::Result<T>> {
    let (tell, told) = oneshot::channel();
    let begun = std::thread::Builder::new().spawn(move || drop(tell.send(work())));
    async move {
        begun?;
        told.await.unwrap_or_else(|_| Err(io::Error::other("a thread of the shim ended")))
    }
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
        let paths = StateDir::open(dir.path(), dir.path()).unwrap().vm(&berth_model::VmId::random());
        std::fs::create_dir_all(paths.ended().join("in the way")).unwrap();
        std::fs::create_dir_all(paths.socket.parent().unwrap()).unwrap();
        std::fs::write(&paths.socket, "").unwrap();
        assert!(ending::write(&paths, &Ending::PoweredOff).is_err(), "what the test is about");
        let_go(&paths, &Outcome::Off(Ending::PoweredOff)).unwrap();
        assert!(!paths.socket.exists());
    }
}
