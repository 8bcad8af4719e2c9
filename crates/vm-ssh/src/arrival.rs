//! Channels that the VM's sshd opens (RFC 4254, 6.3.2 and 7.2; PROTOCOL and PROTOCOL.agent of OpenSSH).
//!
//! They come when something in the VM connects to what a client has had forwarded. A VM may say so of anything, at any
//! time: whoever gets an arrival has to know whether it was asked for.

use russh::client::{ChannelOpenHandle, Msg};

use crate::{FromVm, ToVm};

/// What something in the VM has connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A port on which the sshd listens for the client.
    Port {
        /// The address on which it listens, as it was asked to.
        address: String,
        /// The port.
        port: u32,
        /// Who connected to it.
        originator: String,
        /// From which port.
        originator_port: u32,
    },
    /// A socket on which the sshd listens for the client.
    Socket {
        /// Its path.
        path: String,
    },
    /// The display.
    X11 {
        /// Who connected to it.
        originator: String,
        /// From which port.
        originator_port: u32,
    },
    /// The client's agent.
    Agent,
}

/// A channel that the VM wants to open. Dropped, it is refused.
pub struct Arrival {
    origin: Origin,
    channel: russh::Channel<Msg>,
    reply: ChannelOpenHandle,
}

impl Arrival {
    pub(crate) fn new(origin: Origin, channel: russh::Channel<Msg>, reply: ChannelOpenHandle) -> Self {
        Self { origin, channel, reply }
    }

    /// Where it comes from, as the VM says.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Opens it.
    pub async fn accept(self) -> (ToVm, FromVm) {
        self.reply.accept().await;
        crate::carried::split(self.channel)
    }
}
