//! The authority whose certificates VMs let in: what signs, what a guest is told of it, what a certificate allows.
//!
//! It signs for sessions that Berth itself opens in somebody's name. Each has a key of its own that is never written
//! down, and a certificate for one VM and one account that is over some minutes later.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use berth_model::{AccountName, KeyOptions, Secret, VmId};
use berth_store::Store;
use ssh_key::{
    Algorithm, Certificate, LineEnding, PrivateKey, PublicKey,
    certificate::{Builder, CertType},
};
use time::OffsetDateTime;

use crate::{
    Control,
    access::Entry,
    certificate::Permits,
    error::{ConnectError, Error},
};

/// So long before and after now a certificate counts: the guest's clock decides, and may be a little off.
const LEEWAY: Duration = Duration::from_secs(5 * 60);
/// The most characters of a key id: it stands in the guest's log.
const MAX_KEY_ID: usize = 200;

/// The installation's authority. Its key is in the store, so that every server of the installation has the same.
pub(crate) struct UserCa(PrivateKey);

impl fmt::Debug for UserCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UserCa").finish_non_exhaustive()
    }
}

/// What a session into a VM is for, and so what its certificate permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A terminal on the website: a pty and nothing else.
    Terminal,
    /// A member's own ssh client, which the gateway carries over: whatever its own key or certificate lets it do.
    Direct,
    /// The same, for a client that has not come yet.
    Parked,
}

impl Purpose {
    /// What stands in the guest's log beside the account.
    fn words(self) -> &'static str {
        match self {
            Self::Terminal => "terminal on the website",
            Self::Direct => "ssh by the gateway",
            Self::Parked => "ssh by the gateway, kept ready",
        }
    }

    /// What its certificate permits to who logged in with these.
    fn permits(self, login: Permits) -> Permits {
        match self {
            Self::Terminal => {
                Permits { pty: login.pty, agent: false, ports: false, x11: false, user_rc: false }
            }
            Self::Direct | Self::Parked => login,
        }
    }
}

/// What a session into a VM logs in with, once.
#[derive(Debug)]
pub struct SessionKey {
    /// The user in the VM.
    pub user: AccountName,
    /// The key of this session alone, in OpenSSH's format.
    pub private_key: Secret<String>,
    /// Its certificate, as a line of a `-cert.pub` file: for this VM and account, for some minutes, and for what its
    /// [`Purpose`] needs.
    pub certificate: String,
    /// By which the VM is known, as a line of a `.pub` file. One that shows another is not it.
    pub host_key: String,
}

impl UserCa {
    /// The one of this installation; made, if it has none.
    pub(crate) async fn open(store: &Store) -> Result<Self, Error> {
        let key = store.user_ca(&text_of(&new_key()), OffsetDateTime::now_utc()).await?;
        PrivateKey::from_openssh(key.expose()).map(Self).map_err(|_| Error::UserCaDamaged)
    }

    /// The line of an authorized_keys file that lets in who has a certificate for this VM and account (sshd(8)), until
    /// then.
    pub(crate) fn trust_line(
        &self,
        vm: VmId,
        account: &AccountName,
        until: Option<OffsetDateTime>,
    ) -> String {
        let public = PublicKey::new(self.0.public_key().key_data().clone(), "Berth");
        let public = public.to_openssh().unwrap_or_default();
        let expiry = match until {
            Some(_) => format!("{},", KeyOptions { expires: until, ..KeyOptions::default() }),
            None => String::new(),
        };
        format!("cert-authority,{expiry}principals=\"{}\" {public}\n", principal(vm, account))
    }

    fn sign(
        &self,
        key: &PublicKey,
        vm: VmId,
        account: &AccountName,
        permits: Permits,
        id: &str,
        now: SystemTime,
    ) -> ssh_key::Result<Certificate> {
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (from, to) = (seconds(now - LEEWAY), seconds(now + LEEWAY));
        let mut new = Builder::new_with_random_nonce(&mut rand::rng(), key.key_data().clone(), from, to)?;
        new.serial(rand::random())?.cert_type(CertType::User)?;
        new.key_id(id.chars().filter(|c| !c.is_control()).take(MAX_KEY_ID).collect::<String>())?;
        new.valid_principal(principal(vm, account))?;
        for extension in permits.extensions() {
            new.extension(extension, "")?;
        }
        new.sign(&self.0)
    }
}

impl Control {
    /// What the connection that `entry` allows logs in with. What it is for stands in the guest's log beside the account.
    /// A guest that has not heard of the authority yet is waited for: call it when the VM runs.
    ///
    /// # Errors
    /// The VM is gone; or something of ours is broken.
    pub async fn session_key(&self, entry: &Entry, purpose: Purpose) -> Result<SessionKey, ConnectError> {
        let (vm, account) = (entry.vm(), entry.account());
        let handle = self.handle(vm).filter(|handle| handle.id == entry.id());
        let handle = handle.ok_or_else(|| ConnectError::Removed { vm: vm.clone() })?;
        handle.await_keys().await;
        let unavailable = |_| ConnectError::Unavailable {
            vm: vm.clone(),
            reason: "Berth's database does not answer".into(),
        };
        let row = self.store.vm(vm).await.map_err(unavailable)?.filter(|row| row.id == entry.id());
        let row = row.ok_or_else(|| ConnectError::Removed { vm: vm.clone() })?;
        let key = new_key();
        let id = match entry.watcher() {
            Some(watcher) => format!("{account} {}, watched by {watcher}", purpose.words()),
            None => format!("{account} {}", purpose.words()),
        };
        let certificate = self
            .tools
            .user_ca
            .sign(
                key.public_key(),
                entry.id(),
                account,
                purpose.permits(entry.permits()),
                &id,
                SystemTime::now(),
            )
            .and_then(|certificate| certificate.to_openssh())
            .map_err(|error| {
                tracing::error!(%error, "a certificate was not signed");
                ConnectError::Unavailable { vm: vm.clone(), reason: "Berth could not sign for it".into() }
            })?;
        Ok(SessionKey {
            user: account.clone(),
            private_key: text_of(&key),
            certificate,
            host_key: crate::vms::public_line(&row.host_key),
        })
    }
}

/// Who a certificate speaks for: an account in one VM, by the VM's id, since a name may be another one's later.
fn principal(vm: VmId, account: &AccountName) -> String {
    format!("{vm}.{account}")
}

fn new_key() -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).expect("an ed25519 key needs only random bytes")
}

fn text_of(key: &PrivateKey) -> Secret<String> {
    let pem = key.to_openssh(LineEnding::LF).expect("an unencrypted key is always written");
    Secret::new(pem.to_string())
}
