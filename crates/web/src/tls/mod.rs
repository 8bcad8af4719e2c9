//! Serving by https: certificates from files, or from an authority that speaks ACME (RFC 8555), or both.
//!
//! ```text
//!   listen_tls ── ClientHello ──► Tls: is there a certificate for this name? ──► Shelf ──► the handshake goes on
//!                                   └─ a VM's, and none yet ─► Acme ─► Shelf ◄─ files, looked at every few seconds
//!   listen (plain) ──► plain: the authority's questions, and the way to https
//! ```
//!
//! The shelf is the only place that a handshake takes a certificate from. Its writers are two tasks, one for the files
//! and one for the authority; both keep what is there until they have something better.

mod acme;
mod files;
mod pair;
mod plain;
mod shelf;

use std::{io, path::PathBuf, sync::Arc};

use berth_control::Control;
use rustls::{ServerConfig, crypto::aws_lc_rs, server::Acceptor};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

pub use acme::AcmeSettings;
pub use pair::PairError;
pub use plain::plain;

use self::{acme::Acme, files::Watched, shelf::Shelf};

/// The one protocol that is spoken within (RFC 7301).
const HTTP_1_1: &[u8] = b"http/1.1";

/// Where certificates come from.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// Pairs of files. Of two that are for the same name, the first counts.
    pub files: Vec<CertificateFiles>,
    /// An authority, for `app_domain` and by wish for the names of VMs, where no file is for them.
    pub acme: Option<AcmeSettings>,
}

/// A certificate with the chain that leads to its authority, and its private key, both in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then the chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Why https cannot be served. In whole sentences for the operator.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {cause}. The server needs to be allowed to read it.", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A pair of files is not one.
    #[error("{}: {cause}", .path.display())]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong.
        cause: PairError,
    },
    /// The folder for what the authority gave.
    #[error("{} cannot be written to: {cause}.", .path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The library refuses what we want of it.
    #[error("TLS cannot be set up: {0}.")]
    Library(#[from] rustls::Error),
}

/// Looks whether a pair of files can be served, and gives the names that it is for.
///
/// # Errors
/// What is wrong with it.
pub fn look_at(files: &CertificateFiles) -> Result<Vec<String>, TlsError> {
    Ok(files::read(files)?.names)
}

/// What https is served with. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    shelf: Arc<Shelf>,
    acme: Option<Arc<Acme>>,
    watched: Arc<Vec<Watched>>,
}

impl Tls {
    /// Reads the files, and what the authority gave before. Asks nobody yet: [`Tls::keep`] does.
    ///
    /// # Errors
    /// A file is missing or wrong.
    pub fn open(settings: TlsSettings, control: &Arc<Control>) -> Result<Self, TlsError> {
        let shelf = Arc::new(Shelf::default());
        let watched: Vec<Watched> = settings.files.into_iter().map(Watched::new).collect::<Result<_, _>>()?;
        shelf.set_files(watched.iter().map(Watched::pair).collect());
        let acme = match settings.acme {
            Some(settings) => Some(Arc::new(Acme::open(settings, Arc::clone(&shelf), Arc::clone(control))?)),
            None => None,
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(shelf.clone());
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(Self { config: Arc::new(config), shelf, acme, watched: Arc::new(watched) })
    }

    /// Takes up new files and asks for new certificates, until `stop`.
    pub async fn keep(self, stop: CancellationToken) {
        let files = files::watch(&self.watched, &self.shelf);
        let acme = async {
            match &self.acme {
                Some(acme) => acme.run().await,
                None => std::future::pending().await,
            }
        };
        stop.run_until_cancelled(async { tokio::join!(files, acme) }).await;
    }

    /// The handshake. A certificate for a VM's name may have to be asked for first: whoever calls this sets the bound.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let name = hello.client_hello().server_name().map(str::to_ascii_lowercase);
        if let (Some(name), Some(acme)) = (name, &self.acme) {
            acme.wait_for(&name).await;
        }
        hello.into_stream(Arc::clone(&self.config)).await
    }

    /// What the authority is told that asks for `token` (RFC 8555, 8.3).
    fn challenge(&self, token: &str) -> Option<String> {
        self.acme.as_ref()?.challenge(token)
    }
}
