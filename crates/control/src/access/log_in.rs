//! Who somebody is: by a key of an account, or by a certificate.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use berth_model::{AccountName, NotPermitted, PublicKey};
use berth_store::{AuditEntry, AuditKind, KeyId, KeyRow};
use ssh_key::{Certificate, HashAlg};
use time::OffsetDateTime;
use tracing::error;

use super::Login;
use crate::{
    Control,
    certificate::{self, CertificateError, Permits},
    error::LoginError,
    metrics::Door,
    revocation::Revocation,
};

/// What was found of a key that a client has offered: it is on an account. Proves nothing.
#[derive(Debug, Clone)]
pub struct KnownKey {
    row: KeyRow,
    /// From before the look into the store: a removal after that look ends it.
    revocation: Revocation,
}

impl Control {
    /// What is known of `key`; `None` where it is on no account. For a client that asks which of its keys to sign with
    /// (RFC 4252, section 7); writes nothing down.
    ///
    /// # Errors
    /// The store fails.
    pub async fn knows(&self, key: &PublicKey) -> Result<Option<KnownKey>, LoginError> {
        let fingerprint = key.fingerprint();
        let revocation = self.revocations.of(&fingerprint);
        let row = self.store.key_by_fingerprint(&fingerprint).await.map_err(|cause| {
            error!(error = %cause, "the store failed");
            LoginError::Unavailable
        })?;
        Ok(row.filter(|row| row.key == *key).map(|row| KnownKey { row, revocation }))
    }

    /// Lets the holder of `key` in. To be called only after the signature has been verified. With what was found when it
    /// was offered, the store is not asked once more.
    ///
    /// Has it written down when and from where the key was used. A key that is removed at the same moment is either refused
    /// or ends the login: there is no gap.
    ///
    /// # Errors
    /// The key is nobody's, has expired or may not be used from `from`; or the store fails.
    pub async fn log_in(
        &self,
        key: &PublicKey,
        known: Option<KnownKey>,
        from: IpAddr,
    ) -> Result<Login, LoginError> {
        let website = || self.settings.website.clone();
        let counts = |known: &KnownKey| known.row.key == *key && !known.revocation.is_revoked();
        let known = match known.filter(counts) {
            Some(known) => Some(known),
            None => self.knows(key).await?,
        };
        let Some(KnownKey { row, revocation }) = known else {
            self.tools.metrics.tried(Door::Ssh, false);
            return Err(self.unknown(key));
        };
        let now = OffsetDateTime::now_utc();
        row.options.permits(from, now).inspect_err(|_| self.tools.metrics.tried(Door::Ssh, false)).map_err(
            |refused| match (refused, row.options.expires) {
                (NotPermitted::Expired, Some(on)) => LoginError::Expired { on, website: website() },
                (NotPermitted::Expired, None) | (NotPermitted::Address, _) => {
                    LoginError::WrongAddress { website: website() }
                }
            },
        )?;
        let login = Login {
            account: row.account,
            fingerprint: row.fingerprint,
            from,
            expires: row.options.expires,
            revocation,
            certificate: None,
            permits: Permits::ALL,
        };
        self.note_log_in(&login, now, Some(row.id), "key".to_owned());
        self.tools.metrics.tried(Door::Ssh, true);
        Ok(login)
    }

    /// Lets the holder of a certificate in. To be called only after the signature with the key in it has been verified;
    /// all else is looked at here.
    ///
    /// A certificate, its CA or its account that is taken out at the same moment is either refused or ends the login: there
    /// is no gap. That its time is over later ends nothing, as with sshd.
    ///
    /// # Errors
    /// It does not count, which is written down with the reason, or the store fails.
    pub async fn log_in_by_certificate(
        &self,
        certificate: &Certificate,
        from: IpAddr,
    ) -> Result<Login, LoginError> {
        let login = self.try_certificate(certificate, from).await;
        self.tools.metrics.tried(Door::Ssh, login.is_ok());
        let login = login.inspect_err(|error| {
            let key = certificate.public_key().fingerprint(HashAlg::Sha256).to_string();
            self.tools.ledger.refused(from, key, &format!("{}: {error}", certificate::claimed(certificate)));
        })?;
        let shown = login.certificate.as_ref().map(ToString::to_string).unwrap_or_default();
        self.note_log_in(&login, self.settings.clock.now(), None, shown);
        Ok(login)
    }

    /// Has it written down who has logged in, by what. Nobody waits for it.
    fn note_log_in(&self, login: &Login, at: OffsetDateTime, key: Option<KeyId>, by: String) {
        let event = login.actor().event(AuditKind::LogIn, &login.account, login.fingerprint.to_string(), by);
        self.tools.ledger.put(AuditEntry { began: Some(at), key, ..event.into() });
    }

    async fn try_certificate(&self, certificate: &Certificate, from: IpAddr) -> Result<Login, LoginError> {
        let judge = || {
            let (trusted, now) = (self.tools.team_cas.trusted(), self.settings.clock.now());
            certificate::judge(certificate, trusted.authorities(), &trusted.krl, from, now)
        };
        let judged = judge()?;
        let account = self.only_account(&judged.names).await?;
        let permits = judged.permits;
        let shown = Arc::new(judged.of(account.clone()));
        // And once more: a removal after this finds the revocation.
        let revocation = self.certificates.of(&shown);
        if self.only_account(&judge()?.names).await? != account {
            return Err(CertificateError::NotOneAccount.into());
        }
        let fingerprint = shown.key.fingerprint();
        let certificate = Some(shown);
        Ok(Login { account, fingerprint, from, expires: None, revocation, certificate, permits })
    }

    /// The account that is meant by some names. One that is blocked is none.
    async fn only_account(&self, names: &BTreeSet<AccountName>) -> Result<AccountName, LoginError> {
        let mut found = None;
        for name in names {
            let row = self.store.account(name).await.map_err(|cause| {
                error!(error = %cause, "the store failed");
                LoginError::Unavailable
            })?;
            match row.filter(|row| row.blocked_at.is_none()) {
                Some(_) if found.is_some() => return Err(CertificateError::NotOneAccount.into()),
                Some(row) => found = Some(row.name),
                None => {}
            }
        }
        found.ok_or_else(|| CertificateError::NotOneAccount.into())
    }

    /// What is said to the holder of a key that is on no account.
    #[must_use]
    pub fn unknown(&self, key: &PublicKey) -> LoginError {
        LoginError::UnknownKey { website: self.settings.website.clone(), fingerprint: key.fingerprint() }
    }
}
