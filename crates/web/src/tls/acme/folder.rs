//! What the authority gave, in files that only the server may read. Each appears by rename, whole or not at all.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::tls::{TlsError, pair::Pair};

/// See the module.
pub(super) struct Folder {
    path: PathBuf,
}

/// An account is one authority's.
#[derive(Serialize, Deserialize)]
struct Kept {
    directory: String,
    credentials: String,
}

impl Folder {
    pub(super) fn make(path: &Path) -> Result<Self, TlsError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|cause| TlsError::Folder { path: path.to_owned(), cause })?;
        Ok(Self { path: path.to_owned() })
    }

    /// The certificates that are still good, by their name. Others are left where they are.
    pub(super) fn certificates(&self) -> Result<Vec<(String, Pair)>, TlsError> {
        let failed = |cause| TlsError::Folder { path: self.path.clone(), cause };
        let mut found = vec![];
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".pem")) else {
                continue;
            };
            let bytes = fs::read(&path).map_err(failed)?;
            match Pair::read(&bytes, &bytes, OffsetDateTime::now_utc()) {
                Ok(pair) if pair.is_for(name) => found.push((name.to_owned(), pair)),
                Ok(_) => tracing::warn!(file = %path.display(), "this certificate is for another name"),
                Err(error) => {
                    tracing::info!(file = %path.display(), %error, "this certificate is not served")
                }
            }
        }
        Ok(found)
    }

    /// `name` is the name of a host of ours, so it is one of a file.
    pub(super) fn keep(&self, name: &str, pem: &str) -> io::Result<()> {
        self.write(&format!("{name}.pem"), pem)
    }

    /// The account at this authority.
    pub(super) fn account(&self, directory: &str) -> io::Result<Option<String>> {
        let text = match fs::read_to_string(self.path.join("account.json")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let kept: Kept = serde_json::from_str(&text)?;
        Ok((kept.directory == directory).then_some(kept.credentials))
    }

    pub(super) fn keep_account(&self, directory: &str, credentials: &str) -> io::Result<()> {
        let kept = Kept { directory: directory.to_owned(), credentials: credentials.to_owned() };
        self.write("account.json", &serde_json::to_string(&kept)?)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let (new, path) = (self.path.join(format!(".{name}.new")), self.path.join(name));
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        fs::File::open(&self.path)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::pair::tests::made;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_kept_is_found_again_and_is_the_servers_alone() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("tls");
        let folder = Folder::make(&path).unwrap();
        let (certificate, key) = made(&["koding.com"], false);
        folder.keep("koding.com", &format!("{key}{certificate}")).unwrap();
        folder.keep("evil.example", &format!("{key}{certificate}")).unwrap();
        let (over, over_key) = made(&["old.example"], true);
        folder.keep("old.example", &format!("{over_key}{over}")).unwrap();
        folder.keep_account("https://ca.example/dir", "secret").unwrap();
        let folder = Folder::make(&path).unwrap();
        let names: Vec<_> = folder.certificates().unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["koding.com"]);
        assert_eq!(folder.account("https://ca.example/dir").unwrap().as_deref(), Some("secret"));
        assert_eq!(folder.account("https://other.example/dir").unwrap(), None);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        for entry in fs::read_dir(&path).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
    }
}
