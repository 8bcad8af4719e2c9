//! The authority by which clients know the gateway and the VMs without being asked: what signs, what is trusted, what a
//! certificate of a host says.
//!
//! One key signs. While it is replaced two are trusted: the next one is made ([`Acting::add_host_ca`]) and told to
//! everybody, then it signs ([`Acting::use_host_ca`]), then the former one is forgotten ([`Acting::remove_host_ca`]).
//!
//! A certificate is a function of the key that signs, the host's key and its names, to the byte, so none is kept: a VM
//! that is rebuilt or started again shows the one that it had. It has no end. What it says stays true: a name never
//! changes hands, and every VM that ever has it has the same key.

use std::{fmt, sync::Arc};

use berth_model::Secret;
use berth_store::{AuditKind, HostCaRow, MAX_HOST_CAS, Scope, Store};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use ssh_key::{
    Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey,
    certificate::{Builder, CertType},
};
use time::OffsetDateTime;
use tokio::sync::watch;
use tracing::error;

use crate::{Control, acting::Acting, error::Error, web_error::WebError};

/// A key that signs certificates of hosts, or did, or will. Who trusts it trusts them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCaInfo {
    /// `SHA256:…`, which names it.
    pub fingerprint: String,
    /// Its public half, as a line of a `.pub` file without comment.
    pub public_key: String,
    /// It is the one that signs.
    pub signs: bool,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub made: OffsetDateTime,
}

struct Ca {
    id: i64,
    key: PrivateKey,
    info: HostCaInfo,
}

/// The installation's keys, the one that signs first. They are in the store, so that every server of the installation
/// has the same.
pub(crate) struct HostCas(watch::Sender<Arc<Vec<Ca>>>);

impl fmt::Debug for HostCas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostCas").finish_non_exhaustive()
    }
}

impl HostCas {
    /// Those of this installation; one is made, if it has none.
    pub(crate) async fn open(store: &Store) -> Result<Self, Error> {
        Ok(Self(watch::Sender::new(Arc::new(read(store).await?))))
    }

    /// The certificate of a host, as a line of a `-cert.pub` file; `None` where it cannot be signed, which is logged.
    pub(crate) fn certify(&self, key: &PublicKey, id: &str, names: &[String]) -> Option<String> {
        let all = self.0.borrow().clone();
        let signed = all.first().map(|ca| sign(&ca.key, key, id, names));
        match signed?.and_then(|certificate| certificate.to_openssh()) {
            Ok(line) => Some(line),
            Err(error) => {
                error!(host = id, %error, "a certificate of a host was not signed");
                None
            }
        }
    }

    pub(crate) async fn read_again(&self, store: &Store) -> Result<(), Error> {
        self.0.send_replace(Arc::new(read(store).await?));
        Ok(())
    }
}

async fn read(store: &Store) -> Result<Vec<Ca>, Error> {
    let rows = store.host_cas(&new_key(), OffsetDateTime::now_utc()).await?;
    let mut all = rows.into_iter().map(ca).collect::<Result<Vec<_>, _>>()?;
    all.sort_by_key(|ca| !ca.info.signs);
    Ok(all)
}

fn ca(row: HostCaRow) -> Result<Ca, Error> {
    let key = PrivateKey::from_openssh(row.private_key.expose()).map_err(|_| Error::HostCaDamaged)?;
    let public = PublicKey::new(key.public_key().key_data().clone(), "");
    let info = HostCaInfo {
        fingerprint: public.fingerprint(HashAlg::Sha256).to_string(),
        public_key: public.to_openssh().map_err(|_| Error::HostCaDamaged)?,
        signs: row.signs,
        made: row.made_at,
    };
    Ok(Ca { id: row.id, key, info })
}

fn sign(
    ca: &PrivateKey,
    key: &PublicKey,
    id: &str,
    names: &[String],
) -> ssh_key::Result<ssh_key::Certificate> {
    let mut new = Builder::new(nonce(ca, key, names)?, key.key_data().clone(), 0, u64::MAX)?;
    new.cert_type(CertType::Host)?.key_id(id)?;
    for name in names {
        new.valid_principal(name)?;
    }
    new.sign(ca)
}

/// What makes the signed text unforeseeable for whoever chose the host's key (PROTOCOL.certkeys), and is the same each
/// time.
fn nonce(ca: &PrivateKey, key: &PublicKey, names: &[String]) -> ssh_key::Result<Vec<u8>> {
    let secret = ca.key_data().ed25519().ok_or(ssh_key::Error::AlgorithmUnknown)?.private.to_bytes();
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret).expect("HMAC takes keys of any length");
    mac.update(b"Berth: nonce of a host certificate\0");
    mac.update(&key.to_bytes()?);
    for name in names {
        mac.update(name.as_bytes());
        mac.update(b"\0");
    }
    Ok(mac.finalize().into_bytes().to_vec())
}

fn new_key() -> Secret<String> {
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)
        .expect("an ed25519 key needs only random bytes");
    let pem = key.to_openssh(LineEnding::LF).expect("an unencrypted key is always written");
    Secret::new(pem.to_string())
}

impl Control {
    /// The keys whose certificates hosts of this installation show, the one that signs first. They are no secret.
    #[must_use]
    pub fn host_cas(&self) -> Vec<HostCaInfo> {
        self.tools.host_cas.0.borrow().iter().map(|ca| ca.info.clone()).collect()
    }

    /// The lines of a known_hosts file by which a client knows the gateway and every VM: a line for each key that is
    /// trusted. `gateway` are the gateway's names as ssh looks for them, with the port where it is not 22:
    /// `ssh.koding.com`, `[ssh.koding.com]:2222`.
    #[must_use]
    pub fn host_trust(&self, gateway: &[String]) -> Vec<String> {
        let vms = format!("*.{}", self.settings.domains.vm_domain());
        let hosts = [gateway, &[vms]].concat().join(",");
        self.host_cas().iter().map(|ca| format!("@cert-authority {hosts} {}", ca.public_key)).collect()
    }

    /// The certificate of the gateway's own host key, as a line of a `-cert.pub` file; `None` where it cannot be signed,
    /// which is logged. `key` is its public line. To be asked for again after [`Control::host_ca_changes`].
    #[must_use]
    pub fn gateway_certificate(&self, key: &str, names: &[String]) -> Option<String> {
        let key = PublicKey::from_openssh(key)
            .inspect_err(|error| error!(%error, "the gateway's host key is none"))
            .ok()?;
        self.tools.host_cas.certify(&key, "gateway", names)
    }

    /// Brings the present certificates and keys into all VMs that run, one after the other, without waiting for it.
    pub(crate) fn push_to_all(self: &Arc<Self>) {
        let (handles, closing) = (self.handles_where(|_| true), self.closing.clone());
        self.tasks.spawn(closing.run_until_cancelled_owned(async move {
            for handle in handles {
                handle.push_keys().await;
            }
        }));
    }

    /// Told when another key signs, or is trusted.
    #[must_use]
    pub fn host_ca_changes(&self) -> HostCaChanges {
        HostCaChanges(self.tools.host_cas.0.subscribe())
    }
}

/// See [`Control::host_ca_changes`].
pub struct HostCaChanges(watch::Receiver<Arc<Vec<Ca>>>);

impl HostCaChanges {
    /// Waits for the next change; for ever when there will be none. Nothing is missed when the future is dropped.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Acting {
    /// Makes a key that will sign: it is told to clients from now on, and signs when it is put to use. For operators.
    ///
    /// # Errors
    /// There are two already; [`WebError::Missing`] for members; the store fails.
    pub async fn add_host_ca(&self) -> Result<Vec<HostCaInfo>, WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        self.to_the_end(|acting| async move { acting.try_add_host_ca().await }).await
    }

    async fn try_add_host_ca(&self) -> Result<Vec<HostCaInfo>, WebError> {
        let (store, before) = (&self.control.store, self.control.host_cas());
        if !store.add_host_ca(&new_key(), self.control.settings.clock.now()).await.map_err(Error::from)? {
            return Err(Error::TooManyHostCas { most: MAX_HOST_CAS }.into());
        }
        let now = self.host_cas_changed().await?;
        let is_new = |ca: &&HostCaInfo| before.iter().all(|old| old.fingerprint != ca.fingerprint);
        let added = now.iter().find(is_new).map(|ca| ca.fingerprint.clone());
        self.note_host_ca(added.unwrap_or_default(), "added").await;
        Ok(now)
    }

    /// Has the key with this fingerprint sign: the gateway shows its certificate from now on, so do the VMs that run within
    /// moments, and others from when they start or wake. For operators.
    ///
    /// # Errors
    /// There is no such key; [`WebError::Missing`] for members; the store fails.
    pub async fn use_host_ca(&self, fingerprint: &str) -> Result<Vec<HostCaInfo>, WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        let fingerprint = fingerprint.to_owned();
        self.to_the_end(|acting| async move { acting.try_use_host_ca(&fingerprint).await }).await
    }

    async fn try_use_host_ca(&self, fingerprint: &str) -> Result<Vec<HostCaInfo>, WebError> {
        let id = self.host_ca(fingerprint)?;
        if !self.control.store.use_host_ca(id).await.map_err(Error::from)? {
            return Err(Error::NoSuchHostCa(fingerprint.to_owned()).into());
        }
        self.note_host_ca(fingerprint.to_owned(), "signs").await;
        let now = self.host_cas_changed().await?;
        self.control.push_to_all();
        Ok(now)
    }

    /// Forgets the key with this fingerprint: clients are not told of it any more, and hosts that still show its
    /// certificate are strangers to those who trust the other one alone. For operators.
    ///
    /// # Errors
    /// There is no such key, or it is the one that signs; [`WebError::Missing`] for members; the store fails.
    pub async fn remove_host_ca(&self, fingerprint: &str) -> Result<Vec<HostCaInfo>, WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        let fingerprint = fingerprint.to_owned();
        self.to_the_end(|acting| async move { acting.try_remove_host_ca(&fingerprint).await }).await
    }

    async fn try_remove_host_ca(&self, fingerprint: &str) -> Result<Vec<HostCaInfo>, WebError> {
        let id = self.host_ca(fingerprint)?;
        if !self.control.store.remove_host_ca(id).await.map_err(Error::from)? {
            return Err(Error::HostCaSigns.into());
        }
        self.note_host_ca(fingerprint.to_owned(), "removed").await;
        self.host_cas_changed().await
    }

    fn host_ca(&self, fingerprint: &str) -> Result<i64, Error> {
        let all = self.control.tools.host_cas.0.borrow().clone();
        let found = all.iter().find(|ca| ca.info.fingerprint == fingerprint);
        found.map(|ca| ca.id).ok_or_else(|| Error::NoSuchHostCa(fingerprint.to_owned()))
    }

    async fn host_cas_changed(&self) -> Result<Vec<HostCaInfo>, WebError> {
        self.control.tools.host_cas.read_again(&self.control.store).await?;
        Ok(self.control.host_cas())
    }

    async fn note_host_ca(&self, fingerprint: String, what: &str) {
        let mut event = self.actor.event_of_nobody(AuditKind::HostCa, fingerprint);
        event.detail = what.to_owned();
        self.control.note_event(event).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> PrivateKey {
        PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
    }

    #[test]
    fn a_certificate_is_the_same_each_time_and_another_for_another_host() {
        let (ca, host) = (key(), key());
        let names = ["vm-0.alice.koding.kd.io", "alice.kd.io"].map(str::to_owned);
        let made = sign(&ca, host.public_key(), "vm-0.alice.koding", &names).unwrap();
        assert_eq!(made, sign(&ca, host.public_key(), "vm-0.alice.koding", &names).unwrap());
        assert_eq!(made.cert_type(), CertType::Host);
        assert_eq!(made.valid_principals(), names);
        assert_eq!((made.valid_after(), made.valid_before()), (0, u64::MAX));
        assert_eq!(made.public_key(), host.public_key().key_data());
        assert!(made.verify_signature().is_ok());
        let other = |ca: &PrivateKey, host: &PrivateKey, names: &[String]| {
            sign(ca, host.public_key(), "", names).unwrap().nonce().to_vec()
        };
        let nonces = [
            made.nonce().to_vec(),
            other(&key(), &host, &names),
            other(&ca, &key(), &names),
            other(&ca, &host, &names[..1]),
        ];
        for (n, nonce) in nonces.iter().enumerate() {
            assert!(nonces.iter().skip(n + 1).all(|other| other != nonce) && nonce.len() == 32);
        }
    }
}
