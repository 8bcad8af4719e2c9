//! Who somebody is, and where they may go: the only file that makes a [`Login`], an [`Entry`] or a [`SiteEntry`].
//!
//! All are proofs: their fields are private to this file, the gateway and the website can hold them and pass them on,
//! [`Control::connect`] asks for an [`Entry`] and [`Control::visit`] for a [`SiteEntry`]. Who may do what is
//! [`may_enter`] and [`may_visit`], and nothing else.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use berth_engine::Stream;
use berth_model::{AccountName, Fingerprint, NotPermitted, PublicKey, SITE_PORT, TeamName, VmId, VmName};
use berth_store::{AuditKind, NewAudit, PortAccess, Role, Scope, SecretHash, StoreError, Way};
use ssh_key::Certificate;
use time::OffsetDateTime;
use tokio::time::sleep;
use tracing::error;

use crate::{
    Control,
    actor::Actor,
    certificate::{self, CertificateError, MemberCertificate, Permits},
    clock::Clock,
    error::{EntryError, Error, LoginError},
    metrics::Door,
    revocation::Revocation,
    sites::{SiteRefusal, SiteVisitor},
    stage::Stage,
    tether::Tethered,
};

/// Where sshd listens.
const SSH: u16 = 22;
/// How much of a name that was not found is said back.
const ASKED_LEN: usize = 80;

/// Proof that the holder of an account's key is at the other end. Ends with the key.
#[derive(Debug, Clone)]
pub struct Login {
    account: AccountName,
    fingerprint: Fingerprint,
    from: IpAddr,
    expires: Option<OffsetDateTime>,
    revocation: Revocation,
    /// What they have shown, where it is not a key of the account.
    certificate: Option<Arc<MemberCertificate>>,
    permits: Permits,
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

    /// Who acts, for [`Control::acting`]: over ssh nobody is an operator.
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
/// [`Control::connect`] made by it end then, whoever holds them.
#[derive(Debug, Clone)]
pub struct Entry {
    account: AccountName,
    vm: VmName,
    id: VmId,
    port: u16,
    from: IpAddr,
    way: Way,
    /// By which key, over ssh.
    key: Option<Fingerprint>,
    certificate: Option<Arc<MemberCertificate>>,
    permits: Permits,
    shared: Option<Shared>,
    /// Who watches a terminal by it, which is not the account as which it leads in.
    watcher: Option<AccountName>,
    /// The gateway reads what goes through.
    carried: bool,
}

/// What lets a guest in, or somebody who watches.
#[derive(Debug, Clone)]
struct Shared {
    revocation: Revocation,
    until: Option<OffsetDateTime>,
    clock: Clock,
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
    vm: VmName,
    id: VmId,
    port: u16,
    visitor: Option<SiteVisitor>,
    decided: Revocation,
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

    pub(crate) fn id(&self) -> VmId {
        self.id
    }

    /// Who it is, where only who is known may see it.
    pub(crate) fn visitor(&self) -> Option<&SiteVisitor> {
        self.visitor.as_ref()
    }
}

impl Control {
    /// Whether `key` is on any account. Says nothing of whose it is, proves nothing, and writes nothing down: it is for
    /// a client that asks which of its keys to sign with (RFC 4252, section 7).
    ///
    /// A store that fails counts as yes: the client signs, and [`Control::log_in`] tells what is wrong.
    pub async fn knows(&self, key: &PublicKey) -> bool {
        match self.store.key_by_fingerprint(&key.fingerprint()).await {
            Ok(row) => row.is_some_and(|row| row.key == *key),
            Err(_) => true,
        }
    }

    /// Lets the holder of `key` in. To be called only after the signature has been verified.
    ///
    /// Writes down when and from where the key was used. A key that is removed at the same moment is either refused
    /// or ends the login: there is no gap.
    ///
    /// # Errors
    /// The key is nobody's, has expired or may not be used from `from`; or the store fails.
    pub async fn log_in(&self, key: &PublicKey, from: IpAddr) -> Result<Login, LoginError> {
        let website = || self.settings.website.clone();
        let fingerprint = key.fingerprint();
        // Before the look into the store: a removal after that look finds this revocation and ends it.
        let revocation = self.revocations.of(&fingerprint);
        let row = self.store.key_by_fingerprint(&fingerprint).await.map_err(|cause| {
            error!(error = %cause, "the store failed");
            LoginError::Unavailable
        })?;
        let Some(row) = row.filter(|row| row.key == *key) else {
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
            fingerprint,
            from,
            expires: row.options.expires,
            revocation,
            certificate: None,
            permits: Permits::ALL,
        };
        let used =
            login.actor().event(AuditKind::LogIn, &login.account, fingerprint.to_string(), "key".to_owned());
        match self.store.touch_key(row.id, now, from, &used).await {
            Ok(true) => {}
            // Removed a moment ago.
            Ok(false) => return Err(self.unknown(key)),
            Err(cause) => error!(error = %cause, "the use of a key was not written down"),
        }
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
    /// It does not count, or the store fails.
    pub async fn log_in_by_certificate(
        &self,
        certificate: &Certificate,
        from: IpAddr,
    ) -> Result<Login, LoginError> {
        let login = self.try_certificate(certificate, from).await;
        self.tools.metrics.tried(Door::Ssh, login.is_ok());
        let login = login?;
        let shown = login.certificate.as_ref().map(ToString::to_string).unwrap_or_default();
        let event =
            login.actor().event(AuditKind::LogIn, &login.account, login.fingerprint.to_string(), shown);
        self.note_event(event).await;
        Ok(login)
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

    /// Whether `login` may connect to `port` of the VM that answers to `host`.
    ///
    /// The same is done, and said, for a VM that does not exist and for one that is somebody else's and not shared.
    ///
    /// # Errors
    /// There is no such VM for this login, the port is not to be had, or the store fails.
    pub async fn enter(&self, login: &Login, host: &str, port: u32) -> Result<Entry, EntryError> {
        let asked = self.settings.domains.resolve(host);
        // Before the look into the store: a share that is taken back after that look finds this revocation.
        let revocation = asked.as_ref().map(|vm| self.shared.of(&(vm.clone(), login.account.clone())));
        let open = self.enterable(&login.account).await.map_err(|cause| {
            error!(error = %cause, "the store failed");
            EntryError::Unavailable
        })?;
        let found = open.iter().find(|open| asked.as_ref() == Some(&open.vm));
        let Some((found, revocation)) = found.zip(revocation) else {
            let yours = open.into_iter().map(|open| open.vm).collect();
            return Err(EntryError::NoSuchVm {
                asked: printable(host),
                account: login.account.clone(),
                yours,
            });
        };
        match u16::try_from(port) {
            Ok(port) if port_is_open(port) && port != SSH && !login.permits.ports => {
                Err(EntryError::NoForwarding)
            }
            Ok(port) if port_is_open(port) => {
                let (account, from) = (login.account.clone(), login.from);
                let clock = self.settings.clock;
                let shared = found.shared.map(|until| Shared { revocation, until, clock });
                let (way, key) = (Way::Ssh, Some(login.fingerprint));
                let (certificate, permits) = (login.certificate.clone(), login.permits);
                let (vm, id, watcher) = (found.vm.clone(), found.id, None);
                Ok(Entry {
                    account,
                    vm,
                    id,
                    port,
                    from,
                    way,
                    key,
                    certificate,
                    permits,
                    shared,
                    watcher,
                    carried: false,
                })
            }
            _ => Err(EntryError::PortNotAllowed { port }),
        }
    }

    /// The VMs that an account may enter: its own, those that it shares, those of the team; by name. The same is looked up for each
    /// account, and nothing of the VM that is asked for.
    async fn enterable(&self, account: &AccountName) -> Result<Vec<Enterable>, StoreError> {
        let own = self.store.vms(Some(account)).await?;
        let shares = self.store.shares_with(account, self.settings.clock.now()).await?;
        let teams = self.store.vms(Some(&AccountName::of_teams())).await?;
        let teams = teams
            .into_iter()
            .filter(|vm| vm.removing_at.is_none())
            .map(|vm| (Enterable { vm: vm.name, id: vm.id, shared: Some(None) }, false));
        let own = own
            .into_iter()
            .filter(|vm| vm.removing_at.is_none())
            .map(|vm| (Enterable { vm: vm.name, id: vm.id, shared: None }, false));
        let shared = shares.into_iter().map(|share| {
            let accepted = share.accepted_at.is_some();
            (Enterable { vm: share.name, id: share.vm, shared: Some(share.ends_at) }, accepted)
        });
        let may =
            |(open, accepted): (Enterable, bool)| may_enter(account, &open.vm, accepted).then_some(open);
        Ok(own.chain(shared).chain(teams).filter_map(may).collect())
    }
}

/// A VM that an account may enter.
struct Enterable {
    vm: VmName,
    id: VmId,
    /// For a guest, until when.
    shared: Option<Option<OffsetDateTime>>,
}

impl Control {
    /// Whether somebody may see what `port` of `vm` serves: with a visitor, whether that one may, and without, whether
    /// everybody may.
    ///
    /// The same is said for a VM that does not exist, one of a blocked account, and one that the visitor may not see.
    ///
    /// # Errors
    /// See [`SiteRefusal`].
    pub async fn enter_site(
        &self,
        visitor: Option<&SiteVisitor>,
        vm: &VmName,
        port: u16,
    ) -> Result<SiteEntry, SiteRefusal> {
        // Before the look into the store: what is decided after that look finds this revocation.
        let supervised = self.handle(vm).map(|handle| (handle.id, self.web.sites.of(&handle.id)));
        let row = self.store.site(vm, port).await.map_err(|cause| {
            error!(error = %cause, "the store failed");
            SiteRefusal::Unavailable
        })?;
        let found = row.zip(supervised).filter(|(row, (id, _))| row.vm == *id && port_has_site(port));
        let Some((row, (id, decided))) = found else {
            // Port 80 is public, so anybody may learn whether it is there; of other ports nobody does.
            let hidden = visitor.is_none() && port != SITE_PORT && port_has_site(port);
            return Err(if hidden { SiteRefusal::LogIn } else { SiteRefusal::Missing });
        };
        let access = row.access.unwrap_or(usual_access(port));
        let account = visitor.map(SiteVisitor::account);
        if !may_visit(account, vm, access, self.settings.domains.team()) {
            return Err(if visitor.is_none() { SiteRefusal::LogIn } else { SiteRefusal::Missing });
        }
        // Whoever is known to a site that everybody may see is not asked for more than everybody.
        let visitor = visitor.filter(|_| access != PortAccess::Public).cloned();
        Ok(SiteEntry { vm: vm.clone(), id, port, visitor, decided })
    }

    /// Whether somebody who acts may connect to the sshd of `vm`: as whoever comes by ssh.
    ///
    /// # Errors
    /// There is no such VM, or they may not enter it, which are the same; or the store fails.
    pub(crate) async fn enter_shell(&self, actor: &Actor, vm: &VmName) -> Result<Entry, Error> {
        let missing = || Error::NoSuchVm(vm.to_string());
        // Who operates this server is let into nobody's VM for that.
        let account = actor.name().ok_or_else(missing)?;
        actor.may(Scope::VmsWrite, account, missing)?;
        let from = actor.address().ok_or_else(missing)?;
        let revocation = self.shared.of(&(vm.clone(), account.clone()));
        let open = self.enterable(account).await?;
        let found = open.into_iter().find(|open| open.vm == *vm).ok_or_else(missing)?;
        let shared = found.shared.map(|until| Shared { revocation, until, clock: self.settings.clock });
        let (account, way) = (account.clone(), Way::Web);
        let (vm, id, permits, key, certificate, watcher) =
            (found.vm, found.id, Permits::ALL, None, None, None);
        Ok(Entry {
            account,
            vm,
            id,
            port: SSH,
            from,
            way,
            key,
            certificate,
            permits,
            shared,
            watcher,
            carried: false,
        })
    }

    /// For who came by a link to the terminal on this stage: leads in as the user whose shell it is, and ends with the
    /// link. `None` for who may not watch.
    pub(crate) fn entry_of_watcher(&self, actor: &Actor, stage: &Stage, link: SecretHash) -> Option<Entry> {
        let watcher = actor.name().filter(|watcher| may_watch(watcher, stage.state.borrow().has(link)))?;
        let revocation = self.web.watched.of(&link);
        Some(Entry {
            account: stage.user.clone(),
            vm: stage.vm.clone(),
            id: stage.id,
            port: SSH,
            from: actor.address()?,
            way: Way::Web,
            key: None,
            certificate: None,
            permits: Permits::ALL,
            shared: Some(Shared { revocation, until: None, clock: self.settings.clock }),
            watcher: Some(watcher.clone()),
            carried: false,
        })
    }
}

/// Who may see what a port of a VM serves. Every account is in the default team, and in no other.
fn may_visit(
    visitor: Option<&AccountName>,
    vm: &VmName,
    access: PortAccess,
    default_team: &TeamName,
) -> bool {
    // Of a VM of the team every member is an owner in this.
    let of_team = vm.is_of_team() && vm.team == *default_team;
    let is_owner = visitor.is_some_and(|visitor| *visitor == vm.owner || of_team);
    match access {
        PortAccess::Public => true,
        PortAccess::Team => is_owner || (visitor.is_some() && vm.team == *default_team),
        PortAccess::Owner => is_owner,
    }
}

/// Who may see what a port serves for which nobody has decided it.
pub(crate) fn usual_access(port: u16) -> PortAccess {
    if port == SITE_PORT { PortAccess::Public } else { PortAccess::Owner }
}

/// The ports of a VM whose services can be seen on the web: those that can be connected to, but for ssh.
pub(crate) fn port_has_site(port: u16) -> bool {
    port != SSH && port_is_open(port)
}

/// Who may enter a VM: its owner, and a guest who has accepted that it is shared with them, for as long as that lasts; and
/// every member, where it is the team's: every account is in the default team, and in no other, as all such VMs are.
fn may_enter(account: &AccountName, vm: &VmName, has_accepted: bool) -> bool {
    vm.owner == *account || has_accepted || vm.is_of_team()
}

/// Who may let others watch a terminal of theirs in a VM: its owner. A guest would let in whom the owner has not.
fn may_show(account: &AccountName, vm: &VmName) -> bool {
    vm.owner == *account
}

/// Who may watch a terminal: any account that is logged in and has the link, while it is one.
fn may_watch(_account: &AccountName, has_link: bool) -> bool {
    has_link
}

/// The ports of a VM that can be connected to: ssh, its website, and what an ordinary user can listen on.
fn port_is_open(port: u16) -> bool {
    matches!(port, SSH | 80 | 1024..)
}

/// What was asked for, fit to be said back on a terminal.
fn printable(asked: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    let mut text: String = asked.chars().take(ASKED_LEN).map(plain).collect();
    if asked.chars().nth(ASKED_LEN).is_some() {
        text.push('…');
    }
    if text.is_empty() { "without a name".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_back_is_short_and_plain() {
        assert_eq!(printable("vm-0.alice.kd.io"), "vm-0.alice.kd.io");
        assert_eq!(printable("\u{1b}[31mred\u{202e}"), "?[31mred?");
        assert_eq!(printable(&"a".repeat(300)).chars().count(), ASKED_LEN + 1);
        assert_eq!(printable(""), "without a name");
    }

    #[test]
    fn ports_of_the_system_are_closed_but_for_ssh_and_the_website() {
        let open: Vec<u16> = (0..=1024).filter(|port| port_is_open(*port)).collect();
        assert_eq!(open, [22, 80, 1024]);
        assert!(port_is_open(u16::MAX));
    }

    #[test]
    fn who_may_visit() {
        let (team, vm): (TeamName, VmName) =
            ("koding".parse().unwrap(), "vm-0.alice.koding".parse().unwrap());
        let elsewhere: VmName = "vm-0.alice.elsewhere".parse().unwrap();
        let teams: VmName = "shared-0.koding".parse().unwrap();
        let (alice, bob) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        for (access, vm, nobody, owner, other) in [
            (PortAccess::Public, &vm, true, true, true),
            (PortAccess::Team, &vm, false, true, true),
            (PortAccess::Team, &elsewhere, false, true, false),
            (PortAccess::Owner, &vm, false, true, false),
            (PortAccess::Owner, &teams, false, true, true),
            (PortAccess::Team, &teams, false, true, true),
        ] {
            let seen = [None, Some(&alice), Some(&bob)].map(|visitor| may_visit(visitor, vm, access, &team));
            assert_eq!(seen, [nobody, owner, other], "{access} {vm}");
        }
        assert_eq!(
            [80, 1024, 3000].map(usual_access),
            [PortAccess::Public, PortAccess::Owner, PortAccess::Owner]
        );
        assert!(!port_has_site(22) && !port_has_site(443) && port_has_site(80) && port_has_site(1024));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_without_expiry_does_not_expire() {
        let waited =
            tokio::time::timeout(std::time::Duration::from_secs(1_000_000), expiry(None, Clock::System))
                .await;
        assert!(waited.is_err());
        expiry(Some(OffsetDateTime::UNIX_EPOCH), Clock::System).await;
    }
}
