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
//! Concurrency: one task (the driver) owns the wire; it and the streams share the stack under a short lock. All
//! of it may run on a single thread.

use std::{sync::Arc, time::Duration};

use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

mod dhcp;
mod dial;
mod driver;
mod frame;
mod link;
mod port;
mod stack;
mod stream;

pub use dial::DialError;
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
        let shared = Arc::new(driver::Shared::new());
        tracker.spawn(driver::run(shared.clone()));
        Self { handle: Arc::new(Handle { shared }) }
    }

    /// Puts a guest on the network: `connection` is the stream that QEMU opened. One that is already there is
    /// replaced. When a guest goes away, or sends what is not a frame, streams to it see a reset, after what
    /// they had received.
    pub fn attach(&self, connection: UnixStream) {
        self.handle.shared.attach(connection);
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
    shared: Arc<driver::Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}
