//! What is counted and measured, for the operator's monitoring. Nothing here says whose VM it was: labels are words of
//! ours, so there are as many series as there are words.
//!
//! Concurrency: counters are added to by whoever counts; gauges are set when they are about to be read.

use std::{sync::OnceLock, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{Control, status::Status, status::shown};

/// From what is just asleep to a slow boot without KVM, in seconds.
const STARTS: [f64; 14] = [0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Start {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LogIn {
    way: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reached {
    limit: &'static str,
}

/// How the ssh gateway is doing at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SshNow {
    /// Connections that have not logged in.
    pub logging_in: usize,
    /// Connections that have.
    pub logged_in: usize,
    /// Sources that are refused for what they did.
    pub refused_sources: usize,
    /// Bytes that one side has sent and the other not taken.
    pub waiting: usize,
}

/// Looks how it is doing.
type Look = Box<dyn Fn() -> SshNow + Send + Sync>;

/// How a VM came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CameUp {
    /// From a sleep.
    Woken,
    /// From its disk.
    Booted,
    /// For the first time, as a copy of what its image was doing.
    Forked,
}

impl CameUp {
    fn as_str(self) -> &'static str {
        match self {
            Self::Woken => "wake",
            Self::Booted => "boot",
            Self::Forked => "fork",
        }
    }
}

/// By which way somebody tried to get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Ssh,
    Web,
    Api,
}

impl Door {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Web => "web",
            Self::Api => "api",
        }
    }
}

/// See the module.
pub(crate) struct Metrics {
    vms: Family<State, Gauge>,
    connections: Gauge,
    queued: Gauge,
    room: Gauge,
    taken: Gauge,
    starts: Family<Start, Histogram, fn() -> Histogram>,
    failures: Family<Start, Counter>,
    sleeps: Counter,
    log_ins: Family<LogIn, Counter>,
    ssh_limits: Family<Reached, Counter>,
    ssh_connections: Family<State, Gauge>,
    ssh_refused_sources: Gauge,
    ssh_waiting: Gauge,
    ssh: OnceLock<Look>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            vms: Family::default(),
            connections: Gauge::default(),
            queued: Gauge::default(),
            room: Gauge::default(),
            taken: Gauge::default(),
            starts: Family::new_with_constructor(|| Histogram::new(STARTS)),
            failures: Family::default(),
            sleeps: Counter::default(),
            log_ins: Family::default(),
            ssh_limits: Family::default(),
            ssh_connections: Family::default(),
            ssh_refused_sources: Gauge::default(),
            ssh_waiting: Gauge::default(),
            ssh: OnceLock::new(),
        }
    }

    pub(crate) fn came_up(&self, how: CameUp, took: Duration) {
        self.starts.get_or_create(&Start { kind: how.as_str() }).observe(took.as_secs_f64());
    }

    pub(crate) fn did_not_come_up(&self, how: CameUp) {
        self.failures.get_or_create(&Start { kind: how.as_str() }).inc();
    }

    pub(crate) fn slept(&self) {
        self.sleeps.inc();
    }

    /// Somebody tried to get in.
    pub(crate) fn tried(&self, door: Door, let_in: bool) {
        let result = if let_in { "ok" } else { "refused" };
        self.log_ins.get_or_create(&LogIn { way: door.as_str(), result }).inc();
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("vms", "VMs by what they are doing", self.vms.clone());
        registry.register("vm_connections", "Connections into VMs", self.connections.clone());
        registry.register("vm_queue", "VMs that wait for memory on the host", self.queued.clone());
        let bytes = |registry: &mut Registry, name: &str, what: &str, gauge: &Gauge| {
            registry.register_with_unit(name, what, Unit::Bytes, gauge.clone());
        };
        bytes(registry, "vm_memory_room", "Memory for all VMs together that are awake", &self.room);
        bytes(registry, "vm_memory_taken", "Memory of the VMs that are awake", &self.taken);
        let took = "How long VMs took to come up, without their time in the queue";
        registry.register_with_unit("vm_start", took, Unit::Seconds, self.starts.clone());
        registry.register("vm_start_failures", "Starts of VMs that failed", self.failures.clone());
        registry.register("vm_sleeps", "VMs that went to sleep", self.sleeps.clone());
        registry.register("log_ins", "Tries to get in", self.log_ins.clone());
        let what = "How often a limit of the ssh gateway was reached";
        registry.register("ssh_limits", what, self.ssh_limits.clone());
        let what = "Connections to the ssh gateway, before and after their log-in";
        registry.register("ssh_connections", what, self.ssh_connections.clone());
        let what = "Sources that the ssh gateway refuses for what they did";
        registry.register("ssh_refused_sources", what, self.ssh_refused_sources.clone());
        let what = "What one side of ssh connections has sent and the other not taken";
        bytes(registry, "ssh_waiting", what, &self.ssh_waiting);
    }

    fn measure_ssh(&self) {
        let SshNow { logging_in, logged_in, refused_sources, waiting } =
            self.ssh.get().map(|look| look()).unwrap_or_default();
        let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        for (state, count) in [("logging_in", logging_in), ("logged_in", logged_in)] {
            self.ssh_connections.get_or_create(&State { state }).set(whole(count));
        }
        self.ssh_refused_sources.set(whole(refused_sources));
        self.ssh_waiting.set(whole(waiting));
    }
}

impl Control {
    /// Adds what control counts to a registry, under names that begin with nothing in particular.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.tools.metrics.register(registry);
    }

    /// Counts that a limit of the ssh gateway was reached. `limit` is a word of the program's.
    pub fn count_ssh_limit(&self, limit: &'static str) {
        self.tools.metrics.ssh_limits.get_or_create(&Reached { limit }).inc();
    }

    /// Takes a way to look how the ssh gateway is doing, to be used whenever metrics are read. The first one counts.
    pub fn watch_ssh(&self, look: impl Fn() -> SshNow + Send + Sync + 'static) {
        let _ = self.tools.metrics.ssh.set(Box::new(look));
    }

    /// Brings the numbers up to date that are a state and not a count. To be called before they are read.
    pub fn measure(&self) {
        let metrics = &self.tools.metrics;
        let handles = self.handles_where(|_| true);
        let (mut connections, mut queued) = (0, 0);
        let mut counted = Status::ALL.map(|status| (status, 0));
        for handle in &handles {
            let (now, _) = shown(&handle.state());
            if let Some((_, count)) = counted.iter_mut().find(|(status, _)| *status == now) {
                *count += 1;
            }
            connections += handle.activity.connections();
            queued += usize::from(handle.queued().borrow().is_some());
        }
        for (status, count) in counted {
            metrics.vms.get_or_create(&State { state: status.as_str() }).set(count);
        }
        let (room, taken) = self.tools.room.bytes();
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        metrics.connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
        metrics.queued.set(i64::try_from(queued).unwrap_or(i64::MAX));
        metrics.room.set(whole(room));
        metrics.taken.set(whole(taken));
        metrics.measure_ssh();
    }
}
