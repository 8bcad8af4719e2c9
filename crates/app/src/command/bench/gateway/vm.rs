//! The sshd of the VM that is entered: russh's, which runs nothing. What it is asked to run is `nc HOST PORT`, to a port of the
//! target, or a terminal of the page; it lets everybody in. The same for both gateways, and not measured.

use std::{
    borrow::Cow,
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use russh::{
    Channel, ChannelId, Error, Preferred, Pty, cipher,
    keys::{Certificate, load_secret_key},
    server::{
        Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey, run_stream,
    },
};
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream},
};
use tokio_util::task::TaskTracker;

use super::{target::Target, terminal::PRINTS};

/// What clients here speak, and what Berth likes best.
const CIPHERS: &[cipher::Name] = &[cipher::AES_128_GCM, cipher::CHACHA20_POLY1305];
/// Copied at once.
const CHUNK: usize = 64 << 10;

/// One that is not served yet.
pub(super) struct Vm {
    listener: TcpListener,
    pub(super) port: u16,
}

impl Vm {
    pub(super) async fn listen() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    /// Serves it until the runtime ends, with the host key that Berth has given the VM.
    pub(super) fn serve(self, host_key: &Path, target: Target, tasks: &TaskTracker) -> anyhow::Result<()> {
        let key = load_secret_key(host_key, None).context("The VM has no host key")?;
        let config = Arc::new(Config {
            keys: vec![key],
            window_size: 2 << 20,
            maximum_packet_size: 32 << 10,
            nodelay: true,
            preferred: Preferred { cipher: Cow::Borrowed(CIPHERS), ..Preferred::DEFAULT },
            inactivity_timeout: None,
            ..Config::default()
        });
        let (listener, spawner) = (self.listener, tasks.clone());
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _no_delay = stream.set_nodelay(true);
                let config = Arc::clone(&config);
                let guest = Guest { target, sessions: HashMap::new(), tasks: spawner.clone() };
                spawner.spawn(async move {
                    if let Ok(session) = run_stream(config, stream, guest).await {
                        let _ended_by_the_peer = session.await;
                    }
                });
            }
        });
        Ok(())
    }
}

/// The file below `dir` with the host key of the VM.
pub(in super::super) fn host_key(dir: &Path) -> PathBuf {
    dir.join("vm_host_key")
}

struct Guest {
    target: Target,
    /// Those in which nothing runs yet.
    sessions: HashMap<ChannelId, Channel<Msg>>,
    tasks: TaskTracker,
}

impl Handler for Guest {
    type Error = Error;

    async fn auth_publickey_offered(&mut self, _: &str, _: PublicKeyOffer<'_>) -> Result<Auth, Error> {
        Ok(Auth::Accept)
    }

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        Ok(Auth::Accept)
    }

    async fn auth_openssh_certificate(&mut self, _: &str, _: &Certificate) -> Result<Auth, Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Error> {
        self.sessions.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_success(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        let (Some(port), Some(taken)) = (self.port_of(command), self.sessions.remove(&channel)) else {
            return session.channel_failure(channel);
        };
        session.channel_success(channel)?;
        self.tasks.spawn(async move {
            let _ended_by_the_peer = carry(taken, port).await;
        });
        Ok(())
    }
}

impl Guest {
    /// What a command leads to.
    fn port_of(&self, command: &[u8]) -> Option<u16> {
        let words = std::str::from_utf8(command).ok()?;
        let number = words.rsplit(' ').next()?.parse().ok()?;
        Some(match (words.contains("berth-terminal"), number) {
            (false, port) => port,
            (true, PRINTS) => self.target.source,
            (true, _) => self.target.echo,
        })
    }
}

async fn carry(channel: Channel<Msg>, port: u16) -> std::io::Result<()> {
    let mut target = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    target.set_nodelay(true)?;
    let mut channel = channel.into_stream();
    copy_bidirectional_with_sizes(&mut channel, &mut target, CHUNK, CHUNK).await?;
    Ok(())
}
