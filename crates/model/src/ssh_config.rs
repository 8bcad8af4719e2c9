//! An ssh_config(5) that leads to an account's VMs and asks no question, and the names by which ssh knows a host.

use std::{
    fmt::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// A path that ssh_config(5) has no way to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ssh cannot be told the path {0:?}: it has a character that its configuration cannot hold")]
pub struct PathError(PathBuf);

/// Where Windows has its ssh: older ones start no program by its name alone.
pub const WINDOWS_SSH: &str = r"C:\Windows\System32\OpenSSH\ssh.exe";

/// How ssh comes to know the gateway and the VMs.
#[derive(Debug, Clone, Copy)]
pub enum Known<'a> {
    /// By the lines of this file, and nothing else.
    File(&'a Path),
    /// By these lines of a known_hosts file, which stand in the configuration itself. It takes OpenSSH 8.5 on a system
    /// with `/usr/bin/env`; older ones leave them out. A line has no quote, percent sign or backslash.
    Lines(&'a [String]),
    /// By what is in its own files.
    Elsewhere,
}

/// What an ssh_config is made of.
#[derive(Debug, Clone)]
pub struct SshConfig<'a> {
    /// The account, which is the user in its VMs.
    pub account: &'a str,
    /// The gateway's host name.
    pub gateway: &'a str,
    /// Where the gateway is, for who cannot look its name up.
    pub address: Option<IpAddr>,
    /// The gateway's port.
    pub port: u16,
    /// The domain of the VMs.
    pub vm_domain: &'a str,
    /// How the hosts are known.
    pub known: Known<'a>,
    /// Keys, of which no other is offered; none for ssh's usual ones.
    pub identities: &'a [PathBuf],
    /// The file that it is kept in, where that is not `~/.ssh/config`.
    pub file: Option<&'a Path>,
    /// The program that opens the way, as a ProxyCommand has it: `ssh`.
    pub ssh: &'a str,
}

impl SshConfig<'_> {
    /// The text: three blocks of `Host`, which may be appended to what there is.
    ///
    /// The tunnel is the tutorial's own, `nc` through the gateway, so that progress of a VM that starts is seen.
    /// Keepalives are between here and the gateway, where they do not count as use of the VM.
    ///
    /// # Errors
    /// A path cannot be written.
    pub fn text(&self) -> Result<String, PathError> {
        let Self { account, gateway, port, vm_domain, ssh, .. } = self;
        let mut text = format!("Host {gateway}\n");
        if let Some(address) = self.address {
            line(&mut text, &format!("HostName {address}"));
        }
        if *port != 22 || self.address.is_some() {
            line(&mut text, &format!("Port {port}"));
        }
        line(&mut text, "ServerAliveInterval 30");
        let with = self.file.map(for_shell).transpose()?.map(|file| format!("-F {file} "));
        let with = with.unwrap_or_default();
        text.push_str(&format!("\nHost *.{vm_domain}\n"));
        line(&mut text, &format!("ProxyCommand {ssh} {with}%r@{gateway} nc %h %p"));
        text.push_str(&format!("\nHost {gateway} *.{vm_domain}\n"));
        line(&mut text, &format!("User {account}"));
        for path in self.identities {
            line(&mut text, &format!("IdentityFile {}", quoted(path)?));
        }
        if !self.identities.is_empty() {
            line(&mut text, "IdentitiesOnly yes");
        }
        self.trust(&mut text)?;
        Ok(text)
    }

    fn trust(&self, text: &mut String) -> Result<(), PathError> {
        match self.known {
            Known::File(path) => {
                line(text, &format!("UserKnownHostsFile {}", quoted(path)?));
                line(text, "GlobalKnownHostsFile none");
            }
            Known::Lines(lines) => {
                line(text, "IgnoreUnknown KnownHostsCommand");
                let lines = lines.join("\\n");
                line(text, &format!("KnownHostsCommand /usr/bin/env printf \"{lines}\\n\""));
            }
            Known::Elsewhere => {}
        }
        line(text, "StrictHostKeyChecking yes");
        line(text, "UpdateHostKeys no");
        Ok(())
    }
}

fn line(text: &mut String, words: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "    {words}");
}

/// A host as ssh looks for it in a known_hosts file: a port other than 22 belongs to the name.
#[must_use]
pub fn known_hosts_name(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// A path as an argument in ssh_config(5), whose `%` begin tokens and whose `${` environment variables.
fn quoted(path: &Path) -> Result<String, PathError> {
    let text = plain(path)?;
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}

/// A path as a word of a ProxyCommand, which is expanded by ssh and then read by a shell.
fn for_shell(path: &Path) -> Result<String, PathError> {
    let text = plain(path)?;
    let safe = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@".contains(c);
    if text.chars().all(safe) {
        return Ok(text.to_owned());
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''").replace('%', "%%")))
}

fn plain(path: &Path) -> Result<&str, PathError> {
    let text = path.to_str().filter(|text| {
        !text.contains("${") && !text.contains(|c: char| c.is_control() || c == '"' || c == '\\')
    });
    text.ok_or_else(|| PathError(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config<'a>(known: Known<'a>) -> SshConfig<'a> {
        SshConfig {
            account: "alice",
            gateway: "ssh.koding.com",
            address: None,
            port: 22,
            vm_domain: "kd.io",
            known,
            identities: &[],
            file: None,
            ssh: "ssh",
        }
    }

    #[test]
    fn what_a_member_appends() {
        let lines = ["@cert-authority ssh.koding.com,*.kd.io ssh-ed25519 AAAA".to_owned(), "two".to_owned()];
        assert_eq!(
            config(Known::Lines(&lines)).text().unwrap(),
            r#"Host ssh.koding.com
    ServerAliveInterval 30

Host *.kd.io
    ProxyCommand ssh %r@ssh.koding.com nc %h %p

Host ssh.koding.com *.kd.io
    User alice
    IgnoreUnknown KnownHostsCommand
    KnownHostsCommand /usr/bin/env printf "@cert-authority ssh.koding.com,*.kd.io ssh-ed25519 AAAA\ntwo\n"
    StrictHostKeyChecking yes
    UpdateHostKeys no
"#
        );
    }

    #[test]
    fn a_file_of_its_own_on_the_gateways_machine() {
        let file = Path::new("/state/ssh_config");
        let text = SshConfig {
            address: Some(IpAddr::from([127, 0, 0, 1])),
            port: 2222,
            file: Some(file),
            ..config(Known::File(Path::new("/state/known_hosts")))
        };
        let text = text.text().unwrap();
        assert!(
            text.contains("    ProxyCommand ssh -F /state/ssh_config %r@ssh.koding.com nc %h %p\n"),
            "{text}"
        );
        assert!(text.contains("    HostName 127.0.0.1\n    Port 2222\n"), "{text}");
        assert!(text.contains("    UserKnownHostsFile \"/state/known_hosts\"\n"), "{text}");
        assert!(!text.contains("Identit"), "{text}");
    }

    #[test]
    fn strange_paths_are_quoted_for_whom_they_are() {
        let identities = ["/a b/key%".into(), "/two".into()];
        let file = Path::new("/it's 100% mine/ssh_config");
        let text = SshConfig { identities: &identities, file: Some(file), ..config(Known::Elsewhere) };
        let text = text.text().unwrap();
        assert!(text.contains(r"ssh -F '/it'\''s 100%% mine/ssh_config' %r@"), "{text}");
        assert!(
            text.contains(
                "    IdentityFile \"/a b/key%%\"\n    IdentityFile \"/two\"\n    IdentitiesOnly yes\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn paths_that_cannot_be_written_are_refused() {
        for path in ["/a\"b", "/a\nb", "/${HOME}", "/a\\b"] {
            let text = SshConfig { file: Some(Path::new(path)), ..config(Known::Elsewhere) };
            assert!(text.text().is_err(), "{path}");
        }
    }

    #[test]
    fn a_port_belongs_to_the_name() {
        assert_eq!(known_hosts_name("ssh.koding.com", 22), "ssh.koding.com");
        assert_eq!(known_hosts_name("::1", 2222), "[::1]:2222");
    }
}
