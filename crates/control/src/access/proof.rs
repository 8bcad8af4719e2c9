//! The proofs: who is there, and where they may go. Made by `access` alone, whose fields they are.

use std::{net::IpAddr, sync::Arc};

use berth_engine::Stream;
use berth_model::{AccountName, Fingerprint, VmId, VmName};
use berth_store::{AuditKind, NewAudit, Role, Way};
use time::OffsetDateTime;
use tokio::time::sleep;

use super::{SSH, may_show};
use crate::{
    actor::Actor,
    certificate::{MemberCertificate, Permits},
    clock::Clock,
    revocation::Revocation,
    sites::SiteVisitor,
    tether::Tethered,
};

/// Proof that the holder of an account's key is at the other end. Ends with the key.
#[derive(Debug, Clone)]
pub struct Login {
    pub(super) account: AccountName,
    pub(super) fingerprint: Fingerprint,
    pub(super) from: IpAddr,
    pub(super) expires: Option<OffsetDateTime>,
    pub(super) revocation: Revocation,
    /// What they have shown, where it is not a key of the account.
    pub(super) certificate: Option<Arc<MemberCertificate>>,
    pub(super) permits: Permits,
}

impl Login {
    /// Whose key it is.
    #[must_use]
    pub fn account(&self) -> &AccountName {
        &self.account
    }

    /// The certificate by which they are in, where it is not a key of the account.
    #[must_use]
    pub fn certificate(&self) -> Option<&MemberCertificate> {
        self.certificate.as_deref()
    }

    /// What they may ask for over ssh.
    #[must_use]
    pub fn permits(&self) -> Permits {
        self.permits
    }

    /// Which key it is.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Who acts, for [`Control::acting`](crate::Control::acting): over ssh nobody is an operator.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::account(self.account.clone(), Role::Member, Way::Ssh, self.from)
    }

    /// Waits until the key or its account is removed, or the key expires. Whoever let the holder in ends it then.
    pub async fn ended(&self) {
        tokio::select! {
            () = self.revocation.revoked() => {}
            () = expiry(self.expires, Clock::System) => {}
        }
    }
}

/// Waits until the clock shows `at`; for ever without one.
pub(crate) async fn expiry(at: Option<OffsetDateTime>, clock: Clock) {
    // Looked at again and again, since a clock may be set.
    const LOOK: std::time::Duration = std::time::Duration::from_secs(30);
    let Some(at) = at else { return std::future::pending().await };
    while let Ok(left) = std::time::Duration::try_from(at - clock.now()) {
        if left.is_zero() {
            return;
        }
        sleep(left.min(LOOK)).await;
    }
}

/// Proof that a login may connect to one port of one VM. That of a guest ends with what was shared: connections that
/// [`Control::connect`](crate::Control::connect) made by it end then, whoever holds them.
#[derive(Debug, Clone)]
pub struct Entry {
    pub(super) account: AccountName,
    pub(super) vm: VmName,
    pub(super) id: VmId,
    pub(super) port: u16,
    pub(super) from: IpAddr,
    pub(super) way: Way,
    /// By which key, over ssh.
    pub(super) key: Option<Fingerprint>,
    pub(super) certificate: Option<Arc<MemberCertificate>>,
    pub(super) permits: Permits,
    pub(super) shared: Option<Shared>,
    /// Who watches a terminal by it, which is not the account as which it leads in.
    pub(super) watcher: Option<AccountName>,
    /// The gateway reads what goes through.
    pub(super) carried: bool,
}

/// What lets a guest in, or somebody who watches.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) revocation: Revocation,
    pub(super) until: Option<OffsetDateTime>,
    pub(super) clock: Clock,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.revocation.is_revoked() || self.until.is_some_and(|until| until <= self.clock.now())
    }
}

impl Entry {
    /// Who may.
    #[must_use]
    pub fn account(&self) -> &AccountName {
        &self.account
    }

    /// The VM.
    #[must_use]
    pub fn vm(&self) -> &VmName {
        &self.vm
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From where they come.
    #[must_use]
    pub fn from(&self) -> IpAddr {
        self.from
    }

    /// Waits until the VM is not shared with them any more; for ever for its owner, who is in as long as the login is.
    pub async fn ended(&self) {
        match &self.shared {
            Some(Shared { revocation, until, clock }) => tokio::select! {
                () = revocation.revoked() => {}
                () = expiry(*until, *clock) => {}
            },
            None => std::future::pending().await,
        }
    }

    /// Whether [`Entry::ended`] has come to its end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.as_ref().is_some_and(Shared::is_over)
    }

    /// Whether it is by a share, or a link to watch, that they are in.
    #[must_use]
    pub fn is_of_guest(&self) -> bool {
        self.shared.is_some()
    }

    /// What they may ask the VM's sshd for.
    #[must_use]
    pub fn permits(&self) -> Permits {
        self.permits
    }

    /// Whether who has it may let others watch a terminal that it leads to.
    pub(crate) fn may_show_others(&self) -> bool {
        self.watcher.is_none() && may_show(&self.account, &self.vm)
    }

    /// Who watches a terminal by it, if that is what it is for.
    pub(crate) fn watcher(&self) -> Option<&AccountName> {
        self.watcher.as_ref()
    }

    /// What is connected by it: fails once [`Entry::ended`] has come to its end.
    pub(crate) fn tie(&self, stream: Box<dyn Stream>) -> Box<dyn Stream> {
        if !self.is_of_guest() {
            return stream;
        }
        Box::new(Tethered::new(stream, || {
            let entry = self.clone();
            Box::pin(async move { entry.ended().await })
        }))
    }

    pub(crate) fn id(&self) -> VmId {
        self.id
    }

    /// The same for a session that the gateway carries itself, and so can read.
    #[must_use]
    pub fn carried(self) -> Self {
        Self { carried: true, ..self }
    }

    /// What the audit trail says of a connection by it. A tunnel to sshd says that nobody here can read it.
    pub(crate) fn event(&self) -> NewAudit {
        let by = match (&self.certificate, &self.key) {
            (Some(certificate), _) => certificate.to_string(),
            (None, Some(key)) => key.to_string(),
            (None, None) => "the terminal in the page".to_owned(),
        };
        let sealed =
            if self.way == Way::Ssh && self.port == SSH && !self.carried { ", end to end" } else { "" };
        self.event_of(AuditKind::Connection, format!("port {} by {by}{sealed}", self.port))
    }

    /// What the audit trail says of something that is done by it: it is about the VM's owner.
    pub(crate) fn event_of(&self, kind: AuditKind, detail: String) -> NewAudit {
        NewAudit {
            kind,
            account: Some(self.vm.owner.clone()).filter(|owner| !owner.is_of_teams()),
            actor: Some(self.account.clone()),
            way: self.way,
            address: Some(self.from),
            subject: self.vm.to_string(),
            detail,
        }
    }
}

/// Proof that somebody may see what one port of one VM serves. Ends with what allowed it.
#[derive(Debug, Clone)]
pub struct SiteEntry {
    pub(super) vm: VmName,
    pub(super) id: VmId,
    pub(super) port: u16,
    pub(super) visitor: Option<SiteVisitor>,
    pub(super) decided: Revocation,
}

impl SiteEntry {
    /// The VM.
    #[must_use]
    pub fn vm(&self) -> &VmName {
        &self.vm
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until the visitor's session ends, the VM's owner is blocked, or something else is decided about who may see
    /// the VM's ports. Whoever serves the visitor ends it then.
    pub async fn ended(&self) {
        let session = async {
            match &self.visitor {
                Some(visitor) => visitor.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.decided.revoked() => {}
            () = session => {}
        }
    }

    /// Whether everybody may see what is served there, so that it does not matter who it is.
    #[must_use]
    pub fn is_for_everybody(&self) -> bool {
        self.visitor.is_none()
    }

    /// Whether another proof is for the same port of the same VM.
    #[must_use]
    pub fn leads_where(&self, other: &Self) -> bool {
        (self.id, self.port) == (other.id, other.port)
    }

    pub(crate) fn id(&self) -> VmId {
        self.id
    }

    /// Who it is, where only who is known may see it.
    pub(crate) fn visitor(&self) -> Option<&SiteVisitor> {
        self.visitor.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_without_expiry_does_not_expire() {
        let waited =
            tokio::time::timeout(std::time::Duration::from_secs(1_000_000), expiry(None, Clock::System))
                .await;
        assert!(waited.is_err());
        expiry(Some(OffsetDateTime::UNIX_EPOCH), Clock::System).await;
    }
}
