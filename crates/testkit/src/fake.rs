//! An engine whose VMs are entries of a table.
//!
//! ```text
//!   test ── delay, fail, serve, power_off… ──► FakeEngine ◄── Engine's verbs ── control
//! ```
//!
//! One mutex guards the table and is never held across an `.await`; every change is announced on one watch channel, on
//! which `changed` waits. Tasks are those of open connections and of guests that reboot; all end with their VM.

mod engine;
mod service;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use berth_engine::{Ending, EngineError, Guest, Home, Lease, Observed, Room, Usage, VmSpec};
use berth_model::VmId;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use service::Service;

/// A verb of the engine, to be delayed, broken or counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// `Engine::create`
    Create,
    /// `Engine::start`
    Start,
    /// `Engine::stop`
    Stop,
    /// `Engine::remove`
    Remove,
    /// `Engine::observe`
    Observe,
    /// `Engine::list`
    List,
    /// `Engine::set_authorized_keys`
    SetAuthorizedKeys,
    /// `Engine::dial`
    Dial,
    /// `Engine::prepare`
    Prepare,
    /// `Engine::sleep`
    Sleep,
    /// `Engine::forget_sleep`
    ForgetSleep,
    /// `Engine::usage`
    Usage,
    /// `Engine::leases`
    Leases,
    /// `Engine::listeners`
    Listeners,
    /// `Engine::tell`
    Tell,
    /// `Engine::tidy`
    Tidy,
    /// `Engine::room`
    Room,
    /// `Engine::rebuild`
    Rebuild,
    /// `Engine::grow`
    Grow,
    /// `Engine::copy_disk`
    CopyDisk,
    /// `Engine::replace_disk`
    ReplaceDisk,
}

/// An engine in memory. Clones are the same engine, so that a test keeps one while control has the other.
///
/// In every VM port 22 greets like an sshd and then echoes; no other port listens until [`FakeEngine::serve`] says so.
#[derive(Clone)]
pub struct FakeEngine {
    shared: Arc<Shared>,
}

struct Shared {
    table: Mutex<Table>,
    changes: watch::Sender<()>,
    tasks: TaskTracker,
}

struct Table {
    vms: HashMap<VmId, FakeVm>,
    services: HashMap<u16, Service>,
    delays: HashMap<Verb, Duration>,
    failures: HashMap<Verb, EngineError>,
    calls: Vec<(Verb, Option<VmId>)>,
    deaf: bool,
    forks: bool,
    restless: bool,
    room: Room,
}

struct FakeVm {
    observed: Observed,
    /// Replaced at each boot; cancelled when that boot ends.
    boot: CancellationToken,
    guest: Option<Guest>,
    spec: VmSpec,
    boot_log: String,
    usage: Usage,
    leases: Vec<Lease>,
    told: Vec<String>,
    rebuilt: Vec<Home>,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeEngine {
    /// An engine without VMs, whose verbs succeed at once.
    #[must_use]
    pub fn new() -> Self {
        let table = Table {
            vms: HashMap::new(),
            services: HashMap::from([(22, Service::greeting(b"SSH-2.0-Fake\r\n"))]),
            delays: HashMap::new(),
            failures: HashMap::new(),
            calls: Vec::new(),
            deaf: false,
            forks: false,
            restless: false,
            room: Room { memory: 1 << 40, memory_free: 1 << 40, disk_free: 1 << 40 },
        };
        let shared =
            Shared { table: Mutex::new(table), changes: watch::Sender::new(()), tasks: TaskTracker::new() };
        Self { shared: Arc::new(shared) }
    }

    /// From now on `verb` takes this long; zero for at once.
    pub fn delay(&self, verb: Verb, time: Duration) {
        self.table().delays.insert(verb, time);
    }

    /// From now on `verb` fails, after its delay; `None` for no more.
    pub fn fail(&self, verb: Verb, error: Option<EngineError>) {
        match error {
            Some(error) => self.table().failures.insert(verb, error),
            None => self.table().failures.remove(&verb),
        };
        self.announce();
    }

    /// From now on this is what answers on `port` in every VM, for connections made after this.
    pub fn serve(&self, port: u16, service: Service) {
        self.table().services.insert(port, service);
    }

    /// Whether guests ignore a request to shut down, so that a stop takes all its patience and pulls the plug.
    pub fn set_deaf(&self, deaf: bool) {
        self.table().deaf = deaf;
    }

    /// Whether new VMs are forked, so that they are asleep when they are made.
    pub fn set_forks(&self, forks: bool) {
        self.table().forks = forks;
    }

    /// Whether somebody calls each VM in the moment in which it falls asleep.
    pub fn set_restless(&self, restless: bool) {
        self.table().restless = restless;
    }

    /// From now on this is what there is for VMs on the host.
    pub fn set_room(&self, room: Room) {
        self.table().room = room;
    }

    /// From now on this is what a VM has used.
    pub fn set_usage(&self, vm: &VmId, usage: Usage) {
        self.with(vm, |entry| entry.usage = usage);
    }

    /// From now on this is what programs in a guest hold it awake for.
    pub fn set_leases(&self, vm: &VmId, leases: Vec<Lease>) {
        self.with(vm, |entry| entry.leases = leases);
    }

    /// What was shown on the terminals of a guest.
    #[must_use]
    pub fn told(&self, vm: &VmId) -> Vec<String> {
        self.table().vms.get(vm).map(|entry| entry.told.clone()).unwrap_or_default()
    }

    /// What became of a VM's home each time that it got a new disk.
    #[must_use]
    pub fn rebuilt(&self, vm: &VmId) -> Vec<Home> {
        self.table().vms.get(vm).map(|entry| entry.rebuilt.clone()).unwrap_or_default()
    }

    /// What a key typed into a shell that was left open does to a sleeping VM.
    pub fn call(&self, vm: &VmId) {
        self.with(vm, |entry| {
            if let Observed::Asleep { called } = &mut entry.observed {
                *called = true;
            }
        });
    }

    /// What `poweroff` inside does.
    pub fn power_off(&self, vm: &VmId) {
        self.end(vm, Ending::PoweredOff);
    }

    /// What the end of its process does.
    pub fn crash(&self, vm: &VmId, reason: &str) {
        self.end(vm, Ending::Failed { reason: reason.to_owned() });
    }

    /// What `reboot` inside does: the guest is back after the delay of [`Verb::Start`].
    pub fn reboot(&self, vm: &VmId) {
        let Some((boot, delay)) = self.begin_boot(vm) else { return };
        let engine = self.clone();
        let vm = *vm;
        self.shared.tasks.spawn(async move {
            tokio::time::sleep(delay).await;
            engine.finish_boot(&vm, &boot);
        });
    }

    /// The keys that a guest has, or would get at a reboot; `None` before its first start.
    #[must_use]
    pub fn authorized_keys(&self, vm: &VmId) -> Option<String> {
        self.guest(vm).map(|guest| guest.authorized_keys)
    }

    /// What was put into a guest at its last start.
    #[must_use]
    pub fn guest(&self, vm: &VmId) -> Option<Guest> {
        self.table().vms.get(vm)?.guest.clone()
    }

    /// The size that a VM has: that with which it was last made, grown or booted.
    #[must_use]
    pub fn spec(&self, vm: &VmId) -> Option<VmSpec> {
        Some(self.table().vms.get(vm)?.spec.clone())
    }

    /// How often `verb` was called, for one VM or for all.
    #[must_use]
    pub fn calls(&self, verb: Verb, vm: Option<&VmId>) -> usize {
        self.table().calls.iter().filter(|(v, of)| *v == verb && (vm.is_none() || of.as_ref() == vm)).count()
    }

    /// How many connections into VMs are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.tasks.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().expect("no test panics while it holds the table")
    }

    fn with(&self, vm: &VmId, change: impl FnOnce(&mut FakeVm)) {
        if let Some(entry) = self.table().vms.get_mut(vm) {
            change(entry);
        }
        self.announce();
    }

    fn announce(&self) {
        self.shared.changes.send_replace(());
    }

    fn end(&self, vm: &VmId, ending: Ending) {
        if let Some(entry) = self.table().vms.get_mut(vm)
            && !matches!(entry.observed, Observed::Off { .. })
        {
            entry.boot.cancel();
            entry.observed = Observed::Off { ended: Some(ending) };
        }
        self.announce();
    }

    /// Ends the boot that was and begins another; gives its token and how long it takes.
    fn begin_boot(&self, vm: &VmId) -> Option<(CancellationToken, Duration)> {
        let begun = {
            let mut table = self.table();
            let delay = table.delays.get(&Verb::Start).copied().unwrap_or_default();
            let entry = table.vms.get_mut(vm)?;
            entry.boot.cancel();
            entry.boot = CancellationToken::new();
            entry.observed = Observed::Booting;
            (entry.boot.clone(), delay)
        };
        self.announce();
        Some(begun)
    }

    /// The VM runs, unless something ended this boot.
    fn finish_boot(&self, vm: &VmId, boot: &CancellationToken) -> bool {
        let finished = {
            let mut table = self.table();
            match table.vms.get_mut(vm) {
                Some(entry) if !boot.is_cancelled() => {
                    entry.observed = Observed::Running;
                    "Fake Linux\nlogin: \n".clone_into(&mut entry.boot_log);
                    true
                }
                _ => false,
            }
        };
        self.announce();
        finished
    }
}
