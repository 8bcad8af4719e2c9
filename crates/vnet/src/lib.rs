//! A VM's private network: one guest, one host, a wire between them, and nothing else.
//!
//! ```text
//!   guest ── virtio-net ── QEMU ══ unix stream ══ driver ── link ── stack ── Stream
//!                                  (frames)       (task)    ARP,    TCP      dial(port)
//!                                                           NDP,
//!                                                           DHCP
//! ```
//!
//! QEMU's arguments: `-netdev stream,id=gw,server=off,addr.type=unix,addr.path=…` and
//! `-device virtio-net-pci,netdev=gw,mac=…,host_mtu=…,romfile=`, with [`GUEST_MAC`] and [`MTU`].
//!
//! Owned here: the bytes on that stream, the host's end of TCP, the guest's addresses (169.254.77.2/30 by DHCP
//! without a router, and the link-local IPv6 address that the guest makes of its MAC). Not owned: QEMU, the
//! listening socket, who may dial what.
//!
//! The guest is not trusted. It may send any bytes: it can harm its own connections, but not grow memory, not
//! keep the task from yielding, and reach nothing, since nothing listens on the host's addresses and nothing is
//! forwarded.
//!
//! A guest may sleep: [`Network::freeze`] stops the clock of the host's end of TCP as the guest's is stopped, and
//! [`Network::reattach`] lets both run on over another QEMU, with every stream as it was. The way of its calls:
//!
//! ```text
//!   QMP stop ─ freeze ─ is_pending? ─ migrate ─ is_called? ─ quit … called ─ migrate-incoming ─ reattach ─ cont
//!                            └───── yes: thaw, cont ────┘
//! ```
//!
//! Concurrency: one task (the driver) owns the wire; it and the streams share the stack under a short lock. All
//! of it may run on a single thread.

use std::{sync::Arc, time::Duration};

use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

mod clock;
mod dhcp;
mod dial;
mod driver;
mod frame;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod link;
mod port;
mod shared;
mod stack;
mod stream;

pub use dial::DialError;
use shared::Phase;
pub use stream::Stream;

/// The MAC address that every guest's NIC must have; locally administered. Networks are private, so that all
/// guests may share it, and a guest's memory may wake up as another VM.
pub const GUEST_MAC: [u8; 6] = [0x02, 0x62, 0x74, 0x68, 0x00, 0x02];

/// Bytes of IP in a frame, for `host_mtu`. With the Ethernet header a frame stays just under 64 KiB.
pub const MTU: usize = 65520;

/// A VM's network. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Network {
    handle: Arc<Handle>,
}

impl Network {
    /// Starts a network with no guest on it. Its task ends when the last handle and the last [`Stream`] are
    /// dropped, and what streams wrote is delivered or the guest no longer takes it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(tracker: &TaskTracker) -> Self {
        let shared = Arc::new(shared::Shared::new());
        tracker.spawn(driver::run(shared.clone()));
        Self { handle: Arc::new(Handle { shared }) }
    }

    /// Puts a guest on the network: `connection` is the stream that QEMU opened. One that is already there is
    /// replaced, frozen or not. When a guest goes away that is not [frozen](Self::freeze), or sends what is not a frame, streams to it see a reset, after what
    /// they had received.
    pub fn attach(&self, connection: UnixStream) {
        self.handle.shared.attach(connection);
    }

    /// Takes the guest off the network: it is gone for good, frozen or not. Streams see a reset, after what they
    /// had received.
    pub fn detach(&self) {
        self.handle.shared.detach();
    }

    /// Stops the network's time for a guest that was stopped just before, so that neither end of a stream sees
    /// any pass: what the guest had sent by then is taken in, then nothing is received or sent any more. QEMU
    /// may close its connection from now on without harm to a stream.
    ///
    /// Until [`thaw`](Self::thaw) or [`reattach`](Self::reattach), streams give what they had received and take
    /// what their buffer holds, [`dial`](Self::dial) fails at once, and no timer runs. Dials that had begun
    /// wait, each until its deadline. Returns when the network is frozen, at once if it is already. Dropping the
    /// future does not take the freeze back.
    ///
    /// A guest that turns out not to come back is to be [detached](Self::detach).
    pub async fn freeze(&self) {
        self.handle.shared.freeze().await;
    }

    /// Goes on over the connection that was there: the freeze is given up, or the same QEMU runs again. Does
    /// nothing if the network is not frozen.
    ///
    /// What is unconfirmed is sent again at once: a QEMU that stops drops what it holds.
    pub fn thaw(&self) {
        self.handle.shared.thaw();
    }

    /// Goes on with the same guest over a new QEMU's connection; the old one is let go. To be called before the
    /// guest runs. If the network is not frozen this is [`attach`](Self::attach).
    ///
    /// What is unconfirmed is sent again at once: it may have been lost with the old QEMU.
    pub fn reattach(&self, connection: UnixStream) {
        self.handle.shared.reattach(connection);
    }

    /// Whether the guest has yet to confirm something: bytes or the end of a stream, or a dial in progress.
    /// What the guest sent and nobody has read, or what is on its way to it as a mere acknowledgement, does not
    /// count, nor do bytes that the guest's program does not take, once nothing has moved for ten seconds between two
    /// calls of this: they are kept, and a sleep does them no harm.
    pub fn is_pending(&self) -> bool {
        let mut state = self.handle.shared.lock();
        let now = state.clock.now();
        state.stack.is_pending(now)
    }

    /// Whether there is something new for the guest since the network froze: a stream was written to, shut down
    /// or dropped. What was [pending](Self::is_pending) already does not count.
    pub fn is_called(&self) -> bool {
        self.handle.shared.lock().phase() == Phase::Called
    }

    /// Waits until [`is_called`](Self::is_called); for ever if the network is neither frozen nor going to be.
    pub async fn called(&self) {
        self.handle.shared.until(|phase| *phase == Phase::Called).await;
    }

    /// How many streams there are: those being dialled, those open, and those dropped whose end is not delivered
    /// yet, which a frozen network cannot do.
    pub fn streams(&self) -> usize {
        *self.handle.shared.lock().stack.count().borrow()
    }

    /// Waits until there are no [`streams`](Self::streams).
    pub async fn deserted(&self) {
        let mut count = self.handle.shared.lock().stack.count();
        // The sender is in `self`.
        let _ = count.wait_for(|count| *count == 0).await;
    }

    /// Connects to a TCP port of the guest, by IPv6 or IPv4, whichever accepts.
    ///
    /// A guest that does not answer yet is tried until `deadline` has passed. One that refuses is not: a program
    /// that is still starting is for the caller to wait for. Dropping the future gives up.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self, port: u16, deadline: Duration) -> Result<Stream, DialError> {
        dial::dial(&self.handle, port, deadline).await
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Network").finish_non_exhaustive()
    }
}

/// What every [`Network`] and [`Stream`] holds: the driver goes when it does.
struct Handle {
    shared: Arc<shared::Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}
