//! The engine: the verbs, as conversations with shims.
//!
//! Remembers nothing about VMs. What one is doing is asked of its shim, or read from its folder when nobody runs it, so
//! that an engine which has just started knows as much as one that started the VM.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use async_trait::async_trait;
use berth_engine::{Ending, Engine, EngineError, Guest, Observed, Stream, VmSpec};
use berth_model::VmId;
use tokio::{
    sync::{OnceCell, oneshot, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    accel::{self, Accel},
    boot_image,
    client::{Asked, Shim, observe_off},
    console, disk,
    egress::{Egress, WayOut},
    ending, host,
    image::{self, Image},
    launch::launch,
    lock::VmLock,
    paths::{StateDir, VmPaths},
    protocol::Request,
    qemu::Machine,
    shim::spec::{Hello, ShimSpec},
};

/// From QEMU's start to sshd's answer; several VMs may boot at once.
const BOOT_UNDER_KVM: Duration = Duration::from_secs(120);
const BOOT_UNDER_TCG: Duration = Duration::from_secs(300);
/// For every kernel. One that panics begins anew, as somebody at the machine would have it do (a shim counts those that
/// never end); and it says enough on its console that a boot log is of use, which costs no time to speak of.
const KERNEL_ARGUMENTS: &str = "panic=1 loglevel=6";
/// Beyond the patience that was asked for, until a shim that has not ended its VM is killed itself.
const END_WITHIN: Duration = Duration::from_secs(40);
/// What another process did to a VM that is off is seen after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// So often is a start begun again because another one was quicker and has ended already.
const LAUNCHES: u32 = 5;

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
}

impl QemuConfig {
    /// The configuration for an ordinary host.
    #[must_use]
    pub fn new(state_dir: PathBuf, image_dir: PathBuf, shim: Vec<OsString>) -> Self {
        Self { state_dir, image_dir, shim, qemu: "qemu-system-x86_64".into(), egress: Egress::default() }
    }
}

/// VMs on this machine, a QEMU process each. See the crate's documentation.
///
/// Dropping it leaves the VMs running; the next engine on the same state folder finds them.
#[derive(Debug)]
pub struct QemuEngine {
    config: QemuConfig,
    state: StateDir,
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
        let state = StateDir::open(&config.state_dir)?;
        Ok(Self {
            config,
            state,
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
            let version = host::qemu_version(&self.config.qemu).await?;
            let image = boot_image::latest(&self.config.image_dir)?;
            accel::find(&self.config.qemu, &version, &image.kernel, &self.state.accel_file()).await
        };
        self.accel.get_or_try_init(|| find).await.copied()
    }

    async fn machine(&self, vm: &VmId, spec: &VmSpec, paths: &VmPaths) -> Result<Machine, EngineError> {
        let Image { kernel, initrd, append, .. } = boot_image::of_vm(&self.config.image_dir, &paths.image())?;
        let accel = self.accel().await?;
        let kernel_arguments = match accel {
            Accel::Kvm => format!("{append} {KERNEL_ARGUMENTS}"),
            Accel::Tcg => format!("{append} {KERNEL_ARGUMENTS} {}", image::APPEND_TCG),
        };
        Ok(Machine {
            accel,
            cpus: spec.cpus,
            memory: spec.memory,
            kernel,
            initrd,
            kernel_arguments,
            disk: paths.disk(),
            name: format!("berth-{vm}"),
        })
    }

    /// Starts a shim, and returns when it owns the VM or does not want to. Once begun it is not given up when this
    /// future is dropped.
    async fn launch(&self, vm: &VmId, spec: &VmSpec, guest: &Guest) -> Result<Hello, EngineError> {
        let paths = self.state.vm(vm);
        host::room_for(spec.memory)?;
        disk::room(&paths)?;
        let machine = self.machine(vm, spec, &paths).await?;
        let egress = self.config.egress;
        let way_out = self.way_out.get_or_init(|| async { WayOut::choose(egress) }).await.clone();
        let boot_within = match machine.accel {
            Accel::Kvm => BOOT_UNDER_KVM,
            Accel::Tcg => BOOT_UNDER_TCG,
        };
        let qemu = self.config.qemu.clone();
        let spec = ShimSpec { vm: *vm, paths, qemu, machine, way_out, boot_within, guest: guest.into() };
        let program = self.config.shim.clone();
        let (hello, heard) = oneshot::channel();
        let done = self.done.clone();
        self.shims.spawn(async move {
            match launch(&program, &spec).await {
                Err(error) => drop(hello.send(Err(error))),
                Ok((said, mut child)) => {
                    done.send_modify(|count| *count += 1);
                    drop(hello.send(Ok(said)));
                    drop(child.wait().await);
                    done.send_modify(|count| *count += 1);
                }
            }
        });
        heard.await.unwrap_or_else(|_| Err(broken("the VM's shim was not started".to_owned())))
    }

    /// Returns when nobody runs the VM any more, or `within` is over (`false`).
    async fn ended(&self, paths: &VmPaths, within: Duration) -> Result<bool, EngineError> {
        let end = async {
            while let Some(shim) = Shim::find(paths).await? {
                // It does not tell that it is off, but ends.
                shim.changed(&Observed::Stopping).await?;
                sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        match timeout(within, end).await {
            Ok(ended) => ended.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Has a running VM end, by asking its shim or, if that does not help, by killing it.
    async fn end(&self, paths: &VmPaths, request: Request, within: Duration) -> Result<(), EngineError> {
        let Some(shim) = Shim::find(paths).await? else { return Ok(()) };
        let pid = shim.pid();
        let asked = async {
            shim.tell(request).await?;
            self.ended(paths, within).await
        };
        let problem = match asked.await {
            Ok(true) => return Ok(()),
            Ok(false) => "it has not ended its VM in time".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::error!(%problem, "a shim is killed");
        // Its socket was connected a moment ago, so the process is still what it was. QEMU dies with it.
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _gone_already = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        match VmLock::take(paths, END_WITHIN).await {
            Ok(Some(_held)) => {
                let paths = paths.clone();
                let written = spawn_blocking(move || ending::write(&paths, &Ending::Killed)).await;
                drop(written);
                Ok(())
            }
            _ => Err(broken(format!("the VM's processes do not end; see {}", paths.shim_log().display()))),
        }
    }

    fn count(&self) {
        self.done.send_modify(|count| *count += 1);
    }
}

#[async_trait]
impl Engine for QemuEngine {
    async fn create(&self, vm: &VmId, spec: &VmSpec) -> Result<(), EngineError> {
        let paths = self.state.vm(vm);
        if !paths.disk().exists() {
            let image = boot_image::latest(&self.config.image_dir)?;
            disk::create(&paths, &image, spec.disk).await?;
            self.count();
        }
        Ok(())
    }

    async fn start(&self, vm: &VmId, spec: &VmSpec, guest: &Guest) -> Result<(), EngineError> {
        let mut launches = 0;
        let mut ours = false;
        loop {
            let now = self.observe(vm).await?;
            match now {
                Observed::Missing => return Err(EngineError::Missing),
                Observed::Running => return Ok(()),
                Observed::Booting | Observed::Stopping => {
                    self.changed(vm, &now).await?;
                }
                Observed::Off { ended } if ours => return Err(failed(ended)),
                Observed::Off { .. } if launches == LAUNCHES => {
                    return Err(EngineError::StartFailed {
                        reason: "it was stopped while it started".to_owned(),
                    });
                }
                Observed::Off { .. } => {
                    launches += 1;
                    match self.launch(vm, spec, guest).await? {
                        Hello::Owns => ours = true,
                        Hello::Busy => {}
                        Hello::Failed { reason } => {
                            return Err(broken(format!("the VM does not start: {reason}")));
                        }
                    }
                }
            }
        }
    }

    async fn stop(&self, vm: &VmId, patience: Duration) -> Result<(), EngineError> {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let within = patience.saturating_add(END_WITHIN);
        self.end(&self.state.vm(vm), Request::Stop { patience_ms }, within).await
    }

    async fn remove(&self, vm: &VmId) -> Result<(), EngineError> {
        let paths = self.state.vm(vm);
        self.end(&paths, Request::Kill, END_WITHIN).await?;
        let (state, vm) = (self.state.clone(), *vm);
        let removed = spawn_blocking(move || disk::remove(&state, &vm));
        removed.await.unwrap_or_else(|_| Err(broken("the VM could not be removed".to_owned())))?;
        self.count();
        Ok(())
    }

    async fn observe(&self, vm: &VmId) -> Result<Observed, EngineError> {
        let paths = self.state.vm(vm);
        loop {
            let Some(shim) = Shim::find(&paths).await? else { return Ok(observe_off(&paths)) };
            if let Asked::Told(observed) = shim.observe().await? {
                return Ok(observed);
            }
        }
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
        listed.await.unwrap_or_else(|_| Err(broken("the VMs could not be listed".to_owned())))
    }

    async fn set_authorized_keys(&self, vm: &VmId, authorized_keys: &str) -> Result<(), EngineError> {
        let paths = self.state.vm(vm);
        match Shim::find(&paths).await? {
            Some(shim) => {
                // A shim that ends meanwhile leaves a VM that is off.
                let request = Request::SetAuthorizedKeys { authorized_keys: authorized_keys.to_owned() };
                shim.tell(request).await.map(drop)
            }
            None if observe_off(&paths) == Observed::Missing => Err(EngineError::Missing),
            None => Ok(()),
        }
    }

    async fn dial(&self, vm: &VmId, port: u16) -> Result<Box<dyn Stream>, EngineError> {
        let paths = self.state.vm(vm);
        match Shim::find(&paths).await? {
            Some(shim) => Ok(Box::new(shim.dial(port).await?)),
            None if observe_off(&paths) == Observed::Missing => Err(EngineError::Missing),
            None => Err(EngineError::NotRunning),
        }
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

/// Why a start ended with a VM that is off.
fn failed(ended: Option<Ending>) -> EngineError {
    let reason = match ended {
        Some(Ending::Failed { reason }) => reason,
        Some(Ending::PoweredOff) => "it shut itself down while it started".to_owned(),
        Some(Ending::Stopped | Ending::Killed) => "it was stopped while it started".to_owned(),
        None => "its processes ended".to_owned(),
    };
    EngineError::StartFailed { reason }
}

fn broken(reason: String) -> EngineError {
    EngineError::Broken { reason }
}
