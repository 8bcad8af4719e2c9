//! VMs.

use berth_control::{ConnectionInfo, Home, PortAccess, PortInfo, Status, VmInfo};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// A VM.
#[derive(Serialize, ToSchema)]
pub(crate) struct Vm {
    /// What its owner calls it.
    #[schema(example = "vm-0")]
    label: String,
    /// Its name everywhere.
    #[schema(example = "vm-0.alice.koding")]
    name: String,
    /// What its owner wrote on it.
    #[schema(example = "shop, staging")]
    title: Option<String>,
    /// The account that it belongs to.
    #[schema(example = "alice")]
    owner: String,
    /// The host name for ssh and for the web.
    #[schema(example = "vm-0.alice.koding.kd.io")]
    host: String,
    /// Every host name that it answers to.
    names: Vec<String>,
    /// What it is doing.
    state: VmState,
    /// Why it is off or failed, where there is something to say.
    reason: Option<String>,
    /// Why it is awake, asleep or off: one sentence.
    why: String,
    /// When it goes to sleep, unless it is used.
    #[serde(with = "time::serde::rfc3339::option")]
    sleeps_at: Option<OffsetDateTime>,
    /// Since when it sleeps.
    #[serde(with = "time::serde::rfc3339::option")]
    asleep_since: Option<OffsetDateTime>,
    /// It starts with the server and never sleeps.
    always_on: bool,
    /// It was told not to sleep before this.
    #[serde(with = "time::serde::rfc3339::option")]
    snoozed_until: Option<OffsetDateTime>,
    /// Connections into it.
    connections: usize,
    /// Virtual CPUs.
    cpus: u32,
    /// Bytes of memory.
    memory: u64,
    /// Bytes of disk.
    disk: u64,
    /// Its ssh host key.
    host_key: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created: OffsetDateTime,
}

/// What a VM is doing.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VmState {
    Running,
    Asleep,
    Waking,
    Starting,
    Stopping,
    Off,
    Failed,
    Rebuilding,
    Removing,
}

impl From<Status> for VmState {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => Self::Running,
            Status::Asleep => Self::Asleep,
            Status::Waking => Self::Waking,
            Status::Starting => Self::Starting,
            Status::Stopping => Self::Stopping,
            Status::Off => Self::Off,
            Status::Failed => Self::Failed,
            Status::Rebuilding => Self::Rebuilding,
            Status::Removing => Self::Removing,
        }
    }
}

impl From<VmInfo> for Vm {
    fn from(info: VmInfo) -> Self {
        Self {
            label: info.name.label(),
            name: info.name.to_string(),
            title: info.title.map(|title| title.to_string()),
            owner: info.name.owner.to_string(),
            host: info.host,
            names: info.names,
            state: info.status.into(),
            reason: info.reason,
            why: info.why,
            sleeps_at: info.sleeps_at,
            asleep_since: info.asleep_since,
            always_on: info.always_on,
            snoozed_until: info.snoozed_until,
            connections: info.connections,
            cpus: info.cpus,
            memory: info.memory,
            disk: info.disk,
            host_key: info.host_key,
            created: info.created,
        }
    }
}

/// A VM to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub(crate) struct NewVm {}

/// How to start a VM.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "wait": 60 }))]
pub(crate) struct Start {
    /// Give up what a sleep has kept of its memory, for one that cannot be woken.
    #[serde(default)]
    pub(crate) from_disk: bool,
    /// For how many seconds the answer is kept back until it runs: 0 to 300.
    #[serde(default = "usual_wait")]
    #[schema(maximum = 300, default = 30)]
    pub(crate) wait: u16,
}

/// How long to wait.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "wait": 60 }))]
pub(crate) struct Wait {
    /// For how many seconds the answer is kept back until it is done: 0 to 300.
    #[serde(default = "usual_wait")]
    #[schema(maximum = 300, default = 30)]
    pub(crate) wait: u16,
}

fn usual_wait() -> u16 {
    30
}

/// Whether a VM never sleeps.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "always_on": true }))]
pub(crate) struct AlwaysOn {
    /// It starts with the server, never sleeps, and is started again when it stops by itself.
    pub(crate) always_on: bool,
}

/// What is written on a VM.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "title": "shop, staging" }))]
pub(crate) struct SetTitle {
    /// Null for nothing. Its name and its address stay as they are.
    pub(crate) title: Option<String>,
}

/// A connection into a VM.
#[derive(Serialize, ToSchema)]
pub(crate) struct Connection {
    /// Who opened it: the name of an account, or what a stranger is called.
    by: String,
    /// From where.
    from: String,
    /// Into which VM.
    #[schema(example = "vm-0.alice.koding")]
    vm: String,
    /// Its port.
    port: u16,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    /// Bytes that went into the VM.
    sent: u64,
    /// Bytes that came out of it.
    received: u64,
}

impl From<ConnectionInfo> for Connection {
    fn from(info: ConnectionInfo) -> Self {
        Self {
            by: info.by,
            from: info.from.to_string(),
            vm: info.vm.to_string(),
            port: info.port,
            since: info.since,
            sent: info.sent,
            received: info.received,
        }
    }
}

/// How a VM gets a new disk.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "home": "keep" }))]
pub(crate) struct Rebuild {
    /// What becomes of everything below /home. There is no usual choice.
    pub(crate) home: HomeIs,
    /// For how many seconds the answer is kept back until it is done: 0 to 300.
    #[serde(default = "usual_wait")]
    #[schema(maximum = 300, default = 30)]
    pub(crate) wait: u16,
}

/// What becomes of a home.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HomeIs {
    Keep,
    Discard,
}

impl From<HomeIs> for Home {
    fn from(home: HomeIs) -> Self {
        match home {
            HomeIs::Keep => Self::Keep,
            HomeIs::Discard => Self::Discard,
        }
    }
}

/// The size of a disk.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "bytes": 21474836480_u64 }))]
pub(crate) struct Resize {
    /// More than it has: disks do not get smaller.
    pub(crate) bytes: u64,
}

/// Who may see what a port of a VM serves to browsers.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Access {
    Public,
    Team,
    Owner,
}

impl From<PortAccess> for Access {
    fn from(access: PortAccess) -> Self {
        match access {
            PortAccess::Public => Self::Public,
            PortAccess::Team => Self::Team,
            PortAccess::Owner => Self::Owner,
        }
    }
}

impl From<Access> for PortAccess {
    fn from(access: Access) -> Self {
        match access {
            Access::Public => Self::Public,
            Access::Team => Self::Team,
            Access::Owner => Self::Owner,
        }
    }
}

/// A port of a VM that browsers may come for.
#[derive(Serialize, ToSchema)]
pub(crate) struct Port {
    /// Its number.
    port: u16,
    /// Who may see it.
    access: Access,
    /// Nobody has decided it: it is as for every VM.
    usual: bool,
    /// The host name of its site.
    #[schema(example = "vm-0--3000.alice.koding.kd.io")]
    host: String,
}

impl From<PortInfo> for Port {
    fn from(info: PortInfo) -> Self {
        Self { port: info.port, access: info.access.into(), usual: info.usual, host: info.host }
    }
}

/// Who may see a port from now on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "access": "team" }))]
pub(crate) struct SetAccess {
    /// Null for what is usual: port 80 is public, any other one its owner's.
    pub(crate) access: Option<Access>,
}

/// How long a VM stays awake.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "seconds": 3600 }))]
pub(crate) struct Snooze {
    /// From now on, a week at most; 0 for no longer.
    pub(crate) seconds: u32,
}

/// Why a VM is awake, or when and why it fell asleep.
#[derive(Serialize, ToSchema)]
pub(crate) struct Why {
    /// One sentence.
    pub(crate) why: String,
}

/// What a VM's console printed.
#[derive(Serialize, ToSchema)]
pub(crate) struct BootLog {
    /// The end of it since the last start, as the guest wrote it: escape it before you show it.
    pub(crate) text: String,
}
