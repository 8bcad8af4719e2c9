//! An ssh_config(5) that leads from this machine to an account's VMs and asks no question.

use std::path::{Path, PathBuf};

use crate::admin::wire::WayIn;

/// A path that ssh_config(5) has no way to write.
#[derive(Debug, thiserror::Error)]
#[error("ssh cannot be told the path {0:?}: it has a character that its configuration cannot hold")]
pub(crate) struct PathError(PathBuf);

/// The text of a file that is to be kept at `file`. With `identities`, those keys are offered and no other.
///
/// The tunnel is the tutorial's own, `nc` through the gateway, so that progress of a VM that starts is seen. Keepalives
/// are between here and the gateway, where they do not count as use of the VM.
pub(crate) fn write(way: &WayIn, file: &Path, identities: &[PathBuf]) -> Result<String, PathError> {
    let WayIn { account, gateway, address, vm_domain, known_hosts, website } = way;
    let (host, port) = (address.ip(), address.port());
    let known_hosts = quoted(known_hosts)?;
    let this_file = for_shell(file)?;
    let mut keys = String::new();
    for path in identities {
        keys += &format!("\n    IdentityFile {}", quoted(path)?);
    }
    if !identities.is_empty() {
        keys += "\n    IdentitiesOnly yes";
    }
    Ok(format!(
        "# The way to the VMs of {account}. Written by berth; changes are lost.
# Website: {website}
Host {gateway}
    HostName {host}
    Port {port}
    ServerAliveInterval 30

Host *.{vm_domain}
    ProxyCommand ssh -F {this_file} %r@{gateway} nc %h %p

Host {gateway} *.{vm_domain}
    User {account}{keys}
    UserKnownHostsFile {known_hosts}
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    UpdateHostKeys no
"
    ))
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

    fn way() -> WayIn {
        WayIn {
            account: "alice".into(),
            gateway: "ssh.berth.localhost".into(),
            address: "127.0.0.1:2222".parse().unwrap(),
            vm_domain: "vm.localhost".into(),
            known_hosts: "/state/known_hosts".into(),
            website: "http://berth.localhost:8080".into(),
        }
    }

    #[test]
    fn plain_paths_stay_as_they_are() {
        let text = write(&way(), Path::new("/state/ssh_config"), &[]).unwrap();
        assert!(
            text.contains("    ProxyCommand ssh -F /state/ssh_config %r@ssh.berth.localhost nc %h %p\n"),
            "{text}"
        );
        assert!(text.contains("    HostName 127.0.0.1\n    Port 2222\n"), "{text}");
        assert!(!text.contains("Identit"), "{text}");
    }

    #[test]
    fn strange_paths_are_quoted_for_whom_they_are() {
        let state = Path::new("/it's 100% mine/ssh_config");
        let text = write(&way(), state, &["/a b/key%".into(), "/two".into()]).unwrap();
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
            assert!(write(&way(), Path::new(path), &[]).is_err(), "{path}");
        }
    }
}
