//! Whether KVM works here: known only by booting something under it.
//!
//! `/dev/kvm` may be there and open, and still no guest runs under it (nested virtualization that is half there). So the
//! image's own kernel is started under it without a disk: it works if the kernel gets so far as to complain of that.

use std::{path::Path, process::Stdio, time::Duration};

use berth_engine::EngineError;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::{host::QemuVersion, paths::write_durably};

/// A kernel under KVM takes one or two seconds for this, on a busy host some more.
const PROBE_WITHIN: Duration = Duration::from_secs(15);
/// What the kernel prints when it has no root file system.
const COMPLAINT: &str = "Kernel panic - not syncing";
/// What QEMU prints when KVM gives up; it would then wait for ever.
const GIVEN_UP: &str = "KVM internal error";
/// The most of a line that is looked at, in bytes.
const MAX_LINE: usize = 4096;

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    /// The processor itself.
    Kvm,
    /// QEMU's translator: any host can, five to ten times slower.
    Tcg,
}

/// What a probe found, as it is kept: it holds for one boot of the host and one QEMU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    boot_id: String,
    qemu: String,
    accel: Accel,
}

/// Finds out what VMs run under, and says so in the log. What was found is kept in `file`.
pub(crate) async fn find(
    qemu: &Path,
    version: &QemuVersion,
    kernel: &Path,
    file: &Path,
) -> Result<Accel, EngineError> {
    if let Err(error) =
        rustix::fs::access("/dev/kvm", rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK)
    {
        // Not kept: it changes with a module or a group, and costs nothing to see.
        let remedy = if error == rustix::io::Errno::ACCESS {
            ". Put this user into the group kvm (usermod -aG kvm USER) and start the server again"
        } else {
            ""
        };
        tracing::warn!(
            "VMs run without KVM, several times slower: /dev/kvm cannot be used ({error}){remedy}"
        );
        return Ok(Accel::Tcg);
    }
    let boot_id =
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    let known = std::fs::read(file).ok().and_then(|text| serde_json::from_slice::<Found>(&text).ok());
    let accel = match known {
        Some(found) if found.boot_id == boot_id && found.qemu == version.to_string() => found.accel,
        _ => {
            let accel = if boots_under_kvm(qemu, kernel).await? { Accel::Kvm } else { Accel::Tcg };
            let found = Found { boot_id, qemu: version.to_string(), accel };
            let kept = serde_json::to_vec(&found)
                .map_err(std::io::Error::from)
                .and_then(|text| write_durably(file, &text));
            if let Err(error) = kept {
                tracing::warn!(%error, "what the probe for KVM found cannot be kept");
            }
            accel
        }
    };
    match accel {
        Accel::Kvm => tracing::info!("VMs run under KVM"),
        Accel::Tcg => tracing::warn!(
            "VMs run without KVM, several times slower: /dev/kvm is there, but no guest boots under it"
        ),
    }
    Ok(accel)
}

async fn boots_under_kvm(qemu: &Path, kernel: &Path) -> Result<bool, EngineError> {
    #[expect(clippy::disallowed_methods, reason = "this crate runs QEMU")]
    let mut command = Command::new(qemu);
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-machine", "pc,usb=off,vmport=off", "-accel", "kvm", "-cpu", "host", "-m", "256"])
        .args(["-serial", "stdio", "-append", "console=ttyS0 panic=-1", "-kernel"])
        .arg(kernel)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| EngineError::Broken {
        reason: format!("{} cannot be started: {error}", qemu.display()),
    })?;
    let (Some(serial), Some(complaints)) = (child.stdout.take(), child.stderr.take()) else {
        return Ok(false);
    };
    let probe = async {
        tokio::select! {
            booted = says(serial, COMPLAINT) => booted,
            true = says(complaints, GIVEN_UP) => false,
            else => false,
        }
    };
    let booted = timeout(PROBE_WITHIN, probe).await.unwrap_or(false);
    drop(child.kill().await);
    Ok(booted)
}

/// Reads until `words` have come (`true`) or the end (`false`).
async fn says(from: impl tokio::io::AsyncRead + Unpin, words: &str) -> bool {
    let mut from = BufReader::new(from);
    let mut seen = Vec::new();
    while let Ok(byte) = from.read_u8().await {
        seen.push(byte);
        if seen.ends_with(words.as_bytes()) {
            return true;
        }
        if seen.len() > MAX_LINE {
            seen.drain(..MAX_LINE / 2);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn words_are_found_in_any_amount_of_others() {
        let text = format!("{}KVM internal error. Suberror: 1", "x".repeat(3 * MAX_LINE));
        assert!(says(text.as_bytes(), GIVEN_UP).await);
        assert!(!says(text.as_bytes(), COMPLAINT).await);
    }

    #[tokio::test]
    async fn what_was_found_on_this_boot_is_not_looked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("accel.json");
        let version: QemuVersion = "QEMU emulator version 10.0.2 (Debian)".parse().unwrap();
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned();
        if std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
            // Then nothing is kept, which is what there is to see here.
            let found = find(Path::new("/bin/false"), &version, Path::new("/none"), &file).await.unwrap();
            assert_eq!((found, file.exists()), (Accel::Tcg, false));
            return;
        }
        let kept = Found { boot_id, qemu: version.to_string(), accel: Accel::Kvm };
        std::fs::write(&file, serde_json::to_vec(&kept).unwrap()).unwrap();
        let no_qemu = Path::new("/nonexistent");
        assert_eq!(find(no_qemu, &version, Path::new("/none"), &file).await.unwrap(), Accel::Kvm);
        let stale = Found { boot_id: "another".to_owned(), ..kept };
        std::fs::write(&file, serde_json::to_vec(&stale).unwrap()).unwrap();
        assert!(find(no_qemu, &version, Path::new("/none"), &file).await.is_err(), "it looks again");
        assert_eq!(
            find(Path::new("/bin/true"), &version, Path::new("/none"), &file).await.unwrap(),
            Accel::Tcg
        );
        let now: Found = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(now.accel, Accel::Tcg);
    }
}
