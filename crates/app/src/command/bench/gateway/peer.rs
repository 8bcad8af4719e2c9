//! The two gateways that are measured: OpenSSH's sshd as a jump host, and Berth's.

use std::{fs, net::SocketAddr, path::Path, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use russh::{client, keys::load_secret_key};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};

use super::{
    super::{client::program, processes::Tree},
    load::{Cipher, Way},
    stand_in,
};

/// So long either may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(20);
const SSHD: &str = "/usr/sbin/sshd";

/// One of the two, which runs until this is dropped.
pub(super) struct Peer {
    pub(super) way: Way,
    server: Child,
    _input: Option<ChildStdin>,
}

impl Peer {
    /// Its processes.
    pub(super) fn tree(&self) -> anyhow::Result<Tree> {
        let pid = self.server.id().context("A gateway has ended")?;
        Ok(Tree::below(pid))
    }

    /// Makes the key with which both are logged in to.
    pub(super) async fn make_key(dir: &Path) -> anyhow::Result<()> {
        for name in ["key", "host_key"] {
            let made = program("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.join(name))
                .output();
            let made =
                made.await.context("ssh-keygen cannot be started; it is in the package openssh-client")?;
            ensure!(
                made.status.success(),
                "ssh-keygen fails: {}",
                String::from_utf8_lossy(&made.stderr).trim()
            );
        }
        fs::copy(dir.join("key.pub"), dir.join("authorized_keys"))?;
        Ok(())
    }

    /// Starts sshd, with nothing that slows it down.
    pub(super) async fn sshd(dir: &Path) -> anyhow::Result<Self> {
        ensure!(
            Path::new(SSHD).exists(),
            "There is no {SSHD} to compare with; it is in the package openssh-server"
        );
        let nc = program("nc").arg("-h").output().await;
        nc.context("There is no nc for sshd to run; it is in the package netcat-openbsd")?;
        // Where Debian's wants to go when it is root, and an init has made no folder for it.
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd")?;
        }
        let address = free_address()?;
        let config = dir.join("sshd_config");
        let lines = format!(
            "ListenAddress {address}\nHostKey {dir}/host_key\nAuthorizedKeysFile {dir}/authorized_keys\n\
             StrictModes no\nUsePAM no\nPidFile none\nMaxStartups 10000\nMaxSessions 10000\nLogLevel ERROR\nUseDNS no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nAllowTcpForwarding yes\nPrintMotd no\n",
            dir = dir.display()
        );
        // OpenSSH 9.8 and later hold those back that come often; earlier ones do not know the word.
        fs::write(&config, format!("{lines}PerSourcePenalties no\n"))?;
        let checked = program(SSHD).arg("-t").arg("-f").arg(&config).output().await?;
        if !checked.status.success() {
            fs::write(&config, lines)?;
        }
        let mut command = program(SSHD);
        command.args(["-D", "-e", "-f"]).arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = command.spawn().context("sshd cannot be started")?;
        until_it_listens(&mut server, address).await?;
        let user = program("id").arg("-un").output().await?;
        let user = String::from_utf8(user.stdout)?.trim().to_owned();
        let way = way(dir, address, user, "127.0.0.1")?;
        Ok(Self { way, server, _input: None })
    }

    /// Starts Berth's.
    pub(super) async fn berth(dir: &Path) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("This program does not find itself")?;
        let mut command: Command = program(own.to_str().context("This program's path is not text")?);
        command.args(["bench", "stand-in"]).arg(dir).stdin(Stdio::piped()).stderr(Stdio::inherit());
        let mut server = command.spawn().context("A gateway cannot be started")?;
        let input = server.stdin.take();
        let output = server.stdout.take().context("It has no output")?;
        let mut lines = BufReader::new(output).lines();
        let port = timeout(LISTENS_WITHIN, lines.next_line()).await??.context("The gateway has ended")?;
        let address = SocketAddr::from(([127, 0, 0, 1], port.parse()?));
        let way = way(dir, address, stand_in::ACCOUNT.into(), stand_in::HOST)?;
        Ok(Self { way, server, _input: input })
    }
}

fn way(dir: &Path, address: SocketAddr, user: String, host: &'static str) -> anyhow::Result<Way> {
    let key_file = dir.join("key");
    let key = Arc::new(load_secret_key(&key_file, None)?);
    Ok(Way { address, user, host, key, key_file, config: Cipher::Aes128Gcm.config() })
}

fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok(listener.local_addr()?)
}

async fn until_it_listens(server: &mut Child, address: SocketAddr) -> anyhow::Result<()> {
    let listening = async {
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = server.try_wait()? {
                bail!("sshd has ended at once, with {status}");
            }
            sleep(GLANCE).await;
        }
        Ok(())
    };
    timeout(LISTENS_WITHIN, listening).await.context("sshd does not listen")?
}

impl Cipher {
    /// How a client speaks: both gateways know all of it.
    pub(super) fn config(self) -> Arc<client::Config> {
        use russh::{Preferred, cipher, kex};
        let (cipher, kex) = match self {
            Self::Aes128Gcm => (&[cipher::AES_128_GCM][..], &[kex::CURVE25519][..]),
            Self::ChaCha20 => (&[cipher::CHACHA20_POLY1305][..], &[kex::CURVE25519][..]),
        };
        Arc::new(client::Config {
            preferred: Preferred { cipher: cipher.into(), kex: kex.into(), ..Preferred::DEFAULT },
            nodelay: true,
            ..client::Config::default()
        })
    }
}
