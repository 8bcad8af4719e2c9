//! The task that is the only writer of one VM's state.
//!
//! ```text
//!   control ── commands ──► Supervisor ── verbs ──► Engine
//!           ◄─ watch::State ─┘   ▲  └── one operation at a time ──┘
//!                                └── changed(): what the guest does by itself, and that a sleeping VM is called
//! ```
//!
//! It feeds the pure [`step`] and carries out its effects. Beside the operation it has, while the VM runs: the keys on
//! their way into the guest (`keys`), and the idle policy (`awake`). A VM that is always-on is started again here
//! (`always_on`).
//!
//! Concurrency: everything is done in one `select!` loop; futures that were begun are slots of the struct, so that a
//! command is never kept waiting by them.

mod always_on;
mod awake;
mod disk;
mod handle;
mod keys;
mod operations;

use std::{pin::Pin, sync::Arc, time::Duration};

use berth_engine::{Ending, Engine, EngineError, Observed, VmSpec};
use berth_model::{AccountName, VmId, VmName};
use berth_store::{Store, VmRow};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until},
};
use tracing::{info, warn};

pub(crate) use self::{
    handle::{Handle, Handles, Policy},
    operations::exchange_uses,
};

use self::{
    always_on::AlwaysOn,
    awake::Awake,
    disk::Growth,
    handle::Command,
    keys::Keys,
    operations::{Job, StopBy},
};
use crate::{
    activity::Activity,
    disks::asked,
    history::History,
    host_ca::HostCas,
    idle::{Use, UseKind},
    ledger::Ledger,
    lifecycle::{Effect, Event, Refusal, State, step},
    metrics::Metrics,
    presence::Presence,
    recordings::Recorded,
    room::{Queued, Room},
    settings::Settings,
    standing::Standing,
    team_ca::TeamCas,
    user_ca::UserCa,
    why::SleptFor,
};

/// How many commands wait at most.
const QUEUE: usize = 64;
/// How long after a failed look at a VM it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks at a VM whose machine does not answer.
const AWAY_RETRY: Duration = Duration::from_secs(5);

type Answer = oneshot::Sender<Result<(), Refusal>>;
type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a supervisor works with.
pub(crate) struct Tools {
    pub(crate) store: Store,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) handles: Handles,
    pub(crate) room: Room,
    pub(crate) presence: Presence,
    pub(crate) metrics: Metrics,
    pub(crate) user_ca: UserCa,
    pub(crate) host_cas: HostCas,
    pub(crate) team_cas: TeamCas,
    pub(crate) ledger: Ledger,
    /// Whether it is this server that decides about VMs.
    pub(crate) standing: watch::Sender<Standing>,
    /// Where sessions are recorded, if anywhere.
    pub(crate) recorded: Option<Recorded>,
}

impl Tools {
    /// Whether this server decides about VMs, and not another one.
    pub(crate) fn decides(&self) -> bool {
        *self.standing.borrow() == Standing::Serves
    }
}

/// The task's own state.
pub(crate) struct Supervisor {
    id: VmId,
    name: VmName,
    spec: VmSpec,
    tools: Arc<Tools>,
    commands: mpsc::Receiver<Command>,
    state: watch::Sender<State>,
    queued: Arc<watch::Sender<Option<Queued>>>,
    activity: Arc<Activity>,
    history: Arc<History>,
    starts: Vec<Answer>,
    sleeps: Vec<Answer>,
    stops: Vec<Answer>,
    rebuilds: Vec<Answer>,
    removes: Vec<Answer>,
    operation: Option<Pending<Event>>,
    watching: Option<Pending<Result<Observed, EngineError>>>,
    /// The engine has told of this sleep that somebody calls.
    called: bool,
    keys: Keys,
    growth: Growth,
    not_rebuilt: watch::Sender<Option<String>>,
    policy: Policy,
    awake: Awake,
    always_on: AlwaysOn,
}

impl Supervisor {
    /// A supervisor for a VM whose state `observed` was just asked for, and the handle to it.
    pub(crate) fn new(
        tools: Arc<Tools>,
        row: &VmRow,
        policy: Policy,
        observed: Result<Observed, EngineError>,
    ) -> (Handle, Self) {
        let away = matches!(observed, Err(EngineError::Away { .. }));
        // A start finds out what is true: it does nothing to a VM that runs.
        let observed = observed.unwrap_or_else(|error| Observed::Off {
            ended: Some(Ending::Failed { reason: error.to_string() }),
        });
        let (id, name) = (row.id, row.name.clone());
        let spec = VmSpec { cpus: row.cpus, memory: row.memory, disk: row.disk };
        let (sender, commands) = mpsc::channel(QUEUE);
        let (first, effects) = State::first(observed.clone());
        let (queued, seen_queued) = watch::channel(None);
        let (not_rebuilt, seen_not_rebuilt) = watch::channel(None);
        let used = row
            .used
            .as_ref()
            .and_then(|noted| Some(Use { at: noted.at, what: serde_json::from_str(&noted.what).ok()? }));
        // What one that runs was woken for is not known, so it has its time.
        let slept = row
            .slept
            .as_ref()
            .filter(|_| first != State::Running)
            .and_then(|noted| Some((noted.at, serde_json::from_str::<SleptFor>(&noted.what).ok()?)));
        let (state, seen_state) = watch::channel(first);
        let activity = Activity::new(tools.settings.clock, used);
        let history = Arc::new(History::default());
        let keys = Keys::new();
        let (awake, outlook) = Awake::new(tools.settings.clock.now(), slept);
        let handle = Handle {
            id,
            name: name.clone(),
            activity: activity.clone(),
            history: history.clone(),
            commands: sender,
            state: seen_state,
            queued: seen_queued,
            outlook,
            behind: keys.behind(),
            not_rebuilt: seen_not_rebuilt,
        };
        let mut supervisor = Self {
            id,
            name,
            spec,
            tools,
            commands,
            state,
            queued: Arc::new(queued),
            activity,
            history,
            starts: vec![],
            sleeps: vec![],
            stops: vec![],
            rebuilds: vec![],
            removes: vec![],
            operation: None,
            watching: None,
            called: false,
            keys,
            growth: Growth::default(),
            not_rebuilt,
            policy,
            awake,
            always_on: AlwaysOn::new(row.turned_off),
        };
        supervisor.account_for_room();
        if away {
            supervisor.watching = Some(supervisor.look_after(AWAY_RETRY));
        }
        supervisor.carry_out(effects);
        // What a server that is gone has begun, before anybody can use what there is.
        if let Some(rebuild) = row.rebuilding.filter(|_| row.removing_at.is_none()) {
            supervisor.on_event(Event::RebuildAsked(asked(rebuild)));
        }
        supervisor.keep_on();
        (handle, supervisor)
    }

    /// Runs until the VM is removed or nobody holds a handle.
    pub(crate) async fn run(mut self) {
        while *self.state.borrow() != State::Removed {
            self.watch();
            self.push_keys_if_stale();
            self.grow_if_wanted();
            self.think_if_running();
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command).await,
                    None => return,
                },
                event = pending_or(&mut self.operation) => {
                    self.operation = None;
                    // Only the engine knows how a stop ended, and what became of an operation that failed.
                    let look = !matches!(event, Event::StartEnded(Ok(())) | Event::SleepEnded(Ok(())));
                    self.on_event(event);
                    if look {
                        self.look().await;
                    }
                }
                observed = pending_or(&mut self.watching) => self.on_watched(observed),
                result = pending_or(&mut self.keys.push) => self.on_pushed(result),
                result = pending_or(&mut self.growth.under_way) => self.on_grown(result).await,
                news = pending_or(&mut self.awake.errand) => self.on_news(news),
                () = at(self.awake.look_at) => self.awake.look_at = None,
                () = at(self.always_on.start_at) => {
                    self.always_on.start_at = None;
                    self.on_event(Event::StartAsked);
                }
            }
        }
        while let Ok(command) = self.commands.try_recv() {
            self.on_command(command).await;
        }
        self.grow_if_wanted();
    }

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Start(answer) => self.on_start_asked(answer, Event::StartAsked),
            Command::Boot(answer) => self.on_start_asked(answer, Event::BootAsked),
            Command::Sleep(answer) => self.on_sleep_asked(answer),
            Command::GiveWay(answer) => self.on_give_way(answer),
            Command::Stop(answer) => {
                self.stops.push(answer);
                // One that is being rebuilt refuses.
                self.always_on.turned_off |= !matches!(*self.state.borrow(), State::Rebuilding { .. });
                self.on_event(Event::StopAsked);
            }
            Command::Rebuild(home, answer) => self.on_rebuild_asked(home, answer),
            Command::Resize(disk, asker) => self.on_resize_asked(disk, asker),
            Command::Remove(answer) => {
                self.removes.push(answer);
                self.on_event(Event::RemoveAsked);
            }
            Command::PushKeys(answer) => self.on_keys_changed(answer),
            Command::AwaitKeys(answer) => self.keys.waiting.push(answer),
            Command::LookAgain(answer) => {
                self.look().await;
                let _ = answer.send(());
            }
            Command::Policy(policy) => self.on_policy(policy),
        }
    }

    /// Whoever asks for a VM uses it, and takes back that somebody turned it off.
    ///
    /// A server that has left starts none that is off: the one that serves looks at those that sleep or run, and would not
    /// know of it.
    fn on_start_asked(&mut self, answer: Answer, event: Event) {
        let has_left = *self.tools.standing.borrow() == Standing::Left;
        if has_left && matches!(*self.state.borrow(), State::Off { .. }) {
            let reason = "this connection is by a server that was replaced: connect once more".to_owned();
            // Who asked may have gone away.
            let _ = answer.send(Err(Refusal::Engine(EngineError::StartFailed { reason })));
            return;
        }
        self.starts.push(answer);
        self.always_on.turned_off = false;
        self.activity.note(UseKind::Started);
        self.on_event(event);
    }

    fn on_event(&mut self, event: Event) {
        self.note_rebuild(&event);
        let before = self.state.borrow().clone();
        let (after, effects) = step(before.clone(), event);
        self.keys.note_start(&before, &effects);
        if before != after {
            info!(vm = %self.name, from = ?before, to = ?after, "the VM changed");
            self.watching = None;
            self.state.send_replace(after);
            self.account_for_room();
            self.on_new_state(&before);
        }
        self.carry_out(effects);
        self.keep_on();
    }

    /// A VM without a process has no memory to account for; one that is found awake has.
    fn account_for_room(&self) {
        match *self.state.borrow() {
            State::Off { .. } | State::Asleep { .. } | State::Removed => self.tools.room.leave(self.id),
            State::Running => self.tools.room.found(self.id, self.spec.memory),
            // One that was awake has its place; one that is woken to be stopped queues for it.
            State::Starting
            | State::Waking
            | State::FallingAsleep { .. }
            | State::Stopping { .. }
            | State::Rebuilding { .. }
            | State::Removing { .. } => {}
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Start => self.operation = Some(Box::pin(self.job().start())),
                Effect::Boot => self.operation = Some(Box::pin(self.job().boot())),
                Effect::Sleep => self.operation = Some(Box::pin(self.job().sleep(self.awake.slept_for()))),
                Effect::Stop => {
                    // One that is found on its way down goes there by itself.
                    let by = if self.stops.is_empty() { StopBy::Itself } else { StopBy::Person };
                    self.operation = Some(Box::pin(self.job().stop(by)));
                }
                Effect::Rebuild(home) => self.operation = Some(Box::pin(self.job().rebuild(home))),
                Effect::Remove => self.operation = Some(Box::pin(self.job().remove())),
                Effect::AnswerStarts(result) => answer(&mut self.starts, &result),
                Effect::AnswerSleeps(result) => answer(&mut self.sleeps, &result),
                Effect::AnswerStops(result) => answer(&mut self.stops, &result),
                Effect::AnswerRebuilds(result) => answer(&mut self.rebuilds, &result),
                Effect::AnswerRemoves(result) => answer(&mut self.removes, &result),
            }
        }
    }

    fn job(&self) -> Job {
        Job {
            tools: self.tools.clone(),
            id: self.id,
            name: self.name.clone(),
            spec: self.spec.clone(),
            activity: self.activity.clone(),
            queued: self.queued.clone(),
        }
    }

    async fn look(&mut self) {
        match self.tools.engine.observe(&self.id).await {
            Ok(observed) => self.on_observed(observed),
            Err(EngineError::Away { reason }) => self.on_away(reason),
            Err(error) => warn!(vm = %self.name, %error, "the VM cannot be looked at"),
        }
    }

    /// Its machine does not answer: people are told that, and it is looked at until the machine does.
    fn on_away(&mut self, reason: String) {
        self.on_event(Event::Observed(Observed::Off { ended: Some(Ending::Failed { reason }) }));
        self.watching = Some(self.look_after(AWAY_RETRY));
    }

    fn look_after(&self, pause: Duration) -> Pending<Result<Observed, EngineError>> {
        let (engine, id) = (self.tools.engine.clone(), self.id);
        Box::pin(async move {
            sleep(pause).await;
            engine.observe(&id).await
        })
    }

    fn on_observed(&mut self, observed: Observed) {
        // What is told while it falls asleep nobody acts upon: it has to be told again.
        let asleep = matches!(*self.state.borrow(), State::Asleep { .. });
        self.called = asleep && observed == Observed::Asleep { called: true };
        self.on_event(Event::Observed(observed));
    }

    /// A VM that runs is watched for what its guest does by itself, and one that sleeps for being called.
    fn watch(&mut self) {
        let known = match *self.state.borrow() {
            State::Running => {
                self.called = false;
                Observed::Running
            }
            State::Asleep { .. } => Observed::Asleep { called: self.called },
            _ => return,
        };
        if self.watching.is_none() {
            let (engine, id) = (self.tools.engine.clone(), self.id);
            self.watching = Some(Box::pin(async move { engine.changed(&id, &known).await }));
        }
    }

    fn on_watched(&mut self, observed: Result<Observed, EngineError>) {
        self.watching = None;
        match observed {
            Ok(observed) => self.on_observed(observed),
            Err(EngineError::Away { reason }) => self.on_away(reason),
            Err(error) => {
                warn!(vm = %self.name, %error, "the VM cannot be watched");
                self.watching = Some(self.look_after(RETRY));
            }
        }
    }

    fn owner(&self) -> &AccountName {
        &self.name.owner
    }
}

/// The end of what is in `slot`; never, when it is empty.
async fn pending_or<T>(slot: &mut Option<Pending<T>>) -> T {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// That moment; never, where there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn answer(waiting: &mut Vec<Answer>, result: &Result<(), Refusal>) {
    for answer in waiting.drain(..) {
        // Whoever asked may have gone away.
        let _ = answer.send(result.clone());
    }
}
