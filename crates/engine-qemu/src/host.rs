//! The host's QEMU, and whether it is new enough.

use std::{fmt, path::Path, process::Stdio, str::FromStr, time::Duration};

use berth_engine::EngineError;
use serde::{Deserialize, Serialize};
use tokio::{process::Command, time::timeout};

/// The oldest QEMU with `-netdev stream`.
const OLDEST: QemuVersion = QemuVersion { major: 7, minor: 2, micro: 0 };
/// The oldest QEMU that writes a VM's devices into a file.
const SLEEPS: QemuVersion = QemuVersion { major: 8, minor: 2, micro: 0 };
/// The QEMU that Berth is tested with.
const TESTED: QemuVersion = QemuVersion { major: 10, minor: 0, micro: 0 };
const VERSION_WITHIN: Duration = Duration::from_secs(20);

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct QemuVersion {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) micro: u32,
}

impl QemuVersion {
    /// The machine that this version knows, and those after it: a VM keeps it for as long as it does not boot.
    pub(crate) fn machine_type(self) -> String {
        format!("pc-i440fx-{}.{}", self.major, self.minor)
    }

    /// Whether VMs can be put to sleep under it.
    pub(crate) fn can_sleep(self) -> bool {
        self >= SLEEPS
    }

    /// Whether a VM that fell asleep under one of them wakes under the other.
    pub(crate) fn understands(self, other: Self) -> bool {
        (self.major, self.minor) == (other.major, other.minor)
    }
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

impl FromStr for QemuVersion {
    type Err = ();

    /// Out of what `qemu-system-x86_64 --version` prints.
    fn from_str(text: &str) -> Result<Self, ()> {
        let rest = text.strip_prefix("QEMU emulator version ").ok_or(())?;
        let number = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next().ok_or(())?;
        let mut parts = number.split('.').map(|part| part.parse().map_err(|_| ()));
        match (parts.next(), parts.next(), parts.next()) {
            (Some(major), Some(minor), micro) => {
                Ok(Self { major: major?, minor: minor?, micro: micro.unwrap_or(Ok(0))? })
            }
            _ => Err(()),
        }
    }
}

/// Asks QEMU for its version, refuses one that is too old, and says in the log what is lost with an old one.
pub(crate) async fn qemu_version(qemu: &Path) -> Result<QemuVersion, EngineError> {
    #[expect(clippy::disallowed_methods, reason = "this crate runs QEMU")]
    let output = Command::new(qemu).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match timeout(VERSION_WITHIN, output).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return broken(format!(
                "{} is not installed: install the package qemu-system-x86",
                qemu.display()
            ));
        }
        Ok(Err(error)) => return broken(format!("{} cannot be started: {error}", qemu.display())),
        Err(_) => return broken(format!("{} does not tell its version", qemu.display())),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let Ok(version) = text.parse::<QemuVersion>() else {
        return broken(format!("{} does not tell its version: is it QEMU?", qemu.display()));
    };
    judge(version)?;
    Ok(version)
}

fn judge(version: QemuVersion) -> Result<(), EngineError> {
    if version < OLDEST {
        return broken(format!(
            "QEMU {version} is too old: {OLDEST} or newer is needed. Debian 12 has it, and 10.0 in its backports"
        ));
    }
    if version < SLEEPS {
        tracing::warn!(
            "QEMU {version} is older than {SLEEPS}: VMs cannot be put to sleep, and run until they are stopped"
        );
    } else if version < TESTED {
        tracing::warn!(
            "QEMU {version} is older than {TESTED}, with which Berth is tested; if a VM misbehaves, try a newer QEMU first"
        );
    }
    Ok(())
}

fn broken<T>(reason: String) -> Result<T, EngineError> {
    Err(EngineError::Broken { reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> QemuVersion {
        format!("QEMU emulator version {text}\nCopyright").parse().unwrap()
    }

    #[test]
    fn versions_as_distributions_print_them() {
        assert_eq!(version("10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)").to_string(), "10.0.2");
        assert_eq!(version("8.2.2 (Debian 1:8.2.2+ds-0ubuntu1.7)").to_string(), "8.2.2");
        assert_eq!(version("9.2.0-rc1").to_string(), "9.2.0");
        assert!("GNU bash, version 5".parse::<QemuVersion>().is_err());
        assert!("QEMU emulator version x".parse::<QemuVersion>().is_err());
    }

    #[test]
    fn too_old_is_refused_and_old_is_not() {
        assert!(
            matches!(judge(version("6.2.0")), Err(EngineError::Broken { reason }) if reason.contains("6.2.0 is too old"))
        );
        for good in ["7.2.0", "8.2.2", "10.0.2", "11.1.0"] {
            assert_eq!(judge(version(good)), Ok(()));
        }
    }

    #[test]
    fn the_last_number_does_not_matter_to_a_sleep() {
        assert_eq!(version("10.0.2").machine_type(), "pc-i440fx-10.0");
        assert!(version("10.0.2").understands(version("10.0.11")));
        assert!(!version("10.0.2").understands(version("10.1.2")));
        assert!(!version("9.0.2").understands(version("10.0.2")));
    }

    #[tokio::test]
    async fn a_missing_qemu_names_the_package() {
        let error = qemu_version(Path::new("/nonexistent/qemu-system-x86_64")).await.unwrap_err();
        assert!(error.to_string().ends_with("install the package qemu-system-x86"), "{error}");
        let error = qemu_version(Path::new("/bin/echo")).await.unwrap_err();
        assert!(error.to_string().ends_with("is it QEMU?"), "{error}");
    }
}
