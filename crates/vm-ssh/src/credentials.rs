//! What a connection logs in with, and what it expects to find.

use std::{fmt, sync::Arc};

use russh::keys::{Certificate, PrivateKey, PublicKey};

use crate::Error;

/// A user, a key with its certificate, and the host key by which the VM is known.
#[derive(Clone)]
pub struct Credentials {
    pub(crate) user: String,
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) certificate: Certificate,
    pub(crate) host_key: PublicKey,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    /// From texts as OpenSSH writes them: a private key without passphrase, the line of a `-cert.pub` file, and the line
    /// of the host's `.pub` file.
    ///
    /// # Errors
    /// [`Error::Credentials`] where one of them is something else.
    pub fn new(user: &str, private_key: &str, certificate: &str, host_key: &str) -> Result<Self, Error> {
        let wrong = |_| Error::Credentials;
        Ok(Self {
            user: user.to_owned(),
            key: Arc::new(PrivateKey::from_openssh(private_key).map_err(wrong)?),
            certificate: Certificate::from_openssh(certificate).map_err(wrong)?,
            host_key: PublicKey::from_openssh(host_key).map_err(wrong)?,
        })
    }
}
