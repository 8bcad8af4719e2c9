//! From a proof to a stream: waking what has to be woken, telling the person who waits.

use std::{convert::Infallible, net::IpAddr, time::Duration};

use berth_engine::{EngineError, Stream};
use berth_model::{VmId, VmName};
use berth_store::NewAudit;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use crate::{
    Control,
    access::Entry,
    activity::{Counted, Measured},
    error::ConnectError,
    greeting::greeted,
    ledger::Record,
    lifecycle::{Refusal, State},
    room::Queued,
    status::{Status, shown},
    supervisor::Handle,
};

/// How often a VM that turns out not to run after all is started again for one connection: a guest that reboots while
/// somebody connects is waited for, one that reboots for ever is not.
const TRIES: u32 = 3;
/// A VM that runs has an sshd. One that refuses, or hangs up without a word, is on its way down or starting, which the engine
/// sees a moment later.
const SSH: u16 = 22;
/// How often, and with which pauses, such an sshd is tried.
const SSH_TRIES: u32 = 20;
const SSH_PAUSE: Duration = Duration::from_millis(500);
/// The same for a site of a VM that has only just been brought up, where its server may be starting too.
const SITE_TRIES: u32 = 10;
const SITE_PAUSE: Duration = Duration::from_millis(300);
/// RFC 4253, 4.2: 255 bytes with the line's end.
const MAX_IDENTIFICATION: usize = 253;

/// What somebody who waits for a VM is told. Nothing is told of a VM that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The VM does not run and is being started or woken.
    Starting {
        /// Which VM.
        vm: VmName,
        /// What it was doing.
        was: Status,
        /// How long its last boot took; `None` for one that wakes.
        usual: Option<Duration>,
    },
    /// The host has no memory for it right now: it keeps its place in the queue, and this is told again when the queue
    /// moves.
    Queued {
        /// Which VM.
        vm: VmName,
        /// So many others came first.
        ahead: usize,
        /// What there is and who has it: a clause without a full stop.
        reason: String,
    },
    /// It runs now.
    Ready {
        /// Which VM.
        vm: VmName,
        /// How long this start took, or the part of it that was waited for.
        took: Duration,
    },
}

/// What becomes of a VM that is off when somebody connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfOff {
    /// It is started.
    Start,
    /// It stays off.
    Refuse,
    /// So it does, and one that sleeps sleeps on.
    Leave,
}

/// Where a connection goes.
pub(crate) struct Target<'a> {
    pub(crate) vm: &'a VmName,
    pub(crate) id: VmId,
    pub(crate) port: u16,
    /// Whom it is put down to.
    pub(crate) by: String,
    /// The address that it comes from.
    pub(crate) from: IpAddr,
    pub(crate) if_off: IfOff,
    /// What is written down of it when it ends; nothing of visits to sites, which strangers make.
    pub(crate) event: Option<NewAudit>,
    pub(crate) counted: Counted,
}

/// Where an entry leads.
pub(crate) fn target(entry: &Entry) -> Target<'_> {
    let target = Target {
        vm: entry.vm(),
        id: entry.id(),
        port: entry.port(),
        by: entry.account().to_string(),
        from: entry.from(),
        if_off: IfOff::Start,
        event: Some(entry.event()),
        counted: Counted::AsUse,
    };
    match entry.watcher() {
        // The owner's own connection keeps the VM awake or does not, and those who watch are in the trail by name.
        Some(watcher) => Target {
            by: format!("{watcher}, who watches"),
            if_off: IfOff::Leave,
            event: None,
            counted: Counted::No,
            ..target
        },
        None => target,
    }
}

impl Control {
    /// Opens a connection to what `entry` allows. A VM that is off is started first, and `progress` is told: nobody has
    /// to listen, and a full channel is skipped.
    ///
    /// What a guest gets fails to read and to write once [`Entry::ended`] has.
    ///
    /// Dropping the future does not take a start back.
    ///
    /// # Errors
    /// The VM does not start, nothing listens there, or the VM is gone, or not shared any more.
    pub async fn connect(
        &self,
        entry: &Entry,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Box<dyn Stream>, ConnectError> {
        let target = target(entry);
        tokio::select! {
            biased;
            () = entry.ended() => Err(ConnectError::NotShared { vm: entry.vm().clone() }),
            stream = self.connection_to(&target, &progress) => Ok(entry.tie(stream?)),
        }
    }

    /// A stream with an eye on it, put down to whom it is for.
    pub(crate) fn measured(&self, handle: &Handle, stream: Box<dyn Stream>, target: &Target<'_>) -> Measured {
        let by = target.by.clone();
        let measured = handle.activity.measured(stream, by, target.from, target.port, target.counted);
        let (ledger, clock) = (self.tools.ledger.clone(), self.settings.clock);
        measured.recorded(target.event.clone().map(|event| Record { ledger, clock, event }))
    }

    /// Opens a connection for which there is a proof.
    pub(crate) async fn connection_to(
        &self,
        target: &Target<'_>,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<Box<dyn Stream>, ConnectError> {
        let Target { vm, port, .. } = *target;
        let removed = || ConnectError::Removed { vm: vm.clone() };
        let handle = self.handle(vm).filter(|handle| handle.id == target.id).ok_or_else(removed)?;
        // From here on the VM does not fall asleep before the connection is made.
        let _connecting = handle.activity.connecting();
        let was_up = handle.state() == State::Running;
        let (mut tries, mut refused) = (0, 0);
        loop {
            let stays = match target.if_off {
                IfOff::Start => false,
                IfOff::Refuse => matches!(handle.state(), State::Off { .. } | State::Stopping { .. }),
                IfOff::Leave => handle.state() != State::Running,
            };
            if stays {
                return Err(ConnectError::Stopped { vm: vm.clone() });
            }
            self.bring_up(&handle, progress).await.map_err(|refusal| ConnectError::refused(vm, refusal))?;
            match self.engine.dial(&handle.id, port).await {
                Ok(stream) => match if port == SSH { greeted(stream).await } else { Some(stream) } {
                    Some(stream) => return Ok(Box::new(self.measured(&handle, stream, target))),
                    None if refused < SSH_TRIES => {
                        refused += 1;
                        sleep(SSH_PAUSE).await;
                    }
                    None => return Err(ConnectError::Silent { vm: vm.clone(), port }),
                },
                // It stopped or rebooted a moment ago, and its supervisor does not know yet.
                Err(EngineError::NotRunning | EngineError::Missing) if tries < TRIES => tries += 1,
                Err(EngineError::Refused { port: SSH }) if refused < SSH_TRIES => {
                    refused += 1;
                    sleep(SSH_PAUSE).await;
                }
                Err(EngineError::Refused { .. })
                    if target.if_off == IfOff::Refuse && !was_up && refused < SITE_TRIES =>
                {
                    refused += 1;
                    sleep(SITE_PAUSE).await;
                }
                Err(error) => return Err(not_dialled(vm, port, error)),
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
        self.bring_up_by(handle, progress, handle.start()).await
    }

    /// Waits until `start`, which was asked of the VM's supervisor, has brought it up.
    pub(crate) async fn bring_up_by(
        &self,
        handle: &Handle,
        progress: &mpsc::Sender<Progress>,
        start: impl Future<Output = Result<(), Refusal>>,
    ) -> Result<(), Refusal> {
        if handle.state() == State::Running {
            return Ok(());
        }
        let began = Instant::now();
        let (was, _) = shown(&handle.state());
        let boots = !matches!(was, Status::Running | Status::Asleep | Status::Waking);
        let row = self.store.vm(&handle.name).await.ok().flatten();
        let usual = row.and_then(|row| row.last_boot).filter(|_| boots);
        let _ = progress.try_send(Progress::Starting { vm: handle.name.clone(), was, usual });
        tokio::select! {
            biased;
            started = start => started?,
            never = tell_of_the_queue(handle, progress) => match never {},
        }
        // A key that was added while the VM started may be the very one that comes next.
        handle.await_keys().await;
        let _ = progress.try_send(Progress::Ready { vm: handle.name.clone(), took: began.elapsed() });
        Ok(())
    }

    /// The identification line of the VM's sshd as last seen (RFC 4253, 4.2), without the line's end.
    pub async fn identification(&self, entry: &Entry) -> Option<String> {
        let row = self.store.vm(entry.vm()).await.ok().flatten()?;
        row.identification.filter(|_| row.id == entry.id())
    }

    /// Keeps the identification line that the VM's sshd has just sent. One that is none is not kept.
    pub async fn note_identification(&self, entry: &Entry, line: &str) {
        let is_one = line.starts_with("SSH-")
            && line.len() <= MAX_IDENTIFICATION
            && line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if is_one
            && self.identification(entry).await.as_deref() != Some(line)
            && let Err(error) = self.store.set_identification(entry.id(), line).await
        {
            tracing::warn!(vm = %entry.vm(), %error, "its identification line was not written down");
        }
    }
}

/// Tells whoever waits each time that the queue for the host's memory moves, for ever.
async fn tell_of_the_queue(handle: &Handle, progress: &mpsc::Sender<Progress>) -> Infallible {
    let mut queued = handle.queued();
    let mut told = None;
    loop {
        let now = queued.borrow_and_update().clone();
        if let Some(Queued { ahead, reason }) = now
            && told != Some(ahead)
        {
            told = Some(ahead);
            let _ = progress.try_send(Progress::Queued { vm: handle.name.clone(), ahead, reason });
        }
        if queued.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn not_dialled(vm: &VmName, port: u16, error: EngineError) -> ConnectError {
    let vm = vm.clone();
    match error {
        EngineError::Refused { .. } => ConnectError::Refused { vm, port },
        EngineError::TimedOut => ConnectError::Silent { vm, port },
        EngineError::Missing | EngineError::NotRunning => ConnectError::Stopped { vm },
        EngineError::StartFailed { reason } => ConnectError::StartFailed { vm, reason },
        EngineError::WakeFailed { reason } => ConnectError::WakeFailed { vm, reason },
        EngineError::InUse | EngineError::Away { .. } => {
            ConnectError::Unavailable { vm, reason: error.to_string() }
        }
        EngineError::NoRoom { reason } | EngineError::Unfit { reason } | EngineError::Broken { reason } => {
            // The operator's affair, as where there are too few files.
            tracing::warn!(%vm, port, reason, "a VM cannot be connected to");
            ConnectError::Unavailable { vm, reason }
        }
    }
}
