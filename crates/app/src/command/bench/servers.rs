//! Servers that are measured beside each other, each a process of its own: started, and waited for.

use std::{fs, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};

use super::client::program;

/// So long one may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(20);

/// Berth's ways in, in a process of their own: see `stand_in.rs`. It ends when its input is closed.
pub(super) struct StandIn {
    pub(super) server: Child,
    pub(super) input: ChildStdin,
    pub(super) ssh: SocketAddr,
    pub(super) http: SocketAddr,
    /// The member's, on the website.
    pub(super) cookie: String,
}

impl StandIn {
    /// Starts it, with these arguments. `dir` has the keys.
    pub(super) async fn start(dir: &Path, args: &[String]) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("This program does not find itself")?;
        let mut command: Command = program(own.to_str().context("This program's path is not text")?);
        command.args(["bench", "stand-in"]).arg(dir).args(args);
        command.stdin(Stdio::piped()).stderr(Stdio::inherit());
        let mut server = command.spawn().context("Berth cannot be started")?;
        let input = server.stdin.take().context("It has no input")?;
        let output = server.stdout.take().context("It has no output")?;
        let mut lines = BufReader::new(output).lines();
        let said = timeout(LISTENS_WITHIN, lines.next_line()).await??.context("Berth has ended")?;
        let words: Vec<&str> = said.split(' ').collect();
        let [ssh, http, cookie] = words[..] else { bail!("It does not say where it listens") };
        let at = |port: &str| Ok::<_, std::num::ParseIntError>(([127, 0, 0, 1], port.parse()?).into());
        Ok(Self { server, input, ssh: at(ssh)?, http: at(http)?, cookie: cookie.to_owned() })
    }
}

/// Makes the keys of a member and of a host.
pub(super) async fn make_keys(dir: &Path) -> anyhow::Result<()> {
    for name in ["key", "host_key"] {
        let made =
            program("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(name)).output();
        let made = made.await.context("ssh-keygen cannot be started; it is in the package openssh-client")?;
        let said = String::from_utf8_lossy(&made.stderr);
        ensure!(made.status.success(), "ssh-keygen fails: {}", said.trim());
    }
    fs::copy(dir.join("key.pub"), dir.join("authorized_keys"))?;
    Ok(())
}

/// An address on the loopback where nobody listens in this moment.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok(listener.local_addr()?)
}

/// Waits until a server listens.
pub(super) async fn until_it_listens(
    name: &str,
    server: &mut Child,
    address: SocketAddr,
) -> anyhow::Result<()> {
    let listening = async {
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = server.try_wait()? {
                bail!("{name} has ended at once, with {status}");
            }
            sleep(GLANCE).await;
        }
        Ok(())
    };
    timeout(LISTENS_WITHIN, listening).await.with_context(|| format!("{name} does not listen"))?
}
