//! Making a backup.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{Entry, FORMAT, MANIFEST, Manifest, most};

/// An archive in the making. Without [`Writer::finish`] it is no backup.
pub(crate) struct Writer<W: Write> {
    tar: tar::Builder<W>,
    manifest: Manifest,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(to: W, made: OffsetDateTime) -> Self {
        let manifest = Manifest {
            format: FORMAT,
            berth: env!("CARGO_PKG_VERSION").to_owned(),
            schema: berth_store::schema_version(),
            made,
            files: vec![],
        };
        Self { tar: tar::Builder::new(to), manifest }
    }

    /// Adds a file as it is now; one that grows meanwhile is cut where it ends now. `false` for one that has no place in a
    /// backup, by its name or as what it is.
    pub(crate) fn add(&mut self, name: &str, path: &Path) -> io::Result<bool> {
        let Some(most) = most(name) else { return Ok(false) };
        let about = path.symlink_metadata()?;
        if !about.is_file() || about.len() > most {
            return Ok(false);
        }
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let sha256 = self.append(name, size, file)?;
        self.manifest.files.push(Entry { name: name.to_owned(), size, sha256 });
        Ok(true)
    }

    /// Writes down what is in it, which makes it a backup.
    pub(crate) fn finish(mut self) -> io::Result<(W, Manifest)> {
        let text = serde_json::to_vec_pretty(&self.manifest)?;
        let size = u64::try_from(text.len()).map_err(io::Error::other)?;
        self.append(MANIFEST, size, text.as_slice())?;
        Ok((self.tar.into_inner()?, self.manifest))
    }

    fn append(&mut self, name: &str, size: u64, from: impl Read) -> io::Result<String> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(size);
        header.set_mtime(u64::try_from(self.manifest.made.unix_timestamp()).unwrap_or_default());
        let mut from = Hashing { from: from.take(size), hash: Sha256::new(), read: 0 };
        self.tar.append_data(&mut header, name, &mut from)?;
        if from.read == size {
            return Ok(hex(&from.hash.finalize()));
        }
        let shrunk = format!("{name} has become smaller while it was read");
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, shrunk))
    }
}

/// Counts and hashes what is read through it.
pub(super) struct Hashing<R> {
    pub(super) from: R,
    pub(super) hash: Sha256,
    pub(super) read: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(to)?;
        self.hash.update(to.get(..read).unwrap_or_default());
        self.read = self.read.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(read)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
