//! The two gateways that are measured: OpenSSH's sshd as a jump host, and Berth's.

use std::{fs, net::SocketAddr, path::Path, process::Stdio, sync::Arc};

use anyhow::{Context as _, ensure};
use russh::{client, keys::load_secret_key};
use tokio::process::{Child, ChildStdin};

use super::{
    super::{
        client::program,
        processes::Tree,
        servers::{StandIn, free_address, until_it_listens},
        stand_in,
    },
    load::{Cipher, Inside, Way},
    terminal::Site,
};

const SSHD: &str = "/usr/sbin/sshd";

/// One of the two, which runs until this is dropped.
pub(super) struct Peer {
    pub(super) way: Way,
    /// Its website, where it has one.
    pub(super) site: Option<Site>,
    server: Child,
    _input: Option<ChildStdin>,
}

impl Peer {
    /// Its processes.
    pub(super) fn tree(&self) -> anyhow::Result<Tree> {
        let pid = self.server.id().context("A gateway has ended")?;
        Ok(Tree::below(pid))
    }

    /// Starts sshd, with nothing that slows it down.
    pub(super) async fn sshd(dir: &Path, vm: u16) -> anyhow::Result<Self> {
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
        until_it_listens("sshd", &mut server, address).await?;
        let user = program("id").arg("-un").output().await?;
        let user = String::from_utf8(user.stdout)?.trim().to_owned();
        let way = way(dir, address, user, "127.0.0.1", Inside::Jump(vm))?;
        Ok(Self { way, site: None, server, _input: None })
    }

    /// Starts Berth's.
    pub(super) async fn berth(dir: &Path, vm: u16) -> anyhow::Result<Self> {
        let StandIn { server, ssh, http, cookie, input } =
            StandIn::start(dir, &[format!("--sshd={vm}")]).await?;
        let way = way(dir, ssh, stand_in::ACCOUNT.into(), stand_in::HOST, Inside::Direct("vm-0"))?;
        let site = Some(Site { address: http, cookie });
        Ok(Self { way, site, server, _input: Some(input) })
    }
}

fn way(
    dir: &Path,
    address: SocketAddr,
    user: String,
    host: &'static str,
    inside: Inside,
) -> anyhow::Result<Way> {
    let key_file = dir.join("key");
    let key = Arc::new(load_secret_key(&key_file, None)?);
    Ok(Way { address, user, host, key, key_file, config: Cipher::Aes128Gcm.config(), inside })
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
