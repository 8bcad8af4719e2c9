//! How a VM is made: as a fork of a guest that was booted once, where there is one, and else as an empty disk that boots.

use std::{io, time::Duration};

use berth_engine::{EngineError, Observed, VmSpec};
use berth_model::VmId;
use tokio::task::spawn_blocking;

use super::{
    QemuEngine,
    begin::{failed, kernel_arguments},
    broken,
};
use crate::{
    boot_image,
    client::{Asked, Shim},
    disk,
    image::Image,
    paths::VmPaths,
    protocol::Request,
    template::{Kind, Lock, Templates},
};

/// Copying some hundred megabytes to a slow disk.
const SETTLED_WITHIN: Duration = Duration::from_secs(300);

impl QemuEngine {
    /// See [`berth_engine::Engine::create`].
    pub(super) async fn make(&self, paths: &VmPaths, spec: &VmSpec) -> Result<(), EngineError> {
        if paths.disk().exists() {
            return Ok(());
        }
        let image = boot_image::latest(&self.config.image_dir)?;
        if !self.fork(paths, &image, spec).await {
            disk::create(paths, &image, spec.disk).await?;
        }
        self.count();
        Ok(())
    }

    /// Forks a VM if there is a template for it; what is in the way of that is for the log, and the VM boots.
    async fn fork(&self, paths: &VmPaths, image: &Image, spec: &VmSpec) -> bool {
        let Ok(kind) = self.kind(image, spec).await else { return false };
        let (templates, paths) = (Templates::of(&self.state), paths.clone());
        let forked = spawn_blocking(move || match templates.find_to_fork(&kind) {
            Some(template) => template.fork(&paths).map(|()| true),
            None => Ok(false),
        });
        match forked.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(forked) => forked,
            Err(error) => {
                tracing::warn!(%error, "a VM cannot be forked: it boots");
                false
            }
        }
    }

    async fn kind(&self, image: &Image, spec: &VmSpec) -> Result<Kind, EngineError> {
        let accel = self.accel().await?;
        let arguments = kernel_arguments(&image.append, accel);
        let (version, way_out) = (self.version().await?, self.way_out().await);
        Kind::new(image, &arguments, accel, version, &way_out, spec).map_err(|error| unusable(&error))
    }

    /// See [`berth_engine::Engine::prepare`]. When this future is dropped, what it has begun is deleted by the next one.
    pub(super) async fn make_template(&self, spec: &VmSpec) -> Result<(), EngineError> {
        let image = boot_image::latest(&self.config.image_dir)?;
        let kind = self.kind(&image, spec).await?;
        let templates = Templates::of(&self.state);
        if self.has(&templates, &kind).await? {
            return Ok(());
        }
        let lock = blocking({
            let templates = templates.clone();
            move || templates.lock()
        });
        let lock = lock.await?;
        if self.has(&templates, &kind).await? {
            return Ok(());
        }
        for leftover in templates.leftovers(&lock).map_err(|error| unusable(&error))? {
            self.discard(&templates, &leftover, &lock).await?;
        }
        templates.clear_stale(&kind, &lock).map_err(|error| unusable(&error))?;
        let vm = VmId::random();
        let builder = templates.builder(&vm);
        let built = match self.build(&vm, spec, &image, &builder).await {
            Ok(()) => templates.keep(&builder, &kind, &lock).map_err(|error| unusable(&error)),
            Err(error) => Err(error),
        };
        if let Err(error) = built {
            self.discard(&templates, &builder, &lock).await?;
            return Err(error);
        }
        tracing::info!("new VMs are forked from now on");
        Ok(())
    }

    async fn has(&self, templates: &Templates, kind: &Kind) -> Result<bool, EngineError> {
        let (templates, kind) = (templates.clone(), kind.clone());
        blocking(move || Ok(templates.find(&kind).is_some())).await
    }

    /// Boots a guest that is nobody's, and has it sleep where it lasts.
    async fn build(
        &self,
        vm: &VmId,
        spec: &VmSpec,
        image: &Image,
        paths: &VmPaths,
    ) -> Result<(), EngineError> {
        disk::create(paths, image, spec.disk).await?;
        let begin = self.boot(vm, spec, None, paths).await?;
        self.launch(vm, paths.clone(), begin).await?;
        let mut seen = self.observe_at(paths).await?;
        while seen != Observed::Running {
            match (seen, Shim::find(paths).await?) {
                (Observed::Off { ended }, _) => return Err(failed(ended)),
                (seen, Some(shim)) => drop(shim.changed(&seen).await?),
                (_, None) => {}
            }
            seen = self.observe_at(paths).await?;
        }
        let Some(shim) = Shim::find(paths).await? else { return Err(failed(None)) };
        let Asked::Told(()) = shim.tell(Request::Sleep).await? else { return Err(failed(None)) };
        // Its shim ends when the sleep has been copied.
        if self.ended(paths, SETTLED_WITHIN).await? && paths.cold().record().exists() {
            Ok(())
        } else {
            Err(broken("the guest to fork from cannot be copied to the disk".to_owned()))
        }
    }

    /// Ends a builder and deletes what there is of it.
    async fn discard(
        &self,
        templates: &Templates,
        builder: &VmPaths,
        lock: &Lock,
    ) -> Result<(), EngineError> {
        self.kill(builder).await?;
        templates.discard(builder, lock).map_err(|error| unusable(&error))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, EngineError> {
    let done = spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| unusable(&error))
}

fn unusable(error: &io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            EngineError::NoRoom { reason: "the host's disk is full".to_owned() }
        }
        _ => broken(format!("what VMs are forked from cannot be used: {error}")),
    }
}
