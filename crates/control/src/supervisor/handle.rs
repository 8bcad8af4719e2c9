//! What the rest of control holds of a VM: the way to its supervisor, and the list of them all.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use berth_engine::{EngineError, Grown, Home};
use berth_model::{VmId, VmName};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Answer, disk::Asker};
use crate::{
    activity::Activity,
    history::History,
    lifecycle::{Refusal, State},
    room::Queued,
    status::{Status, status},
    why::Outlook,
};

/// What a supervisor is asked.
pub(super) enum Command {
    Start(Answer),
    /// Starts it from its disk, whatever it has in a sleep.
    Boot(Answer),
    Sleep(Answer),
    /// Somebody else needs its memory: answered with whether it sleeps now.
    GiveWay(Answer),
    Stop(Answer),
    /// Gives it a new disk.
    Rebuild(Home, Answer),
    /// Its disk is to have so many bytes.
    Resize(u64, Asker),
    Remove(Answer),
    /// The account's keys are others than a moment ago. Answered when the guest has them, or cannot have them now.
    PushKeys(oneshot::Sender<()>),
    /// Somebody is about to connect. Answered like [`Command::PushKeys`].
    AwaitKeys(oneshot::Sender<()>),
    /// A connection failed in a way that says the state is out of date. Answered after a look.
    LookAgain(oneshot::Sender<()>),
    /// What holds it awake is another than a moment ago.
    Policy(Policy),
}

/// What people have decided about a VM's sleep; kept in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) always_on: bool,
    pub(crate) snoozed_until: Option<OffsetDateTime>,
}

/// What the rest of control holds of a VM. Cheap to clone; the supervisor ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) id: VmId,
    pub(crate) name: VmName,
    pub(crate) activity: Arc<Activity>,
    pub(crate) history: Arc<History>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) state: watch::Receiver<State>,
    pub(super) queued: watch::Receiver<Option<Queued>>,
    pub(super) outlook: watch::Receiver<Outlook>,
    pub(super) behind: Arc<AtomicBool>,
    pub(super) not_rebuilt: watch::Receiver<Option<String>>,
}

impl Handle {
    /// The state as last known.
    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// The state, and every change of it.
    pub(crate) fn states(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Waits until it is in a state for which this holds; an error where there is no such VM any more.
    pub(crate) async fn reaches(&self, holds: impl FnMut(&State) -> bool) -> Result<(), ()> {
        let mut state = self.state.clone();
        let reached = state.wait_for(holds).await;
        reached.map(drop).map_err(drop)
    }

    /// What a person is told that it is doing.
    pub(crate) fn status(&self) -> Status {
        status(&self.state.borrow())
    }

    /// What the idle policy said last.
    pub(crate) fn outlook(&self) -> Outlook {
        self.outlook.borrow().clone()
    }

    /// Why its last rebuild failed, if it did since the server was started: a clause without a full stop.
    pub(crate) fn not_rebuilt(&self) -> Option<String> {
        self.not_rebuilt.borrow().clone()
    }

    /// What it waits for, if it waits for room on the host.
    pub(crate) fn queued(&self) -> watch::Receiver<Option<Queued>> {
        self.queued.clone()
    }

    /// Waits until the VM runs, waking or booting it if need be. Dropping the future does not take the start back.
    pub(crate) async fn start(&self) -> Result<(), Refusal> {
        self.ask(Command::Start).await
    }

    /// The same, but a VM that sleeps loses what is in its memory.
    pub(crate) async fn boot(&self) -> Result<(), Refusal> {
        self.ask(Command::Boot).await
    }

    /// Waits until the VM sleeps, whatever holds it awake but a connection that is being made.
    pub(crate) async fn sleep(&self) -> Result<(), Refusal> {
        self.ask(Command::Sleep).await
    }

    /// Has the VM sleep if nobody uses it, and tells whether it does.
    pub(crate) async fn give_way(&self) -> bool {
        self.ask(Command::GiveWay).await.is_ok()
    }

    /// Waits until the VM is off.
    pub(crate) async fn stop(&self) -> Result<(), Refusal> {
        self.ask(Command::Stop).await
    }

    /// Asks for a new disk, which is written down. What is given waits until the VM has it, or keeps the one that it has;
    /// an error of its own says that the supervisor is gone, and that the next one does it.
    pub(crate) async fn rebuild(&self, home: Home) -> oneshot::Receiver<Result<(), Refusal>> {
        let (answer, answered) = oneshot::channel();
        let _gone = self.commands.send(Command::Rebuild(home, answer)).await;
        answered
    }

    /// Tells that the disk is to have so many bytes, which is written down. What is given waits until it is known when the
    /// guest has them; an error of its own says that the supervisor is gone.
    pub(crate) async fn resize(&self, disk: u64) -> oneshot::Receiver<Result<Grown, Refusal>> {
        let (asker, answered) = oneshot::channel();
        let _gone = self.commands.send(Command::Resize(disk, asker)).await;
        answered
    }

    /// Waits until nothing is left of the VM.
    pub(crate) async fn remove(&self) -> Result<(), Refusal> {
        self.ask(Command::Remove).await
    }

    /// Brings the account's present keys into the guest. Does nothing for a VM that does not run.
    pub(crate) async fn push_keys(&self) {
        self.tell(Command::PushKeys).await;
    }

    /// Whether the guest runs and has not taken the account's present keys when that was last tried.
    pub(crate) fn is_behind_with_keys(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Waits for keys that are on their way into the guest.
    pub(crate) async fn await_keys(&self) {
        self.tell(Command::AwaitKeys).await;
    }

    /// Asks the engine for the present state.
    pub(crate) async fn look_again(&self) {
        self.tell(Command::LookAgain).await;
    }

    /// Has the idle policy look again, with what was just decided.
    pub(crate) async fn set_policy(&self, policy: Policy) {
        let _removed = self.commands.send(Command::Policy(policy)).await;
    }

    async fn tell(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (answer, answered) = oneshot::channel();
        if self.commands.send(command(answer)).await.is_ok() {
            let _ = answered.await;
        }
    }

    async fn ask(&self, command: impl FnOnce(Answer) -> Command) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        if self.commands.send(command(answer)).await.is_err() {
            return Err(self.gone());
        }
        answered.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Why nobody answers: the VM is removed, or its supervisor has failed and is about to be replaced.
    fn gone(&self) -> Refusal {
        match self.state() {
            State::Removed => Refusal::Removed,
            _ => Refusal::Engine(EngineError::Broken {
                reason: "Berth met an error; its log says more".into(),
            }),
        }
    }
}

/// The supervisors of all VMs that are not removed.
#[derive(Default)]
pub(crate) struct Handles {
    vms: Mutex<BTreeMap<VmName, Handle>>,
    changes: watch::Sender<()>,
}

impl Handles {
    pub(crate) fn get(&self, vm: &VmName) -> Option<Handle> {
        self.lock().get(vm).cloned()
    }

    /// Those for which `which` holds.
    pub(crate) fn filter(&self, which: impl Fn(&VmName) -> bool) -> Vec<Handle> {
        self.lock().values().filter(|handle| which(&handle.name)).cloned().collect()
    }

    /// Looks at each of them, under the lock of them all: for a look that takes no longer than that of a field.
    pub(crate) fn each(&self, look: impl FnMut(&Handle)) {
        self.lock().values().for_each(look);
    }

    pub(crate) fn insert(&self, handle: Handle) {
        self.lock().insert(handle.name.clone(), handle);
        self.changes.send_replace(());
    }

    /// Drops the handle of a VM, unless the name is a newer VM's by now.
    pub(crate) fn forget(&self, id: VmId, name: &VmName) {
        let mut handles = self.lock();
        if handles.get(name).is_some_and(|handle| handle.id == id) {
            handles.remove(name);
            self.changes.send_replace(());
        }
    }

    /// Told when a VM comes or goes.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<VmName, Handle>> {
        self.vms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
