//! What a supervisor has under way: the engine's verbs, with what has to be written down before and after.

use std::{sync::Arc, time::Duration};

use berth_engine::{EngineError, Guest, Home, Observed, VmSpec};
use berth_model::{VmId, VmName};
use berth_store::{Noted, Store, VmRow};
use time::OffsetDateTime;
use tokio::{sync::watch, time::Instant};
use tracing::{error, warn};

use super::Tools;
use crate::{
    activity::Activity,
    guest::{broken, guest_of},
    idle::{Use, UseKind},
    lifecycle::{Event, State},
    metrics::CameUp,
    room::Queued,
    why::SleptFor,
};

/// How often a VM that falls asleep or wakes while it is to be stopped is looked at again.
const STOP_TRIES: u32 = 5;

/// How long after the store has failed it is asked again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// Who has a VM stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopBy {
    Person,
    /// It was found on its way down.
    Itself,
}

/// What an operation works with.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) tools: Arc<Tools>,
    pub(super) id: VmId,
    pub(super) name: VmName,
    pub(super) spec: VmSpec,
    pub(super) activity: Arc<Activity>,
    pub(super) queued: Arc<watch::Sender<Option<Queued>>>,
}

impl Job {
    pub(super) async fn start(self) -> Event {
        Event::StartEnded(self.try_start().await)
    }

    pub(super) async fn boot(self) -> Event {
        let forgotten = self.tools.engine.forget_sleep(&self.id).await;
        Event::StartEnded(match forgotten {
            Ok(()) => self.try_start().await,
            Err(error) => Err(error),
        })
    }

    pub(super) async fn sleep(self, why: SleptFor) -> Event {
        let used = self.activity.used();
        let result = self.tools.engine.sleep(&self.id).await;
        if result.is_ok() {
            self.tools.metrics.slept();
            self.write_used(used.as_ref()).await;
            let what = serde_json::to_string(&why).unwrap_or_default();
            let noted = Noted { at: self.tools.settings.clock.now(), what };
            if let Err(error) = self.tools.store.set_slept(self.id, &noted).await {
                warn!(vm = %self.name, %error, "when it fell asleep was not written down");
            }
        }
        Event::SleepEnded(result)
    }

    pub(super) async fn stop(self, by: StopBy) -> Event {
        Event::StopEnded(self.try_stop(by).await)
    }

    pub(super) async fn rebuild(self, home: Home) -> Event {
        let result = self.try_rebuild(home).await;
        let done = result.is_ok().then(|| self.tools.settings.clock.now());
        // Until it is written down that it is over nobody enters: it would be done again, to what they have made by then.
        while let Err(error) = self.tools.store.end_rebuilding(self.id, done).await {
            error!(vm = %self.name, %error, "the end of its rebuild was not written down; trying again");
            tokio::time::sleep(WRITE_AGAIN).await;
        }
        Event::RebuildEnded(result)
    }

    pub(super) async fn remove(self) -> Event {
        Event::RemoveEnded(self.try_remove().await)
    }

    pub(super) async fn push_keys(self) -> Result<(), EngineError> {
        let Guest { authorized_keys, others, host_certificate, .. } =
            guest_of(&self.tools, self.id, &self.name).await?;
        let engine = &self.tools.engine;
        engine.set_authorized_keys(&self.id, &authorized_keys, &others, &host_certificate).await
    }

    /// Writes down when it was last used, so that a restart of the server does not begin to count anew.
    pub(super) async fn write_used(&self, used: Option<&Use>) {
        write_used(&self.tools.store, self.id, &self.name, used).await;
    }

    /// See [`exchange_uses`].
    pub(super) async fn exchange_uses(&self) -> bool {
        exchange_uses(&self.tools.store, self.id, &self.name, &self.activity).await
    }

    async fn try_start(&self) -> Result<(), EngineError> {
        let guest = guest_of(&self.tools, self.id, &self.name).await?;
        let observed = self.tools.engine.observe(&self.id).await?;
        let row = self.row().await?;
        if observed == Observed::Missing && has_run(&row) {
            // A new, empty disk in its place would be taken for the loss of everything.
            return Err(EngineError::Broken { reason: "its disk is missing on the server".into() });
        }
        if row.turned_off {
            self.tools.store.set_turned_off(self.id, false).await.map_err(broken)?;
        }
        self.enter_room().await?;
        let mut how = came_up(&observed);
        let began = Instant::now();
        self.tools.engine.create(&self.id, &self.spec).await?;
        let boots = matches!(observed, Observed::Missing | Observed::Off { .. })
            && matches!(self.tools.engine.observe(&self.id).await?, Observed::Off { .. });
        if boots {
            how = how.map(|_| CameUp::Booted);
        }
        let started = self.tools.engine.start(&self.id, &self.spec, &guest).await;
        if let Some(how) = how {
            match &started {
                Ok(()) => self.tools.metrics.came_up(how, began.elapsed()),
                Err(_) => self.tools.metrics.did_not_come_up(how),
            }
        }
        started?;
        if observed == Observed::Missing {
            self.activity.note(UseKind::Started);
            self.write_used(self.activity.used().as_ref()).await;
        }
        let took = began.elapsed();
        if let Observed::Asleep { .. } = observed
            && let Err(error) = self.tools.store.set_last_wake(self.id, took).await
        {
            warn!(vm = %self.name, %error, "the time of the wake was not written down");
        }
        if boots {
            // What the next person who waits is told to expect; not worth failing for.
            if let Err(error) = self.tools.store.set_last_boot(self.id, took).await {
                warn!(vm = %self.name, %error, "the time of the boot was not written down");
            }
        }
        Ok(())
    }

    async fn row(&self) -> Result<VmRow, EngineError> {
        self.tools.store.vm(&self.name).await.map_err(broken)?.ok_or(EngineError::Missing)
    }

    async fn enter_room(&self) -> Result<(), EngineError> {
        if !self.tools.decides() {
            // The one that does sees it in a moment; what there really is, the engine looks at.
            return Ok(());
        }
        let give_way = || longest_idle_gives_way(&self.tools, self.id);
        self.tools.room.enter(self.id, self.spec.memory, &self.queued, give_way).await
    }

    /// A guest that sleeps is woken first: what its programs have not saved is saved by a shutdown only.
    async fn try_stop(&self, by: StopBy) -> Result<(), EngineError> {
        let patience = self.tools.settings.stop_patience;
        if by == StopBy::Person {
            self.tools.store.set_turned_off(self.id, true).await.map_err(broken)?;
        }
        for _ in 0..STOP_TRIES {
            if matches!(
                self.tools.engine.observe(&self.id).await?,
                Observed::Asleep { .. } | Observed::Waking
            ) {
                let guest = guest_of(&self.tools, self.id, &self.name).await?;
                self.enter_room().await?;
                self.tools.engine.start(&self.id, &self.spec, &guest).await?;
            }
            match self.tools.engine.stop(&self.id, patience).await {
                // It fell asleep in the meantime.
                Err(EngineError::NotRunning) => tokio::time::sleep(Duration::from_millis(50)).await,
                ended => return ended,
            }
        }
        Err(EngineError::NotRunning)
    }

    async fn try_rebuild(&self, home: Home) -> Result<(), EngineError> {
        let guest = guest_of(&self.tools, self.id, &self.name).await?;
        let observed = self.tools.engine.observe(&self.id).await?;
        if observed == Observed::Missing {
            if home == Home::Keep && has_run(&self.row().await?) {
                let reason = "its disk is missing on the server, and its home with it".into();
                return Err(EngineError::Broken { reason });
            }
            return self.tools.engine.create(&self.id, &self.spec).await;
        }
        // It runs while its home is copied, and one that runs has its place.
        if home == Home::Keep && observed != Observed::Running {
            self.enter_room().await?;
        }
        let patience = self.tools.settings.stop_patience;
        self.tools.engine.rebuild(&self.id, &self.spec, &guest, home, patience).await
    }

    async fn try_remove(&self) -> Result<(), EngineError> {
        self.tools.engine.remove(&self.id).await?;
        self.tools.store.finish_removing(self.id, OffsetDateTime::now_utc()).await.map(|_| ()).map_err(broken)
    }
}

/// Writes down when a VM was last used, so that a restart does not begin to count anew and another server knows; and learns
/// of what was used by the connections of another server. Gives whether that was later than what was known here.
pub(crate) async fn exchange_uses(store: &Store, id: VmId, name: &VmName, activity: &Activity) -> bool {
    // In the store times have milliseconds.
    let later = |one: OffsetDateTime, other: OffsetDateTime| one - other >= Duration::from_millis(1);
    let row = match store.vm(name).await {
        Ok(row) => row.filter(|row| row.id == id),
        Err(error) => {
            warn!(vm = %name, %error, "when it was last used was not read");
            None
        }
    };
    let ours = activity.used();
    let theirs = row
        .and_then(|row| row.used)
        .and_then(|noted| Some(Use { at: noted.at, what: serde_json::from_str(&noted.what).ok()? }));
    let Some(theirs) = theirs else {
        write_used(store, id, name, ours.as_ref()).await;
        return false;
    };
    match ours {
        Some(ours) if !later(theirs.at, ours.at) => {
            // Not again and again: each is a change that others look at.
            if later(ours.at, theirs.at) || ours.what != theirs.what {
                write_used(store, id, name, Some(&ours)).await;
            }
            false
        }
        _ => {
            activity.note_at(theirs.at, theirs.what);
            true
        }
    }
}

async fn write_used(store: &Store, id: VmId, name: &VmName, used: Option<&Use>) {
    let Some(Use { at, what }) = used else { return };
    let noted = Noted { at: *at, what: serde_json::to_string(what).unwrap_or_default() };
    if let Err(error) = store.set_used(id, &noted).await {
        warn!(vm = %name, %error, "when it was last used was not written down");
    }
}

/// How a VM that is found so comes up; `None` for one that is on its way already. One without a disk is forked where its
/// image is ready for that, and boots else.
fn came_up(observed: &Observed) -> Option<CameUp> {
    match observed {
        Observed::Missing => Some(CameUp::Forked),
        Observed::Off { .. } => Some(CameUp::Booted),
        Observed::Asleep { .. } => Some(CameUp::Woken),
        Observed::Waking | Observed::Booting | Observed::Running | Observed::Stopping => None,
    }
}

/// Whether it has had a disk on which something may be.
fn has_run(row: &VmRow) -> bool {
    row.last_boot.is_some() || row.used.is_some() || row.slept.is_some()
}

/// Asks the VMs that run, the longest idle one first, until one has gone to sleep.
async fn longest_idle_gives_way(tools: &Tools, but: VmId) -> bool {
    let mut others = tools.handles.filter(|_| true);
    others.retain(|handle| handle.id != but && handle.state() == State::Running);
    others.sort_by_cached_key(|handle| handle.activity.used().map(|used| used.at));
    for handle in others {
        if handle.give_way().await {
            return true;
        }
    }
    false
}
