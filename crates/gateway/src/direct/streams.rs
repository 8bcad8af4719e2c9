//! Channels that lead somewhere: from the client into the VM and on, and back.

use std::sync::Arc;

use berth_vm_ssh::{Arrival, FromVm, ToVm};
use tokio::sync::mpsc;

use super::{
    Direct,
    line::{Kind, Line, Place},
    relay::{Before, Ends, relay},
};
use crate::{
    refusal::Refusal,
    ssh::{Opening, Seat},
};

/// Where a client wants to get to, as the VM sees it.
#[derive(Debug)]
pub(crate) enum Far {
    /// A port, and the address that is connected from.
    Port { to: (String, u32), from: (String, u32) },
    /// A unix socket.
    Socket { path: String },
}

/// Carries a stream that the client opens. It is open when the VM has opened its half.
pub(crate) async fn by_stream(direct: Arc<Direct>, seat: Seat, opening: Opening, far: Far) {
    // In a box, which is gone when the bytes begin to flow.
    let (place, to_vm, from_vm) = match Box::pin(reach(&direct, &far)).await {
        Ok(reached) => reached,
        Err(refusal) => return opening.refuse(refusal.open_failure()).await,
    };
    let (reader, writer) = opening.accept().await;
    let ends = Ends { reader, writer, to_vm, from_vm };
    let _nothing_was_asked = relay(&direct, &seat, &place, ends, Before::nothing(&seat), None).await;
}

async fn reach(direct: &Arc<Direct>, far: &Far) -> Result<(Place, ToVm, FromVm), Refusal> {
    // There is nowhere to tell what is waited for.
    let (nobody, _) = mpsc::channel(1);
    let place = direct.place(Kind::Stream, nobody).await?;
    let connection = place.line().connection();
    let (to_vm, from_vm) = match far {
        Far::Port { to, from } => connection.to_port((&to.0, to.1), (&from.0, from.1)).await?,
        Far::Socket { path } => connection.to_socket(path).await?,
    };
    Ok((place, to_vm, from_vm))
}

/// Carries a stream that something in the VM opens, and that the client has asked for. It is open when the client has
/// opened its half.
pub(super) async fn by_arrival(direct: Arc<Direct>, line: Arc<Line>, arrival: Arrival) {
    let Ok(seat) = direct.client.seat() else { return };
    let place = Place::new(line, Kind::Stream);
    let Some((reader, writer)) = direct.caller.open(arrival.origin()).await else { return };
    let (to_vm, from_vm) = arrival.accept().await;
    let ends = Ends { reader, writer, to_vm, from_vm };
    let _nothing_was_asked = relay(&direct, &seat, &place, ends, Before::nothing(&seat), None).await;
}
