//! How a VM begins to run: it boots, or it wakes.

use std::path::PathBuf;

use berth_engine::{Ending, EngineError, Grown, Guest, Observed, VmSpec};
use berth_model::VmId;
use tokio::{sync::oneshot, task::spawn_blocking};

use super::{QemuEngine, broken, end::tidy_up};
use crate::{
    accel::Accel,
    boot_image,
    client::{Asked, Shim},
    disk,
    image::{self, Image},
    launch::launch,
    paths::VmPaths,
    protocol::Request,
    qemu::Machine,
    rebuild::Rebuilds,
    room,
    shim::spec::{Begin, Hello, ShimSpec},
    sleep,
};

/// For every kernel. One that panics begins anew, as somebody at the machine would have it do (a shim counts those that
/// never end); and it says enough on its console that a boot log is of use, which costs no time to speak of.
const KERNEL_ARGUMENTS: &str = "panic=1 loglevel=6";
/// So often is a start begun again because another one was quicker and has ended already.
const LAUNCHES: u32 = 5;

impl QemuEngine {
    /// See [`berth_engine::Engine::start`].
    pub(super) async fn begin(&self, vm: &VmId, spec: &VmSpec, guest: &Guest) -> Result<(), EngineError> {
        let paths = self.state.vm(vm);
        self.settle_rebuild(vm, &paths).await?;
        self.bring_up(vm, spec, guest, &paths).await
    }

    /// Has the VM of these files run.
    pub(super) async fn bring_up(
        &self,
        vm: &VmId,
        spec: &VmSpec,
        guest: &Guest,
        paths: &VmPaths,
    ) -> Result<(), EngineError> {
        let mut launches = 0;
        let mut ours = false;
        loop {
            let now = self.observe_at(paths).await?;
            match now {
                Observed::Missing => return Err(EngineError::Missing),
                Observed::Running => {
                    self.grow_while_it_runs(paths, spec.disk).await;
                    return Ok(());
                }
                Observed::Booting | Observed::Stopping | Observed::Waking => {
                    let Some(shim) = Shim::find(paths).await? else { continue };
                    // Whether it is gone or does something else: look again.
                    shim.changed(&now).await?;
                }
                Observed::Off { ended } if ours => return Err(failed(ended)),
                Observed::Off { .. } | Observed::Asleep { .. } if launches == LAUNCHES => {
                    return Err(EngineError::StartFailed {
                        reason: "it was stopped while it started".to_owned(),
                    });
                }
                Observed::Off { .. } => {
                    launches += 1;
                    self.grow_while_it_is_off(paths, spec.disk).await;
                    let begin = self.boot(vm, spec, Some(guest), paths).await?;
                    ours |= self.launch(vm, paths.clone(), begin).await?;
                }
                Observed::Asleep { .. } => {
                    launches += 1;
                    ours |= self.wake(vm, guest, paths).await?;
                }
            }
        }
    }

    /// Makes the disk of a VM that is off as large as it is to be. One that cannot grow keeps nobody out of the VM.
    async fn grow_while_it_is_off(&self, paths: &VmPaths, bytes: u64) {
        if !is_smaller(paths, bytes) {
            return;
        }
        if let Err(error) = self.alone_with(paths, move |paths| disk::grow(&paths.disk(), bytes)).await {
            tracing::warn!(%error, disk = %paths.disk().display(), "a disk is smaller than it is to be");
        }
    }

    /// The same for one that runs: it was asleep when that was decided, or forked from one with a smaller disk.
    async fn grow_while_it_runs(&self, paths: &VmPaths, bytes: u64) {
        if is_smaller(paths, bytes)
            && let Err(error) = self.have_room_taken(paths, bytes).await
        {
            tracing::warn!(%error, disk = %paths.disk().display(), "a disk is smaller than it is to be");
        }
    }

    /// See [`berth_engine::Engine::grow`].
    pub(super) async fn have_room_taken(&self, paths: &VmPaths, bytes: u64) -> Result<Grown, EngineError> {
        if let Some(shim) = Shim::find(paths).await? {
            match shim.grow(bytes).await {
                Ok(Asked::Told(true)) => return Ok(Grown::Now),
                Ok(Asked::Told(false)) => return Ok(Grown::AtBoot),
                Ok(Asked::Gone) | Err(EngineError::NotRunning) => {}
                Err(error) => return Err(error),
            }
        }
        match self.observe_at(paths).await? {
            Observed::Missing => Err(EngineError::Missing),
            Observed::Off { .. } | Observed::Asleep { .. } => Ok(Grown::AtStart),
            Observed::Waking | Observed::Booting | Observed::Running | Observed::Stopping => {
                Err(EngineError::NotRunning)
            }
        }
    }

    /// Has a sleeping VM wake; `false` when somebody else has changed it meanwhile. If it is off afterwards it has lost
    /// what it had in its memory, and that is told: a boot is not what was asked for.
    async fn wake(&self, vm: &VmId, guest: &Guest, paths: &VmPaths) -> Result<bool, EngineError> {
        self.room_to_wake(paths).await?;
        let shim = match Shim::find(paths).await? {
            Some(shim) => shim,
            None => {
                if !self.launch(vm, paths.clone(), Begin::Asleep).await? {
                    return Ok(false);
                }
                let Some(shim) = Shim::find(paths).await? else { return Ok(false) };
                shim
            }
        };
        match shim.tell(Request::Wake { guest: guest.into() }).await? {
            Asked::Told(()) | Asked::Gone => Ok(true),
        }
    }

    /// Whether there is room for a VM that sleeps. What cannot be read of it is for the shim to tell.
    async fn room_to_wake(&self, paths: &VmPaths) -> Result<(), EngineError> {
        let (state, paths) = (self.state.clone(), paths.clone());
        let looked = spawn_blocking(move || {
            let Ok(Some(found)) = sleep::find(&paths) else { return Ok(()) };
            room::room_for(&state, &paths, found.record.memory())?;
            disk::room(&paths)
        });
        looked.await.unwrap_or_else(|_| Err(broken("the host's room could not be read".to_owned())))
    }

    /// What it takes to boot a VM that is off; without a guest, one to fork others from.
    pub(crate) async fn boot(
        &self,
        vm: &VmId,
        spec: &VmSpec,
        guest: Option<&Guest>,
        paths: &VmPaths,
    ) -> Result<Begin, EngineError> {
        room::room_for(&self.state, paths, spec.memory)?;
        disk::room(paths)?;
        let Image { kernel, initrd, append, .. } = boot_image::of_vm(&self.config.image_dir, &paths.image())?;
        let accel = self.accel().await?;
        let machine = Machine {
            accel,
            board: self.version().await?.machine_type(),
            cpus: spec.cpus,
            memory: spec.memory,
            memory_file: paths.warm().memory(),
            kernel,
            initrd,
            kernel_arguments: kernel_arguments(&append, accel),
            disk: paths.disk(),
            name: Machine::name(*vm),
        };
        Ok(Begin::Boot { machine, guest: guest.map(Into::into) })
    }

    /// Has a shim do what is left to do for a VM that sleeps, if anything is. What goes wrong is for its log.
    pub(super) async fn settle(&self, vm: &VmId) {
        let paths = self.state.vm(vm);
        if !paths.memory.exists() || !matches!(Shim::find(&paths).await, Ok(None)) {
            return;
        }
        if paths.warm().record().exists() {
            if let Err(error) = self.launch(vm, paths.clone(), Begin::Asleep).await {
                tracing::warn!(%vm, %error, "a sleep cannot be copied to the disk");
            }
        } else if let Err(error) = self.clear_memory(&paths).await {
            tracing::warn!(%vm, %error, "memory of a VM that does not run cannot be freed");
        }
    }

    /// What a VM reads beside its own files. Images may be put together of links to files elsewhere.
    fn reads(&self, paths: &VmPaths) -> Vec<PathBuf> {
        let images = self.config.image_dir.clone();
        let image = boot_image::of_vm(&images, &paths.image()).ok();
        let files = image.into_iter().flat_map(|Image { kernel, initrd, disk, .. }| [kernel, initrd, disk]);
        let lent = Rebuilds::of(&self.state).lent_to(paths);
        [images].into_iter().chain(files).chain(lent).collect()
    }

    /// Starts a shim, and returns when it owns the VM (`true`) or does not want to. Once begun it is not given up when
    /// this future is dropped.
    pub(crate) async fn launch(&self, vm: &VmId, paths: VmPaths, begin: Begin) -> Result<bool, EngineError> {
        let reads = self.reads(&paths);
        let (qemu, way_out) = (self.config.qemu.clone(), self.way_out().await);
        let kvm = self.accel().await.is_ok_and(|accel| accel == Accel::Kvm);
        let spec = ShimSpec { vm: *vm, paths, qemu, way_out, reads, kvm, begin };
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
                    tidy_up(&spec.paths).await;
                    done.send_modify(|count| *count += 1);
                }
            }
        });
        match heard.await.unwrap_or_else(|_| Err(broken("the VM's shim was not started".to_owned())))? {
            Hello::Owns => Ok(true),
            Hello::Busy => Ok(false),
            Hello::Failed { reason } => Err(broken(format!("the VM does not start: {reason}"))),
        }
    }
}

/// Whether a disk has yet to grow.
fn is_smaller(paths: &VmPaths, bytes: u64) -> bool {
    disk::size(&paths.disk()).is_ok_and(|size| size < bytes)
}

/// What a kernel is told, beside what its image says.
pub(super) fn kernel_arguments(append: &str, accel: Accel) -> String {
    match accel {
        Accel::Kvm => format!("{append} {KERNEL_ARGUMENTS}"),
        Accel::Tcg => format!("{append} {KERNEL_ARGUMENTS} {}", image::APPEND_TCG),
    }
}

/// Why a start ended with a VM that is off.
pub(super) fn failed(ended: Option<Ending>) -> EngineError {
    let reason = match ended {
        Some(Ending::Failed { reason }) => reason,
        Some(Ending::PoweredOff) => "it shut itself down while it started".to_owned(),
        Some(Ending::Stopped | Ending::Killed) => "it was stopped while it started".to_owned(),
        None => "its processes ended".to_owned(),
    };
    EngineError::StartFailed { reason }
}
