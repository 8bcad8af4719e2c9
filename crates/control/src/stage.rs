//! A terminal on the website that others may watch: who is there, and what each of them may. In memory alone.
//!
//! ```text
//!   pages of the owner ──found, resized──► Stage ──state──► those pages: who watches, who types
//!              share, right, end ────────►   │   ──state──► those who watch: may they type, how large is it, is it over
//! ```
//!
//! Concurrency: a stage is one value that everybody may change at any time, each change under its lock, and that everybody
//! follows. It lives as long as somebody holds it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use berth_model::{AccountName, Secret, VmId, VmName};
use berth_store::SecretHash;
use tokio::sync::watch;

use crate::{
    actor::Actor,
    watching::{WatchEnd, WatchError, WatchRight, WatchView, WatcherInfo},
};

/// So many may watch one terminal at once.
pub(crate) const MAX_WATCHERS: usize = 8;
/// So many terminals may one account have shared at once.
pub(crate) const MAX_SHARED: usize = 16;

/// The terminals that are open in pages or shared, by VM, user and number.
#[derive(Default)]
pub(crate) struct Stages {
    stages: Mutex<HashMap<(VmId, AccountName, u8), Weak<Stage>>>,
}

/// See the module.
pub(crate) struct Stage {
    pub(crate) vm: VmName,
    pub(crate) id: VmId,
    /// Whose shell it is: guests of the VM have terminals of their own.
    pub(crate) user: AccountName,
    pub(crate) number: u8,
    pub(crate) state: watch::Sender<State>,
}

#[derive(Default)]
pub(crate) struct State {
    /// How many pages of the owner show it.
    pages: usize,
    columns: u16,
    rows: u16,
    /// Which shell it is: another one under the same number is another terminal.
    shell: Option<String>,
    share: Option<Share>,
    /// What was shared last, and why it is not any more.
    over: Option<(SecretHash, WatchEnd)>,
}

/// What lets others watch.
pub(crate) struct Share {
    pub(crate) link: Secret<String>,
    pub(crate) hash: SecretHash,
    pub(crate) right: WatchRight,
    /// Whose it is.
    pub(crate) by: AccountName,
    pub(crate) actor: Actor,
    watchers: BTreeMap<u64, WatcherInfo>,
    joined: u64,
}

impl Stages {
    /// The stage of a terminal, made where there is none.
    pub(crate) fn of(&self, vm: &VmName, id: VmId, user: &AccountName, number: u8) -> Arc<Stage> {
        let mut stages = self.lock();
        if let Some(stage) = stages.get(&(id, user.clone(), number)).and_then(Weak::upgrade) {
            return stage;
        }
        stages.retain(|_, stage| stage.strong_count() > 0);
        let state = watch::Sender::new(State::default());
        let stage = Arc::new(Stage { vm: vm.clone(), id, user: user.clone(), number, state });
        stages.insert((id, user.clone(), number), Arc::downgrade(&stage));
        stage
    }

    /// What this link lets watch, if it does.
    pub(crate) fn by_link(&self, hash: SecretHash) -> Option<Arc<Stage>> {
        let stages = self.lock();
        stages.values().filter_map(Weak::upgrade).find(|stage| stage.state.borrow().has(hash))
    }

    /// Whether an account has as many shared as it may.
    pub(crate) fn has_enough(&self, account: &AccountName) -> bool {
        let stages = self.lock();
        let of_account = |stage: &Arc<Stage>| {
            stage.state.borrow().share.as_ref().is_some_and(|share| share.by == *account)
        };
        stages.values().filter_map(Weak::upgrade).filter(of_account).count() >= MAX_SHARED
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(VmId, AccountName, u8), Weak<Stage>>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether this link lets watch it.
    pub(crate) fn has(&self, hash: SecretHash) -> bool {
        self.share.as_ref().is_some_and(|share| share.hash == hash)
    }

    /// Whether a page of the owner shows it.
    pub(crate) fn is_seen(&self) -> bool {
        self.pages > 0
    }

    /// Whether it is known which shell it is.
    pub(crate) fn has_shell(&self) -> bool {
        self.shell.is_some()
    }

    /// What is shared; `None` where nothing is.
    pub(crate) fn view(&self) -> Option<WatchView> {
        let share = self.share.as_ref()?;
        Some(WatchView {
            by: share.by.clone(),
            right: share.right,
            here: self.is_seen(),
            columns: self.columns,
            rows: self.rows,
            watchers: share.watchers.values().cloned().collect(),
        })
    }

    /// The same for who came by this link, or why it is over.
    pub(crate) fn view_of(&self, hash: SecretHash) -> Result<WatchView, WatchEnd> {
        let over = match &self.over {
            Some((last, why)) if *last == hash => *why,
            _ => WatchEnd::Owner,
        };
        if self.has(hash) { self.view().ok_or(over) } else { Err(over) }
    }

    /// What is shared, for the owner.
    pub(crate) fn link(&self) -> Option<Secret<String>> {
        self.share.as_ref().map(|share| share.link.clone())
    }
}

impl Stage {
    /// A page of the owner shows it. Ends what was shared of another shell under this number.
    pub(crate) fn shown(&self, shell: Option<&str>, first: bool) -> Option<Share> {
        let mut ended = None;
        self.state.send_modify(|state| {
            state.pages += usize::from(first);
            if state.shell.as_deref() != shell {
                ended = state.end(WatchEnd::Shell);
                state.shell = shell.map(str::to_owned);
            }
        });
        ended
    }

    /// A page that showed it is gone.
    pub(crate) fn hidden(&self) {
        self.state.send_modify(|state| state.pages -= 1);
    }

    pub(crate) fn resized(&self, columns: u16, rows: u16) {
        self.state.send_if_modified(|state| {
            let changed = (state.columns, state.rows) != (columns, rows);
            (state.columns, state.rows) = (columns, rows);
            changed
        });
    }

    /// Lets others watch it.
    pub(crate) fn share(
        &self,
        link: Secret<String>,
        right: WatchRight,
        by: AccountName,
        actor: Actor,
    ) -> SecretHash {
        let hash = SecretHash::of(&link);
        let share = Share { link, hash, right, by, actor, watchers: BTreeMap::new(), joined: 0 };
        self.state.send_modify(|state| state.share = Some(share));
        hash
    }

    /// Lets those who watch do this; tells whether they might something else before, `None` where nobody may watch.
    pub(crate) fn set_right(&self, right: WatchRight) -> Option<bool> {
        let mut changed = None;
        self.state.send_if_modified(|state| {
            let Some(share) = &mut state.share else { return false };
            let before = std::mem::replace(&mut share.right, right);
            changed = Some(before != right);
            before != right
        });
        changed
    }

    /// Ends what is shared, or what is by this link; gives what it was.
    pub(crate) fn end(&self, only: Option<SecretHash>, why: WatchEnd) -> Option<Share> {
        let mut ended = None;
        self.state.send_if_modified(|state| {
            if only.is_none_or(|hash| state.has(hash)) {
                ended = state.end(why);
            }
            ended.is_some()
        });
        ended
    }

    /// Somebody comes by a link; gives their number.
    pub(crate) fn join(&self, hash: SecretHash, account: &AccountName) -> Result<u64, WatchError> {
        let mut joined = Err(WatchError::Gone);
        self.state.send_if_modified(|state| {
            let Some(share) = state.share.as_mut().filter(|share| share.hash == hash) else { return false };
            if share.watchers.len() >= MAX_WATCHERS {
                joined = Err(WatchError::Full);
                return false;
            }
            share.joined += 1;
            share.watchers.insert(share.joined, WatcherInfo { account: account.clone(), typed: 0 });
            joined = Ok(share.joined);
            true
        });
        joined
    }

    /// They are gone.
    pub(crate) fn leave(&self, hash: SecretHash, number: u64) {
        self.state.send_if_modified(|state| {
            let share = state.share.as_mut().filter(|share| share.hash == hash);
            share.is_some_and(|share| share.watchers.remove(&number).is_some())
        });
    }

    /// They have typed something.
    pub(crate) fn typed(&self, hash: SecretHash, number: u64) {
        self.state.send_if_modified(|state| {
            let share = state.share.as_mut().filter(|share| share.hash == hash);
            let watcher = share.and_then(|share| share.watchers.get_mut(&number));
            watcher.map(|watcher| watcher.typed += 1).is_some()
        });
    }
}

impl State {
    fn end(&mut self, why: WatchEnd) -> Option<Share> {
        let share = self.share.take()?;
        self.over = Some((share.hash, why));
        Some(share)
    }
}

#[cfg(test)]
mod tests {
    use berth_store::{Role, Way};

    use super::*;

    fn stage(stages: &Stages) -> Arc<Stage> {
        stages.of(&"vm-0.alice.koding".parse().unwrap(), VmId::random(), &"alice".parse().unwrap(), 1)
    }

    fn shared(stage: &Stage, right: WatchRight) -> SecretHash {
        let alice: AccountName = "alice".parse().unwrap();
        let actor = Actor::account(alice.clone(), Role::Member, Way::Web, [192, 0, 2, 1].into());
        stage.share(crate::web_session::new_secret(), right, alice, actor)
    }

    #[test]
    fn a_link_leads_to_one_terminal_for_as_long_as_it_is_shared() {
        let stages = Stages::default();
        let stage = stage(&stages);
        let hash = shared(&stage, WatchRight::Read);
        assert!(stages.by_link(hash).is_some_and(|found| found.id == stage.id));
        let other = shared(&stage, WatchRight::Read);
        assert!(stages.by_link(hash).is_none(), "another link took its place");
        stage.end(Some(hash), WatchEnd::Owner);
        assert!(stages.by_link(other).is_some(), "the end of what is over already ends nothing");
        stage.end(None, WatchEnd::Owner);
        assert!(stages.by_link(other).is_none());
        assert_eq!(stage.state.borrow().view_of(other), Err(WatchEnd::Owner));
        drop(stage);
        drop(super::tests::stage(&stages));
        assert!(stages.lock().len() <= 1, "what nobody holds is forgotten");
    }

    #[test]
    fn another_shell_under_the_number_is_not_what_was_shared() {
        let stages = Stages::default();
        let stage = stage(&stages);
        assert!(stage.shown(Some("$1 100"), true).is_none());
        let hash = shared(&stage, WatchRight::Type);
        stage.hidden();
        assert!(stage.shown(Some("$1 100"), true).is_none());
        assert!(stage.state.borrow().view_of(hash).unwrap().here);
        stage.hidden();
        assert!(stage.shown(Some("$1 200"), true).is_some());
        assert_eq!(stage.state.borrow().view_of(hash), Err(WatchEnd::Shell));
    }

    #[test]
    fn so_many_watch_and_no_more() {
        let stages = Stages::default();
        let stage = stage(&stages);
        let (hash, bob) = (shared(&stage, WatchRight::Read), "bob".parse().unwrap());
        let numbers: Vec<u64> = (0..MAX_WATCHERS).map(|_| stage.join(hash, &bob).unwrap()).collect();
        assert!(matches!(stage.join(hash, &bob), Err(WatchError::Full)));
        stage.leave(hash, numbers[0]);
        let again = stage.join(hash, &bob).unwrap();
        assert!(!numbers.contains(&again));
        stage.typed(hash, again);
        let view = stage.state.borrow().view_of(hash).unwrap();
        assert_eq!(view.watchers.iter().map(|watcher| watcher.typed).sum::<u64>(), 1);
        assert_eq!(stage.set_right(WatchRight::Read), Some(false));
        assert_eq!(stage.set_right(WatchRight::Type), Some(true));
        let other = shared(&stage, WatchRight::Read);
        assert!(matches!(stage.join(hash, &bob), Err(WatchError::Gone)), "the link before");
        assert!(stage.state.borrow().view_of(other).unwrap().watchers.is_empty());
    }
}
