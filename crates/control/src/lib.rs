//! Who may, what state, when.
//!
//! Owns the rules: what a key lets its owner do ([`access`](Login)), what follows what in the life of a VM, and that
//! there is one writer for each VM. Owns no SQL, no process and no socket: `berth-store` keeps the facts, a
//! `berth_engine::Engine` runs the VMs, the gateway and the website are the ways in.
//!
//! ```text
//!   gateway, web, admin ──► Control ──┬─► Store            accounts, keys, VMs: facts
//!                                     └─► Supervisor (one task a VM) ──► Engine
//! ```
//!
//! Concurrency: every method may be called at any time by anybody. What changes a VM goes through its supervisor, one
//! thing after the other; what changes accounts and keys is one statement or transaction of the store.

mod access;
mod accounts;
mod connect;
mod error;
mod guest;
mod keys;
mod lifecycle;
mod revocation;
mod settings;
mod status;
mod supervisor;
mod vms;

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use berth_engine::{Ending, Engine, Observed};
use berth_model::{VmId, VmName};
use berth_store::{Store, VmRow};
use futures::{FutureExt, future::BoxFuture};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

pub use access::{Entry, Login};
pub use accounts::AccountInfo;
pub use connect::Progress;
pub use error::{ConnectError, EntryError, Error, Kind, LoginError};
pub use keys::{AddedKey, KeyInfo, KeyUse};
pub use settings::Settings;
pub use status::Status;
pub use vms::VmInfo;

use crate::{
    revocation::Revocations,
    supervisor::{Handle, Supervisor, Tools},
};

/// The use cases of Berth. One a server, handed around in an [`Arc`].
pub struct Control {
    settings: Arc<Settings>,
    store: Store,
    engine: Arc<dyn Engine>,
    tools: Arc<Tools>,
    revocations: Revocations,
    /// The supervisors of all VMs that are not removed.
    handles: Mutex<BTreeMap<VmName, Handle>>,
    tasks: TaskTracker,
}

impl Control {
    /// Takes up the work where the last server left it: finds the VMs that run, finishes removals that were asked for,
    /// and supervises every VM.
    ///
    /// # Errors
    /// The store fails.
    pub async fn open(settings: Settings, store: Store, engine: Arc<dyn Engine>) -> Result<Arc<Self>, Error> {
        let settings = Arc::new(settings);
        let tools =
            Arc::new(Tools { store: store.clone(), engine: engine.clone(), settings: settings.clone() });
        let control = Arc::new(Self {
            settings,
            store,
            engine,
            tools,
            revocations: Revocations::default(),
            handles: Mutex::default(),
            tasks: TaskTracker::new(),
        });
        for row in control.store.vms(None).await? {
            let removing = row.removing_at.is_some();
            let handle = control.supervise(&row).await;
            if removing {
                info!(vm = %row.name, "finishing its removal");
                control.tasks.spawn(async move { handle.remove().await });
            }
        }
        control.name_strangers().await;
        Ok(control)
    }

    /// Ends the supervisors. VMs run on, and so does a start or a stop as far as the engine carries it alone.
    pub async fn close(&self) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// What the operator decided.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The supervisor of a VM.
    fn handle(&self, vm: &VmName) -> Option<Handle> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).get(vm).cloned()
    }

    /// The supervisors of all VMs for which `which` holds.
    fn handles_where(&self, which: impl Fn(&VmName) -> bool) -> Vec<Handle> {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.values().filter(|handle| which(&handle.name)).cloned().collect()
    }

    /// Does work whose parts belong together to its end, also when whoever asked for it goes away half-way.
    async fn to_the_end<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match self.tasks.spawn(work).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is being shut down, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        }
    }

    /// Looks at a VM and starts its supervisor.
    async fn supervise(self: &Arc<Self>, row: &VmRow) -> Handle {
        let observed = match self.engine.observe(&row.id).await {
            Ok(observed) => observed,
            Err(error) => {
                warn!(vm = %row.name, %error, "the VM cannot be looked at");
                // A start finds out what is true: it does nothing to a VM that runs.
                Observed::Off { ended: Some(Ending::Failed { reason: error.to_string() }) }
            }
        };
        let (handle, supervisor) = Supervisor::new(self.tools.clone(), row, observed);
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).insert(row.name.clone(), handle.clone());
        let (control, id, name) = (Arc::downgrade(self), row.id, row.name.clone());
        self.tasks.spawn(async move {
            let ended = AssertUnwindSafe(supervisor.run()).catch_unwind().await;
            let Some(control) = control.upgrade() else { return };
            if ended.is_err() {
                error!(vm = %name, "its supervisor failed and is replaced");
                control.supervise_again(id, name).await;
            } else {
                control.forget(id, &name);
            }
        });
        handle
    }

    /// After a failure that should not be: a new supervisor finds out what is true. Boxed, since it leads to itself.
    fn supervise_again(self: Arc<Self>, id: VmId, name: VmName) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Not faster than somebody can read the log.
            sleep(Duration::from_secs(1)).await;
            match self.store.vm(&name).await {
                Ok(Some(row)) if row.id == id => drop(self.supervise(&row).await),
                Ok(_) => self.forget(id, &name),
                Err(error) => {
                    error!(vm = %name, %error, "it is not supervised until the server is restarted");
                    self.forget(id, &name);
                }
            }
        })
    }

    /// Drops the handle of a VM, unless the name is a newer VM's by now.
    fn forget(&self, id: VmId, name: &VmName) {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if handles.get(name).is_some_and(|handle| handle.id == id) {
            handles.remove(name);
        }
    }

    /// What the engine has and the store does not know is left alone and named in the log: it may be the only copy of
    /// somebody's work, for example after a restored backup.
    async fn name_strangers(&self) {
        let known: Vec<_> = self.handles_where(|_| true).into_iter().map(|handle| handle.id).collect();
        match self.engine.list().await {
            Ok(all) => {
                for id in all.into_iter().filter(|id| !known.contains(id)) {
                    warn!(%id, "the engine has a VM that the database does not know; it is left alone");
                }
            }
            Err(error) => warn!(%error, "the engine's VMs cannot be listed"),
        }
    }
}
