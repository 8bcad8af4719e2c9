//! A certificate and its key, as they come in files.

use std::sync::Arc;

use rustls::{
    Error,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why two texts are no certificate with its key.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// There is none.
    #[error("there is no certificate in it. It has to be PEM, with BEGIN CERTIFICATE.")]
    NoCertificate,
    /// There is none.
    #[error(
        "there is no private key in the file of the key. It has to be PEM, with BEGIN PRIVATE KEY, and without a password."
    )]
    NoKey,
    /// It is not what it says.
    #[error("what is in it is not a certificate.")]
    NotACertificate,
    /// The key is of a sort that is not served.
    #[error("the key is of a sort that cannot be used here. Use ECDSA P-256, or RSA of 2048 bits or more.")]
    Key,
    /// The key is another certificate's.
    #[error("the key does not belong to the certificate.")]
    NotAPair,
    /// Its time is over.
    #[error("the certificate ended on {}.", .on.date())]
    Over {
        /// When.
        on: OffsetDateTime,
    },
    /// It names nobody.
    #[error("the certificate is for no name.")]
    Nameless,
}

/// A certificate with its chain and its key.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    /// The names that it is for, in small letters; `*.` in front of one stands for one label.
    pub(super) names: Vec<String>,
    pub(super) begins: OffsetDateTime,
    pub(super) ends: OffsetDateTime,
}

impl Pair {
    /// From PEM.
    pub(super) fn read(certificate: &[u8], key: &[u8], now: OffsetDateTime) -> Result<Self, PairError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, pem::Error>>()
            .map_err(|_| PairError::NoCertificate)?;
        let leaf = chain.first().ok_or(PairError::NoCertificate)?;
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| PairError::NotACertificate)?;
        let (names, validity) = (names(&parsed), parsed.validity().clone());
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| PairError::NoKey)?;
        let key =
            CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(
                |error| match error {
                    Error::InconsistentKeys(_) => PairError::NotAPair,
                    _ => PairError::Key,
                },
            )?;
        let (begins, ends) =
            (moment(validity.not_before.timestamp()), moment(validity.not_after.timestamp()));
        if names.is_empty() {
            return Err(PairError::Nameless);
        }
        if ends <= now {
            return Err(PairError::Over { on: ends });
        }
        Ok(Self { key: Arc::new(key), names, begins, ends })
    }

    /// Whether it is for `name`, which is in small letters (RFC 6125, 6.4.3).
    pub(super) fn is_for(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.names
            .iter()
            .any(|own| own == name || own.strip_prefix("*.").is_some_and(|own| Some(own) == parent))
    }
}

fn moment(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return vec![] };
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    names.collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    /// A certificate and its key in PEM, for these names.
    pub(in crate::tls) fn made(names: &[&str], last_year: bool) -> (String, String) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let now = OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::days(if last_year { 400 } else { 1 });
        params.not_after = params.not_before + time::Duration::days(90);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn read(certificate: &str, key: &str) -> Result<Pair, PairError> {
        Pair::read(certificate.as_bytes(), key.as_bytes(), OffsetDateTime::now_utc())
    }

    #[test]
    fn a_pair_is_for_its_names() {
        let (certificate, key) = made(&["Koding.com", "*.koding.com"], false);
        let pair = read(&certificate, &key).unwrap();
        assert_eq!(pair.names, ["koding.com", "*.koding.com"]);
        assert!(pair.is_for("koding.com") && pair.is_for("ssh.koding.com"));
        assert!(!pair.is_for("a.b.koding.com") && !pair.is_for("evilkoding.com") && !pair.is_for("com"));
    }

    #[test]
    fn what_is_no_pair_is_told() {
        let (certificate, key) = made(&["koding.com"], false);
        let (other, other_key) = made(&["koding.com"], false);
        let (over, over_key) = made(&["koding.com"], true);
        let (nameless, nameless_key) = made(&[], false);
        assert!(matches!(read("", &key), Err(PairError::NoCertificate)));
        assert!(matches!(read(&key, &key), Err(PairError::NoCertificate)));
        assert!(matches!(read(&certificate, &certificate), Err(PairError::NoKey)));
        assert!(matches!(read(&certificate, &other_key), Err(PairError::NotAPair)));
        assert!(matches!(read(&other, &key), Err(PairError::NotAPair)));
        assert!(matches!(read(&over, &over_key), Err(PairError::Over { .. })));
        assert!(matches!(read(&nameless, &nameless_key), Err(PairError::Nameless)));
        let broken = certificate.replacen("MII", "MIJ", 1);
        assert!(matches!(read(&broken, &key), Err(PairError::NotACertificate)));
    }
}
