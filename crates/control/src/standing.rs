//! How a server gives its work to a newer one, and what it does afterwards for those who are connected by it.
//!
//! ```text
//!            begin_hand_over            leave
//!   Serves ──────────────────► Waits ──────────► Left: follows the store, until the last connection ends
//!      ▲                         │
//!      └────────── stay ─────────┘  the newer one did not come up: nothing has happened
//! ```
//!
//! Nobody is let in while a server *waits*: who comes stays in the listener's queue until this one or the newer one takes them
//! up. From then on it decides nothing about VMs: its supervisors look, and start what an open connection wants, which an
//! engine takes from any number of servers. Whatever people change, the newer one does.
//!
//! Who has *left* learns from the store what was decided by the newer server. Everything that lets somebody in is a fact there;
//! at each change each of them that is in use is looked at again, and what is not as it was ends what it let in.

use std::{collections::HashMap, sync::Arc, time::Duration};

use berth_model::{Fingerprint, VmId, VmName};
use berth_store::{Changes, KeyId, PortRow};
use tokio::{
    sync::{RwLockReadGuard, watch},
    time::{Instant, sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{Control, error::Error, lifecycle::State, supervisor::exchange_uses};

/// Which of two servers this is, or that there is only one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It serves: it lets in who comes.
    #[default]
    Serves,
    /// It is about to give its work to another one, or to be given it: who comes waits.
    Waits,
    /// Another one serves. It has connections that are open yet.
    Left,
}

/// Where people come in: it is open while the server serves, and they wait before it while the server does.
#[derive(Debug, Clone)]
pub struct Entrance(watch::Receiver<Standing>);

impl Entrance {
    /// What `accept` gives next, which may be dropped at any time; `None` once the server has left.
    pub async fn next<T, F: Future<Output = T>>(&mut self, accept: impl Fn() -> F) -> Option<T> {
        loop {
            // Without a control nobody decides anything any more.
            let stands = self.0.wait_for(|stands| *stands != Standing::Waits).await.map(|stands| *stands);
            if matches!(stands, Ok(Standing::Left)) {
                return None;
            }
            tokio::select! {
                biased;
                Ok(_) = self.0.wait_for(|stands| *stands != Standing::Serves) => {}
                accepted = accept() => return Some(accepted),
            }
        }
    }

    /// Waits until the server has left.
    pub async fn shut(&mut self) {
        if self.0.wait_for(|stands| *stands == Standing::Left).await.is_err() {
            std::future::pending().await
        }
    }
}

/// What is under way when a server is to be replaced is over within this time, or it is not replaced.
const QUIET_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A key that is removed opens nothing a second later.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);
/// So often is written down what was used by connections of a server that has left.
const TELL_USES_EVERY: Duration = Duration::from_secs(2);

/// What let people in when it was last looked at.
#[derive(Default)]
struct Grounds {
    keys: HashMap<Fingerprint, KeyId>,
    ports: HashMap<VmId, Vec<PortRow>>,
}

impl Control {
    /// Through which people are to be let in.
    #[must_use]
    pub fn entrance(&self) -> Entrance {
        Entrance(self.tools.standing.subscribe())
    }

    /// To be held by a change that people ask for; `None` where another server does that. While it is not known which of them
    /// does, this waits.
    pub(crate) async fn may_change(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let mut standing = self.tools.standing.subscribe();
        loop {
            let stands = standing.wait_for(|stands| *stands != Standing::Waits).await.map(|stands| *stands);
            if !matches!(stands, Ok(Standing::Serves)) {
                return None;
            }
            let changing = self.changing.read().await;
            if self.tools.decides() {
                return Some(changing);
            }
        }
    }

    /// For a server that is about to be given the work of another one: until [`Control::stay`] nobody is let in by it.
    pub fn wait_for_work(&self) {
        self.tools.standing.send_replace(Standing::Waits);
    }

    /// Lets nobody in and changes nothing from now on, and returns when all changes that were under way are done.
    ///
    /// # Errors
    /// Something takes longer than people should wait for: it serves on.
    pub async fn begin_hand_over(&self) -> Result<(), Error> {
        self.tools.standing.send_replace(Standing::Waits);
        let quiet = async {
            drop(self.changing.write().await);
            while self.busy().is_some() {
                sleep(LOOK_AGAIN).await;
            }
        };
        if timeout(QUIET_WITHIN, quiet).await.is_ok() {
            return Ok(());
        }
        let busy = self.busy();
        self.stay().await;
        Err(Error::NotQuiet(busy))
    }

    /// A VM to which something is done that two servers must not do at once.
    fn busy(&self) -> Option<VmName> {
        let mut found = None;
        self.tools.handles.each(|handle| {
            let busy = match handle.state() {
                State::FallingAsleep { .. }
                | State::Stopping { .. }
                | State::Rebuilding { .. }
                | State::Removing { .. } => true,
                // A start goes on by itself, whoever waits for it.
                State::Starting
                | State::Waking
                | State::Running
                | State::Off { .. }
                | State::Asleep { .. }
                | State::Removed => false,
            };
            if busy {
                found.get_or_insert_with(|| handle.name.clone());
            }
        });
        found
    }

    /// Serves, as if nothing had happened, or from now on.
    pub async fn stay(&self) {
        self.web.public.forget();
        self.tools.standing.send_replace(Standing::Serves);
        for handle in self.handles_where(|_| true) {
            handle.look_again().await;
        }
    }

    /// Has left: another server serves. What it decides is followed from here on, for those who are connected by this one.
    ///
    /// # Errors
    /// The store fails, and nothing is followed: what is open has to be ended.
    pub async fn leave(self: &Arc<Self>) -> Result<(), Error> {
        self.tools.standing.send_replace(Standing::Left);
        self.web.public.forget();
        // From before the look at what there is, so that no change is missed.
        let changes = self.store.changes().await?;
        let mut grounds = Grounds::default();
        self.look_at_grounds(&mut grounds).await?;
        let (control, closing) = (Arc::downgrade(self), self.closing.clone());
        self.tasks.spawn(closing.run_until_cancelled_owned(async move {
            let mut follower = Follower { changes, grounds, dirty: false, told_uses: Instant::now() };
            loop {
                sleep(FOLLOW_EVERY).await;
                let Some(control) = control.upgrade() else { return };
                follower.follow(&control).await;
            }
        }));
        Ok(())
    }

    /// Ends what was let in by something that is not as it was. What is seen for the first time is only noted: it was let in by
    /// what the store has.
    async fn look_at_grounds(&self, grounds: &mut Grounds) -> Result<(), Error> {
        for key in self.revocations.keys() {
            match self.store.key_by_fingerprint(&key).await? {
                Some(row) if *grounds.keys.entry(key).or_insert(row.id) == row.id => {}
                _ => self.revocations.revoke(&key),
            }
        }
        // A VM that is started for somebody is told whom to trust, too.
        self.team_cas_changed().await?;
        self.tools.host_cas.read_again(&self.store).await?;
        for certificate in self.certificates.keys() {
            let account = self.store.account(&certificate.account).await?;
            if account.is_none_or(|account| account.blocked_at.is_some()) {
                self.certificates.revoke(&certificate);
            }
        }
        for (key, way) in self.shared.grounds() {
            // Who is about to be let in may have been found before what has changed: they are to come again.
            if way.is_none() || self.way_in(&key.0, &key.1).await? != way {
                self.shared.revoke(&key);
            }
        }
        for hash in self.web.sessions.keys() {
            if self.live_session(hash).await?.is_none() && self.store.token(hash).await?.is_none() {
                self.web.sessions.revoke(&hash);
            }
        }
        for vm in self.web.sites.keys() {
            let ports = self.store.ports(vm).await?;
            if *grounds.ports.entry(vm).or_insert_with(|| ports.clone()) != ports {
                self.web.sites.revoke(&vm);
            }
        }
        Ok(())
    }
}

/// What a server that has left does.
struct Follower {
    changes: Changes,
    grounds: Grounds,
    /// What has changed was not looked at yet.
    dirty: bool,
    told_uses: Instant,
}

impl Follower {
    async fn follow(&mut self, control: &Control) {
        match self.changes.any().await {
            Ok(any) => self.dirty |= any,
            Err(error) => {
                // What cannot be known may have happened.
                error!(%error, "whether anything was decided cannot be seen; what is open ends");
                control.end_all();
            }
        }
        if self.dirty {
            match control.look_at_grounds(&mut self.grounds).await {
                Ok(()) => self.dirty = false,
                Err(error) => warn!(%error, "what was decided cannot be read; trying again"),
            }
        }
        if self.told_uses.elapsed() >= TELL_USES_EVERY {
            self.told_uses = Instant::now();
            for handle in control.handles_where(|_| true) {
                exchange_uses(&control.store, handle.id, &handle.name, &handle.activity).await;
            }
        }
    }
}

impl Control {
    fn end_all(&self) {
        info!("all that is open ends");
        self.revocations.revoke_where(|_| true);
        self.certificates.revoke_where(|_| true);
        self.shared.revoke_where(|_| true);
        self.web.sessions.revoke_where(|_| true);
        self.web.sites.revoke_where(|_| true);
    }
}
