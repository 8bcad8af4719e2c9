//! Who somebody is, and where they may go: only here and below is a [`Login`], an [`Entry`] or a [`SiteEntry`] made.
//!
//! All are proofs (`access/proof.rs`): their fields are private to this module, the gateway and the website can hold them and
//! pass them on, [`Control::connect`] asks for an [`Entry`] and [`Control::visit`] for a [`SiteEntry`]. Who somebody is, is
//! found out in `access/log_in.rs`. Who may do what is [`may_enter`], [`may_visit`], [`may_show`] and [`may_watch`], and
//! nothing else.

mod log_in;
mod proof;

use std::net::IpAddr;

use berth_model::{AccountName, SITE_PORT, TeamName, VmId, VmName};
use berth_store::{EntryRow, PortAccess, Scope, SecretHash, StoreError, Way};
use time::OffsetDateTime;
use tracing::error;

use crate::{
    Control,
    actor::Actor,
    certificate::Permits,
    clock::Clock,
    error::{EntryError, Error},
    revocation::Revocation,
    sites::{SiteRefusal, SiteVisitor},
    stage::Stage,
};

pub use self::log_in::KnownKey;
use self::proof::Shared;
pub(crate) use self::proof::expiry;
pub use self::proof::{Entry, Login, SiteEntry};

/// Where sshd listens.
const SSH: u16 = 22;
/// How much of a name that was not found is said back.
const ASKED_LEN: usize = 80;

impl Control {
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
        let found = open.iter().find(|open| asked.as_ref() == Some(&open.vm)).cloned();
        let Some((found, revocation)) = found.zip(revocation) else {
            if let Some(whole) = open.iter().find_map(|open| self.whole_name(&open.vm, host)) {
                return Err(EntryError::ShortName { whole });
            }
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
                let (account, by) = (login.account.clone(), (Way::Ssh, login.from));
                self.shared.note(&(found.vm.clone(), account.clone()), found.way_in());
                let entry = found.entry(account, port, by, revocation, self.settings.clock);
                let (key, certificate) = (Some(login.fingerprint), login.certificate.clone());
                Ok(Entry { key, certificate, permits: login.permits, ..entry })
            }
            _ => Err(EntryError::PortNotAllowed { port }),
        }
    }

    /// The whole name of a VM, where `asked` is the first part of it: `vm-0`, `vm-0.alice`.
    fn whole_name(&self, vm: &VmName, asked: &str) -> Option<String> {
        let asked = format!("{}.", asked.to_ascii_lowercase());
        let names = self.settings.domains.names_of(vm);
        names.iter().any(|name| name.starts_with(&asked)).then(|| self.settings.domains.canonical(vm))
    }

    /// The VMs that an account may enter: its own, those that it shares, those of the team; by name. The same is looked up for each
    /// account, and nothing of the VM that is asked for.
    async fn enterable(&self, account: &AccountName) -> Result<Vec<Enterable>, StoreError> {
        let rows = self.store.entries(account, &AccountName::of_teams(), self.settings.clock.now()).await?;
        let may = |row: EntryRow| {
            let accepted = row.share.as_ref().is_some_and(|share| share.accepted);
            let sudo = row.share.as_ref().is_some_and(|share| share.sudo);
            let shared = match row.share {
                Some(share) => Some(share.ends_at),
                None => row.name.is_of_team().then_some(None),
            };
            let open = Enterable { vm: row.name, id: row.vm, shared, sudo };
            may_enter(account, &open.vm, accepted).then_some(open)
        };
        Ok(rows.into_iter().filter_map(may).collect())
    }
}

impl Control {
    /// By what an account may enter a VM; `None` for who may not.
    pub(crate) async fn way_in(
        &self,
        vm: &VmName,
        account: &AccountName,
    ) -> Result<Option<WayIn>, StoreError> {
        let open = self.enterable(account).await?;
        Ok(open.into_iter().find(|open| open.vm == *vm).map(|open| open.way_in()))
    }
}

/// A VM that an account may enter.
#[derive(Clone)]
struct Enterable {
    vm: VmName,
    id: VmId,
    /// For a guest, until when.
    shared: Option<Option<OffsetDateTime>>,
    /// For a guest, whether they are root in it when they want to.
    sudo: bool,
}

/// How an account is let into a VM: into which of that name, and for a guest until when and whether as root.
pub(crate) type WayIn = (VmId, Option<Option<OffsetDateTime>>, bool);

impl Enterable {
    fn way_in(&self) -> WayIn {
        (self.id, self.shared, self.sudo)
    }

    /// Lets `account` in, of whom no more is known than that they may, and how and from where they come. A guest is in until
    /// the revocation.
    fn entry(
        self,
        account: AccountName,
        port: u16,
        (way, from): (Way, IpAddr),
        revocation: Revocation,
        clock: Clock,
    ) -> Entry {
        let Self { vm, id, shared, .. } = self;
        Entry {
            account,
            vm,
            id,
            port,
            from,
            way,
            key: None,
            certificate: None,
            permits: Permits::ALL,
            shared: shared.map(|until| Shared { revocation, until, clock }),
            watcher: None,
            carried: false,
        }
    }
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
        let supervised = self.handle(vm).map(|handle| handle.id);
        if let Some(id) = supervised.filter(|_| self.tools.decides())
            && let Some(decided) = self.web.public.known(id, port)
        {
            return Ok(SiteEntry { vm: vm.clone(), id, port, visitor: None, decided });
        }
        // Before the look into the store: what is decided after that look finds this revocation.
        let supervised = supervised.map(|id| (id, self.web.sites.of(&id)));
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
        if access == PortAccess::Public && self.tools.decides() {
            self.web.public.note(id, port, &decided);
        }
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
        self.shared.note(&(vm.clone(), account.clone()), found.way_in());
        Ok(found.entry(account.clone(), SSH, (Way::Web, from), revocation, self.settings.clock))
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
}
