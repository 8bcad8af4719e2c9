//! The engine: the verbs, as requests to a cluster.
//!
//! How a VM begins to run is in `begin`, how it ends in `end`, how it is made and made anew in `make`, how a home is kept
//! over that in `home`, what is done in its guest in `guest`.

mod begin;
mod end;
mod guest;
mod home;
mod make;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use berth_engine::{
    About, Capabilities, Engine, EngineError, Grown, Guest, GuestUser, Home, Lease, Listener, Observed, Room,
    Sleep, Stream, Usage, VmSpec,
};
use berth_model::VmId;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    client::Client,
    connect::{Address, TlsFiles},
    error::IncusError,
    events,
    instance::{self, Instance},
    notes::{Note, Notes},
};

/// What happened while nobody heard of it is seen after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A member that answers at all tells what it has within this.
const MEMBER_WITHIN: Duration = Duration::from_secs(3);
/// Bytes of a boot log.
const LOG: usize = 64 << 10;

/// What instances are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// System containers: they share the kernel of their machine, and sleep by standing still.
    #[default]
    Container,
    /// Virtual machines: they sleep with their memory on a disk.
    Vm,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Vm => "virtual-machine",
        }
    }
}

/// How ports of instances are reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// By their addresses: this machine is on their network, or a route leads there.
    #[default]
    Network,
    /// By a program in the instance, through the cluster's API. Slower.
    Api,
}

/// What an engine needs to know of a cluster.
#[derive(Debug, Clone)]
pub struct IncusConfig {
    /// Members of it: the first one that answers is asked.
    pub addresses: Vec<Address>,
    /// For addresses with https.
    pub tls: Option<TlsFiles>,
    /// The cluster's project in which the instances are. Nobody else makes instances there that begin with `berth-`.
    pub project: String,
    /// The profiles of each instance: its network, and what the operator wants of all.
    pub profiles: Vec<String>,
    /// The storage pool of the disks.
    pub pool: String,
    /// The alias of the image that new VMs are made from.
    pub image: String,
    /// What instances are.
    pub kind: Kind,
    /// How they are reached.
    pub reach: Reach,
}

/// VMs in a cluster. See the crate's documentation.
///
/// Dropping it leaves the VMs as they are; the next engine on the same project finds them.
pub struct IncusEngine {
    config: IncusConfig,
    client: Arc<Client>,
    notes: Arc<Notes>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What the cluster says of itself.
#[derive(Deserialize)]
struct Server {
    environment: Environment,
}

#[derive(Deserialize)]
struct Environment {
    #[serde(default)]
    server_version: String,
    #[serde(default)]
    server_clustered: bool,
}

#[derive(Deserialize)]
struct Member {
    server_name: String,
    #[serde(default)]
    status: String,
}

#[derive(Deserialize)]
struct MemberState {
    sysinfo: SysInfo,
    #[serde(default)]
    storage_pools: std::collections::HashMap<String, Pool>,
}

#[derive(Deserialize)]
struct SysInfo {
    #[serde(default)]
    total_ram: u64,
    #[serde(default)]
    free_ram: u64,
    #[serde(default)]
    buffered_ram: u64,
}

#[derive(Deserialize)]
struct Pool {
    space: Space,
}

#[derive(Deserialize)]
struct Space {
    #[serde(default)]
    used: u64,
    #[serde(default)]
    total: u64,
}

impl IncusEngine {
    /// An engine on a cluster, which need not answer yet. Has to be called where tokio runs; reads the files for a moment.
    ///
    /// # Errors
    /// [`IncusError::File`] when a certificate or key cannot be used.
    pub fn new(config: IncusConfig) -> Result<Self, IncusError> {
        let client = Client::new(config.addresses.clone(), config.tls.as_ref(), config.project.clone())?;
        let (client, notes) = (Arc::new(client), Arc::new(Notes::default()));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let following = events::follow(Arc::clone(&client), Arc::clone(&notes));
        tasks.spawn(stop.clone().run_until_cancelled_owned(following));
        Ok(Self { config, client, notes, tasks, stop })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn image_alias(&self) -> &str {
        &self.config.image
    }

    fn path(&self, instance: &str, below: &str) -> String {
        self.client.path(&format!("/instances/{instance}{below}"), &[])
    }

    /// An instance with its state; none where there is none of this name.
    async fn instance(&self, name: &str) -> Result<Option<Instance>, IncusError> {
        let path = self.client.path(&format!("/instances/{name}"), &[("recursion", "1")]);
        match self.client.look(&path).await {
            Ok(instance) => Ok(Some(instance)),
            Err(IncusError::Missing) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The instance of a VM that was made whole.
    async fn whole(&self, vm: &VmId) -> Result<Option<Instance>, IncusError> {
        Ok(self.instance(&instance::name(vm)).await?.filter(|instance| instance.is_whole(vm)))
    }

    /// What a VM is doing, and its instance.
    async fn seen(&self, vm: &VmId) -> Result<(Observed, Option<Instance>), EngineError> {
        let note = self.notes.of(vm);
        let Some(instance) = self.whole(vm).await? else { return Ok((Observed::Missing, None)) };
        match instance.observed(note.is_doing(), note.is_called()) {
            Ok(observed) => Ok((observed, Some(instance))),
            Err(status) => {
                tracing::warn!(%vm, status, location = instance.location, "the cluster cannot tell what a VM is doing");
                Err(IncusError::Away.into())
            }
        }
    }

    /// The instance of a VM that runs.
    async fn running(&self, vm: &VmId) -> Result<Instance, EngineError> {
        match self.seen(vm).await? {
            (Observed::Running, Some(instance)) => Ok(instance),
            (Observed::Missing, _) => Err(EngineError::Missing),
            _ => Err(EngineError::NotRunning),
        }
    }

    /// Sets keys of a VM's configuration; an empty value is as none.
    async fn note_down(&self, name: &str, keys: &[(&str, &str)]) -> Result<(), IncusError> {
        let config: serde_json::Map<_, _> =
            keys.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        self.client.set(Method::PATCH, &self.path(name, ""), &json!({ "config": config })).await
    }

    fn note(&self, vm: &VmId) -> Arc<Note> {
        self.notes.of(vm)
    }

    async fn members(&self) -> Result<Vec<Member>, IncusError> {
        self.client.look("/1.0/cluster/members?recursion=1").await
    }

    /// What the members that answer have together.
    async fn room_of_members(&self) -> Result<Room, IncusError> {
        let mut asked = JoinSet::new();
        for member in self.members().await?.into_iter().filter(|member| member.status == "Online") {
            let client = Arc::clone(&self.client);
            asked.spawn(async move {
                let path = format!("/1.0/cluster/members/{}/state", member.server_name);
                client.look_within::<MemberState>(&path, MEMBER_WITHIN).await
            });
        }
        let mut room = Room { memory: 0, memory_free: 0, disk_free: 0 };
        while let Some(state) = asked.join_next().await {
            let Ok(Ok(state)) = state else { continue };
            room.memory += state.sysinfo.total_ram;
            room.memory_free += state.sysinfo.free_ram + state.sysinfo.buffered_ram;
            if let Some(pool) = state.storage_pools.get(&self.config.pool) {
                room.disk_free += pool.space.total.saturating_sub(pool.space.used);
            }
        }
        Ok(room)
    }
}

impl Drop for IncusEngine {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[async_trait]
impl Engine for IncusEngine {
    async fn prepare(&self, _spec: &VmSpec) -> Result<(), EngineError> {
        Ok(())
    }

    async fn create(&self, vm: &VmId, spec: &VmSpec) -> Result<(), EngineError> {
        self.make(vm, spec).await
    }

    async fn start(&self, vm: &VmId, spec: &VmSpec, guest: &Guest) -> Result<(), EngineError> {
        self.begin(vm, spec, guest).await
    }

    async fn sleep(&self, vm: &VmId) -> Result<(), EngineError> {
        self.put_to_sleep(vm).await
    }

    async fn forget_sleep(&self, vm: &VmId) -> Result<(), EngineError> {
        self.give_up_sleep(vm).await
    }

    async fn stop(&self, vm: &VmId, patience: Duration) -> Result<(), EngineError> {
        self.shut_down(vm, patience).await
    }

    async fn remove(&self, vm: &VmId) -> Result<(), EngineError> {
        self.unmake(vm).await
    }

    async fn rebuild(
        &self,
        vm: &VmId,
        spec: &VmSpec,
        _guest: &Guest,
        home: Home,
        patience: Duration,
    ) -> Result<(), EngineError> {
        self.make_anew(vm, spec, home, patience).await
    }

    async fn grow(&self, vm: &VmId, spec: &VmSpec) -> Result<Grown, EngineError> {
        match self.seen(vm).await? {
            (Observed::Running, Some(instance)) => {
                self.resize(vm, &instance, spec).await?;
                Ok(Grown::Now)
            }
            (Observed::Missing, _) => Err(EngineError::Missing),
            _ => Ok(Grown::AtStart),
        }
    }

    async fn copy_disk(&self, _vm: &VmId) -> Result<PathBuf, EngineError> {
        Err(no_copies())
    }

    async fn replace_disk(&self, _vm: &VmId, _spec: &VmSpec, _from: &Path) -> Result<(), EngineError> {
        Err(no_copies())
    }

    async fn observe(&self, vm: &VmId) -> Result<Observed, EngineError> {
        Ok(self.seen(vm).await?.0)
    }

    async fn changed(&self, vm: &VmId, known: &Observed) -> Result<Observed, EngineError> {
        let mut changes = self.note(vm).changes();
        loop {
            changes.mark_unchanged();
            let observed = self.observe(vm).await?;
            if observed != *known {
                return Ok(observed);
            }
            // A sender that is gone is that of a VM which is removed.
            if let Ok(Err(_)) = timeout(LOOK_AGAIN, changes.changed()).await {
                changes = self.note(vm).changes();
            }
        }
    }

    async fn list(&self) -> Result<Vec<VmId>, EngineError> {
        let names: Vec<String> = self.client.look(&self.client.path("/instances", &[])).await?;
        let mut listed: Vec<_> = names
            .iter()
            .filter_map(|path| path.strip_prefix("/1.0/instances/"))
            .filter_map(|name| instance::vm_of(name.split('?').next().unwrap_or(name)))
            .collect();
        listed.sort();
        listed.dedup();
        Ok(listed)
    }

    async fn set_authorized_keys(
        &self,
        vm: &VmId,
        authorized_keys: &str,
        others: &[GuestUser],
        host_certificate: &str,
    ) -> Result<(), EngineError> {
        self.put_keys(vm, authorized_keys, others, host_certificate).await
    }

    async fn dial(&self, vm: &VmId, port: u16) -> Result<Box<dyn Stream>, EngineError> {
        let instance = self.running(vm).await?;
        self.connect(vm, &instance, port).await
    }

    async fn usage(&self, vm: &VmId) -> Result<Usage, EngineError> {
        let instance = self.running(vm).await?;
        Ok(self.note(vm).since_it_woke(instance.usage()))
    }

    async fn leases(&self, vm: &VmId) -> Result<Vec<Lease>, EngineError> {
        Ok(berth_guest::leases(&self.ask_guest(vm, &berth_guest::leases_script()).await?))
    }

    async fn listeners(&self, vm: &VmId) -> Result<Vec<Listener>, EngineError> {
        Ok(berth_guest::listeners(&self.ask_guest(vm, berth_guest::LISTENERS).await?))
    }

    async fn tell(&self, vm: &VmId, text: &str) -> Result<(), EngineError> {
        self.ask_guest(vm, &berth_guest::tell_script(text)).await.map(drop)
    }

    /// A container that stands still keeps its memory whatever is done, and Incus writes a VM's whole.
    async fn tidy(&self, vm: &VmId) -> Result<(), EngineError> {
        self.running(vm).await.map(drop)
    }

    async fn room(&self) -> Result<Room, EngineError> {
        Ok(self.room_of_members().await?)
    }

    fn capabilities(&self) -> Capabilities {
        let sleep = match self.config.kind {
            Kind::Container => Sleep::InMemory,
            Kind::Vm => Sleep::OnDisk,
        };
        Capabilities { sleep }
    }

    async fn about(&self) -> Result<About, EngineError> {
        let server: Server = self.client.look("/1.0").await?;
        let Environment { server_version, server_clustered } = server.environment;
        let what = match self.config.kind {
            Kind::Container => "system containers",
            Kind::Vm => "virtual machines",
        };
        let place = if server_clustered {
            format!("a cluster of {}", self.members().await?.len())
        } else {
            "one machine".to_owned()
        };
        Ok(About { name: format!("Incus {server_version} with {what} on {place}"), emulated: false })
    }

    async fn boot_log(&self, vm: &VmId) -> Result<String, EngineError> {
        match self.client.text(&self.path(&instance::name(vm), "/console"), LOG).await {
            Ok(text) => Ok(text),
            Err(IncusError::Missing | IncusError::Refused(_)) => Ok(String::new()),
            Err(error) => Err(error.into()),
        }
    }
}

fn no_copies() -> EngineError {
    EngineError::Broken {
        reason: "Berth does not copy disks in a cluster: the cluster's operator backs its instances up"
            .to_owned(),
    }
}
