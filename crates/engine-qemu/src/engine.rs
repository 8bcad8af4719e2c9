//! The engine: the verbs, as conversations with shims.
//!
//! Remembers nothing about VMs. What one is doing is asked of its shim, or read from its folder when nobody runs it, so
//! that an engine which has just started knows as much as one that started the VM.
//!
//! How a VM begins to run is in `begin`, how it comes to nobody running it in `end`, how it is made in `prepare`, and anew
//! in `rebuild`, how its disk is copied and comes back in `keep`.

mod begin;
mod end;
mod keep;
mod prepare;
mod rebuild;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use berth_engine::{
    About, Engine, EngineError, Grown, Guest, GuestUser, Home, Lease, Listener, Observed, Room, Stream,
    Usage, VmSpec,
};
use berth_model::VmId;
use tokio::{
    sync::{OnceCell, watch},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{
    accel::{self, Accel},
    boot_image,
    client::{Asked, Shim, observe_off},
    console, disk,
    egress::{Egress, WayOut},
    host::{self, QemuVersion},
    paths::{StateDir, VmPaths},
    protocol::Request,
    room,
    sandbox::landlock_is_missing,
};

/// What another process did to a VM that nobody runs is seen after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A tmpfs that every Linux has.
const MEMORY_DIR: &str = "/dev/shm";

/// What an engine needs to know.
#[derive(Debug, Clone)]
pub struct QemuConfig {
    /// Where VMs are kept. One engine at a time has it. Its path may have at most 81 bytes.
    pub state_dir: PathBuf,
    /// Where images are. Several installations may share it.
    pub image_dir: PathBuf,
    /// The program that calls [`crate::shim::run`], and its first arguments.
    pub shim: Vec<OsString>,
    /// QEMU for x86-64: a path, or a name to be found on the search path.
    pub qemu: PathBuf,
    /// Whether VMs reach the internet.
    pub egress: Egress,
    /// Where the memory of VMs is: on a tmpfs, with room for all that run at a time. A folder is made in it that belongs
    /// to this user and state folder.
    pub memory_dir: PathBuf,
}

impl QemuConfig {
    /// The configuration for an ordinary host.
    #[must_use]
    pub fn new(state_dir: PathBuf, image_dir: PathBuf, shim: Vec<OsString>) -> Self {
        Self {
            state_dir,
            image_dir,
            shim,
            qemu: "qemu-system-x86_64".into(),
            egress: Egress::default(),
            memory_dir: MEMORY_DIR.into(),
        }
    }
}

/// VMs on this machine, a QEMU process each. See the crate's documentation.
///
/// Dropping it leaves the VMs running; the next engine on the same state folder finds them.
#[derive(Debug)]
pub struct QemuEngine {
    config: QemuConfig,
    state: StateDir,
    version: OnceCell<QemuVersion>,
    accel: OnceCell<Accel>,
    way_out: OnceCell<WayOut>,
    /// Counts what this engine has done to VMs, to wake those who wait for a VM that is off.
    done: watch::Sender<u64>,
    shims: TaskTracker,
}

impl QemuEngine {
    /// An engine on a state folder, which is made if it is missing. Starts nothing. Blocks for a moment.
    ///
    /// # Errors
    /// [`EngineError::Broken`] when the folder cannot be used.
    pub fn new(config: QemuConfig) -> Result<Self, EngineError> {
        let state = StateDir::open(&config.state_dir, &config.memory_dir)?;
        if landlock_is_missing() {
            tracing::warn!(
                "this kernel has no Landlock (Linux 5.13, and lsm=landlock at boot): a guest that breaks out of QEMU can read \
                 what this server's user can. Run the server as a user of its own"
            );
        }
        Ok(Self {
            config,
            state,
            version: OnceCell::new(),
            accel: OnceCell::new(),
            way_out: OnceCell::new(),
            done: watch::Sender::new(0),
            shims: TaskTracker::new(),
        })
    }

    /// What VMs run under here. Found out at the first call, at most in some seconds, and said in the log; the start
    /// of a VM calls it too.
    ///
    /// # Errors
    /// [`EngineError::Broken`] when QEMU is missing or too old, or there is no image to try it with.
    pub async fn accel(&self) -> Result<Accel, EngineError> {
        let find = async {
            let version = self.version().await?;
            let image = boot_image::latest(&self.config.image_dir)?;
            accel::find(&self.config.qemu, &version, &image.kernel, &self.state.accel_file()).await
        };
        self.accel.get_or_try_init(|| find).await.copied()
    }

    async fn version(&self) -> Result<QemuVersion, EngineError> {
        self.version.get_or_try_init(|| host::qemu_version(&self.config.qemu)).await.copied()
    }

    /// What leads out of VMs here.
    async fn way_out(&self) -> WayOut {
        let egress = self.config.egress;
        self.way_out.get_or_init(|| async { WayOut::choose(egress) }).await.clone()
    }

    /// A shim to be asked for something that only a running VM has.
    async fn running(&self, vm: &VmId) -> Result<Shim, EngineError> {
        let paths = self.state.vm(vm);
        match Shim::find(&paths).await? {
            Some(shim) => Ok(shim),
            None if observe_off(&paths) == Observed::Missing => Err(EngineError::Missing),
            None => Err(EngineError::NotRunning),
        }
    }

    /// Has something done that only a running VM can do.
    async fn have_done(&self, vm: &VmId, request: Request) -> Result<(), EngineError> {
        match self.running(vm).await?.tell(request).await? {
            Asked::Told(()) => Ok(()),
            Asked::Gone => Err(EngineError::NotRunning),
        }
    }

    async fn observe_at(&self, paths: &VmPaths) -> Result<Observed, EngineError> {
        loop {
            let Some(shim) = Shim::find(paths).await? else { return Ok(observe_off(paths)) };
            if let Asked::Told(observed) = shim.observe().await? {
                return Ok(observed);
            }
        }
    }

    fn count(&self) {
        self.done.send_modify(|count| *count += 1);
    }
}

#[async_trait]
impl Engine for QemuEngine {
    async fn prepare(&self, spec: &VmSpec) -> Result<(), EngineError> {
        self.make_template(spec).await
    }

    async fn create(&self, vm: &VmId, spec: &VmSpec) -> Result<(), EngineError> {
        self.make(&self.state.vm(vm), spec).await
    }

    async fn start(&self, vm: &VmId, spec: &VmSpec, guest: &Guest) -> Result<(), EngineError> {
        self.begin(vm, spec, guest).await
    }

    async fn sleep(&self, vm: &VmId) -> Result<(), EngineError> {
        let paths = self.state.vm(vm);
        match Shim::find(&paths).await? {
            Some(shim) => match shim.tell(Request::Sleep).await? {
                Asked::Told(()) => Ok(()),
                Asked::Gone => self.slept(&paths),
            },
            None => self.slept(&paths),
        }
    }

    async fn forget_sleep(&self, vm: &VmId) -> Result<(), EngineError> {
        self.forget(&self.state.vm(vm)).await
    }

    async fn stop(&self, vm: &VmId, patience: Duration) -> Result<(), EngineError> {
        self.shut_down(&self.state.vm(vm), patience).await
    }

    async fn remove(&self, vm: &VmId) -> Result<(), EngineError> {
        self.discard_rebuilds(vm).await?;
        self.kill(&self.state.vm(vm)).await?;
        let (state, vm) = (self.state.clone(), *vm);
        let removed = spawn_blocking(move || disk::remove(&state, &vm));
        removed.await.unwrap_or_else(|_| Err(broken("the VM could not be removed".to_owned())))?;
        self.count();
        Ok(())
    }

    async fn rebuild(
        &self,
        vm: &VmId,
        spec: &VmSpec,
        guest: &Guest,
        home: Home,
        patience: Duration,
    ) -> Result<(), EngineError> {
        self.make_anew(vm, spec, guest, home, patience).await
    }

    async fn grow(&self, vm: &VmId, spec: &VmSpec) -> Result<Grown, EngineError> {
        self.have_room_taken(&self.state.vm(vm), spec.disk).await
    }

    async fn copy_disk(&self, vm: &VmId) -> Result<PathBuf, EngineError> {
        self.copy_of_disk(vm).await
    }

    async fn replace_disk(&self, vm: &VmId, spec: &VmSpec, from: &Path) -> Result<(), EngineError> {
        self.take_disk(vm, spec, from).await
    }

    async fn observe(&self, vm: &VmId) -> Result<Observed, EngineError> {
        self.observe_at(&self.state.vm(vm)).await
    }

    async fn changed(&self, vm: &VmId, known: &Observed) -> Result<Observed, EngineError> {
        let paths = self.state.vm(vm);
        loop {
            let mut done = self.done.subscribe();
            if let Some(shim) = Shim::find(&paths).await? {
                if let Asked::Told(observed) = shim.changed(known).await? {
                    return Ok(observed);
                }
                continue;
            }
            let observed = observe_off(&paths);
            if observed != *known {
                return Ok(observed);
            }
            drop(timeout(LOOK_AGAIN, done.changed()).await);
        }
    }

    async fn list(&self) -> Result<Vec<VmId>, EngineError> {
        let state = self.state.clone();
        let listed = spawn_blocking(move || disk::list(&state));
        let listed =
            listed.await.unwrap_or_else(|_| Err(broken("the VMs could not be listed".to_owned())))?;
        for vm in &listed {
            self.settle(vm).await;
        }
        Ok(listed)
    }

    async fn set_authorized_keys(
        &self,
        vm: &VmId,
        authorized_keys: &str,
        others: &[GuestUser],
        host_certificate: &str,
    ) -> Result<(), EngineError> {
        let paths = self.state.vm(vm);
        match Shim::find(&paths).await? {
            Some(shim) => {
                // A shim that ends meanwhile leaves a VM that is off or asleep.
                let (authorized_keys, others) = (authorized_keys.to_owned(), others.to_vec());
                let host_certificate = host_certificate.to_owned();
                let request = Request::SetAuthorizedKeys { authorized_keys, others, host_certificate };
                shim.tell(request).await.map(drop)
            }
            None if observe_off(&paths) == Observed::Missing => Err(EngineError::Missing),
            None => Ok(()),
        }
    }

    async fn dial(&self, vm: &VmId, port: u16) -> Result<Box<dyn Stream>, EngineError> {
        Ok(Box::new(self.running(vm).await?.dial(port).await?))
    }

    async fn usage(&self, vm: &VmId) -> Result<Usage, EngineError> {
        self.running(vm).await?.usage().await
    }

    async fn leases(&self, vm: &VmId) -> Result<Vec<Lease>, EngineError> {
        self.running(vm).await?.leases().await
    }

    async fn listeners(&self, vm: &VmId) -> Result<Vec<Listener>, EngineError> {
        self.running(vm).await?.listeners().await
    }

    async fn tell(&self, vm: &VmId, text: &str) -> Result<(), EngineError> {
        self.have_done(vm, Request::Tell { text: text.to_owned() }).await
    }

    async fn tidy(&self, vm: &VmId) -> Result<(), EngineError> {
        self.have_done(vm, Request::Tidy).await
    }

    async fn room(&self) -> Result<Room, EngineError> {
        let state = self.state.clone();
        let looked = spawn_blocking(move || room::room(&state));
        looked.await.unwrap_or_else(|_| Err(broken("the host's room could not be read".to_owned())))
    }

    async fn about(&self) -> Result<About, EngineError> {
        let (version, accel) = (self.version().await?, self.accel().await?);
        let (way, emulated) = match accel {
            Accel::Kvm => ("KVM", false),
            Accel::Tcg => ("emulation (TCG)", true),
        };
        Ok(About { name: format!("QEMU {version} with {way}"), emulated })
    }

    async fn boot_log(&self, vm: &VmId) -> Result<String, EngineError> {
        let paths = self.state.vm(vm);
        let read = spawn_blocking(move || {
            console::shown(&paths)
                .map_err(|error| broken(format!("{} cannot be read: {error}", paths.console().display())))
        });
        read.await.unwrap_or_else(|_| Err(broken("the boot log could not be read".to_owned())))
    }
}

fn broken(reason: String) -> EngineError {
    EngineError::Broken { reason }
}
