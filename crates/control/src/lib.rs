//! Who may, what state, when.
//!
//! Owns the rules: what a key lets its owner do ([`access`](Login)), what follows what in the life of a VM, and that
//! there is one writer for each VM. Owns no SQL, no process and no socket: `berth-store` keeps the facts, a
//! `berth_engine::Engine` runs the VMs, the gateway and the website are the ways in.
//!
//! ```text
//!   gateway, web, admin ──► Control ──┬─► Store            accounts, keys, VMs: facts
//!                                     └─► Supervisor (one task a VM) ──► Engine
//! ```
//!
//! Concurrency: every method may be called at any time by anybody. What changes a VM goes through its supervisor, one
//! thing after the other; what changes accounts and keys is one statement or transaction of the store.

mod access;
mod accounts;
mod acting;
mod acting_accounts;
mod acting_backup;
mod acting_disks;
mod acting_listing;
mod acting_ports;
mod acting_sharing;
mod activity;
mod actor;
mod audit;
mod awake;
mod blocked;
mod certificate;
mod clock;
mod connect;
mod connections;
mod direct;
mod disks;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod greeting;
mod guest;
mod health;
mod history;
mod host_ca;
mod idle;
mod kept_disks;
mod keys;
mod ledger;
mod lifecycle;
mod listing;
mod metrics;
mod oidc;
mod parked;
mod presence;
mod public_sites;
mod recordings;
mod revocation;
mod room;
mod settings;
mod sharing;
mod sites;
mod stage;
mod standing;
mod status;
mod supervisor;
mod team_ca;
mod team_vms;
mod terminal;
mod tether;
mod tokens;
mod user_ca;
mod vms;
mod watching;
mod web;
mod web_challenges;
mod web_error;
mod web_log_in;
mod web_oidc;
mod web_passkeys;
mod web_password;
mod web_penalties;
mod web_session;
mod webauthn;
mod why;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use berth_engine::Engine;
use berth_model::{AccountName, VmId, VmName};
use berth_store::{Store, VmRow};
use futures::{FutureExt, future::BoxFuture};
use time::OffsetDateTime;
use tokio::{sync::RwLock, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

pub use access::{Entry, KnownKey, Login, SiteEntry};
pub use accounts::AccountInfo;
pub use acting::Acting;
pub use acting_accounts::{InvitationInfo, LinkFor};
pub use acting_ports::PortInfo;
pub use actor::Actor;
pub use audit::{AuditInfo, TrafficInfo};
pub use awake::SiteOpen;
pub use berth_engine::{Grown, Home, Listener};
pub use berth_recording::{
    Limits as RecordingLimits, Opened as OpenedRecording, Recording, RecordingInfo, RecordingState,
    RecordingWay,
};
pub use berth_store::{
    AUDIT_PAGE, AccountsQuery, AuditId, AuditKind, AuditQuery, Invitation, Limits, LinkId, LinkPurpose,
    LoginWay, MAX_SHARES, OidcId, OwnLimits, PasskeyId, PortAccess, Role, Scope, SessionId, SessionLife,
    TokenId, Way,
};
pub use certificate::{CertificateError, MemberCertificate, Permits};
pub use clock::Clock;
pub use connect::Progress;
pub use connections::ConnectionInfo;
pub use error::{ConnectError, EntryError, Error, Kind, LoginError};
pub use health::{Health, Warning};
pub use history::{HISTORY, Sample};
pub use host_ca::{HostCaChanges, HostCaInfo};
pub use idle::IdleRules;
pub use keys::{AddedKey, KeyInfo, KeyUse};
pub use listing::{Page, TeamMember, VmCounts, VmRoom, VmsQuery};
pub use metrics::SshNow;
pub use parked::Parked;
pub use recordings::{RecordingSettings, Recordings};
pub use settings::Settings;
pub use sharing::{ShareInfo, ShareTerms};
pub use sites::{SITE_PASS_LIFE, SiteRefusal, SiteVisitor, VisitError};
pub use standing::Entrance;
pub use status::Status;
pub use team_ca::{KrlInfo, TeamCaInfo, TeamCasInfo};
pub use tokens::{ApiLogin, TokenError, TokenInfo};
pub use user_ca::{Purpose, SessionKey};
pub use vms::VmInfo;
pub use watching::{AWAY, TerminalPage, WatchEnd, WatchError, WatchRight, WatchView, Watcher, WatcherInfo};
pub use web_error::WebError;
pub use web_log_in::{Identities, LinkInfo};
pub use web_oidc::{Https, HttpsError, OidcAnswer, OidcDone, OidcError, OidcInfo, OidcSettings, OidcStart};
pub use web_passkeys::PasskeyInfo;
pub use web_password::{MAX_PASSWORD, MIN_PASSWORD, PasswordError};
pub use web_session::{Client, NewSession, SESSION_LIFE, SessionInfo, WebLogin};
pub use webauthn::{Assertion, NewCredential, PasskeyError};
pub use why::span;

use crate::{
    host_ca::HostCas,
    ledger::Ledger,
    metrics::Metrics,
    presence::Presence,
    recordings::Recorded,
    revocation::Revocations,
    room::Room,
    supervisor::{Handle, Handles, Supervisor, Tools},
    team_ca::TeamCas,
    user_ca::UserCa,
    web::Web,
};

/// The use cases of Berth. One a server, handed around in an [`Arc`].
pub struct Control {
    settings: Arc<Settings>,
    store: Store,
    engine: Arc<dyn Engine>,
    since: OffsetDateTime,
    tools: Arc<Tools>,
    revocations: Revocations,
    /// By which certificates members are in.
    certificates: Revocations<Arc<MemberCertificate>>,
    /// What guests have entered by, by VM and guest.
    shared: Revocations<(VmName, AccountName), access::WayIn>,
    web: Web,
    tasks: TaskTracker,
    closing: CancellationToken,
    /// Read-locked by each change that people ask for.
    changing: RwLock<()>,
}

impl Control {
    /// Takes up the work where the last server left it: finds the VMs that run, finishes removals that were asked for,
    /// and supervises every VM.
    ///
    /// # Errors
    /// The store fails.
    pub async fn open(settings: Settings, store: Store, engine: Arc<dyn Engine>) -> Result<Arc<Self>, Error> {
        let settings = Arc::new(settings);
        let memory = match settings.memory {
            Some(memory) => memory,
            None => memory_of_the_host(&*engine).await,
        };
        let user_ca = UserCa::open(&store).await?;
        let host_cas = HostCas::open(&store).await?;
        let team_cas = TeamCas::open(&store, settings.domains.team()).await?;
        let recorded = settings.recording.as_ref().map(Recorded::open).transpose()?;
        let (ledger, lines) = Ledger::new();
        let tools = Arc::new(Tools {
            store: store.clone(),
            engine: engine.clone(),
            settings: settings.clone(),
            handles: Handles::default(),
            room: Room::new(memory),
            presence: Presence::new(settings.clock),
            metrics: Metrics::new(),
            user_ca,
            host_cas,
            team_cas,
            ledger: ledger.clone(),
            recorded,
            standing: Default::default(),
        });
        let control = Arc::new(Self {
            since: settings.clock.now(),
            settings,
            store,
            engine,
            tools,
            revocations: Revocations::default(),
            certificates: Revocations::default(),
            shared: Revocations::default(),
            web: Web::new(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            changing: RwLock::new(()),
        });
        let (store, closing) = (control.store.clone(), control.closing.clone());
        control.tasks.spawn(ledger::write(store, control.settings.clock, ledger, lines, closing));
        for row in control.store.vms(None).await? {
            let removing = row.removing_at.is_some();
            let handle = control.supervise(&row).await;
            if removing {
                info!(vm = %row.name, "finishing its removal");
                control.tasks.spawn(async move { handle.remove().await });
            }
        }
        for account in control.store.accounts().await?.iter().filter(|row| row.blocked_at.is_some()) {
            control.put_to_rest(&account.name).await;
        }
        control.name_strangers().await;
        control.end_shares_in_time();
        control.prepare_forks();
        Ok(control)
    }

    /// Ends the supervisors. VMs run on, and so does a start or a stop as far as the engine carries it alone.
    pub async fn close(&self) {
        self.tools.handles.clear();
        // Before the trail is closed, which is told what of them is missing.
        if let Some(recorded) = &self.tools.recorded {
            recorded.close().await;
        }
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// What the operator decided.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The supervisor of a VM.
    fn handle(&self, vm: &VmName) -> Option<Handle> {
        self.tools.handles.get(vm)
    }

    /// The supervisors of all VMs for which `which` holds.
    fn handles_where(&self, which: impl Fn(&VmName) -> bool) -> Vec<Handle> {
        self.tools.handles.filter(which)
    }

    /// Does work whose parts belong together to its end, also when whoever asked for it goes away half-way.
    async fn to_the_end<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match self.tasks.spawn(work).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is being shut down, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        }
    }

    /// Looks at a VM and starts its supervisor.
    async fn supervise(self: &Arc<Self>, row: &VmRow) -> Handle {
        let observed = self.engine.observe(&row.id).await;
        if let Err(error) = &observed {
            warn!(vm = %row.name, %error, "the VM cannot be looked at");
        }
        // Where it cannot be found out, nothing is started by itself.
        let policy = self.policy_of(row).await.unwrap_or_default();
        let (handle, supervisor) = Supervisor::new(self.tools.clone(), row, policy, observed);
        self.tools.handles.insert(handle.clone());
        let (control, id, name) = (Arc::downgrade(self), row.id, row.name.clone());
        self.tasks.spawn(async move {
            let ended = AssertUnwindSafe(supervisor.run()).catch_unwind().await;
            let Some(control) = control.upgrade() else { return };
            if ended.is_err() {
                error!(vm = %name, "its supervisor failed and is replaced");
                control.supervise_again(id, name).await;
            } else {
                control.tools.handles.forget(id, &name);
            }
        });
        handle
    }

    /// After a failure that should not be: a new supervisor finds out what is true. Boxed, since it leads to itself.
    fn supervise_again(self: Arc<Self>, id: VmId, name: VmName) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Not faster than somebody can read the log.
            sleep(Duration::from_secs(1)).await;
            match self.store.vm(&name).await {
                Ok(Some(row)) if row.id == id => drop(self.supervise(&row).await),
                Ok(_) => self.tools.handles.forget(id, &name),
                Err(error) => {
                    error!(vm = %name, %error, "it is not supervised until the server is restarted");
                    self.tools.handles.forget(id, &name);
                }
            }
        })
    }

    /// What new VMs are forked from is made while nobody waits for it; until then they boot.
    fn prepare_forks(self: &Arc<Self>) {
        let (engine, spec, closing) = (self.engine.clone(), self.settings.vm.clone(), self.closing.clone());
        self.tasks.spawn(closing.run_until_cancelled_owned(async move {
            if let Err(error) = engine.prepare(&spec).await {
                warn!(%error, "new VMs boot instead of being forked");
            }
        }));
    }

    /// What the engine has and the store does not know is left alone and named in the log: it may be the only copy of
    /// somebody's work, for example after a restored backup.
    async fn name_strangers(&self) {
        let known: Vec<_> = self.handles_where(|_| true).into_iter().map(|handle| handle.id).collect();
        match self.engine.list().await {
            Ok(all) => {
                for id in all.into_iter().filter(|id| !known.contains(id)) {
                    warn!(%id, "the engine has a VM that the database does not know; it is left alone");
                }
            }
            Err(error) => warn!(%error, "the engine's VMs cannot be listed"),
        }
    }
}

/// What an engine that cannot tell has is found out by its own refusals.
async fn memory_of_the_host(engine: &dyn Engine) -> u64 {
    match engine.room().await {
        Ok(room) => room.memory,
        Err(error) => {
            warn!(%error, "how much memory there is for VMs is not known");
            u64::MAX
        }
    }
}
