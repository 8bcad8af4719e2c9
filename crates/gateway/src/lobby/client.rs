//! What is at the other end, from how it identifies itself (RFC 4253, 4.2). It may say what it likes: nothing is allowed
//! or refused for it.

use crate::text::quoted;

/// A client's program and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Client {
    /// OpenSSH.
    OpenSsh { version: (u32, u32), on_windows: bool },
    /// PuTTY, plink, pscp, WinSCP's core.
    Putty { version: (u32, u32) },
    /// Another one, fit to be said back.
    Other(String),
}

impl Client {
    /// Reads an identification such as `SSH-2.0-OpenSSH_9.2p1 Debian-2`.
    pub(crate) fn of(identification: &[u8]) -> Self {
        let text = String::from_utf8_lossy(identification);
        let software = text.splitn(3, '-').nth(2).unwrap_or(&text).trim_end();
        let windows = software.strip_prefix("OpenSSH_for_Windows_");
        let openssh = windows.or_else(|| software.strip_prefix("OpenSSH_"));
        if let Some(version) = openssh.and_then(version) {
            return Self::OpenSsh { version, on_windows: windows.is_some() };
        }
        if let Some(version) = software.strip_prefix("PuTTY_Release_").and_then(version) {
            return Self::Putty { version };
        }
        Self::Other(quoted(software))
    }

    pub(super) fn is_on_windows(&self) -> bool {
        matches!(self, Self::OpenSsh { on_windows: true, .. })
    }

    /// Whether it takes lines of known_hosts out of its configuration (KnownHostsCommand, OpenSSH 8.5). Windows' has the
    /// word but none of the programs.
    pub(super) fn takes_known_hosts_in_its_configuration(&self) -> bool {
        match self {
            Self::OpenSsh { version, on_windows } => *version >= (8, 5) && !on_windows,
            Self::Putty { .. } | Self::Other(_) => false,
        }
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OpenSsh { version: (major, minor), on_windows: false } => {
                write!(f, "OpenSSH {major}.{minor}")
            }
            Self::OpenSsh { version: (major, minor), on_windows: true } => {
                write!(f, "OpenSSH for Windows {major}.{minor}")
            }
            Self::Putty { version: (major, minor) } => write!(f, "PuTTY {major}.{minor:02}"),
            Self::Other(software) => f.write_str(software),
        }
    }
}

/// The first two numbers.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest.get(..end)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_by_what_they_say() {
        for (said, client, takes) in [
            ("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10", "OpenSSH 9.2", true),
            ("SSH-2.0-OpenSSH_10.0", "OpenSSH 10.0", true),
            ("SSH-2.0-OpenSSH_8.4p1", "OpenSSH 8.4", false),
            ("SSH-2.0-OpenSSH_for_Windows_9.5", "OpenSSH for Windows 9.5", false),
            ("SSH-2.0-PuTTY_Release_0.78", "PuTTY 0.78", false),
            ("SSH-2.0-PuTTY_Release_0.8", "PuTTY 0.08", false),
            ("SSH-2.0-dropbear_2022.83", "dropbear_2022.83", false),
            ("SSH-2.0-OpenSSH_x", "OpenSSH_x", false),
            ("SSH-2.0-\u{1b}[2J", "?[2J", false),
            ("", "", false),
        ] {
            let read = Client::of(said.as_bytes());
            assert_eq!(
                (read.to_string().as_str(), read.takes_known_hosts_in_its_configuration()),
                (client, takes)
            );
        }
    }
}
