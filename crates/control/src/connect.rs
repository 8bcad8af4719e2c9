//! From a proof to a stream: waking what has to be woken, telling the person who waits.

use std::time::Duration;

use berth_engine::{EngineError, Stream};
use berth_model::VmName;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use crate::{
    Control,
    access::Entry,
    error::ConnectError,
    lifecycle::{Refusal, State},
    status::{Status, shown},
    supervisor::Handle,
};

/// How often a VM that turns out not to run after all is started again for one connection: a guest that reboots while
/// somebody connects is waited for, one that reboots for ever is not.
const TRIES: u32 = 3;
/// A VM that runs has an sshd. One that refuses is on its way down or starting, which the engine sees a moment later.
const SSH: u16 = 22;
/// How often, and with which pauses, such an sshd is tried.
const SSH_TRIES: u32 = 20;
const SSH_PAUSE: Duration = Duration::from_millis(500);

/// What somebody who waits for a VM is told. Nothing is told of a VM that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The VM does not run and is being started.
    Starting {
        /// Which VM.
        vm: VmName,
        /// What it was doing.
        was: Status,
        /// How long its last start took.
        usual: Option<Duration>,
    },
    /// It runs now.
    Ready {
        /// Which VM.
        vm: VmName,
        /// How long this start took, or the part of it that was waited for.
        took: Duration,
    },
}

impl Control {
    /// Opens a connection to what `entry` allows. A VM that is off is started first, and `progress` is told: nobody has
    /// to listen, and a full channel is skipped.
    ///
    /// Dropping the future does not take a start back.
    ///
    /// # Errors
    /// The VM does not start, nothing listens there, or the VM is gone.
    pub async fn connect(
        &self,
        entry: &Entry,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Box<dyn Stream>, ConnectError> {
        let vm = entry.vm();
        let removed = || ConnectError::Removed { vm: vm.clone() };
        let handle = self.handle(vm).filter(|handle| handle.id == entry.id()).ok_or_else(removed)?;
        let (mut tries, mut ssh_tries) = (0, 0);
        loop {
            self.bring_up(&handle, &progress).await.map_err(|refusal| ConnectError::refused(vm, refusal))?;
            match self.engine.dial(&handle.id, entry.port()).await {
                Ok(stream) => return Ok(stream),
                // It stopped or rebooted a moment ago, and its supervisor does not know yet.
                Err(EngineError::NotRunning | EngineError::Missing) if tries < TRIES => tries += 1,
                Err(EngineError::Refused { port: SSH }) if ssh_tries < SSH_TRIES => {
                    ssh_tries += 1;
                    sleep(SSH_PAUSE).await;
                }
                Err(error) => return Err(not_dialled(entry, error)),
            }
            handle.look_again().await;
        }
    }

    /// Waits until the VM runs.
    pub(crate) async fn bring_up(
        &self,
        handle: &Handle,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<(), Refusal> {
        if handle.state() == State::Running {
            return Ok(());
        }
        let began = Instant::now();
        let usual = self.store.vm(&handle.name).await.ok().flatten().and_then(|row| row.last_boot);
        let (was, _) = shown(&handle.state());
        let _ = progress.try_send(Progress::Starting { vm: handle.name.clone(), was, usual });
        handle.start().await?;
        // A key that was added while the VM started may be the very one that comes next.
        handle.await_keys().await;
        let _ = progress.try_send(Progress::Ready { vm: handle.name.clone(), took: began.elapsed() });
        Ok(())
    }
}

fn not_dialled(entry: &Entry, error: EngineError) -> ConnectError {
    let (vm, port) = (entry.vm().clone(), entry.port());
    match error {
        EngineError::Refused { .. } => ConnectError::Refused { vm, port },
        EngineError::TimedOut => ConnectError::Silent { vm, port },
        EngineError::Missing | EngineError::NotRunning => ConnectError::Stopped { vm },
        EngineError::StartFailed { reason } => ConnectError::StartFailed { vm, reason },
        EngineError::NoRoom { reason } | EngineError::Broken { reason } => {
            ConnectError::Unavailable { vm, reason }
        }
    }
}
