//! A flood: somebody who begins connections as fast as they can be begun, at no cost of their own.
//!
//! What is sent is the same each time: an identification, a list of algorithms and a point of the curve. The server makes a
//! key exchange of it, which is what a stranger can cost it; the answer is thrown away.
//!
//! It is a process of its own that has what the others leave of the processors: a stranger has a machine of their own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    process::Child,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::super::client::program;

/// Connections at once.
const AT_ONCE: usize = 64;
/// How long one waits for its answer, and for another try when it was refused at once.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(5));
/// The packet that follows a server's answer: its keys are new.
const NEW_KEYS: [u8; 6] = [0, 0, 0, 12, 10, 21];
/// No server says more before it.
const ANSWER: usize = 16 << 10;

/// Ends when it is dropped.
pub(super) struct Flood {
    _process: Child,
}

impl Flood {
    /// From one address of the loopback.
    pub(super) fn begin(from: Ipv4Addr, to: SocketAddr) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("This program does not find itself")?;
        let mut command = program("nice");
        command.args(["-n", "19"]).arg(own).args(["bench", "flood", &from.to_string(), &to.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { _process: command.spawn().context("nice cannot be started")? })
    }
}

/// Floods without end.
pub(crate) async fn flood(from: Ipv4Addr, to: SocketAddr) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    for _ in 0..AT_ONCE {
        connections.spawn(async move {
            loop {
                if !matches!(timeout(PATIENCE.0, connection(from, to)).await, Ok(Ok(true))) {
                    sleep(PATIENCE.1).await;
                }
            }
        });
    }
    connections.join_next().await;
    Ok(())
}

/// One connection; whether it was answered.
async fn connection(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<bool> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let mut stream = socket.connect(to).await?;
    stream.write_all(&opening()).await?;
    let mut heard = vec![];
    while !heard.windows(NEW_KEYS.len()).any(|window| window == NEW_KEYS) {
        if heard.len() > ANSWER || stream.read_buf(&mut heard).await? == 0 {
            return Ok(false);
        }
    }
    // So that the port is free again at once.
    stream.set_zero_linger()?;
    Ok(true)
}

fn opening() -> Vec<u8> {
    let mut algorithms = vec![20];
    algorithms.extend([7; 16]);
    let lists =
        ["curve25519-sha256", "ssh-ed25519", "aes128-ctr", "aes128-ctr", "hmac-sha2-256-etm@openssh.com"];
    for list in lists.into_iter().chain(["hmac-sha2-256-etm@openssh.com", "none", "none", "", ""]) {
        string(&mut algorithms, list.as_bytes());
    }
    algorithms.extend([0; 5]);
    let mut point = vec![30];
    let mut base = [0; 32];
    base[0] = 9;
    string(&mut point, &base);
    [b"SSH-2.0-Flood\r\n".to_vec(), packet(&algorithms), packet(&point)].concat()
}

fn string(to: &mut Vec<u8>, text: &[u8]) {
    to.extend(length(text.len()));
    to.extend(text);
}

/// A packet before the first exchange of keys (RFC 4253, section 6).
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + 8 - (4 + 1 + payload.len() + 4) % 8;
    let mut packet = length(1 + payload.len() + padding).to_vec();
    packet.push(u8::try_from(padding).unwrap_or_default());
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or_default().to_be_bytes()
}
