//! Berth's gateway and website as `berth serve` runs them, with a store on disk, before VMs that are ports of the loopback.
//!
//! A process of its own, so that what it takes can be told from what its clients take.

use std::{
    collections::BTreeSet,
    future::pending,
    io::{ErrorKind, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use async_trait::async_trait;
use berth_control::{Actor, Client, Control, LinkFor, Settings};
use berth_engine::{
    About, Engine, EngineError, Grown, Guest, GuestUser, Home, Lease, Listener, Observed, Room, Stream,
    Usage, VmSpec,
};
use berth_gateway::{Gateway, GatewaySettings, HostKey, Limits, Penalties};
use berth_model::{Domains, Secret, VmId};
use berth_store::{PortAccess, Store};
use berth_web::Site;
use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpStream},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;

use super::gateway::host_key;

/// The port of a VM's sshd.
const SSH: u16 = 22;

/// The member who has a VM here.
pub(super) const ACCOUNT: &str = "bench";
/// Their VM, by the name that they would type.
pub(super) const HOST: &str = "vm-0.bench.main.vm.localhost";

/// Serves until its input ends. Prints the ports of its gateway and of its website when it listens, and the member's cookie. `dir` has the file
/// `key.pub`, and is filled. Everybody may see the site of port `site`; the VM's sshd is on port `sshd` of this machine.
pub(super) async fn serve(dir: &Path, site: Option<u16>, sshd: Option<u16>) -> anyhow::Result<()> {
    let team = "main".parse()?;
    let store = Store::open(&dir.join("berth.db"), &team).await?;
    let domains = Domains::new("berth.localhost", "vm.localhost", team)?;
    let vm = VmSpec { cpus: 1, memory: 1 << 28, disk: 1 << 30 };
    let settings = Settings::new(domains, vm, "http://berth.localhost".into());
    let control = Control::open(settings, store, Arc::new(Loopback::new(dir, sshd))).await?;
    let account = ACCOUNT.parse()?;
    control.add_account(&account).await?;
    control.add_vm(&account).await?;
    let key = std::fs::read_to_string(dir.join("key.pub")).context("There is no key.pub")?;
    control.add_keys(&account, &key, None).await?;
    let (progress, _nobody) = tokio::sync::mpsc::channel(1);
    let vm = HOST.trim_end_matches(".vm.localhost").parse()?;
    control.start_vm(&vm, progress).await?;
    if let Some(port) = site {
        control.acting(Actor::host()).set_port(&vm, port, Some(PortAccess::Public)).await?;
    }

    let link = control.acting(Actor::host()).make_link(&account, LinkFor::LogIn).await?;
    let token = link.expose().rsplit(['/', '#']).next().unwrap_or_default().to_owned();
    let client = Client { address: Ipv4Addr::LOCALHOST.into(), user_agent: "bench" };
    let cookie = control.log_in_by_link(&Secret::new(token), client).await?.cookie.expose().clone();

    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let (listener, http) = (TcpListener::bind(loopback).await?, TcpListener::bind(loopback).await?);
    let (port, http_port) = (listener.local_addr()?.port(), http.local_addr()?.port());
    let settings = settings_of(port);
    let host_key = HostKey::load_or_create(&dir.join("host_key"))?;
    let shutdown = CancellationToken::new();
    let website = Site {
        domains: control.settings().domains.clone(),
        ssh_port: port,
        gateway_fingerprint: String::new(),
        metrics_on_loopback: false,
    };
    let website = berth_web::website(website, Arc::clone(&control), shutdown.clone());
    let website = berth_web::serve(http, website, control.entrance(), shutdown.clone());
    let serving = Gateway::serve(control, vec![listener], host_key, settings, shutdown.clone());
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{port} {http_port} {cookie}")?;
    stdout.flush()?;
    let alone = spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    tokio::select! {
        () = serving => {}
        () = website => {}
        _ended = alone => {}
    }
    Ok(())
}

/// A flood from here is never refused for what it did.
pub(super) const EXEMPT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// One account has all the connections, more than a member makes; and who has been here too often is at an address of this
/// machine.
fn settings_of(port: u16) -> GatewaySettings {
    let settings = GatewaySettings::new("ssh.berth.localhost", port);
    let limits = Limits {
        connections_per_account: usize::MAX,
        channels_per_account: usize::MAX,
        ..settings.limits.clone()
    };
    let exempt = [Ipv4Addr::LOCALHOST, EXEMPT].map(|address| IpNet::from(IpAddr::from(address))).to_vec();
    let penalties = Penalties { exempt, ..settings.penalties.clone() };
    GatewaySettings { limits, penalties, ..settings }
}

/// An engine whose VMs run as soon as they are wanted, and whose ports are the host's own.
struct Loopback {
    vms: Mutex<BTreeSet<VmId>>,
    /// Where the host key of a VM is written, for its sshd.
    host_key: PathBuf,
    /// In the place of port 22.
    sshd: u16,
}

impl Loopback {
    fn new(dir: &Path, sshd: Option<u16>) -> Self {
        Self { vms: Mutex::default(), host_key: host_key(dir), sshd: sshd.unwrap_or(SSH) }
    }

    fn vms(&self) -> std::sync::MutexGuard<'_, BTreeSet<VmId>> {
        self.vms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observed(&self, vm: &VmId) -> Observed {
        if self.vms().contains(vm) { Observed::Running } else { Observed::Missing }
    }
}

#[async_trait]
impl Engine for Loopback {
    async fn prepare(&self, _: &VmSpec) -> Result<(), EngineError> {
        Ok(())
    }

    async fn create(&self, vm: &VmId, _: &VmSpec) -> Result<(), EngineError> {
        self.vms().insert(*vm);
        Ok(())
    }

    async fn start(&self, vm: &VmId, _: &VmSpec, guest: &Guest) -> Result<(), EngineError> {
        std::fs::write(&self.host_key, guest.host_key.expose())
            .map_err(|error| EngineError::Broken { reason: error.to_string() })?;
        self.vms().insert(*vm);
        Ok(())
    }

    async fn sleep(&self, _: &VmId) -> Result<(), EngineError> {
        Err(EngineError::InUse)
    }

    async fn forget_sleep(&self, _: &VmId) -> Result<(), EngineError> {
        Ok(())
    }

    async fn stop(&self, _: &VmId, _: Duration) -> Result<(), EngineError> {
        Ok(())
    }

    async fn remove(&self, vm: &VmId) -> Result<(), EngineError> {
        self.vms().remove(vm);
        Ok(())
    }

    async fn rebuild(
        &self,
        _: &VmId,
        _: &VmSpec,
        _: &Guest,
        _: Home,
        _: Duration,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    async fn grow(&self, _: &VmId, _: &VmSpec) -> Result<Grown, EngineError> {
        Ok(Grown::Now)
    }

    async fn copy_disk(&self, _: &VmId) -> Result<PathBuf, EngineError> {
        Err(EngineError::Missing)
    }

    async fn replace_disk(&self, _: &VmId, _: &VmSpec, _: &Path) -> Result<(), EngineError> {
        Err(EngineError::Missing)
    }

    async fn observe(&self, vm: &VmId) -> Result<Observed, EngineError> {
        Ok(self.observed(vm))
    }

    async fn changed(&self, vm: &VmId, known: &Observed) -> Result<Observed, EngineError> {
        let now = self.observed(vm);
        if now == *known { pending().await } else { Ok(now) }
    }

    async fn list(&self) -> Result<Vec<VmId>, EngineError> {
        Ok(self.vms().iter().copied().collect())
    }

    async fn set_authorized_keys(
        &self,
        _: &VmId,
        _: &str,
        _: &[GuestUser],
        _: &str,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    async fn dial(&self, _: &VmId, port: u16) -> Result<Box<dyn Stream>, EngineError> {
        let port = if port == SSH { self.sshd } else { port };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => EngineError::Refused { port },
            _ => EngineError::Broken { reason: format!("{address} cannot be reached: {error}") },
        })?;
        let _no_delay = stream.set_nodelay(true);
        Ok(Box::new(stream))
    }

    async fn usage(&self, _: &VmId) -> Result<Usage, EngineError> {
        Ok(Usage::default())
    }

    async fn leases(&self, _: &VmId) -> Result<Vec<Lease>, EngineError> {
        Ok(vec![])
    }

    async fn listeners(&self, _: &VmId) -> Result<Vec<Listener>, EngineError> {
        Ok(vec![])
    }

    async fn tell(&self, _: &VmId, _: &str) -> Result<(), EngineError> {
        Ok(())
    }

    async fn tidy(&self, _: &VmId) -> Result<(), EngineError> {
        Ok(())
    }

    async fn room(&self) -> Result<Room, EngineError> {
        Ok(Room { memory: 1 << 40, memory_free: 1 << 40, disk_free: 1 << 40 })
    }

    async fn about(&self) -> Result<About, EngineError> {
        Ok(About { name: "none, for a bench of the gateway".into(), emulated: false })
    }

    async fn boot_log(&self, _: &VmId) -> Result<String, EngineError> {
        Ok(String::new())
    }
}
