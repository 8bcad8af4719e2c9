//! The gateway's own key, by which clients know it again.
//!
//! One ed25519 key: every client that can exchange keys with us (curve25519, OpenSSH 6.5 of 2014 on) knows that type,
//! and one key is one line in a `known_hosts`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use russh::keys::{
    PrivateKey,
    ssh_key::{Algorithm, LineEnding},
};

/// Far more than a key needs.
const MAX_FILE: u64 = 16 * 1024;

/// The gateway's host key.
#[derive(Clone)]
pub struct HostKey(PrivateKey);

/// Why there is no host key.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// The file cannot be read or made.
    #[error("the host key {} cannot be {doing}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Read or written.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Others can read the file, so the key may be known to them.
    #[error("the host key {} can be read by others: chmod 600 it, or remove it to get a new one", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The file is no key, or is locked with a passphrase, or is of another type.
    #[error("{} is not an ed25519 private key without a passphrase: remove it to get a new one", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

impl HostKey {
    /// The key in `path`. When there is no such file, a new key is made and kept there, mode 0600; two processes that
    /// do so at once end with the same key.
    ///
    /// # Errors
    /// The file cannot be read or written, can be read by others, or holds something else. It is then left as it is.
    pub fn load_or_create(path: &Path) -> Result<Self, HostKeyError> {
        match Self::load(path) {
            Err(HostKeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                create(path).map_err(|source| HostKeyError::Io {
                    path: path.to_owned(),
                    doing: "written",
                    source,
                })?;
                Self::load(path)
            }
            loaded => loaded,
        }
    }

    fn load(path: &Path) -> Result<Self, HostKeyError> {
        let not_read = |source| HostKeyError::Io { path: path.to_owned(), doing: "read", source };
        let not_a_key = || HostKeyError::NotAKey { path: path.to_owned() };
        let about = fs::metadata(path).map_err(not_read)?;
        if about.permissions().mode() & 0o077 != 0 {
            return Err(HostKeyError::Exposed { path: path.to_owned() });
        }
        if about.len() > MAX_FILE {
            return Err(not_a_key());
        }
        let text = fs::read_to_string(path).map_err(not_read)?;
        let key = PrivateKey::from_openssh(&text).map_err(|_| not_a_key())?;
        if key.is_encrypted() || key.algorithm() != Algorithm::Ed25519 {
            return Err(not_a_key());
        }
        Ok(Self(key))
    }

    /// Its public half, as in a `known_hosts` after the host's name: `ssh-ed25519 AAAA…`.
    #[must_use]
    pub fn public_line(&self) -> String {
        let mut public = self.0.public_key().clone();
        public.set_comment("");
        public.to_openssh().unwrap_or_default()
    }

    pub(crate) fn private_key(&self) -> PrivateKey {
        self.0.clone()
    }
}

/// Writes a new key beside `path` and links it there once it is on the disk, unless somebody was faster.
fn create(path: &Path) -> io::Result<()> {
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(io::Error::other)?;
    let text = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = folder.join(format!(".host-key-{:016x}", rand::random::<u64>()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let linked = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path).or_else(unless_there));
    fs::remove_file(&draft)?;
    linked?;
    File::open(folder)?.sync_all()
}

fn unless_there(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_once_and_then_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("host_key");
        let made = HostKey::load_or_create(&path).expect("made");
        let kept = HostKey::load_or_create(&path).expect("kept");
        assert_eq!(made.public_line(), kept.public_line());
        assert!(
            made.public_line().starts_with("ssh-ed25519 AAAA") && made.public_line().split(' ').count() == 2
        );
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1, "no draft stays behind");
    }

    #[test]
    fn two_at_once_end_with_one_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("host_key");
        let lines: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| HostKey::load_or_create(&path).expect("a key"))).collect();
            threads.into_iter().map(|thread| thread.join().expect("joined").public_line()).collect()
        });
        assert!(lines.iter().all(|line| Some(line) == lines.first()), "{lines:?}");
    }

    #[test]
    fn what_is_no_safe_key_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("host_key");
        fs::write(&path, "not a key").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        assert!(matches!(HostKey::load_or_create(&path), Err(HostKeyError::NotAKey { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(matches!(HostKey::load_or_create(&path), Err(HostKeyError::Exposed { .. })));
        assert_eq!(fs::read_to_string(&path).expect("read"), "not a key");
        let nowhere = folder.path().join("no/such/folder/key");
        assert!(matches!(HostKey::load_or_create(&nowhere), Err(HostKeyError::Io { .. })));
    }
}
