//! Clients, which are the same for both gateways: russh, and OpenSSH where that is said.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use russh::{
    ChannelMsg, ChannelReadHalf, ChannelWriteHalf,
    client::{self, Handle, Msg},
    keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate},
};
use tokio::{io::AsyncReadExt as _, task::JoinSet, time::timeout};

use super::{
    super::{
        client::program,
        rate::{Rate, rate},
    },
    target::HEARD,
};

/// Longer than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// What is written at once.
const CHUNK: usize = 32 << 10;

/// The ciphers that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cipher {
    /// `aes128-gcm@openssh.com`
    Aes128Gcm,
    /// `chacha20-poly1305@openssh.com`
    ChaCha20,
}

/// How a port gets through a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tunnel {
    /// `nc HOST PORT` as a command.
    Exec,
    /// `direct-tcpip`, which is what `-J` and `-W` do.
    Forward,
    /// A session in the VM, from which the port is reached.
    Inside,
}

/// How a client gets a session in the VM.
#[derive(Debug, Clone, Copy)]
pub(super) enum Inside {
    /// By this name in place of the user's.
    Direct(&'static str),
    /// Through a tunnel to this port, with a connection of its own: what people do who have no direct mode.
    Jump(u16),
}

/// How to get through one of the gateways.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) address: SocketAddr,
    pub(super) user: String,
    /// What the target is called behind it.
    pub(super) host: &'static str,
    pub(super) key: Arc<PrivateKey>,
    pub(super) key_file: PathBuf,
    pub(super) config: Arc<client::Config>,
    pub(super) inside: Inside,
}

/// The gateway is the one that was started here.
pub(super) struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// A tunnel, and the connection that it is in.
pub(super) struct Open {
    hears: Hears,
    says: ChannelWriteHalf<Msg>,
    _connection: Handle<Trusting>,
    /// The one that it goes through.
    _jump: Option<Handle<Trusting>>,
}

struct Hears {
    channel: ChannelReadHalf,
    /// What came and was not asked for yet.
    heard: Bytes,
}

impl Way {
    pub(super) fn with(&self, cipher: Cipher) -> Self {
        Self { config: cipher.config(), ..self.clone() }
    }

    /// Logs in and opens a tunnel.
    pub(super) async fn open(&self, tunnel: Tunnel, port: u16) -> anyhow::Result<Open> {
        let opening = async {
            let user = match (tunnel, self.inside) {
                (Tunnel::Inside, Inside::Direct(vm)) => vm,
                _ => &self.user,
            };
            let connection = client::connect(Arc::clone(&self.config), self.address, Trusting).await?;
            let connection = self.log_in(connection, user).await?;
            let (connection, jump) = match (tunnel, self.inside) {
                (Tunnel::Inside, Inside::Jump(vm)) => (self.jump(&connection, vm).await?, Some(connection)),
                _ => (connection, None),
            };
            let channel = match tunnel {
                Tunnel::Forward => {
                    connection.channel_open_direct_tcpip(self.host, port.into(), "127.0.0.1", 0).await?
                }
                Tunnel::Exec | Tunnel::Inside => {
                    let channel = connection.channel_open_session().await?;
                    channel.exec(false, format!("nc {} {port}", self.host)).await?;
                    channel
                }
            };
            let (channel, says) = channel.split();
            let hears = Hears { channel, heard: Bytes::new() };
            Ok(Open { hears, says, _connection: connection, _jump: jump })
        };
        timeout(PATIENCE, opening).await.context("A gateway does not answer")?
    }

    async fn log_in(&self, mut connection: Handle<Trusting>, user: &str) -> anyhow::Result<Handle<Trusting>> {
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&self.key), None);
        let login = connection.authenticate_publickey(user, key).await?;
        ensure!(login.success(), "A gateway did not let its client in");
        Ok(connection)
    }

    /// Logs in to the VM's sshd through a jump host.
    async fn jump(&self, jump: &Handle<Trusting>, vm: u16) -> anyhow::Result<Handle<Trusting>> {
        let channel = jump.channel_open_direct_tcpip(self.host, vm.into(), "127.0.0.1", 0).await?;
        let stream = channel.into_stream();
        let connection = client::connect_stream(Arc::clone(&self.config), stream, Trusting).await?;
        self.log_in(connection, &self.user).await
    }

    /// How many connections a second are made by so many clients at once, each of which logs in, opens a tunnel, hears a
    /// byte and hangs up; and how many there were.
    pub(super) async fn connections(
        &self,
        tunnel: Tunnel,
        clients: u32,
        time: Duration,
        echo: u16,
    ) -> anyhow::Result<Rate> {
        let clients = (0..clients).map(|_| self.clone());
        let once = move |way: Self| async move {
            way.open(tunnel, echo).await?.take(1).await?;
            Ok(way)
        };
        rate(clients, time, once).await
    }

    /// Opens so many tunnels with a connection each, a few at a time.
    pub(super) async fn idle(&self, tunnels: usize, echo: u16) -> anyhow::Result<Vec<Open>> {
        const AT_ONCE: usize = 16;
        let (mut opening, mut open, mut left) = (JoinSet::new(), vec![], tunnels);
        loop {
            while left > 0 && opening.len() < AT_ONCE {
                let way = self.clone();
                opening.spawn(async move {
                    let mut open = way.open(Tunnel::Forward, echo).await?;
                    open.take(1).await?;
                    anyhow::Ok(open)
                });
                left -= 1;
            }
            let Some(done) = opening.join_next().await else { return Ok(open) };
            open.push(done?.with_context(|| format!("With {} tunnels open, one more fails", open.len()))?);
        }
    }

    /// From starting OpenSSH's client until it has heard a byte through the gateway.
    pub(super) async fn openssh(&self, echo: u16) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let mut command = program("ssh");
        command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]);
        command.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-q", "-i"]);
        command.arg(&self.key_file).args(["-p", &self.address.port().to_string(), "-W"]);
        command.arg(format!("{}:{echo}", self.host)).arg(format!("{}@{}", self.user, self.address.ip()));
        // Open, so that it does not end the tunnel.
        let mut ssh =
            command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().context("ssh cannot be started")?;
        let mut heard = [0];
        let mut output = ssh.stdout.take().context("ssh has no output")?;
        timeout(PATIENCE, output.read_exact(&mut heard)).await.context("ssh hears nothing")??;
        let took = began.elapsed();
        ssh.kill().await?;
        Ok(took)
    }
}

impl Hears {
    async fn take(&mut self, mut bytes: usize) -> anyhow::Result<()> {
        while bytes > 0 {
            if self.heard.is_empty() {
                match timeout(PATIENCE, self.channel.wait()).await.context("A tunnel is silent")? {
                    Some(ChannelMsg::Data { data }) => self.heard = data,
                    Some(ChannelMsg::ExtendedData { data, .. }) => {
                        anyhow::bail!("A tunnel failed: {}", String::from_utf8_lossy(&data).trim())
                    }
                    Some(ChannelMsg::Close) | None => anyhow::bail!("A tunnel was closed"),
                    Some(_) => {}
                }
            }
            let now = bytes.min(self.heard.len());
            let _taken = self.heard.split_to(now);
            bytes -= now;
        }
        Ok(())
    }
}

async fn say(to: &ChannelWriteHalf<Msg>, bytes: usize) -> anyhow::Result<()> {
    let chunk = Bytes::from(vec![0; CHUNK]);
    let mut left = bytes;
    while left > 0 {
        let now = left.min(CHUNK);
        timeout(PATIENCE, to.data_bytes(chunk.slice(..now))).await.context("A tunnel takes nothing")??;
        left -= now;
    }
    Ok(())
}

impl Open {
    /// Hears so many bytes.
    pub(super) async fn take(&mut self, bytes: usize) -> anyhow::Result<()> {
        self.hears.take(bytes).await
    }

    /// Says so many bytes, and hears so many meanwhile: russh's client comes to a stop where nobody takes the credit that
    /// the other side gives.
    async fn say_and_take(&mut self, said: usize, taken: usize) -> anyhow::Result<()> {
        tokio::try_join!(say(&self.says, said), self.hears.take(taken))?;
        Ok(())
    }

    /// How long so many bytes take from the source. Those before them are not counted.
    pub(super) async fn download(mut self, bytes: usize) -> anyhow::Result<Duration> {
        self.take(1).await?;
        let began = Instant::now();
        self.take(bytes).await?;
        Ok(began.elapsed())
    }

    /// How long so many bytes take to the sink, a multiple of [`HEARD`].
    pub(super) async fn upload(mut self, bytes: usize) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.say_and_take(bytes, bytes / HEARD).await?;
        Ok(began.elapsed())
    }

    /// Sends so many bytes to the echo and hears them again.
    pub(super) async fn both_ways(&mut self, bytes: usize) -> anyhow::Result<()> {
        // As much as the credit of both sides has room for.
        const PIECE: usize = 1 << 20;
        let mut left = bytes;
        while left > 0 {
            let now = left.min(PIECE);
            self.say_and_take(now, now).await?;
            left -= now;
        }
        Ok(())
    }

    /// How long a byte takes to the echo and back.
    pub(super) async fn round_trip(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.say_and_take(1, 1).await?;
        Ok(began.elapsed())
    }
}
