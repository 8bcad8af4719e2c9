//! Websockets of a cluster: what programs in guests say and hear, and events.

use std::pin::Pin;

use berth_engine::Stream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{client::IntoClientRequest, protocol::WebSocketConfig},
};

use crate::{client::Client, error::IncusError};

/// A cluster sends at most some tens of kilobytes at once; in bytes.
const LONGEST_MESSAGE: usize = 1 << 20;

pub(crate) type Socket = WebSocketStream<Pin<Box<dyn Stream>>>;

impl Client {
    /// Opens a websocket at a path. The caller has a deadline.
    pub(crate) async fn websocket(&self, path: &str) -> Result<Socket, IncusError> {
        let stream = self.stream().await?;
        let request = format!("ws://incus{path}").into_client_request();
        let request = request.map_err(|error| IncusError::Odd(error.to_string()))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(LONGEST_MESSAGE))
            .max_frame_size(Some(LONGEST_MESSAGE));
        let opened = client_async_with_config(request, stream, Some(config)).await;
        opened.map(|(socket, _)| socket).map_err(|error| IncusError::Broken(error.to_string()))
    }
}
