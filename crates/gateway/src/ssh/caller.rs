//! What is said to a client outside of the channels that it opens.

use std::time::Duration;

use berth_vm_ssh::Origin;
use russh::{Disconnect, Sig, server::Handle};
use tokio::time::timeout;

use super::channel::{Gone, Reader, Writer, opened};

/// So long a client may take to answer whether it opens a channel.
const PATIENCE: Duration = Duration::from_secs(30);

/// One client.
#[derive(Clone)]
pub(crate) struct Caller(Handle);

impl Caller {
    pub(super) fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// Opens a channel to what the client has had forwarded; `None` where it does not want one.
    pub(crate) async fn open(&self, origin: &Origin) -> Option<(Reader, Writer)> {
        let opening = async {
            match origin {
                Origin::Port { address, port, originator, originator_port } => {
                    let (address, originator) = (address.as_str(), originator.as_str());
                    self.0.channel_open_forwarded_tcpip(address, *port, originator, *originator_port).await
                }
                Origin::Socket { path } => self.0.channel_open_forwarded_streamlocal(path.as_str()).await,
                Origin::X11 { originator, originator_port } => {
                    self.0.channel_open_x11(originator.as_str(), *originator_port).await
                }
                Origin::Agent => self.0.channel_open_agent().await,
            }
        };
        timeout(PATIENCE, opening).await.ok()?.ok().map(opened)
    }

    /// Says that a signal ended what ran in a channel.
    pub(crate) async fn exit_signal(
        &self,
        writer: &Writer,
        name: String,
        core_dumped: bool,
        message: String,
    ) -> Result<(), Gone> {
        let signal = Sig::Custom(name);
        let said = self.0.exit_signal_request(writer.id(), signal, core_dumped, message, String::new());
        said.await.map_err(|()| Gone)
    }

    /// Ends the connection with a reason.
    pub(crate) async fn disconnect(&self, why: &str) {
        let said = self.0.disconnect(Disconnect::ByApplication, why.to_owned(), String::new());
        let _ = timeout(PATIENCE, said).await;
    }
}
