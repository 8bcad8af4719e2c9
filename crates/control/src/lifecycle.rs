//! The life of a VM, as a pure function.
//!
//! ```text
//!              StartAsked              StartEnded(Ok)
//!        Off ────────────► Starting ──────────────────► Running ◄─────────────── Waking
//!         ▲ ▲               │  ▲ ▲                       │ │ │  StartEnded(Ok)     ▲
//!         │ └─ StartEnded(Err)│ └──── guest rebooted ────┘ │ │ SleepAsked          │ StartAsked,
//!         │                   │ BootAsked                  │ ▼                     │ or called
//!         │                   └─────────────────┐          │ FallingAsleep ──► Asleep
//!         │                                     │          │ StopAsked  SleepEnded │ ▲
//!         │                                     └──────────┼───────────────────────┘ │ StartEnded(Err) of a wake
//!         └────────────── StopEnded ─────────── Stopping ◄─┘◄── StopAsked ───────────┘
//!
//!   RebuildAsked, from anywhere: Rebuilding ── RebuildEnded, well or not ──► Off, or Starting where it was on
//!   RemoveAsked, from anywhere: Removing ── RemoveEnded(Ok) ──► Removed
//! ```
//!
//! Owns the rules of what follows what. Owns no task, no clock and no engine: `supervisor` feeds it events and carries
//! out the effects. An operation effect ([`Effect::Start`], [`Effect::Boot`], [`Effect::Sleep`], [`Effect::Stop`],
//! [`Effect::Rebuild`], [`Effect::Remove`]) replaces the operation under way, if any: engine verbs may be dropped half-way and go on from
//! there. Whether a VM may sleep is not decided here but in `idle`, before the event.

use berth_engine::{Ending, EngineError, Home, Observed};

/// Where a VM is in its life. Each variant carries only what is valid there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// No process of it runs, and no memory is kept.
    Off {
        /// How it came to be off, where that is known.
        ended: Option<Ending>,
    },
    /// [`Effect::Start`] or [`Effect::Boot`] is under way, and it boots.
    Starting,
    /// [`Effect::Start`] is under way, and its memory comes back.
    Waking,
    /// It can be connected to.
    Running,
    /// [`Effect::Sleep`] is under way.
    FallingAsleep {
        /// What to do when it sleeps.
        then: AfterSleep,
    },
    /// Its memory is kept, and nothing of it runs.
    Asleep {
        /// Why it could not be woken when that was last tried: a clause without a full stop.
        failed: Option<String>,
    },
    /// [`Effect::Stop`] is under way.
    Stopping {
        /// What to do when it is off.
        then: Then,
    },
    /// [`Effect::Rebuild`] is under way.
    Rebuilding {
        /// What to do when it is over.
        then: Then,
    },
    /// It is being removed, for good.
    Removing {
        /// Whether [`Effect::Remove`] is under way; false after it failed, until it is asked for again.
        under_way: bool,
    },
    /// Nothing of it is left.
    Removed,
}

/// What follows a stop, or a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It stays off, or asleep.
    StayOff,
    /// Somebody asked for it in the meantime, or it was on before it was rebuilt.
    StartAgain,
}

/// What follows falling asleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterSleep {
    /// It stays asleep.
    StayAsleep,
    /// Somebody asked for it in the meantime.
    WakeAgain,
}

/// What can happen to a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The engine was asked, or told by itself.
    Observed(Observed),
    /// Somebody wants it running.
    StartAsked,
    /// Somebody wants it running, and gives up a sleep for it.
    BootAsked,
    /// Somebody, or the idle policy, wants it asleep.
    SleepAsked,
    /// Somebody wants it off.
    StopAsked,
    /// Somebody wants it on a new disk. It is written down.
    RebuildAsked(Home),
    /// Somebody wants it gone.
    RemoveAsked,
    /// [`Effect::Start`] or [`Effect::Boot`] ended.
    StartEnded(Result<(), EngineError>),
    /// [`Effect::Sleep`] ended.
    SleepEnded(Result<(), EngineError>),
    /// [`Effect::Stop`] ended.
    StopEnded(Result<(), EngineError>),
    /// [`Effect::Rebuild`] ended, and that is written down.
    RebuildEnded(Result<(), EngineError>),
    /// [`Effect::Remove`] ended.
    RemoveEnded(Result<(), EngineError>),
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Make the disk if it is missing, wake or boot, wait until it answers.
    Start,
    /// Give up its sleep, then as [`Effect::Start`].
    Boot,
    /// Put it to sleep.
    Sleep,
    /// Shut down; one that sleeps is woken for it.
    Stop,
    /// Give it a new disk.
    Rebuild(Home),
    /// Delete everything of it.
    Remove,
    /// Tell all who asked for a start.
    AnswerStarts(Result<(), Refusal>),
    /// Tell all who asked for a sleep.
    AnswerSleeps(Result<(), Refusal>),
    /// Tell all who asked for a stop.
    AnswerStops(Result<(), Refusal>),
    /// Tell all who asked for the rebuild.
    AnswerRebuilds(Result<(), Refusal>),
    /// Tell all who asked for the removal.
    AnswerRemoves(Result<(), Refusal>),
}

/// Why somebody did not get what they asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Somebody else asked for the opposite, later.
    Overruled,
    /// It is in use, or somebody asked for it in this moment.
    InUse,
    /// It is off or on its way there, and so cannot sleep.
    NotRunning,
    /// It is getting a new disk.
    Rebuilding,
    /// It is being removed, or is gone.
    Removed,
    /// The engine could not.
    Engine(EngineError),
}

impl State {
    /// What the supervisor begins with: the same rules as for any later observation, so that a restart of the server is
    /// nothing special.
    pub(crate) fn first(observed: Observed) -> (State, Vec<Effect>) {
        step(State::Running, Event::Observed(observed))
    }
}

/// The whole life: pure and total.
pub(crate) fn step(state: State, event: Event) -> (State, Vec<Effect>) {
    match event {
        Event::Observed(observed) => on_observed(state, observed),
        Event::StartAsked => on_start_asked(state),
        Event::BootAsked => on_boot_asked(state),
        Event::SleepAsked => on_sleep_asked(state),
        Event::StopAsked => on_stop_asked(state),
        Event::RebuildAsked(home) => on_rebuild_asked(state, home),
        Event::RemoveAsked => on_remove_asked(state),
        Event::StartEnded(result) => on_start_ended(state, result),
        Event::SleepEnded(result) => on_sleep_ended(state, result),
        Event::StopEnded(result) => on_stop_ended(state, result),
        Event::RebuildEnded(result) => on_rebuild_ended(state, result),
        Event::RemoveEnded(result) => on_remove_ended(state, result),
    }
}

fn on_observed(state: State, observed: Observed) -> (State, Vec<Effect>) {
    match state {
        State::Off { .. } | State::Running | State::Asleep { .. } => match observed {
            Observed::Missing => (State::Off { ended: None }, vec![]),
            Observed::Off { ended } => (State::Off { ended }, vec![]),
            Observed::Asleep { called } => on_seen_asleep(state, called),
            // A server that is gone woke it: starting is waiting for it.
            Observed::Waking => (State::Waking, vec![Effect::Start]),
            // The guest rebooted, or a server that is gone started it.
            Observed::Booting => (State::Starting, vec![Effect::Start]),
            Observed::Running => (State::Running, vec![Effect::AnswerStarts(Ok(()))]),
            Observed::Stopping => (State::Stopping { then: Then::StayOff }, vec![Effect::Stop]),
        },
        // The operation under way ends with an event of its own, which knows better.
        State::Starting
        | State::Waking
        | State::FallingAsleep { .. }
        | State::Stopping { .. }
        | State::Rebuilding { .. }
        | State::Removing { .. }
        | State::Removed => (state, vec![]),
    }
}

/// One that is called is woken, but not again and again where that fails: then it takes a person.
fn on_seen_asleep(state: State, called: bool) -> (State, Vec<Effect>) {
    match state {
        State::Asleep { failed: Some(_) } => (state, vec![]),
        _ if called => (State::Waking, vec![Effect::Start]),
        _ => (State::Asleep { failed: None }, vec![]),
    }
}

fn on_start_asked(state: State) -> (State, Vec<Effect>) {
    match state {
        State::Off { .. } => (State::Starting, vec![Effect::Start]),
        State::Asleep { .. } => (State::Waking, vec![Effect::Start]),
        State::Starting | State::Waking => (state, vec![]),
        State::Running => (state, vec![Effect::AnswerStarts(Ok(()))]),
        State::FallingAsleep { .. } => (State::FallingAsleep { then: AfterSleep::WakeAgain }, vec![]),
        State::Stopping { .. } => (State::Stopping { then: Then::StartAgain }, vec![]),
        State::Rebuilding { .. } => (State::Rebuilding { then: Then::StartAgain }, vec![]),
        State::Removing { .. } | State::Removed => (state, vec![Effect::AnswerStarts(Err(Refusal::Removed))]),
    }
}

fn on_boot_asked(state: State) -> (State, Vec<Effect>) {
    match state {
        State::Asleep { .. } => (State::Starting, vec![Effect::Boot]),
        other => on_start_asked(other),
    }
}

fn on_sleep_asked(state: State) -> (State, Vec<Effect>) {
    let refused = |state, refusal| (state, vec![Effect::AnswerSleeps(Err(refusal))]);
    match state {
        State::Running => (State::FallingAsleep { then: AfterSleep::StayAsleep }, vec![Effect::Sleep]),
        State::Asleep { .. } => (state, vec![Effect::AnswerSleeps(Ok(()))]),
        State::FallingAsleep { then: AfterSleep::StayAsleep } => (state, vec![]),
        State::FallingAsleep { then: AfterSleep::WakeAgain } | State::Waking => {
            refused(state, Refusal::InUse)
        }
        State::Off { .. } | State::Starting | State::Stopping { .. } => refused(state, Refusal::NotRunning),
        State::Rebuilding { .. } => refused(state, Refusal::Rebuilding),
        State::Removing { .. } | State::Removed => refused(state, Refusal::Removed),
    }
}

fn on_stop_asked(state: State) -> (State, Vec<Effect>) {
    let overruled = || Effect::AnswerStarts(Err(Refusal::Overruled));
    let stopping = State::Stopping { then: Then::StayOff };
    match state {
        State::Off { .. } => (state, vec![Effect::AnswerStops(Ok(()))]),
        State::Starting | State::Waking => (stopping, vec![overruled(), Effect::Stop]),
        State::Running | State::Asleep { .. } => (stopping, vec![Effect::Stop]),
        State::FallingAsleep { .. } => {
            (stopping, vec![overruled(), Effect::AnswerSleeps(Err(Refusal::Overruled)), Effect::Stop])
        }
        State::Stopping { then: Then::StartAgain } => (stopping, vec![overruled()]),
        State::Stopping { then: Then::StayOff } => (state, vec![]),
        State::Rebuilding { .. } => (state, vec![Effect::AnswerStops(Err(Refusal::Rebuilding))]),
        State::Removing { .. } | State::Removed => (state, vec![Effect::AnswerStops(Err(Refusal::Removed))]),
    }
}

/// Whoever waits for it to run waits on. What was on before is on again after it.
fn on_rebuild_asked(state: State, home: Home) -> (State, Vec<Effect>) {
    let then = match state {
        State::Off { .. }
        | State::Asleep { .. }
        | State::FallingAsleep { then: AfterSleep::StayAsleep }
        | State::Stopping { then: Then::StayOff } => Then::StayOff,
        State::Starting
        | State::Waking
        | State::Running
        | State::FallingAsleep { then: AfterSleep::WakeAgain }
        | State::Stopping { then: Then::StartAgain } => Then::StartAgain,
        State::Rebuilding { .. } => return (state, vec![]),
        State::Removing { .. } | State::Removed => {
            return (state, vec![Effect::AnswerRebuilds(Err(Refusal::Removed))]);
        }
    };
    let rebuilding = vec![
        Effect::AnswerSleeps(Err(Refusal::Rebuilding)),
        Effect::AnswerStops(Err(Refusal::Rebuilding)),
        Effect::Rebuild(home),
    ];
    (State::Rebuilding { then }, rebuilding)
}

fn on_remove_asked(state: State) -> (State, Vec<Effect>) {
    match state {
        State::Off { .. }
        | State::Starting
        | State::Waking
        | State::Running
        | State::FallingAsleep { .. }
        | State::Asleep { .. }
        | State::Stopping { .. }
        | State::Rebuilding { .. }
        | State::Removing { under_way: false } => (
            State::Removing { under_way: true },
            vec![
                Effect::AnswerStarts(Err(Refusal::Removed)),
                Effect::AnswerSleeps(Err(Refusal::Removed)),
                Effect::AnswerStops(Err(Refusal::Removed)),
                Effect::AnswerRebuilds(Err(Refusal::Removed)),
                Effect::Remove,
            ],
        ),
        State::Removing { under_way: true } => (state, vec![]),
        State::Removed => (state, vec![Effect::AnswerRemoves(Ok(()))]),
    }
}

fn on_start_ended(state: State, result: Result<(), EngineError>) -> (State, Vec<Effect>) {
    let answer = |error| Effect::AnswerStarts(Err(Refusal::Engine(error)));
    match (state, result) {
        (State::Starting | State::Waking, Ok(())) => (State::Running, vec![Effect::AnswerStarts(Ok(()))]),
        // Its sleep is as it was. The supervisor looks whether it is: it may have ended in the meantime.
        (State::Starting | State::Waking, Err(error @ EngineError::WakeFailed { .. }))
        | (State::Waking, Err(error)) => {
            (State::Asleep { failed: Some(error.to_string()) }, vec![answer(error)])
        }
        (State::Starting, Err(error)) => {
            let ended = Some(Ending::Failed { reason: error.to_string() });
            (State::Off { ended }, vec![answer(error)])
        }
        (state, _) => (state, vec![]),
    }
}

fn on_sleep_ended(state: State, result: Result<(), EngineError>) -> (State, Vec<Effect>) {
    let State::FallingAsleep { then } = state else { return (state, vec![]) };
    match (result, then) {
        (Ok(()), AfterSleep::StayAsleep) => {
            (State::Asleep { failed: None }, vec![Effect::AnswerSleeps(Ok(()))])
        }
        (Ok(()), AfterSleep::WakeAgain) => {
            (State::Waking, vec![Effect::AnswerSleeps(Err(Refusal::InUse)), Effect::Start])
        }
        // It runs on, or the supervisor finds out what else it does.
        (Err(error), _) => {
            let refusal = match error {
                EngineError::InUse => Refusal::InUse,
                EngineError::NotRunning => Refusal::NotRunning,
                error => Refusal::Engine(error),
            };
            (State::Running, vec![Effect::AnswerStarts(Ok(())), Effect::AnswerSleeps(Err(refusal))])
        }
    }
}

fn on_stop_ended(state: State, result: Result<(), EngineError>) -> (State, Vec<Effect>) {
    let State::Stopping { then } = state else { return (state, vec![]) };
    match result {
        Ok(()) => {
            let answer = Effect::AnswerStops(Ok(()));
            match then {
                Then::StayOff => (State::Off { ended: Some(Ending::Stopped) }, vec![answer]),
                Then::StartAgain => (State::Starting, vec![answer, Effect::Start]),
            }
        }
        // It may well run on. Running is what makes the supervisor look again.
        Err(error) => {
            let refusal = Refusal::Engine(error);
            let starts = Effect::AnswerStarts(Err(refusal.clone()));
            (State::Running, vec![starts, Effect::AnswerStops(Err(refusal))])
        }
    }
}

/// Either way it has a disk again: the new one, or the one that it had. What it is doing, the supervisor finds out.
fn on_rebuild_ended(state: State, result: Result<(), EngineError>) -> (State, Vec<Effect>) {
    let State::Rebuilding { then } = state else { return (state, vec![]) };
    let answer = Effect::AnswerRebuilds(result.map_err(Refusal::Engine));
    match then {
        Then::StayOff => (State::Off { ended: None }, vec![answer]),
        Then::StartAgain => (State::Starting, vec![answer, Effect::Start]),
    }
}

fn on_remove_ended(state: State, result: Result<(), EngineError>) -> (State, Vec<Effect>) {
    let State::Removing { .. } = state else { return (state, vec![]) };
    match result {
        Ok(()) => (State::Removed, vec![Effect::AnswerRemoves(Ok(()))]),
        Err(error) => {
            let refused = Effect::AnswerRemoves(Err(Refusal::Engine(error)));
            (State::Removing { under_way: false }, vec![refused])
        }
    }
}

#[cfg(test)]
mod tests;
