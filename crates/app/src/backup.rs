//! A backup: one file with all that a server remembers, but the VMs' disks.
//!
//! ```text
//!   berth.db            the database, as it was at one moment
//!   host_key            the gateway's
//!   berth.toml          the configuration, if the server had a file of one
//!   certificates/…      what an authority for https gave
//!   recordings/…        what was recorded of sessions
//!   manifest.json       what is in it, with checksums; the last, so that a file without it is no backup
//! ```
//!
//! It is a plain tar archive, whose entries are files by exactly these names. What else is in one is refused: there is no
//! path to be made safe, because none but these is taken.

mod read;
mod write;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub(crate) use self::{read::unpack, write::Writer};

/// The version of what is described above.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// The database's name, in a backup and in a state folder.
pub(crate) const DATABASE: &str = "berth.db";
/// The host key's, likewise.
pub(crate) const HOST_KEY: &str = "host_key";
/// The configuration's.
pub(crate) const CONFIG: &str = "berth.toml";
/// Folders of files.
pub(crate) const FOLDERS: [&str; 2] = ["certificates", "recordings"];
/// Of what is neither the database nor a recording, in bytes.
const MAX_SMALL: u64 = 1 << 20;
/// Of the manifest, in bytes.
const MAX_MANIFEST: u64 = 64 << 20;

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// The version of Berth that made it.
    pub(crate) berth: String,
    /// The version of the database's schema.
    pub(crate) schema: i64,
    /// When it was begun.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) made: OffsetDateTime,
    /// All files but this one, in their order.
    pub(crate) files: Vec<Entry>,
}

/// A file in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// In bytes.
    pub(crate) size: u64,
    /// In hexadecimal digits.
    pub(crate) sha256: String,
}

/// The most bytes that a file of this name may have; `None` for a name that none has.
fn most(name: &str) -> Option<u64> {
    match name {
        DATABASE => Some(u64::MAX),
        HOST_KEY | CONFIG => Some(MAX_SMALL),
        MANIFEST => Some(MAX_MANIFEST),
        _ => match name.split_once('/')? {
            ("certificates", file) if is_file_name(file) => Some(MAX_SMALL),
            ("recordings", file) if is_file_name(file) => Some(u64::MAX),
            _ => None,
        },
    }
}

/// Whether this is the name of a file and can be nothing else. Hidden ones are files in the making.
fn is_file_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    (1..=200).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests;
