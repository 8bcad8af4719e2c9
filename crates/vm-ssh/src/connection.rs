//! The connection: key exchange, the right host, the log-in.

use std::{borrow::Cow, sync::Arc, time::Duration};

use russh::{
    Preferred, SshId,
    client::{self, Handle},
    compression,
    keys::Algorithm,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Arrival, Channel, Credentials, Error, FromVm, ToVm, carried::split, cut::Cut, host::Host};

/// So long a VM that runs may take for the key exchange and the log-in; an emulated one on a busy host needs seconds.
const PATIENCE: Duration = Duration::from_secs(45);
/// So long the VM may take to reach another host: as long as its own TCP tries.
const FAR_PATIENCE: Duration = Duration::from_secs(180);
/// Channels that the VM wants to open and nobody has looked at.
const ARRIVALS: usize = 16;
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
    over: CancellationToken,
    _cut: DropGuard,
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
        Self::open_with(stream, credentials, None).await
    }

    /// The same for somebody else's client, and the channels that the VM opens then. Those that came and were not taken
    /// are refused beyond a few.
    ///
    /// # Errors
    /// As with [`Connection::open`].
    pub async fn open_for_client<S>(
        stream: S,
        credentials: Credentials,
    ) -> Result<(Self, mpsc::Receiver<Arrival>), Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (arrivals, arrive) = mpsc::channel(ARRIVALS);
        Ok((Self::open_with(stream, credentials, Some(arrivals)).await?, arrive))
    }

    async fn open_with<S>(
        stream: S,
        credentials: Credentials,
        arrivals: Option<mpsc::Sender<Arrival>>,
    ) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let over = CancellationToken::new();
        let cut = CancellationToken::new();
        let stream = Cut::new(stream, &cut);
        // Held from here on: whoever drops this future ends the connection.
        let guard = cut.drop_guard();
        let opening = async {
            let Credentials { user, key, certificate, host_key } = credentials;
            let host = Host { key: host_key, arrivals, _over: over.clone().drop_guard() };
            let mut handle = client::connect_stream(Arc::new(config()), stream, host).await?;
            let answer = handle.authenticate_openssh_cert(user, key, certificate).await?;
            if answer.success() { Ok(handle) } else { Err(Error::Refused) }
        };
        let handle = timeout(PATIENCE, opening).await.map_err(|_| Error::Silent)??;
        Ok(Self { handle, over, _cut: guard })
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

    /// Opens a session channel in which nothing is asked yet.
    ///
    /// # Errors
    /// The sshd opens no more of them, or the connection has ended.
    pub async fn carried_session(&self) -> Result<(ToVm, FromVm), Error> {
        let opened = timeout(PATIENCE, self.handle.channel_open_session()).await;
        Ok(split(opened.map_err(|_| Error::Silent)??))
    }

    /// Opens a channel to a port of whatever host the VM can reach (RFC 4254, 7.2).
    ///
    /// # Errors
    /// The sshd does not, or not in three minutes; or the connection has ended.
    pub async fn to_port(
        &self,
        (host, port): (&str, u32),
        (originator, originator_port): (&str, u32),
    ) -> Result<(ToVm, FromVm), Error> {
        let opening = self.handle.channel_open_direct_tcpip(host, port, originator, originator_port);
        Ok(split(timeout(FAR_PATIENCE, opening).await.map_err(|_| Error::Silent)??))
    }

    /// Opens a channel to a unix socket in the VM.
    ///
    /// # Errors
    /// As with [`Connection::to_port`].
    pub async fn to_socket(&self, path: &str) -> Result<(ToVm, FromVm), Error> {
        let opened = timeout(PATIENCE, self.handle.channel_open_direct_streamlocal(path)).await;
        Ok(split(opened.map_err(|_| Error::Silent)??))
    }

    /// Has the sshd listen on a port, for 0 on one of its choice, and gives the port.
    ///
    /// # Errors
    /// It does not, or the connection has ended.
    pub async fn listen(&self, address: &str, port: u32) -> Result<u32, Error> {
        let chosen =
            self.answered("to listen on that port", self.handle.tcpip_forward(address, port)).await?;
        Ok(if port == 0 { chosen } else { port })
    }

    /// Has it listen there no longer.
    ///
    /// # Errors
    /// As with [`Connection::listen`].
    pub async fn listen_no_longer(&self, address: &str, port: u32) -> Result<(), Error> {
        self.answered("that", self.handle.cancel_tcpip_forward(address, port)).await
    }

    /// Has it listen on a unix socket.
    ///
    /// # Errors
    /// As with [`Connection::listen`].
    pub async fn listen_on_socket(&self, path: &str) -> Result<(), Error> {
        self.answered("to listen on that socket", self.handle.streamlocal_forward(path)).await
    }

    /// Has it listen there no longer.
    ///
    /// # Errors
    /// As with [`Connection::listen`].
    pub async fn listen_on_socket_no_longer(&self, path: &str) -> Result<(), Error> {
        self.answered("that", self.handle.cancel_streamlocal_forward(path)).await
    }

    /// Whether the sshd still answers, within so long.
    pub async fn answers(&self, within: Duration) -> bool {
        matches!(timeout(within, self.handle.send_ping()).await, Ok(Ok(()))) && !self.handle.is_closed()
    }

    /// Waits until it has ended.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.over.clone().cancelled_owned()
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    async fn answered<T>(
        &self,
        what: &'static str,
        asking: impl Future<Output = Result<T, russh::Error>>,
    ) -> Result<T, Error> {
        match timeout(PATIENCE, asking).await.map_err(|_| Error::Silent)? {
            Err(russh::Error::RequestDenied) => Err(Error::Request(what)),
            answer => Ok(answer?),
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
