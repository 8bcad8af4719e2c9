//! One task a VM: the only one that changes it.
//!
//! Owns the VM's live [`State`], the engine operation under way and the list of those who wait for an answer. Feeds
//! [`lifecycle::step`](crate::lifecycle::step) and carries out its effects; decides nothing itself.
//!
//! ```text
//!   Handle ──Command──► Supervisor ──verbs──► Engine
//!      ▲                    │  ▲                 │
//!      └── watch<State> ────┘  └── operation ends, guest changes by itself
//! ```
//!
//! Concurrency: all that a supervisor does happens in its task, one event after the other. At most one operation is
//! under way; a new one drops the old one. The queue of commands holds [`QUEUE`]; who finds it full waits.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use berth_engine::{Engine, EngineError, Observed, VmSpec};
use berth_model::{VmId, VmName};
use berth_store::{Store, VmRow};
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep},
};
use tracing::{info, warn};

use crate::{
    guest::{authorized_keys, broken, guest_of},
    lifecycle::{Effect, Event, Refusal, State, step},
    settings::Settings,
};

/// How many commands wait at most.
const QUEUE: usize = 64;
/// How long after a failed look at a VM, or a failed push of its keys, it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The longest pause between two tries.
const RETRY_AT_MOST: Duration = Duration::from_secs(60);

type Answer = oneshot::Sender<Result<(), Refusal>>;
type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum Command {
    Start(Answer),
    Stop(Answer),
    Remove(Answer),
    /// The account's keys are others than a moment ago. Answered when the guest has them, or cannot have them now.
    PushKeys(oneshot::Sender<()>),
    /// Somebody is about to connect. Answered like [`Command::PushKeys`].
    AwaitKeys(oneshot::Sender<()>),
    /// A connection failed in a way that says the state is out of date. Answered after a look.
    LookAgain(oneshot::Sender<()>),
}

/// What the rest of control holds of a VM. Cheap to clone; the supervisor ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) id: VmId,
    pub(crate) name: VmName,
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<State>,
}

impl Handle {
    /// The state as last known.
    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits until the VM runs, starting it if need be. Dropping the future does not take the start back.
    pub(crate) async fn start(&self) -> Result<(), Refusal> {
        self.ask(Command::Start).await
    }

    /// Waits until the VM is off.
    pub(crate) async fn stop(&self) -> Result<(), Refusal> {
        self.ask(Command::Stop).await
    }

    /// Waits until nothing is left of the VM.
    pub(crate) async fn remove(&self) -> Result<(), Refusal> {
        self.ask(Command::Remove).await
    }

    /// Brings the account's present keys into the guest. Does nothing for a VM that does not run.
    pub(crate) async fn push_keys(&self) {
        self.tell(Command::PushKeys).await;
    }

    /// Waits for keys that are on their way into the guest.
    pub(crate) async fn await_keys(&self) {
        self.tell(Command::AwaitKeys).await;
    }

    /// Asks the engine for the present state.
    pub(crate) async fn look_again(&self) {
        self.tell(Command::LookAgain).await;
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

/// What a supervisor works with.
pub(crate) struct Tools {
    pub(crate) store: Store,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) settings: Arc<Settings>,
}

/// The task's own state.
pub(crate) struct Supervisor {
    id: VmId,
    name: VmName,
    spec: VmSpec,
    tools: Arc<Tools>,
    commands: mpsc::Receiver<Command>,
    state: watch::Sender<State>,
    starts: Vec<Answer>,
    stops: Vec<Answer>,
    removes: Vec<Answer>,
    operation: Option<Pending<Event>>,
    watching: Option<Pending<Result<Observed, EngineError>>>,
    keys: Keys,
}

/// Whether the guest has the account's present keys.
struct Keys {
    /// They changed after they were last read for the guest.
    stale: bool,
    /// The push under way, or waiting for its turn after one that failed.
    push: Option<Pending<Result<(), EngineError>>>,
    /// How long the next push waits if this one fails.
    back_off: Duration,
    /// Who waits until the guest has them.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Supervisor {
    /// A supervisor for a VM whose state `observed` was just asked for, and the handle to it.
    pub(crate) fn new(tools: Arc<Tools>, row: &VmRow, observed: Observed) -> (Handle, Self) {
        let (id, name) = (row.id, row.name.clone());
        let spec = VmSpec { cpus: row.cpus, memory: row.memory, disk: row.disk };
        let (sender, commands) = mpsc::channel(QUEUE);
        let (first, effects) = State::first(observed);
        let (state, seen) = watch::channel(first);
        let handle = Handle { id, name: name.clone(), commands: sender, state: seen };
        let mut supervisor = Self {
            id,
            name,
            spec,
            tools,
            commands,
            state,
            starts: vec![],
            stops: vec![],
            removes: vec![],
            operation: None,
            watching: None,
            // A server that was away may have missed a change of the keys.
            keys: Keys { stale: true, push: None, back_off: RETRY, waiting: vec![] },
        };
        supervisor.carry_out(effects);
        (handle, supervisor)
    }

    /// Runs until the VM is removed or nobody holds a handle.
    pub(crate) async fn run(mut self) {
        while *self.state.borrow() != State::Removed {
            self.watch_if_running();
            self.push_keys_if_stale();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command).await,
                    None => return,
                },
                event = pending_or(&mut self.operation) => {
                    self.operation = None;
                    let stopped = matches!(event, Event::StopEnded(_));
                    self.on_event(event);
                    if stopped {
                        // Only the engine knows whether the guest went by itself or its plug was pulled.
                        self.look().await;
                    }
                }
                observed = pending_or(&mut self.watching) => self.on_watched(observed),
                result = pending_or(&mut self.keys.push) => self.on_pushed(result),
            }
        }
        while let Ok(command) = self.commands.try_recv() {
            self.on_command(command).await;
        }
    }

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Start(answer) => {
                self.starts.push(answer);
                self.on_event(Event::StartAsked);
            }
            Command::Stop(answer) => {
                self.stops.push(answer);
                self.on_event(Event::StopAsked);
            }
            Command::Remove(answer) => {
                self.removes.push(answer);
                self.on_event(Event::RemoveAsked);
            }
            Command::PushKeys(answer) => {
                // A push under way has the keys of before, or waits for its turn after one that failed.
                self.keys.push = None;
                self.keys.stale = true;
                self.keys.waiting.push(answer);
            }
            Command::AwaitKeys(answer) => self.keys.waiting.push(answer),
            Command::LookAgain(answer) => {
                self.look().await;
                let _ = answer.send(());
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let before = self.state.borrow().clone();
        let (after, effects) = step(before.clone(), event);
        let boots = matches!(before, State::Off { .. } | State::Stopping { .. });
        if boots && effects.contains(&Effect::Start) {
            // This start reads the keys and hands them over. One that only waits for a guest which boots already, after
            // a reboot or a restart of the server, does not.
            self.keys.stale = false;
        }
        if before != after {
            info!(vm = %self.name, from = ?before, to = ?after, "the VM changed");
            self.watching = None;
            self.state.send_replace(after);
        }
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Start => {
                    self.operation = Some(Box::pin(start(
                        self.tools.clone(),
                        self.id,
                        self.name.clone(),
                        self.spec.clone(),
                    )));
                }
                Effect::Stop => {
                    let (engine, id) = (self.tools.engine.clone(), self.id);
                    let patience = self.tools.settings.stop_patience;
                    self.operation =
                        Some(Box::pin(async move { Event::StopEnded(engine.stop(&id, patience).await) }));
                }
                Effect::Remove => self.operation = Some(Box::pin(remove(self.tools.clone(), self.id))),
                Effect::AnswerStarts(result) => answer(&mut self.starts, &result),
                Effect::AnswerStops(result) => answer(&mut self.stops, &result),
                Effect::AnswerRemoves(result) => answer(&mut self.removes, &result),
            }
        }
    }

    async fn look(&mut self) {
        match self.tools.engine.observe(&self.id).await {
            Ok(observed) => self.on_event(Event::Observed(observed)),
            Err(error) => warn!(vm = %self.name, %error, "the VM cannot be looked at"),
        }
    }

    /// A running VM is watched for what its guest does by itself.
    fn watch_if_running(&mut self) {
        if self.watching.is_none() && *self.state.borrow() == State::Running {
            let (engine, id) = (self.tools.engine.clone(), self.id);
            self.watching = Some(Box::pin(async move { engine.changed(&id, &Observed::Running).await }));
        }
    }

    fn on_watched(&mut self, observed: Result<Observed, EngineError>) {
        self.watching = None;
        match observed {
            Ok(observed) => self.on_event(Event::Observed(observed)),
            Err(error) => {
                warn!(vm = %self.name, %error, "the VM cannot be watched");
                let (engine, id) = (self.tools.engine.clone(), self.id);
                self.watching = Some(Box::pin(async move {
                    sleep(RETRY).await;
                    engine.observe(&id).await
                }));
            }
        }
    }

    /// Brings changed keys into a guest that runs. Nobody is kept waiting for a guest that does not: it gets them at
    /// its next start, or, when they changed while it was starting, as soon as it runs.
    fn push_keys_if_stale(&mut self) {
        let running = *self.state.borrow() == State::Running;
        if !running {
            // What was under way may not have arrived.
            self.keys.stale |= self.keys.push.take().is_some();
            self.release_keys_waiting();
        } else if self.keys.push.is_none() {
            if self.keys.stale {
                self.keys.stale = false;
                self.keys.push = Some(Box::pin(push_keys(self.tools.clone(), self.id, self.name.clone())));
            } else {
                self.release_keys_waiting();
            }
        }
    }

    fn on_pushed(&mut self, result: Result<(), EngineError>) {
        self.keys.push = None;
        match result {
            Ok(()) => self.keys.back_off = RETRY,
            Err(error) => {
                warn!(vm = %self.name, %error, "the keys could not be brought into the VM; trying again");
                self.release_keys_waiting();
                self.keys.stale = false;
                let (wait, push) =
                    (self.keys.back_off, push_keys(self.tools.clone(), self.id, self.name.clone()));
                self.keys.back_off = (wait * 2).min(RETRY_AT_MOST);
                self.keys.push = Some(Box::pin(async move {
                    sleep(wait).await;
                    push.await
                }));
            }
        }
    }

    fn release_keys_waiting(&mut self) {
        for answer in self.keys.waiting.drain(..) {
            let _ = answer.send(());
        }
    }
}

/// The end of what is in `slot`; never, when it is empty.
async fn pending_or<T>(slot: &mut Option<Pending<T>>) -> T {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn answer(waiting: &mut Vec<Answer>, result: &Result<(), Refusal>) {
    for answer in waiting.drain(..) {
        // Whoever asked may have gone away.
        let _ = answer.send(result.clone());
    }
}

async fn start(tools: Arc<Tools>, id: VmId, name: VmName, spec: VmSpec) -> Event {
    Event::StartEnded(try_start(&tools, id, &name, &spec).await)
}

async fn try_start(tools: &Tools, id: VmId, name: &VmName, spec: &VmSpec) -> Result<(), EngineError> {
    let guest = guest_of(tools, id, name).await?;
    let observed = tools.engine.observe(&id).await?;
    let boots = matches!(observed, Observed::Missing | Observed::Off { .. });
    let has_run = tools.store.vm(name).await.map_err(broken)?.is_some_and(|row| row.last_boot.is_some());
    if observed == Observed::Missing && has_run {
        // A new, empty disk in its place would be taken for the loss of everything.
        return Err(EngineError::Broken { reason: "its disk is missing on the server".into() });
    }
    let began = Instant::now();
    tools.engine.create(&id, spec).await?;
    tools.engine.start(&id, spec, &guest).await?;
    if boots {
        // What the next person who waits is told to expect; not worth failing for.
        if let Err(error) = tools.store.set_last_boot(id, began.elapsed()).await {
            warn!(vm = %name, %error, "the time of the boot was not written down");
        }
    }
    Ok(())
}

async fn remove(tools: Arc<Tools>, id: VmId) -> Event {
    Event::RemoveEnded(try_remove(&tools, id).await)
}

async fn try_remove(tools: &Tools, id: VmId) -> Result<(), EngineError> {
    tools.engine.remove(&id).await?;
    tools.store.finish_removing(id, OffsetDateTime::now_utc()).await.map(|_| ()).map_err(broken)
}

async fn push_keys(tools: Arc<Tools>, id: VmId, name: VmName) -> Result<(), EngineError> {
    let keys = authorized_keys(&tools, &name.owner).await?;
    tools.engine.set_authorized_keys(&id, &keys).await
}
