//! The sites of VMs: who a visitor is, and the way from a proof to a stream.
//!
//! A VM's pages are on a domain of their own, where the website's session cookie never goes. Whoever may see more than
//! everybody gets a **ticket** on the website, takes it to the VM's host, and gets a **pass** for it there:
//!
//! ```text
//!   website (session) ── ticket: one minute, once, one host ──► VM's host ── pass: twelve hours, one host
//!                                                                  every request: pass ─► session still there? ─► visitor
//! ```
//!
//! Both are signed by this server and remembered by nobody, and neither says who it is for but by the number of a
//! session, which is looked up each time: with the session they are dead. A restart forgets them all; the website gives
//! out new ones without a question.

use std::{net::IpAddr, time::Duration};

use berth_engine::{Ending, Listener, Stream};
use berth_model::{AccountName, SITE_PORT, Secret, VmName};
use berth_store::{SecretHash, SessionId};
use time::OffsetDateTime;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    Control, Status,
    access::{SiteEntry, expiry},
    activity::Counted,
    clock::Clock,
    connect::{IfOff, Target},
    error::{ConnectError, Error},
    idle::UseKind,
    lifecycle::State,
    revocation::Revocation,
    status::shown,
    web_challenges::Challenges,
    web_session::{LiveSession, WebLogin, ends_at},
};

/// How long a ticket is good: the browser takes it from one host to the other by itself.
const TICKET: Duration = Duration::from_secs(60);
/// How long a pass is good: about a day's work.
pub const SITE_PASS_LIFE: Duration = Duration::from_secs(12 * 3600);
/// So long a guest may take to tell what listens in it.
const LISTENERS_WITHIN: Duration = Duration::from_secs(3);
/// Whom the use of a VM by somebody unknown is put down to.
const NOBODY: &str = "a visitor";

/// See the module.
pub(crate) struct Passes {
    tickets: Challenges,
    passes: Challenges,
}

impl Passes {
    pub(crate) fn new() -> Self {
        Self { tickets: Challenges::lasting(TICKET), passes: Challenges::lasting(SITE_PASS_LIFE) }
    }
}

/// Somebody who is logged in on the website and looks at a VM's site. Ends with the session.
#[derive(Debug, Clone)]
pub struct SiteVisitor {
    account: AccountName,
    ends_at: OffsetDateTime,
    clock: Clock,
    revocation: Revocation,
}

impl SiteVisitor {
    /// Who it is.
    #[must_use]
    pub fn account(&self) -> &AccountName {
        &self.account
    }

    pub(crate) async fn ended(&self) {
        tokio::select! {
            () = self.revocation.revoked() => {}
            () = expiry(Some(self.ends_at), self.clock) => {}
        }
    }
}

/// Why somebody does not get to see a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SiteRefusal {
    /// Not everybody may see it, if it is there at all, and it is not known who asks.
    #[error("Only some may see this site, if there is one. Log in first.")]
    LogIn,
    /// There is none, or none that this visitor may see.
    #[error("There is no site of this name here.")]
    Missing,
    /// It cannot be found out now.
    #[error("Berth cannot look up this site right now. Try again in a minute.")]
    Unavailable,
}

/// Why a site that may be seen cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VisitError {
    /// Its VM is off, and a visit does not start it.
    #[error("{} is off.", .0.label())]
    Off(VmName),
    /// Its VM is off because it failed; why is its owner's business.
    #[error("{} could not start.", .0.label())]
    Failed(VmName),
    /// Anything that can happen to a connection.
    #[error(transparent)]
    Connect(ConnectError),
}

impl Control {
    /// Whether a host name is one that a site is expected at: a VM's that exists, with no port in it or one about which
    /// its owner has decided. Says nothing about who may see it.
    ///
    /// # Errors
    /// The store fails.
    pub async fn has_site(&self, host: &str) -> Result<bool, Error> {
        let Some((vm, port)) = self.settings.domains.resolve_site(host) else { return Ok(false) };
        let Some(handle) = self.handle(&vm) else { return Ok(false) };
        if port == SITE_PORT {
            return Ok(true);
        }
        Ok(self.store.ports(handle.id).await?.iter().any(|row| row.port == port))
    }

    /// Who a member is on the sites of VMs.
    #[must_use]
    pub fn as_visitor(&self, login: &WebLogin) -> SiteVisitor {
        SiteVisitor {
            account: login.account().clone(),
            ends_at: login.ends_at(),
            clock: self.settings.clock,
            revocation: login.revocation().clone(),
        }
    }

    /// What the member's browser takes to `host`, which is a VM's as it stands in the browser's bar, with the port: good
    /// for a minute, there, and once. Letters, digits, hyphens, underscores and a dot.
    #[must_use]
    pub fn site_ticket(&self, login: &WebLogin, host: &str) -> Secret<String> {
        let (session, now) = (login.session(), self.settings.clock.now());
        let signed = self.web.passes.tickets.make(&purpose(session, host), now);
        Secret::new(format!("{session}.{signed}"))
    }

    /// A pass in exchange for a ticket that was brought to `host`; `None` for one that is used, over, of another host or
    /// of a session that has ended. A pass looks as a ticket does, and is good for [`SITE_PASS_LIFE`].
    ///
    /// # Errors
    /// The store fails; the ticket is used up then.
    pub async fn redeem_site_ticket(
        &self,
        ticket: &Secret<String>,
        host: &str,
    ) -> Result<Option<Secret<String>>, Error> {
        let (Passes { tickets, passes }, now) = (&self.web.passes, self.settings.clock.now());
        let Some((session, signed)) = parts(ticket) else { return Ok(None) };
        let Some(asked) = tickets.read(&purpose(session, host), signed, now) else { return Ok(None) };
        if !tickets.use_up(asked, now) || self.live_session_of(session).await?.is_none() {
            return Ok(None);
        }
        let signed = passes.make(&purpose(session, host), now);
        Ok(Some(Secret::new(format!("{session}.{signed}"))))
    }

    /// Who shows a pass at `host`; `None` for one that means nothing there, or whose session has ended.
    ///
    /// # Errors
    /// The store fails.
    pub async fn site_visitor(
        &self,
        pass: &Secret<String>,
        host: &str,
    ) -> Result<Option<SiteVisitor>, Error> {
        let Some((session, signed)) = parts(pass) else { return Ok(None) };
        let now = self.settings.clock.now();
        if self.web.passes.passes.read(&purpose(session, host), signed, now).is_none() {
            return Ok(None);
        }
        Ok(self.live_session_of(session).await?.map(|LiveSession { session, revocation }| SiteVisitor {
            ends_at: ends_at(&session),
            account: session.account,
            clock: self.settings.clock,
            revocation,
        }))
    }

    async fn live_session_of(&self, id: SessionId) -> Result<Option<LiveSession>, Error> {
        let hash: Option<SecretHash> = self.store.cookie_of_session(id).await?;
        match hash {
            Some(hash) => self.live_session(hash).await,
            None => Ok(None),
        }
    }

    /// Opens a connection from `from` to what `entry` allows, which counts as a use of the VM. One that sleeps is woken, and one that
    /// starts is waited for; one that is off stays so.
    ///
    /// Dropping the future does not take a wake back.
    ///
    /// # Errors
    /// The VM is off or does not wake, nothing listens there, or the VM is gone.
    pub async fn visit(&self, entry: &SiteEntry, from: IpAddr) -> Result<Box<dyn Stream>, VisitError> {
        let by = visited_by(entry);
        let target = Target {
            vm: entry.vm(),
            id: entry.id(),
            port: entry.port(),
            by: by.to_owned(),
            from,
            if_off: IfOff::Refuse,
            counted: Counted::AsUse,
            event: None,
        };
        self.connection_to(&target, &mpsc::channel(1).0).await.map_err(|error| {
            match (&error, self.state(entry)) {
                (ConnectError::Stopped { vm }, Some(State::Off { ended: Some(Ending::Failed { .. }) })) => {
                    VisitError::Failed(vm.clone())
                }
                (ConnectError::Stopped { vm }, _) => VisitError::Off(vm.clone()),
                _ => VisitError::Connect(error),
            }
        })
    }

    /// Whether what `entry` allows may be asked once more on a connection that [`Control::visit`] has opened: the VM runs. It
    /// counts as a use, as another visit would.
    #[must_use]
    pub fn visit_again(&self, entry: &SiteEntry) -> bool {
        let handle = self.handle(entry.vm()).filter(|handle| handle.id == entry.id());
        let Some(handle) = handle.filter(|handle| handle.state() == State::Running) else { return false };
        handle.activity.note(UseKind::Connection { by: visited_by(entry).to_owned(), port: entry.port() });
        true
    }

    /// On which ports something listens in the VM of a site, by number and at most 64: for its owner alone, and only
    /// where its guest tells within three seconds.
    pub async fn listeners(&self, visitor: &SiteVisitor, entry: &SiteEntry) -> Option<Vec<Listener>> {
        if *visitor.account() != entry.vm().owner {
            return None;
        }
        match timeout(LISTENERS_WITHIN, self.engine.listeners(&entry.id())).await {
            Ok(Ok(listeners)) => Some(listeners),
            Ok(Err(error)) => {
                tracing::debug!(vm = %entry.vm(), %error, "the guest does not tell what listens");
                None
            }
            Err(_) => None,
        }
    }

    /// What the VM of a site is doing.
    #[must_use]
    pub fn site_status(&self, entry: &SiteEntry) -> Status {
        self.state(entry).map_or(Status::Removing, |state| shown(&state).0)
    }

    fn state(&self, entry: &SiteEntry) -> Option<State> {
        self.handle(entry.vm()).filter(|handle| handle.id == entry.id()).map(|handle| handle.state())
    }

    /// Ends what visitors have open of the VMs of an account, and what is known of who may see them.
    pub(crate) fn end_visits(&self, owner: &AccountName) {
        for handle in self.handles_where(|vm| vm.owner == *owner) {
            self.web.sites.revoke(&handle.id);
        }
    }
}

fn visited_by(entry: &SiteEntry) -> &str {
    entry.visitor().map_or(NOBODY, |visitor| visitor.account().as_str())
}

fn purpose(session: SessionId, host: &str) -> String {
    format!("{session} {}", host.to_ascii_lowercase())
}

fn parts(text: &Secret<String>) -> Option<(SessionId, &str)> {
    let (session, signed) = text.expose().split_once('.')?;
    Some((session.parse().ok()?, signed))
}
