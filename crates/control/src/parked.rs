//! A connection into a VM that is for nobody yet: dialled while nobody waits, so that it can be logged in to, and given to
//! whoever of its account comes next.
//!
//! Until then it is no use of the VM, holds nothing awake, and stands in no list and no trail. It ends with what allowed
//! it: with the key of who was there when it was made, and with the share. From the moment that it is taken up it is a
//! connection as [`Control::connect`] makes them, of who took it, and what allowed it before means nothing to it.
//!
//! It is stale as soon as anybody has used the VM: a guest reads groups, limits and the settings of its sshd when somebody
//! logs in, and who has just changed them is to meet the change.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use berth_engine::Stream;
use berth_model::VmName;
use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, watch},
    time::sleep,
};

use crate::{
    Control,
    access::{Entry, Login},
    connect::{Progress, target},
    error::ConnectError,
    lifecycle::State,
    supervisor::Handle,
    tether::Tethered,
};

/// A connection that waits. Clones are the same one.
#[derive(Clone)]
pub struct Parked {
    login: Login,
    entry: Entry,
    /// Changes when the VM is used.
    changes: watch::Receiver<u64>,
    slot: Arc<Mutex<Slot>>,
}

/// The stream of one.
struct Slot {
    stream: Held,
    /// Who reads is woken when somebody has taken it up, so that it sees what ends it from then on.
    reader: Option<Waker>,
}

enum Held {
    /// Until what allowed it ends.
    Waiting(Tethered),
    TakenUp(Box<dyn Stream>),
    /// It changes hands in this moment, or it has ended.
    Neither,
}

struct ParkedStream(Arc<Mutex<Slot>>);

impl Parked {
    /// Waits until what allowed it ends, before anybody has taken it up. Its stream fails then.
    pub async fn ended(&self) {
        tokio::select! {
            () = self.login.ended() => {}
            () = self.entry.ended() => {}
        }
    }

    /// Whether anybody has used the VM since it was made.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.changes.has_changed().unwrap_or(true)
    }

    /// Waits until it is stale.
    pub async fn staled(&self) {
        // An error is a VM that is gone.
        let _ = self.changes.clone().changed().await;
    }

    /// Gives the stream itself to `wrap`, once.
    fn hand_over(&self, wrap: impl FnOnce(Box<dyn Stream>) -> Box<dyn Stream>) -> bool {
        let mut slot = lock(&self.slot);
        match std::mem::replace(&mut slot.stream, Held::Neither) {
            Held::Waiting(tethered) => {
                slot.stream = Held::TakenUp(wrap(tethered.into_inner()));
                if let Some(reader) = slot.reader.take() {
                    reader.wake();
                }
                true
            }
            other => {
                slot.stream = other;
                false
            }
        }
    }
}

impl Control {
    /// Waits until nobody has used a VM for so long; `false` as soon as it does not run.
    pub async fn left_alone(&self, vm: &VmName, quiet: Duration) -> bool {
        while let Some(handle) = self.handle(vm).filter(|handle| handle.state() == State::Running) {
            let left = quiet.saturating_sub(handle.activity.unused_for());
            if left.is_zero() {
                return true;
            }
            drop(handle);
            sleep(left).await;
        }
        false
    }

    /// Opens a connection that waits. `None` where the VM does not run, since none is started or woken for it, and where
    /// it does not answer.
    pub async fn park(&self, login: &Login, entry: &Entry) -> Option<(Parked, Box<dyn Stream>)> {
        let handle = self.handle(entry.vm()).filter(|handle| handle.id == entry.id())?;
        if handle.state() != State::Running {
            return None;
        }
        let changes = handle.activity.changes();
        let stream = self.engine.dial(&handle.id, entry.port()).await.ok()?;
        let tethered = Tethered::new(stream, || over(login, entry));
        let slot = Arc::new(Mutex::new(Slot { stream: Held::Waiting(tethered), reader: None }));
        let (login, entry) = (login.clone(), entry.clone());
        let parked = Parked { login, entry, changes, slot: slot.clone() };
        Some((parked, Box::new(ParkedStream(slot))))
    }

    /// Makes a connection that waited one that `entry` allows, as [`Control::connect`] would have: a VM that sleeps is
    /// woken, and `progress` told. `false` where it is stale, another's, or may do something else: it is for nothing then.
    ///
    /// # Errors
    /// As there.
    pub async fn take_up(
        &self,
        entry: &Entry,
        parked: &Parked,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<bool, ConnectError> {
        let fits = |handle: &Handle| handle.id == entry.id() && handle.id == parked.entry.id();
        let Some(handle) = self.handle(entry.vm()).filter(fits) else { return Ok(false) };
        let _connecting = handle.activity.connecting();
        let whose = |entry: &Entry| (entry.account().clone(), entry.port(), entry.permits());
        if whose(entry) != whose(&parked.entry) || parked.is_stale() {
            return Ok(false);
        }
        let refused = |refusal| ConnectError::refused(entry.vm(), refusal);
        tokio::select! {
            biased;
            () = entry.ended() => return Err(ConnectError::NotShared { vm: entry.vm().clone() }),
            up = self.bring_up(&handle, progress) => up.map_err(refused)?,
        }
        // While it woke somebody else may have come.
        Ok(!parked.is_stale()
            && parked.hand_over(|stream| {
                let measured = self.measured(&handle, stream, &target(entry));
                entry.tie(Box::new(measured))
            }))
    }
}

fn over(login: &Login, entry: &Entry) -> BoxFuture<'static, ()> {
    let (login, entry) = (login.clone(), entry.clone());
    Box::pin(async move {
        tokio::select! {
            () = login.ended() => {}
            () = entry.ended() => {}
        }
    })
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    fn stream(&mut self) -> io::Result<Pin<&mut dyn Stream>> {
        match &mut self.stream {
            Held::Waiting(tethered) => Ok(Pin::new(tethered)),
            Held::TakenUp(stream) => Ok(Pin::new(&mut **stream)),
            Held::Neither => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

/// Whoever holds the stream ends the connection by dropping it, taken up or not.
impl Drop for ParkedStream {
    fn drop(&mut self) {
        lock(&self.0).stream = Held::Neither;
    }
}

impl AsyncRead for ParkedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut slot = lock(&self.0);
        if matches!(slot.stream, Held::Waiting(_)) {
            slot.reader = Some(cx.waker().clone());
        }
        slot.stream()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for ParkedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).stream()?.poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).stream()?.poll_shutdown(cx)
    }
}
