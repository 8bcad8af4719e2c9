//! Where a cluster is, and connections to it.

use std::{io, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use berth_engine::Stream;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::error::IncusError;

/// A member that answers at all accepts within this.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// Where a cluster's API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// The socket of a member on this machine.
    Unix(PathBuf),
    /// `host:port` of a member, by TLS.
    Https(String),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Https(host) => write!(f, "https://{host}"),
        }
    }
}

/// The files that a connection by TLS needs, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate by which the cluster knows Berth.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The cluster's own certificate, the same at each member: no other one is accepted, whoever has signed it.
    pub server: PathBuf,
}

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Connect {
    tls: Option<Arc<ClientConfig>>,
}

impl Connect {
    /// Reads the files, if there are any. Blocks for a moment.
    pub(crate) fn new(files: Option<&TlsFiles>) -> Result<Self, IncusError> {
        Ok(Self { tls: files.map(configure).transpose()? })
    }

    pub(crate) async fn open(&self, address: &Address) -> Result<Pin<Box<dyn Stream>>, IncusError> {
        let unreachable = |reason: String| IncusError::Unreachable { address: address.to_string(), reason };
        match timeout(CONNECT_WITHIN, self.connect(address)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Err(_) => Err(unreachable(format!("no answer within {} s", CONNECT_WITHIN.as_secs()))),
        }
    }

    async fn connect(&self, address: &Address) -> io::Result<Pin<Box<dyn Stream>>> {
        match (address, &self.tls) {
            (Address::Unix(path), _) => Ok(Box::pin(UnixStream::connect(path).await?)),
            (Address::Https(_), None) => Err(io::Error::other("there is no certificate for https")),
            (Address::Https(host), Some(tls)) => {
                let stream = TcpStream::connect(host).await?;
                stream.set_nodelay(true)?;
                // The name does not count: the certificate is the one that is known, or it is refused.
                let name = ServerName::try_from("incus").map_err(io::Error::other)?;
                Ok(Box::pin(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?))
            }
        }
    }
}

fn configure(files: &TlsFiles) -> Result<Arc<ClientConfig>, IncusError> {
    let unusable =
        |path: &PathBuf, reason: String| IncusError::File { path: path.display().to_string(), reason };
    let certificate = |path: &PathBuf| {
        CertificateDer::from_pem_file(path).map_err(|error| unusable(path, error.to_string()))
    };
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unusable(&files.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let pinned = Pinned { certificate: certificate(&files.server)?, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(pinned))
                .with_client_auth_cert(vec![certificate(&files.certificate).map_err(general)?], key)
        })
        .map_err(|error| unusable(&files.certificate, error.to_string()))?;
    Ok(Arc::new(config))
}

fn general(error: IncusError) -> rustls::Error {
    rustls::Error::General(error.to_string())
}

/// Accepts one certificate. The handshake's signature still has to be made with its key.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("this is not the certificate of the cluster".into()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
