//! The known_hosts file of this installation, so that an ssh that uses it asks nobody whether to trust the gateway and the
//! VMs: the host CA, and for programs that know no certificates the gateway's key and every VM's.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use berth_control::{Control, VmInfo};
use berth_model::ssh_config::known_hosts_name;
use tokio::sync::Mutex;

/// Writes the file, whole, as often as what is in it changes.
pub(crate) struct KnownHosts {
    path: PathBuf,
    /// The gateway under every name that ssh looks for, and its public key as in a `.pub` file.
    names: Vec<String>,
    key: String,
    /// Held from reading the VMs to the end of writing, so that an older list never replaces a newer one.
    writing: Mutex<()>,
}

impl KnownHosts {
    /// `key` is the gateway's public key as in a `.pub` file, `listen` where it listens.
    pub(crate) fn new(path: PathBuf, gateway: &str, listen: &[SocketAddr], key: &str) -> Self {
        let key = key.trim().to_owned();
        Self { path, names: gateway_names(gateway, listen), key, writing: Mutex::new(()) }
    }

    /// Brings the file up to date.
    pub(crate) async fn rewrite(&self, control: &Control) -> anyhow::Result<()> {
        let _writing = self.writing.lock().await;
        let trust = control.host_trust(&self.names);
        let gateway = format!("{} {}", self.names.join(","), self.key);
        let text = text(&trust, &gateway, &control.vms(None).await?);
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || replace(&path, &text)).await??;
        Ok(())
    }
}

fn text(trust: &[String], gateway: &str, vms: &[VmInfo]) -> String {
    let mut text = format!("# Written by berth; changes are lost.\n{}\n{gateway}\n", trust.join("\n"));
    for vm in vms.iter().filter(|vm| !vm.host_key.is_empty()) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {}", vm.names.join(","), vm.host_key);
    }
    text
}

/// The gateway under its name and the addresses that this machine reaches it at, in the form that ssh looks for.
fn gateway_names(name: &str, listen: &[SocketAddr]) -> Vec<String> {
    let mut names: Vec<String> = vec![];
    for address in listen {
        for host in [name.to_owned(), "localhost".into(), reachable(address.ip()).to_string()] {
            let name = known_hosts_name(&host, address.port());
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// What the gateway's certificate says beside its name: how this machine reaches it.
pub(crate) fn other_names(listen: &[SocketAddr]) -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    for address in listen {
        let name = reachable(address.ip()).to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// An address to connect to for one that is listened on.
pub(crate) fn reachable(listening: IpAddr) -> IpAddr {
    match listening {
        IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// Replaces the file at once: whoever reads it sees the old one or the new one.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_under_every_name_that_ssh_looks_for() {
        let listen = ["127.0.0.1:2222", "[::]:2222"].map(|address| address.parse().unwrap());
        assert_eq!(
            gateway_names("ssh.berth.localhost", &listen),
            ["[ssh.berth.localhost]:2222", "[localhost]:2222", "[127.0.0.1]:2222", "[::1]:2222"]
        );
        assert_eq!(other_names(&listen), ["localhost", "127.0.0.1", "::1"]);
        let listen = ["0.0.0.0:22".parse().unwrap()];
        assert_eq!(gateway_names("ssh.koding.com", &listen), ["ssh.koding.com", "localhost", "127.0.0.1"]);
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known_hosts");
        replace(&path, "a long first text").unwrap();
        replace(&path, "second").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
