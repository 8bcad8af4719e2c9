//! The connection: key exchange, the right host, the log-in.

use std::{borrow::Cow, sync::Arc, time::Duration};

use russh::{
    Preferred, SshId,
    client::{self, Handle, Handler},
    compression,
    keys::{Algorithm, PublicKey, PublicKeyOrCertificate},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Channel, Credentials, Error, cut::Cut};

/// So long a VM that runs may take for the key exchange and the log-in; an emulated one on a busy host needs seconds.
const PATIENCE: Duration = Duration::from_secs(45);
/// The most bytes that the VM may send before they are asked for.
const WINDOW: u32 = 128 * 1024;
/// The most bytes in one packet, and how many packets wait for a reader: what a reader that stops costs.
pub(crate) const PACKET: u32 = 16 * 1024;
const PACKETS: usize = 8;
/// Key exchanges go by bytes. One by time would wake a VM that sleeps.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const BYTES: usize = 1 << 30;

/// A connection that is logged in. Ends, with all its channels, when it is dropped.
pub struct Connection {
    handle: Handle<Host>,
    _cut: DropGuard,
}

/// Who must be at the other end.
struct Host(PublicKey);

impl Handler for Host {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.key_data() == self.0.key_data(),
            PublicKeyOrCertificate::Certificate(_) => false,
        })
    }
}

impl Connection {
    /// Logs in over `stream`, which leads to the VM's sshd. Nothing is sent to a host that shows another key.
    ///
    /// Nothing is sent over an idle connection either: no keepalives, so that it does not wake a VM that sleeps.
    ///
    /// # Errors
    /// Another host, no access, or no answer in 45 s.
    pub async fn open<S>(stream: S, credentials: Credentials) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let cut = CancellationToken::new();
        let stream = Cut::new(stream, &cut);
        // Held from here on: whoever drops this future ends the connection.
        let guard = cut.drop_guard();
        let opening = async {
            let Credentials { user, key, certificate, host_key } = credentials;
            let mut handle = client::connect_stream(Arc::new(config()), stream, Host(host_key)).await?;
            let answer = handle.authenticate_openssh_cert(user, key, certificate).await?;
            if answer.success() { Ok(handle) } else { Err(Error::Refused) }
        };
        let handle = timeout(PATIENCE, opening).await.map_err(|_| Error::Silent)??;
        Ok(Self { handle, _cut: guard })
    }

    /// Opens a session channel.
    ///
    /// # Errors
    /// The sshd opens no more of them, or the connection has ended.
    pub async fn session(&self) -> Result<Channel, Error> {
        let opened = timeout(PATIENCE, self.handle.channel_open_session()).await;
        match opened.map_err(|_| Error::Silent)? {
            Ok(channel) => Ok(Channel::new(channel)),
            Err(russh::Error::ChannelOpenFailure(_)) => Err(Error::Request("another session")),
            Err(error) => Err(error.into()),
        }
    }
}

fn config() -> client::Config {
    client::Config {
        client_id: SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-Berth_", env!("CARGO_PKG_VERSION")))),
        limits: russh::Limits::new(BYTES, BYTES, NEVER),
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        channel_buffer_size: PACKETS,
        preferred: Preferred {
            // The type of the host keys that VMs are given, and so of the only one that counts.
            key: Cow::Borrowed(&[Algorithm::Ed25519]),
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::DEFAULT
        },
        inactivity_timeout: None,
        keepalive_interval: None,
        ..client::Config::default()
    }
}
