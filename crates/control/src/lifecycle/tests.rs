//! The rules against a model of who waits for what.

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
        any::<bool>().prop_map(|called| Observed::Asleep { called }),
        Just(Observed::Waking),
        Just(Observed::Booting),
        Just(Observed::Running),
        Just(Observed::Stopping),
    ]
}

#[derive(Debug, Clone)]
enum Move {
    Observe(Observed),
    Start,
    Boot,
    Sleep,
    Stop,
    Rebuild,
    Remove,
    /// The operation under way, if any, ends like this.
    End(bool),
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        any_observed().prop_map(Move::Observe),
        Just(Move::Start),
        Just(Move::Boot),
        Just(Move::Sleep),
        Just(Move::Stop),
        Just(Move::Rebuild),
        Just(Move::Remove),
        any::<bool>().prop_map(Move::End),
    ]
}

/// What a supervisor would hold: the operation under way and how many wait for each answer.
#[derive(Default, Debug)]
struct Shadow {
    operation: Option<Effect>,
    starts: usize,
    sleeps: usize,
    stops: usize,
    rebuilds: usize,
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
            Move::Boot => {
                self.starts += 1;
                Event::BootAsked
            }
            Move::Sleep => {
                self.sleeps += 1;
                Event::SleepAsked
            }
            Move::Stop => {
                self.stops += 1;
                Event::StopAsked
            }
            Move::Rebuild => {
                self.rebuilds += 1;
                Event::RebuildAsked(Home::Keep)
            }
            Move::Remove => {
                self.removes += 1;
                self.removal_asked = true;
                Event::RemoveAsked
            }
            Move::End(well) => {
                let result = if well { Ok(()) } else { Err(engine_error()) };
                match self.operation.take()? {
                    Effect::Start | Effect::Boot => Event::StartEnded(result),
                    Effect::Sleep => Event::SleepEnded(result),
                    Effect::Stop => Event::StopEnded(result),
                    Effect::Rebuild(_) => Event::RebuildEnded(result),
                    Effect::Remove => Event::RemoveEnded(result),
                    _ => unreachable!("only operations are kept"),
                }
            }
        })
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Start | Effect::Boot | Effect::Sleep | Effect::Stop | Effect::Rebuild(_) => {
                    let rebuilds = matches!(self.operation, Some(Effect::Rebuild(_)));
                    assert!(!rebuilds, "{effect:?} in the middle of a rebuild");
                    assert!(!self.removal_asked, "{effect:?} after a removal");
                    self.operation = Some(effect);
                }
                Effect::Remove => self.operation = Some(effect),
                Effect::AnswerStarts(_) => self.starts = 0,
                Effect::AnswerSleeps(_) => self.sleeps = 0,
                Effect::AnswerStops(_) => self.stops = 0,
                Effect::AnswerRebuilds(_) => self.rebuilds = 0,
                Effect::AnswerRemoves(_) => self.removes = 0,
            }
        }
    }

    fn check(&self, state: &State) {
        let expected: &[Effect] = match state {
            State::Off { .. }
            | State::Running
            | State::Asleep { .. }
            | State::Removed
            | State::Removing { under_way: false } => &[],
            State::Starting => &[Effect::Start, Effect::Boot],
            State::Waking => &[Effect::Start],
            State::FallingAsleep { .. } => &[Effect::Sleep],
            State::Stopping { .. } => &[Effect::Stop],
            State::Rebuilding { .. } => &[Effect::Rebuild(Home::Keep)],
            State::Removing { under_way: true } => &[Effect::Remove],
        };
        match &self.operation {
            Some(operation) => assert!(expected.contains(operation), "{operation:?} in {state:?}"),
            None => assert_eq!(expected, &[], "the operation under way is the one that {state:?} names"),
        }
        if expected.is_empty() {
            let waiting = (self.starts, self.sleeps, self.stops, self.rebuilds, self.removes);
            assert_eq!(waiting, (0, 0, 0, 0, 0), "nobody waits for ever in {state:?}");
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

#[test]
fn a_sleeping_vm_that_is_called_wakes_and_one_that_cannot_wake_waits_for_a_person() {
    let asleep = State::Asleep { failed: None };
    let called = Event::Observed(Observed::Asleep { called: true });
    assert_eq!(step(asleep, called.clone()), (State::Waking, vec![Effect::Start]));
    let error = EngineError::WakeFailed { reason: "its saved memory is cut short".into() };
    let (state, effects) = step(State::Waking, Event::StartEnded(Err(error.clone())));
    assert_eq!(state, State::Asleep { failed: Some("its saved memory is cut short".into()) });
    assert_eq!(effects, vec![Effect::AnswerStarts(Err(Refusal::Engine(error)))]);
    assert_eq!(step(state.clone(), called), (state.clone(), vec![]));
    assert_eq!(step(state.clone(), Event::BootAsked), (State::Starting, vec![Effect::Boot]));
    assert_eq!(step(state, Event::StartAsked), (State::Waking, vec![Effect::Start]));
}

#[test]
fn who_comes_while_it_falls_asleep_wins() {
    let (state, effects) = step(State::Running, Event::SleepAsked);
    assert_eq!(effects, vec![Effect::Sleep]);
    let (state, effects) = step(state, Event::StartAsked);
    assert_eq!(effects, vec![]);
    let (woken, effects) = step(state.clone(), Event::SleepEnded(Ok(())));
    assert_eq!(woken, State::Waking);
    assert_eq!(effects, vec![Effect::AnswerSleeps(Err(Refusal::InUse)), Effect::Start]);
    let (runs_on, effects) = step(state, Event::SleepEnded(Err(EngineError::InUse)));
    assert_eq!(runs_on, State::Running);
    assert_eq!(effects, vec![Effect::AnswerStarts(Ok(())), Effect::AnswerSleeps(Err(Refusal::InUse))]);
}

#[test]
fn only_a_person_gives_up_a_sleep() {
    for observed in [Observed::Asleep { called: true }, Observed::Asleep { called: false }, Observed::Waking]
    {
        let (_, effects) = State::first(observed);
        assert!(!effects.contains(&Effect::Boot));
    }
    assert_eq!(step(State::Running, Event::BootAsked), (State::Running, vec![Effect::AnswerStarts(Ok(()))]));
}

#[test]
fn what_was_on_is_on_again_after_a_rebuild_however_it_ended() {
    for result in [Ok(()), Err(engine_error())] {
        let (state, effects) = step(State::Running, Event::RebuildAsked(Home::Discard));
        assert_eq!(effects.last(), Some(&Effect::Rebuild(Home::Discard)));
        let (state, effects) = step(state, Event::RebuildEnded(result.clone()));
        assert_eq!(state, State::Starting);
        let answer = Effect::AnswerRebuilds(result.map_err(Refusal::Engine));
        assert_eq!(effects, vec![answer, Effect::Start]);
    }
}

#[test]
fn what_was_off_stays_off_after_a_rebuild_unless_somebody_came() {
    let (state, _) = step(State::Off { ended: None }, Event::RebuildAsked(Home::Keep));
    let (off, effects) = step(state.clone(), Event::RebuildEnded(Ok(())));
    assert_eq!((off, effects), (State::Off { ended: None }, vec![Effect::AnswerRebuilds(Ok(()))]));
    let (state, effects) = step(state, Event::StartAsked);
    assert_eq!(effects, vec![], "they wait for it");
    let (state, effects) = step(state, Event::StopAsked);
    assert_eq!(effects, vec![Effect::AnswerStops(Err(Refusal::Rebuilding))]);
    let (state, _) = step(state, Event::RebuildEnded(Ok(())));
    assert_eq!(state, State::Starting);
}
