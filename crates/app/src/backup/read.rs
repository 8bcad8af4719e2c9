//! Reading a backup, which may be anything.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use sha2::{Digest, Sha256};

use super::{DATABASE, Entry, FOLDERS, FORMAT, HOST_KEY, MANIFEST, MAX_MANIFEST, Manifest, most, write};

/// More files than this are no backup.
const MAX_FILES: usize = 1_000_000;

/// Why a file is not taken for a backup, or cannot be read. Sentences for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// It is something else.
    #[error("{0} Nothing was restored. Use a file that “berth admin backup” has made.")]
    NotABackup(String),
    /// Something is missing in it, or was changed.
    #[error("The backup is damaged: {0}. Nothing was restored. Use another copy of it, or another backup.")]
    Damaged(String),
    /// A newer Berth has made it.
    #[error("The backup was made by Berth {0}, which is newer than this one. Restore it with that version.")]
    Newer(String),
    /// The system refuses.
    #[error("The backup cannot be restored: {0}.")]
    Io(#[source] io::Error),
}

/// Unpacks a backup into a folder that is empty and judges it. What is there after an error is to be deleted.
pub(crate) fn unpack(archive: impl Read, into: &Path) -> Result<Manifest, UnpackError> {
    for folder in FOLDERS {
        DirBuilder::new().mode(0o700).create(into.join(folder)).map_err(UnpackError::Io)?;
    }
    let mut archive = tar::Archive::new(archive);
    let mut found: Vec<Entry> = vec![];
    let mut names = BTreeSet::new();
    let mut judged = None;
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let name = name_of(&entry)?;
        if judged.is_some() {
            return Err(UnpackError::NotABackup("It goes on after its end.".into()));
        }
        let size = entry.size();
        if most(&name).is_none_or(|most| size > most) {
            return Err(foreign(&name));
        }
        if !names.insert(name.clone()) || names.len() > MAX_FILES {
            return Err(UnpackError::NotABackup(format!("{name:?} is in it more than once.")));
        }
        if name == MANIFEST {
            let manifest = manifest(&mut entry)?;
            judge(&manifest, &found)?;
            judged = Some(manifest);
            continue;
        }
        let sha256 = keep(&mut entry, &into.join(&name), size)?;
        found.push(Entry { name, size, sha256 });
    }
    judged.ok_or_else(|| UnpackError::Damaged("its end is missing".into()))
}

/// Its name, where it is a file, and one that a backup has.
fn name_of<R: Read>(entry: &tar::Entry<'_, R>) -> Result<String, UnpackError> {
    let path = entry.path_bytes();
    let name = String::from_utf8_lossy(&path).into_owned();
    if entry.header().entry_type() == tar::EntryType::Regular && name.as_bytes() == path.as_ref() {
        return Ok(name);
    }
    Err(foreign(&name))
}

fn foreign(name: &str) -> UnpackError {
    let name: String = name.chars().take(80).collect();
    UnpackError::NotABackup(format!("There is something in it that no backup has: {name:?}."))
}

fn manifest(entry: &mut impl Read) -> Result<Manifest, UnpackError> {
    let mut text = Vec::new();
    entry.take(MAX_MANIFEST).read_to_end(&mut text).map_err(unreadable)?;
    let bad = |_| UnpackError::Damaged("its manifest cannot be read".into());
    let looked: serde_json::Value = serde_json::from_slice(&text).map_err(bad)?;
    if looked.get("format").and_then(serde_json::Value::as_u64) != Some(FORMAT.into()) {
        let by = looked.get("berth").and_then(serde_json::Value::as_str).unwrap_or("of another kind");
        return Err(UnpackError::Newer(by.to_owned()));
    }
    serde_json::from_value(looked).map_err(bad)
}

fn judge(manifest: &Manifest, found: &[Entry]) -> Result<(), UnpackError> {
    if manifest.schema > berth_store::schema_version() {
        return Err(UnpackError::Newer(manifest.berth.clone()));
    }
    if let Some((_, entry)) = manifest.files.iter().zip(found).find(|(said, is)| said != is) {
        return Err(UnpackError::Damaged(format!("{} is not what it was", entry.name)));
    }
    let has = |name: &str| found.iter().any(|entry| entry.name == name);
    if manifest.files.len() != found.len() || !has(DATABASE) || !has(HOST_KEY) {
        return Err(UnpackError::Damaged("a file is missing in it, or one is there too many".into()));
    }
    Ok(())
}

/// Writes a file, so that it lasts, and gives its checksum.
fn keep(entry: &mut impl Read, path: &Path, size: u64) -> Result<String, UnpackError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file: File = made.map_err(UnpackError::Io)?;
    let mut from = write::Hashing { from: entry, hash: Sha256::new(), read: 0 };
    io::copy(&mut from, &mut file).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => UnpackError::Io(error),
        _ => unreadable(error),
    })?;
    if from.read != size {
        return Err(UnpackError::Damaged("its end is missing".into()));
    }
    file.sync_all().map_err(UnpackError::Io)?;
    let sha256 = write::hex(&from.hash.finalize());
    fs::File::open(path.parent().unwrap_or(path)).and_then(|dir| dir.sync_all()).map_err(UnpackError::Io)?;
    Ok(sha256)
}

/// What the reader of archives complains of is about the archive.
fn unreadable(error: io::Error) -> UnpackError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => UnpackError::Damaged("its end is missing".into()),
        _ => UnpackError::NotABackup(format!("It is no archive that can be read ({error}).")),
    }
}
