//! How a VM gets a new disk: it is made anew beside what it is, takes over its home if that is kept, and takes its place.

use std::{io, time::Duration};

use berth_engine::{EngineError, Guest, Home, Observed, VmSpec};
use berth_model::VmId;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{QemuEngine, begin::failed, broken};
use crate::{
    client::{Asked, Shim},
    disk,
    paths::VmPaths,
    protocol::Request,
    rebuild::{self, Rebuilds},
    room,
};

/// How often a VM that falls asleep while it is to be stopped is woken again.
const STOP_TRIES: u32 = 5;
/// A guest that has just come up may have a connection that ends yet.
const SLEEPS_WITHIN: Duration = Duration::from_secs(20);
/// Copying some hundred megabytes to a slow disk.
const SETTLED_WITHIN: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Beside a copy of the home: the new system, and the memory of its guest, in bytes.
const ROOM_FOR_THE_REST: u64 = 512 << 20;

/// What is to be done to which VM.
struct Wanted<'a> {
    vm: &'a VmId,
    paths: &'a VmPaths,
    spec: &'a VmSpec,
    guest: &'a Guest,
    home: Home,
    patience: Duration,
}

impl QemuEngine {
    /// See [`berth_engine::Engine::rebuild`]. When this future is dropped, what it has begun is finished or deleted by the
    /// next verb for the VM.
    pub(super) async fn make_anew(
        &self,
        vm: &VmId,
        spec: &VmSpec,
        guest: &Guest,
        home: Home,
        patience: Duration,
    ) -> Result<(), EngineError> {
        let paths = self.state.vm(vm);
        self.settle_rebuild(vm, &paths).await?;
        if self.observe_at(&paths).await? == Observed::Missing {
            return Err(EngineError::Missing);
        }
        if home == Home::Keep {
            self.room_for_home(&paths).await?;
        }
        let id = VmId::random();
        let builder = Rebuilds::of(&self.state).builder(vm, &id).map_err(|error| unusable(&error))?;
        let wanted = Wanted { vm, paths: &paths, spec, guest, home, patience };
        if let Err(error) = self.make_beside(&wanted, &id, &builder).await {
            self.discard_rebuild(&builder).await?;
            return Err(error);
        }
        self.count();
        Ok(())
    }

    async fn make_beside(
        &self,
        wanted: &Wanted<'_>,
        id: &VmId,
        builder: &VmPaths,
    ) -> Result<(), EngineError> {
        let Wanted { paths, spec, guest, home, patience, .. } = *wanted;
        // An image that is missing is told before anything is done to the VM.
        self.make(builder, spec).await?;
        match home {
            Home::Discard => self.kill(paths).await?,
            Home::Keep => {
                self.put_off(wanted).await?;
                disk::view(&paths.disk(), &builder.view()).await?;
                self.bring_up(id, spec, guest, builder).await?;
                take_home(builder).await?;
                self.lay_down(builder, patience).await?;
            }
        }
        let builder = builder.clone();
        self.alone_with(paths, move |paths| Rebuilds::commit(&builder, paths)).await
    }

    /// Finishes a rebuild that was whole when its engine died, and deletes what is left of one that was not. Before
    /// anything else is done to a VM.
    pub(super) async fn settle_rebuild(&self, vm: &VmId, paths: &VmPaths) -> Result<(), EngineError> {
        self.discard_rebuilds(vm).await?;
        if paths.rebuilt().exists() {
            tracing::info!(%vm, "its new disk is put into its place");
            self.alone_with(paths, rebuild::finish).await?;
        }
        Ok(())
    }

    /// Deletes what is left of rebuilds that were not whole.
    pub(super) async fn discard_rebuilds(&self, vm: &VmId) -> Result<(), EngineError> {
        for leftover in Rebuilds::of(&self.state).leftovers(vm).map_err(|error| unusable(&error))? {
            tracing::info!(%vm, "a rebuild that was interrupted is given up");
            self.discard_rebuild(&leftover).await?;
        }
        Ok(())
    }

    async fn discard_rebuild(&self, builder: &VmPaths) -> Result<(), EngineError> {
        self.kill(builder).await?;
        let builder = builder.clone();
        let discarded = spawn_blocking(move || Rebuilds::discard(&builder)).await;
        discarded.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| unusable(&error))
    }

    /// Whether the host's disk has room for a copy of whatever is in the VM's.
    async fn room_for_home(&self, paths: &VmPaths) -> Result<(), EngineError> {
        let (state, disk) = (self.state.clone(), paths.disk());
        let looked =
            spawn_blocking(move || room::room(&state).map(|room| (room.disk_free, room::allocated(&disk))));
        let (free, has) = looked.await.unwrap_or_else(|error| Err(broken(error.to_string())))?;
        let needed = has.saturating_add(ROOM_FOR_THE_REST);
        if free >= needed {
            return Ok(());
        }
        Err(EngineError::NoRoom {
            reason: format!(
                "to keep its home takes up to {} MB of the host's disk, which has {} MB left",
                needed >> 20,
                free >> 20
            ),
        })
    }

    /// Shuts the VM down; one that sleeps is woken for that, since what its guest has not written is in its memory.
    async fn put_off(&self, wanted: &Wanted<'_>) -> Result<(), EngineError> {
        let Wanted { vm, paths, spec, guest, patience, .. } = *wanted;
        for _ in 0..STOP_TRIES {
            if matches!(self.observe_at(paths).await?, Observed::Asleep { .. } | Observed::Waking) {
                self.bring_up(vm, spec, guest, paths).await?;
            }
            match self.shut_down(paths, patience).await {
                // It fell asleep in the meantime.
                Err(EngineError::NotRunning) => sleep(LOOK_EVERY).await,
                ended => return ended,
            }
        }
        Err(EngineError::NotRunning)
    }

    /// Puts a guest to sleep where it lasts; or off, where it cannot sleep.
    async fn lay_down(&self, paths: &VmPaths, patience: Duration) -> Result<(), EngineError> {
        let deadline = Instant::now() + SLEEPS_WITHIN;
        loop {
            let Some(shim) = Shim::find(paths).await? else { return Err(failed(None)) };
            match shim.tell(Request::Sleep).await {
                Ok(Asked::Told(())) => return self.settled(paths).await,
                Ok(Asked::Gone) => return Err(failed(None)),
                Err(EngineError::InUse) if Instant::now() < deadline => sleep(LOOK_EVERY).await,
                Err(error) => {
                    tracing::info!(%error, "what was made anew is off and not asleep");
                    return self.shut_down(paths, patience).await;
                }
            }
        }
    }

    /// Waits until a sleep is on the disk and nobody is there for it.
    async fn settled(&self, paths: &VmPaths) -> Result<(), EngineError> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        while let Some(shim) = Shim::find(paths).await? {
            if paths.cold().record().exists() && !paths.warm().record().exists() {
                // It need not wait for connections that nobody has any more.
                let _gone_or_asked = shim.let_go().await?;
            } else if Instant::now() >= deadline {
                return Err(broken(
                    "the sleep of what was made anew cannot be copied to the disk".to_owned(),
                ));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

/// Has a guest that runs take over the home of the disk under its view, and be small.
async fn take_home(made: &VmPaths) -> Result<(), EngineError> {
    let Some(shim) = Shim::find(made).await? else { return Err(failed(None)) };
    let Asked::Told(()) = shim.tell(Request::TakeHome { disk: made.view() }).await? else {
        return Err(failed(None));
    };
    // What it has read for that need not be in its sleep.
    if let Some(shim) = Shim::find(made).await?
        && let Err(error) = shim.tell(Request::Tidy).await
    {
        tracing::debug!(%error, "what was made anew is not tidied up");
    }
    Ok(())
}

fn unusable(error: &io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            EngineError::NoRoom { reason: "the host's disk is full".to_owned() }
        }
        _ => broken(format!("what VMs are made anew from cannot be used: {error}")),
    }
}
