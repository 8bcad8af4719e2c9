//! How it comes that nobody runs a VM.

use std::time::Duration;

use berth_engine::{Ending, EngineError, Observed};
use tokio::{
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{QemuEngine, broken};
use crate::{
    client::{Asked, Shim, observe_off},
    ending,
    lock::VmLock,
    paths::{VmPaths, remove_file, remove_tree},
    protocol::Request,
    sleep as asleep,
};

/// Beyond the patience that was asked for, until a shim that has not ended its VM is killed itself.
const END_WITHIN: Duration = Duration::from_secs(40);
/// A shim that has nothing to end.
const LET_GO_WITHIN: Duration = Duration::from_secs(10);

/// Removes what a shim has left that it may not remove from its sandbox, unless somebody runs the VM again.
pub(super) async fn tidy_up(paths: &VmPaths) {
    let Ok(Some(_held)) = VmLock::take(paths, Duration::ZERO).await else { return };
    drop(remove_file(&paths.socket));
    // Refused where a sleep is in it.
    drop(std::fs::remove_dir(&paths.memory));
}

impl QemuEngine {
    /// See [`berth_engine::Engine::stop`].
    pub(super) async fn shut_down(&self, paths: &VmPaths, patience: Duration) -> Result<(), EngineError> {
        if let Observed::Asleep { .. } = self.observe_at(paths).await? {
            return Err(EngineError::NotRunning);
        }
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.end(paths, Request::Stop { patience_ms }, patience.saturating_add(END_WITHIN)).await?;
        // One that was still waking has not.
        if asleep::is_asleep(paths) { Err(EngineError::NotRunning) } else { Ok(()) }
    }

    /// Has nobody run the VM any more. One that sleeps goes on sleeping.
    pub(super) async fn kill(&self, paths: &VmPaths) -> Result<(), EngineError> {
        self.end(paths, Request::Kill, END_WITHIN).await
    }

    /// What is to be told when the shim was gone before it answered whether the VM sleeps.
    pub(super) fn slept(&self, paths: &VmPaths) -> Result<(), EngineError> {
        match observe_off(paths) {
            Observed::Asleep { .. } => Ok(()),
            Observed::Missing => Err(EngineError::Missing),
            _ => Err(EngineError::NotRunning),
        }
    }

    /// See [`berth_engine::Engine::forget_sleep`].
    pub(super) async fn forget(&self, paths: &VmPaths) -> Result<(), EngineError> {
        if let Some(shim) = Shim::find(paths).await? {
            match shim.let_go().await? {
                Some(Asked::Told(())) => {
                    if !self.ended(paths, LET_GO_WITHIN).await? {
                        return Err(broken("the VM's shim does not end".to_owned()));
                    }
                }
                Some(Asked::Gone) => {}
                // It is not asleep.
                None => return Ok(()),
            }
        }
        self.alone_with(paths, |paths| {
            if asleep::is_asleep(paths) {
                ending::write(paths, &Ending::Killed)?;
                asleep::forget(paths)?;
            }
            Ok(())
        })
        .await?;
        self.count();
        Ok(())
    }

    /// Frees the memory of a VM that neither runs nor sleeps there.
    pub(super) async fn clear_memory(&self, paths: &VmPaths) -> Result<(), EngineError> {
        self.alone_with(paths, |paths| {
            if paths.warm().record().exists() { Ok(()) } else { remove_tree(&paths.memory) }
        })
        .await
    }

    /// Does something that blocks to a VM that nobody runs, and that nobody can start meanwhile.
    pub(super) async fn alone_with(
        &self,
        paths: &VmPaths,
        work: impl FnOnce(&VmPaths) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), EngineError> {
        let refused =
            |error: std::io::Error| broken(format!("{} cannot be used: {error}", paths.dir.display()));
        let lock = match VmLock::take(paths, LET_GO_WITHIN).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(refused)?,
        };
        let Some(lock) = lock else { return Err(broken("the VM was started meanwhile".to_owned())) };
        let here = paths.clone();
        let done = spawn_blocking(move || {
            let done = work(&here);
            drop(lock);
            done
        });
        done.await.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(refused)
    }

    /// Returns when nobody runs the VM any more, or `within` is over (`false`).
    pub(super) async fn ended(&self, paths: &VmPaths, within: Duration) -> Result<bool, EngineError> {
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
}
