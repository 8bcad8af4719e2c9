//! The record of a sleep: what it takes to wake, and how to tell that it is whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use berth_engine::{Guest, GuestUser};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::SleepDir;
use crate::{egress::WayOut, host::QemuVersion, qemu::Machine};

/// The format that is written, and the only one that is read.
const FORMAT: u32 = 1;

/// Everything that is known of a sleep but for its memory and devices themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    /// Under which it fell asleep: devices are understood by this version of QEMU, up to its last number.
    pub(crate) qemu: QemuVersion,
    /// The machine as it was: its devices have to be the same ones at the wake. Its files are where the VM is now.
    pub(crate) machine: Machine,
    pub(crate) way_out: WayOut,
    /// Bytes of memory.
    memory: u64,
    /// What of the memory is on the disk; unknown in a tmpfs, where it would cost time and tell nothing.
    memory_sum: Option<u32>,
    device: Mark,
    /// It is a copy of a guest that was made to be copied, and needs an identity of its own before it meets anybody.
    pub(crate) fork: bool,
    /// Seconds since 1970.
    slept_at: u64,
    /// [`given_hash`] of what the guest has; `None` when that is not known.
    pub(crate) keys: Option<String>,
}

/// What a file has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    bytes: u64,
    sum: u32,
}

impl Mark {
    /// Reads the whole of a small file.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut sum = crc32fast::Hasher::new();
        let mut buffer = vec![0; 256 << 10];
        let mut bytes = 0;
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                return Ok(Self { bytes, sum: sum.finalize() });
            }
            bytes += length as u64;
            sum.update(buffer.get(..length).unwrap_or_default());
        }
    }
}

/// Why a sleep cannot be woken. Each is a sentence for its owner, without a full stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it fell asleep under another version of Berth, whose sleeps this one does not understand")]
    Format,
    #[error("it fell asleep under QEMU {slept}, and the host has {now} now")]
    Qemu { slept: QemuVersion, now: QemuVersion },
    #[error("what was kept of its memory is cut short")]
    Cut,
    #[error("what was kept of its sleep is damaged")]
    Damaged,
    #[error("the host has no room left for its memory")]
    NoRoom,
    #[error("what was kept of its sleep cannot be read on the host")]
    Io(#[source] io::Error),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => {
                Self::NoRoom
            }
            // One of its files is gone.
            io::ErrorKind::NotFound => Self::Damaged,
            _ => Self::Io(error),
        }
    }
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Record {
    /// The record of a sleep that is there but for this: `device` and `memory` are whole in `dir`.
    pub(crate) fn of(
        dir: &SleepDir,
        qemu: QemuVersion,
        machine: Machine,
        way_out: WayOut,
        keys: Option<String>,
    ) -> io::Result<Self> {
        Ok(Self {
            format: FORMAT,
            qemu,
            way_out,
            memory: fs::metadata(dir.memory())?.len(),
            memory_sum: None,
            device: Mark::of(&dir.device())?,
            fork: false,
            slept_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            keys,
            machine,
        })
    }

    /// The record of a folder; `None` where there is no sleep.
    pub(crate) fn read(dir: &SleepDir) -> Result<Option<Self>, Unusable> {
        let text = match fs::read(dir.record()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let FormatOnly { format } = serde_json::from_slice(&text).map_err(|_| Unusable::Damaged)?;
        if format != FORMAT {
            return Err(Unusable::Format);
        }
        serde_json::from_slice(&text).map(Some).map_err(|_| Unusable::Damaged)
    }

    /// Makes `dir` a sleep, at once. Survives the end of every process, but the power's only after the folder is synced.
    pub(crate) fn write(&self, dir: &SleepDir) -> io::Result<()> {
        let new = dir.0.join("asleep.json.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        if self.memory_sum.is_some() {
            file.sync_all()?;
        }
        fs::rename(&new, dir.record())
    }

    /// Whether the files beside the record are those that it tells of, as far as can be seen without reading the memory.
    pub(crate) fn check(&self, dir: &SleepDir) -> Result<(), Unusable> {
        if fs::metadata(dir.memory())?.len() != self.memory {
            return Err(Unusable::Cut);
        }
        match Mark::of(&dir.device())? {
            found if found == self.device => Ok(()),
            found if found.bytes < self.device.bytes => Err(Unusable::Cut),
            _ => Err(Unusable::Damaged),
        }
    }

    /// Whether a QEMU understands it.
    pub(crate) fn fits(&self, now: QemuVersion) -> Result<(), Unusable> {
        if self.qemu.understands(now) { Ok(()) } else { Err(Unusable::Qemu { slept: self.qemu, now }) }
    }

    /// Bytes of memory, as the guest sees it.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// The sum of the pages, for a copy that lasts.
    pub(super) fn memory_sum(&self) -> Option<u32> {
        self.memory_sum
    }

    /// The same sleep with its pages summed.
    pub(super) fn with_memory_sum(self, sum: u32) -> Self {
        Self { memory_sum: Some(sum), ..self }
    }

    /// Whether two records are of the same moment of the same VM.
    pub(super) fn is_same_sleep(&self, other: &Self) -> bool {
        self.device == other.device && self.slept_at == other.slept_at && self.memory == other.memory
    }
}

/// Stands for what the guest was given, so that a wake can tell whether it has to be given anything.
pub(crate) fn given_hash(guest: &Guest) -> String {
    let mut hash = Sha256::new_with_prefix(guest.authorized_keys.as_bytes());
    hash.update(format!("\0{}", guest.host_certificate));
    for GuestUser { name, uid, sudo, authorized_keys } in &guest.others {
        hash.update(format!("\0{name} {uid} {sudo}\n{authorized_keys}"));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
