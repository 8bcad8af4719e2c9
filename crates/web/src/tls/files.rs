//! Certificates that somebody else puts into files and renews there.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;
use tokio::time::sleep;

use super::{CertificateFiles, TlsError, pair::Pair, shelf::Shelf};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// No certificate with its chain is longer.
const MAX_FILE: u64 = 1 << 20;

/// What tells one version of a file from another.
type Stamp = (i64, i64, u64, u64);

/// A pair of files, and what was in them when they were last a pair.
pub(super) struct Watched {
    files: CertificateFiles,
    /// The only writer is [`watch`].
    last: Mutex<Last>,
}

struct Last {
    pair: Arc<Pair>,
    /// Of the versions that were looked at last, good or not.
    stamps: Option<[Stamp; 2]>,
}

impl Watched {
    pub(super) fn new(files: CertificateFiles) -> Result<Self, TlsError> {
        let stamps = stamps(&files);
        let pair = Arc::new(read(&files)?);
        Ok(Self { files, last: Mutex::new(Last { pair, stamps }) })
    }

    pub(super) fn pair(&self) -> Arc<Pair> {
        Arc::clone(&self.last.lock().unwrap_or_else(PoisonError::into_inner).pair)
    }

    /// Looks again, and tells whether there is another pair now. What is wrong is told once for each version.
    fn look_again(&self) -> bool {
        let now = stamps(&self.files);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if now == last.stamps {
            return false;
        }
        last.stamps = now;
        let certificate = self.files.certificate.display();
        match read(&self.files) {
            Ok(pair) => {
                tracing::info!(%certificate, ends = %pair.ends.date(), "a new certificate is served");
                last.pair = Arc::new(pair);
                true
            }
            Err(error) => {
                tracing::warn!(%certificate, %error, "the new certificate is not served, the old one is");
                false
            }
        }
    }
}

/// Puts new versions on the shelf, for ever.
pub(super) async fn watch(watched: &[Watched], shelf: &Shelf) {
    if watched.is_empty() {
        return;
    }
    loop {
        sleep(LOOK).await;
        let changed = watched.iter().filter(|files| files.look_again()).count();
        if changed > 0 {
            shelf.set_files(watched.iter().map(Watched::pair).collect());
        }
    }
}

/// The pair that is in the files.
pub(super) fn read(files: &CertificateFiles) -> Result<Pair, TlsError> {
    let (certificate, key) = (bytes(&files.certificate)?, bytes(&files.key)?);
    Pair::read(&certificate, &key, OffsetDateTime::now_utc())
        .map_err(|cause| TlsError::Pair { path: files.certificate.clone(), cause })
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let mut bytes = vec![];
        let read = File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if u64::try_from(read).is_ok_and(|read| read > MAX_FILE) {
            return Err(io::Error::other("it is longer than 1 MiB, so it is another file"));
        }
        Ok(bytes)
    };
    read().map_err(|cause| TlsError::Unreadable { path: path.to_owned(), cause })
}

/// `None` where one is not there at this moment.
fn stamps(files: &CertificateFiles) -> Option<[Stamp; 2]> {
    let stamp = |path: &Path| {
        let data = fs::metadata(path).ok()?;
        Some((data.mtime(), data.mtime_nsec(), data.len(), data.ino()))
    };
    Some([stamp(&files.certificate)?, stamp(&files.key)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pair::tests::made;

    #[test]
    fn a_good_version_is_taken_up_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: folder.path().join("certificate.pem"),
            key: folder.path().join("key.pem"),
        };
        let put = |(certificate, key): &(String, String)| {
            fs::write(&files.certificate, certificate).unwrap();
            fs::write(&files.key, key).unwrap();
        };
        let error = Watched::new(files.clone()).err().unwrap().to_string();
        assert!(error.contains("certificate.pem cannot be read"), "{error}");
        put(&made(&["one.example"], false));
        let watched = Watched::new(files.clone()).unwrap();
        assert!(!watched.look_again());
        let second = made(&["two.example"], false);
        // Between the two files of a renewal.
        fs::write(&files.certificate, &second.0).unwrap();
        assert!(!watched.look_again());
        assert_eq!(watched.pair().names, ["one.example"]);
        fs::write(&files.key, &second.1).unwrap();
        assert!(watched.look_again());
        assert_eq!(watched.pair().names, ["two.example"]);
        put(&made(&["three.example"], true));
        assert!(!watched.look_again() && !watched.look_again());
        fs::remove_file(&files.key).unwrap();
        assert!(!watched.look_again());
        assert_eq!(watched.pair().names, ["two.example"]);
    }
}
