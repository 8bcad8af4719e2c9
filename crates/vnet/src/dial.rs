//! Reaching a port of the guest by whichever of its two addresses answers: RFC 8305 in small.
//!
//! A program in the guest may listen on one family only, and a guest that is booting gets its two addresses at
//! different times. So the family that was heard from goes first (both or neither: IPv6, which needs no lease),
//! the other follows after a while or a refusal, and the first to be accepted wins.
//!
//! A SYN that reaches a guest without an address yet is lost. smoltcp repeats it after one second, then two, and
//! so on; and an attempt starts over when the guest is first heard from, which is the moment it gets an address.
//! Nothing else cuts an attempt short early: on a busy guest that would reset the handshakes that are about to
//! succeed, and start as many more.

use std::{future::poll_fn, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use crate::{
    Handle,
    link::Family,
    shared::{Heard, Phase},
    stream::Stream,
};

/// How long the second family waits for the first, if the first was never heard from.
const STAGGER: Duration = Duration::from_millis(250);

/// And if it was: then it is more likely slow than absent, and a second connection would make it slower.
const STAGGER_IF_HEARD: Duration = Duration::from_secs(1);

/// How long a family may stay silent once the other has refused, before that is taken for the guest's word.
const SECOND_OPINION: Duration = Duration::from_secs(1);

/// An attempt that is older starts over, with one SYN a second at first: the guest may have rebooted. The next
/// lasts twice as long, so that no guest is too slow for ever.
const FIRST_ATTEMPT: Duration = Duration::from_secs(8);

/// Why no connection came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The guest answered, and nothing listens on that port.
    #[error("nothing in the VM listens on this port")]
    Refused,
    /// The guest did not answer before the deadline.
    #[error("the VM did not answer in time")]
    TimedOut,
    /// No guest is attached, it went away meanwhile, or the network was already frozen.
    #[error("the VM is not running")]
    Detached,
    /// The guest has as many connections as one guest may have.
    #[error("the VM has too many open connections")]
    TooMany,
}

/// See [`crate::Network::dial`].
pub(crate) async fn dial(handle: &Arc<Handle>, port: u16, deadline: Duration) -> Result<Stream, DialError> {
    if handle.shared.lock().phase() != Phase::Running {
        return Err(DialError::Detached);
    }
    timeout(deadline, race(handle, port)).await.unwrap_or(Err(DialError::TimedOut))
}

async fn race(handle: &Arc<Handle>, port: u16) -> Result<Stream, DialError> {
    let heard = *handle.shared.heard.borrow();
    let (first, second, stagger) = match heard {
        Heard { v6: true, .. } => (Family::V6, Family::V4, STAGGER_IF_HEARD),
        Heard { v4: true, v6: false } => (Family::V4, Family::V6, STAGGER_IF_HEARD),
        Heard { v4: false, v6: false } => (Family::V6, Family::V4, STAGGER),
    };
    let first = connect(handle, first, port);
    let second = connect(handle, second, port);
    tokio::pin!(first, second);
    tokio::select! {
        biased;
        result = &mut first => return or_else(result, second).await,
        () = sleep(stagger) => {}
    }
    tokio::select! {
        biased;
        result = &mut first => or_else(result, second).await,
        result = &mut second => or_else(result, first).await,
    }
}

/// The first result, or if that was a refusal, what the other family says to it.
async fn or_else(
    result: Result<Stream, DialError>,
    other: impl Future<Output = Result<Stream, DialError>>,
) -> Result<Stream, DialError> {
    match result {
        Err(DialError::Refused) => timeout(SECOND_OPINION, other).await.unwrap_or(Err(DialError::Refused)),
        decided => decided,
    }
}

/// Connects by one family, however long it takes.
async fn connect(handle: &Arc<Handle>, family: Family, port: u16) -> Result<Stream, DialError> {
    let mut heard = handle.shared.heard.subscribe();
    let mut patience = FIRST_ATTEMPT;
    loop {
        let attempt = Stream::new(handle.clone(), handle.shared.open(family, port).await?);
        // In this order, because the frame that accepts may also be the first that is heard.
        tokio::select! {
            biased;
            accepted = poll_fn(|context| attempt.poll_connected(context)) => {
                return match accepted {
                    true => Ok(attempt),
                    false if attempt.is_cut() => Err(DialError::Detached),
                    false => Err(DialError::Refused),
                };
            }
            () = sleep(patience) => patience *= 2,
            _ = heard.changed() => patience = FIRST_ATTEMPT,
        }
    }
}
