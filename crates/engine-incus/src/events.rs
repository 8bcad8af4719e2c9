//! What happens in a cluster, as it tells by itself: which VM it may have happened to.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::{client::Client, error::IncusError, instance, notes::Notes};

/// Between two tries to be told.
const RETRY: Duration = Duration::from_secs(1);
/// A cluster says something at least as often: it pings.
const SILENCE: Duration = Duration::from_secs(60);
const OPEN_WITHIN: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Event {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    source: String,
}

/// Follows the events for ever, and tells those who wait for a change. After a time in which nothing could be heard all of
/// them look.
pub(crate) async fn follow(client: Arc<Client>, notes: Arc<Notes>) {
    loop {
        match listen(&client, &notes).await {
            Ok(()) => tracing::debug!("the cluster's events ended"),
            Err(error) => tracing::debug!(%error, "the cluster's events cannot be heard"),
        }
        notes.change(None);
        sleep(RETRY).await;
    }
}

async fn listen(client: &Client, notes: &Notes) -> Result<(), IncusError> {
    let path = client.path("/events", &[("type", "lifecycle")]);
    let opened = timeout(OPEN_WITHIN, client.websocket(&path)).await;
    let mut socket = opened.map_err(|_| IncusError::TimedOut(OPEN_WITHIN))??;
    notes.change(None);
    while let Ok(Some(Ok(message))) = timeout(SILENCE, socket.next()).await {
        if let Message::Text(text) = message
            && let Some(vm) = subject(text.as_str())
        {
            notes.change(Some(&vm));
        }
    }
    Ok(())
}

/// The VM that an event is about.
fn subject(text: &str) -> Option<berth_model::VmId> {
    let event: Event = serde_json::from_str(text).ok()?;
    let name = event.metadata.source.strip_prefix("/1.0/instances/")?;
    instance::vm_of(name.split(['/', '?']).next().unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_vms_are_known_by_their_source() {
        let event = |source: &str| {
            format!(
                r#"{{"type":"lifecycle","timestamp":"2026-11-23T13:37:04Z","metadata":{{"action":"instance-started","source":"{source}"}},"location":"n2","project":"default"}}"#
            )
        };
        let vm = "00112233445566ff".parse().ok();
        assert_eq!(subject(&event("/1.0/instances/berth-00112233445566ff")), vm);
        assert_eq!(subject(&event("/1.0/instances/berth-00112233445566ff?project=x")), vm);
        assert_eq!(subject(&event("/1.0/instances/berth-00112233445566ff-anew")), vm);
        assert_eq!(subject(&event("/1.0/instances/berth-00112233445566ff/snapshots/s")), vm);
        assert_eq!(subject(&event("/1.0/instances/web")), None);
        assert_eq!(subject(&event("/1.0/images/abc")), None);
        assert_eq!(subject("{"), None);
    }
}
