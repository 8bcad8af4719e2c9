//! The life of a VM, as a pure function.
//!
//! ```text
//!            StartAsked              StartEnded(Ok)
//!      Off ────────────► Starting ──────────────────► Running
//!       ▲ ▲                │  ▲                        │ │
//!       │ └── StartEnded(Err) └── guest rebooted ──────┘ │ StopAsked
//!       │                                                ▼
//!       └───────────────── StopEnded ──────────────── Stopping
//!
//!   RemoveAsked, from anywhere: Removing ── RemoveEnded(Ok) ──► Removed
//! ```
//!
//! Owns the rules of what follows what. Owns no task, no clock and no engine: `supervisor` feeds it events and carries
//! out the effects. An operation effect ([`Effect::Start`], [`Effect::Stop`], [`Effect::Remove`]) replaces the operation
//! under way, if any: engine verbs may be dropped half-way and go on from there.

use berth_engine::{Ending, EngineError, Observed};

/// Where a VM is in its life. Each variant carries only what is valid there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// No process of it runs.
    Off {
        /// How it came to be off, where that is known.
        ended: Option<Ending>,
    },
    /// [`Effect::Start`] is under way.
    Starting,
    /// It can be connected to.
    Running,
    /// [`Effect::Stop`] is under way.
    Stopping {
        /// What to do when it is off.
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

/// What follows a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It stays off.
    StayOff,
    /// Somebody asked for it in the meantime.
    StartAgain,
}

/// What can happen to a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The engine was asked, or told by itself.
    Observed(Observed),
    /// Somebody wants it running.
    StartAsked,
    /// Somebody wants it off.
    StopAsked,
    /// Somebody wants it gone.
    RemoveAsked,
    /// [`Effect::Start`] ended.
    StartEnded(Result<(), EngineError>),
    /// [`Effect::Stop`] ended.
    StopEnded(Result<(), EngineError>),
    /// [`Effect::Remove`] ended.
    RemoveEnded(Result<(), EngineError>),
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Make the disk if it is missing, start, wait until it answers.
    Start,
    /// Shut down.
    Stop,
    /// Delete everything of it.
    Remove,
    /// Tell all who asked for a start.
    AnswerStarts(Result<(), Refusal>),
    /// Tell all who asked for a stop.
    AnswerStops(Result<(), Refusal>),
    /// Tell all who asked for the removal.
    AnswerRemoves(Result<(), Refusal>),
}

/// Why somebody did not get what they asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Somebody else asked for the opposite, later.
    Overruled,
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
        Event::StopAsked => on_stop_asked(state),
        Event::RemoveAsked => on_remove_asked(state),
        Event::StartEnded(result) => on_start_ended(state, result),
        Event::StopEnded(result) => on_stop_ended(state, result),
        Event::RemoveEnded(result) => on_remove_ended(state, result),
    }
}

fn on_observed(state: State, observed: Observed) -> (State, Vec<Effect>) {
    match state {
        State::Off { .. } | State::Running => match observed {
            Observed::Missing => (State::Off { ended: None }, vec![]),
            Observed::Off { ended } => (State::Off { ended }, vec![]),
            // The guest rebooted, or a server that is gone started it: starting is waiting for it.
            Observed::Booting => (State::Starting, vec![Effect::Start]),
            Observed::Running => (State::Running, vec![Effect::AnswerStarts(Ok(()))]),
            Observed::Stopping => (State::Stopping { then: Then::StayOff }, vec![Effect::Stop]),
        },
        // The operation under way ends with an event of its own, which knows better.
        State::Starting | State::Stopping { .. } | State::Removing { .. } | State::Removed => (state, vec![]),
    }
}

fn on_start_asked(state: State) -> (State, Vec<Effect>) {
    match state {
        State::Off { .. } => (State::Starting, vec![Effect::Start]),
        State::Starting => (state, vec![]),
        State::Running => (state, vec![Effect::AnswerStarts(Ok(()))]),
        State::Stopping { .. } => (State::Stopping { then: Then::StartAgain }, vec![]),
        State::Removing { .. } | State::Removed => (state, vec![Effect::AnswerStarts(Err(Refusal::Removed))]),
    }
}

fn on_stop_asked(state: State) -> (State, Vec<Effect>) {
    let overruled = Effect::AnswerStarts(Err(Refusal::Overruled));
    match state {
        State::Off { .. } => (state, vec![Effect::AnswerStops(Ok(()))]),
        State::Starting => (State::Stopping { then: Then::StayOff }, vec![overruled, Effect::Stop]),
        State::Running => (State::Stopping { then: Then::StayOff }, vec![Effect::Stop]),
        State::Stopping { then: Then::StartAgain } => {
            (State::Stopping { then: Then::StayOff }, vec![overruled])
        }
        State::Stopping { then: Then::StayOff } => (state, vec![]),
        State::Removing { .. } | State::Removed => (state, vec![Effect::AnswerStops(Err(Refusal::Removed))]),
    }
}

fn on_remove_asked(state: State) -> (State, Vec<Effect>) {
    match state {
        State::Off { .. }
        | State::Starting
        | State::Running
        | State::Stopping { .. }
        | State::Removing { under_way: false } => (
            State::Removing { under_way: true },
            vec![
                Effect::AnswerStarts(Err(Refusal::Removed)),
                Effect::AnswerStops(Err(Refusal::Removed)),
                Effect::Remove,
            ],
        ),
        State::Removing { under_way: true } => (state, vec![]),
        State::Removed => (state, vec![Effect::AnswerRemoves(Ok(()))]),
    }
}

fn on_start_ended(state: State, result: Result<(), EngineError>) -> (State, Vec<Effect>) {
    match state {
        State::Starting => match result {
            Ok(()) => (State::Running, vec![Effect::AnswerStarts(Ok(()))]),
            Err(error) => {
                let ended = Some(Ending::Failed { reason: error.to_string() });
                (State::Off { ended }, vec![Effect::AnswerStarts(Err(Refusal::Engine(error)))])
            }
        },
        State::Off { .. }
        | State::Running
        | State::Stopping { .. }
        | State::Removing { .. }
        | State::Removed => (state, vec![]),
    }
}

fn on_stop_ended(state: State, result: Result<(), EngineError>) -> (State, Vec<Effect>) {
    match state {
        State::Stopping { then } => match result {
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
        },
        State::Off { .. } | State::Starting | State::Running | State::Removing { .. } | State::Removed => {
            (state, vec![])
        }
    }
}

fn on_remove_ended(state: State, result: Result<(), EngineError>) -> (State, Vec<Effect>) {
    match state {
        State::Removing { .. } => match result {
            Ok(()) => (State::Removed, vec![Effect::AnswerRemoves(Ok(()))]),
            Err(error) => {
                let refused = Effect::AnswerRemoves(Err(Refusal::Engine(error)));
                (State::Removing { under_way: false }, vec![refused])
            }
        },
        State::Off { .. } | State::Starting | State::Running | State::Stopping { .. } | State::Removed => {
            (state, vec![])
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn engine_error() -> EngineError {
        EngineError::StartFailed { reason: "its disk is full".into() }
    }

    fn any_observed() -> impl Strategy<Value = Observed> {
        prop_oneof![
            Just(Observed::Missing),
            Just(Observed::Off { ended: None }),
            Just(Observed::Off { ended: Some(Ending::PoweredOff) }),
            Just(Observed::Booting),
            Just(Observed::Running),
            Just(Observed::Stopping),
        ]
    }

    #[derive(Debug, Clone)]
    enum Move {
        Observe(Observed),
        Start,
        Stop,
        Remove,
        /// The operation under way, if any, ends like this.
        End(bool),
    }

    fn any_move() -> impl Strategy<Value = Move> {
        prop_oneof![
            any_observed().prop_map(Move::Observe),
            Just(Move::Start),
            Just(Move::Stop),
            Just(Move::Remove),
            any::<bool>().prop_map(Move::End),
        ]
    }

    /// What a supervisor would hold: the operation under way and how many wait for each answer.
    #[derive(Default, Debug)]
    struct Shadow {
        operation: Option<Effect>,
        starts: usize,
        stops: usize,
        removes: usize,
        removal_asked: bool,
    }

    impl Shadow {
        fn event(&mut self, chosen: Move) -> Option<Event> {
            Some(match chosen {
                Move::Observe(observed) => Event::Observed(observed),
                Move::Start => {
                    self.starts += 1;
                    Event::StartAsked
                }
                Move::Stop => {
                    self.stops += 1;
                    Event::StopAsked
                }
                Move::Remove => {
                    self.removes += 1;
                    self.removal_asked = true;
                    Event::RemoveAsked
                }
                Move::End(well) => {
                    let result = if well { Ok(()) } else { Err(engine_error()) };
                    match self.operation.take()? {
                        Effect::Start => Event::StartEnded(result),
                        Effect::Stop => Event::StopEnded(result),
                        Effect::Remove => Event::RemoveEnded(result),
                        _ => unreachable!("only operations are kept"),
                    }
                }
            })
        }

        fn carry_out(&mut self, effects: Vec<Effect>) {
            for effect in effects {
                match effect {
                    Effect::Start | Effect::Stop => {
                        assert!(!self.removal_asked, "{effect:?} after a removal");
                        self.operation = Some(effect);
                    }
                    Effect::Remove => self.operation = Some(effect),
                    Effect::AnswerStarts(_) => self.starts = 0,
                    Effect::AnswerStops(_) => self.stops = 0,
                    Effect::AnswerRemoves(_) => self.removes = 0,
                }
            }
        }

        fn check(&self, state: &State) {
            let expected = match state {
                State::Off { .. }
                | State::Running
                | State::Removed
                | State::Removing { under_way: false } => None,
                State::Starting => Some(Effect::Start),
                State::Stopping { .. } => Some(Effect::Stop),
                State::Removing { under_way: true } => Some(Effect::Remove),
            };
            assert_eq!(self.operation, expected, "the operation under way is the one that {state:?} names");
            if expected.is_none() {
                assert_eq!(
                    (self.starts, self.stops, self.removes),
                    (0, 0, 0),
                    "nobody waits for ever in {state:?}"
                );
            }
            if self.removal_asked {
                assert!(
                    matches!(state, State::Removing { .. } | State::Removed),
                    "a removal is never taken back"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn follows_the_model(first in any_observed(), moves in prop::collection::vec(any_move(), 0..60)) {
            let mut shadow = Shadow::default();
            let (mut state, effects) = State::first(first);
            shadow.carry_out(effects);
            shadow.check(&state);
            for chosen in moves {
                let Some(event) = shadow.event(chosen) else { continue };
                let (next, effects) = step(state, event);
                state = next;
                shadow.carry_out(effects);
                shadow.check(&state);
            }
        }

        #[test]
        fn a_start_that_is_asked_last_ends_in_running(
            first in any_observed(),
            moves in prop::collection::vec(any_move().prop_filter("no removal", |m| !matches!(m, Move::Remove)), 0..30),
        ) {
            let mut shadow = Shadow::default();
            let (mut state, effects) = State::first(first);
            shadow.carry_out(effects);
            for chosen in moves.into_iter().chain([Move::Start, Move::End(true), Move::End(true)]) {
                let Some(event) = shadow.event(chosen) else { continue };
                let (next, effects) = step(state, event);
                state = next;
                shadow.carry_out(effects);
            }
            prop_assert_eq!(state, State::Running);
        }
    }

    #[test]
    fn a_guest_that_powers_off_is_off_and_says_so() {
        let observed = Observed::Off { ended: Some(Ending::PoweredOff) };
        let (state, effects) = step(State::Running, Event::Observed(observed));
        assert_eq!(state, State::Off { ended: Some(Ending::PoweredOff) });
        assert_eq!(effects, vec![]);
    }

    #[test]
    fn a_guest_that_reboots_is_waited_for() {
        let (state, effects) = step(State::Running, Event::Observed(Observed::Booting));
        assert_eq!((state, effects), (State::Starting, vec![Effect::Start]));
    }

    #[test]
    fn a_start_during_a_stop_follows_it() {
        let (state, _) = step(State::Stopping { then: Then::StayOff }, Event::StartAsked);
        let (state, effects) = step(state, Event::StopEnded(Ok(())));
        assert_eq!(state, State::Starting);
        assert_eq!(effects, vec![Effect::AnswerStops(Ok(())), Effect::Start]);
    }

    #[test]
    fn a_failed_start_keeps_its_reason() {
        let (state, _) = step(State::Starting, Event::StartEnded(Err(engine_error())));
        let reason = "its disk is full".to_owned();
        assert_eq!(state, State::Off { ended: Some(Ending::Failed { reason }) });
    }
}
