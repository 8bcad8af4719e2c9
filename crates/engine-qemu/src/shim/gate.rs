//! A guest's wires into the networks, which a guest without an identity of its own may not use yet.

use std::sync::{Arc, Mutex, PoisonError};

use berth_vnet::Network;
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

use super::{
    outside::Outside,
    supervisor::Host,
    way_out::{through_passt, through_user_network},
};
use crate::egress::{self, WayOut};

/// Opened once; until then nobody is at the other ends.
pub(super) struct Gate {
    wires: Mutex<Option<Wires>>,
    network: Network,
    /// What leads out on this host now.
    way_out: WayOut,
    /// Who starts what is behind it.
    outside: Option<Arc<Outside>>,
    tasks: TaskTracker,
}

/// Our ends, of one QEMU.
pub(super) struct Wires {
    pub(super) network: UnixStream,
    /// The NIC that leads out, and QEMU's user network where that is the world.
    pub(super) way_out: Option<(UnixStream, Option<UnixStream>)>,
}

impl Gate {
    pub(super) fn new(wires: Wires, network: Network, host: &Host) -> Self {
        let (way_out, outside, tasks) = (host.way_out.clone(), host.outside.clone(), host.tasks.clone());
        Self { wires: Mutex::new(Some(wires)), network, way_out, outside, tasks }
    }

    /// From here on the guest is on its networks. Connections that have been open since before it slept go on.
    pub(super) fn open(&self) {
        let wires = self.wires.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Wires { network, way_out }) = wires else { return };
        self.network.reattach(network);
        match (&self.way_out, way_out) {
            (WayOut::Passt { .. }, Some((guest, None))) => {
                let Some(outside) = self.outside.clone() else { return };
                self.tasks.spawn(async move { through_passt(guest, &outside).await });
            }
            (WayOut::UserNetwork, Some((guest, Some(world)))) => {
                self.tasks.spawn(through_user_network(guest, world, egress::USER_NETWORK_PREFIX));
            }
            // There is no second NIC, or nothing behind it any more: it is a cable without a peer.
            _ => {}
        }
    }
}
