use proptest::prelude::*;

use super::{
    awake::{END_AFTER_CONTROL_WITHIN, END_WITHIN},
    *,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn after(events: impl IntoIterator<Item = Event>) -> (Life, Vec<Effect>) {
    let mut life = Life::booting();
    let mut effects = vec![];
    for event in events {
        effects = life.step(event);
    }
    (life, effects)
}

fn ending(events: impl IntoIterator<Item = Event>) -> Ending {
    match after(events).1.pop() {
        Some(Effect::Finish(ending)) => ending,
        other => panic!("not finished but {other:?}"),
    }
}

fn exited() -> Event {
    Event::Exited("gone".to_owned())
}

#[test]
fn a_poweroff_inside_and_a_stop_from_outside_are_told_apart() {
    let off = Event::ShutDown(Cause::Guest);
    assert_eq!(ending([Event::CameUp, off.clone(), exited()]), Ending::PoweredOff);
    assert_eq!(ending([Event::CameUp, Event::StopAsked(PATIENCE), off.clone(), exited()]), Ending::Stopped);
    assert_eq!(
        ending([Event::CameUp, Event::StopAsked(PATIENCE), Event::WaitOver, exited()]),
        Ending::Killed
    );
    assert_eq!(ending([Event::CameUp, Event::KillAsked, exited()]), Ending::Killed);
    assert_eq!(ending([off, exited()]), Ending::PoweredOff);
    assert_eq!(ending([Event::CameUp, exited()]), Ending::Failed { reason: "gone".to_owned() });
}

#[test]
fn a_reboot_is_brought_up_again_and_three_in_a_row_are_a_failure() {
    let (life, effects) = after([Event::CameUp, Event::Reset]);
    assert_eq!((life.observed(), effects), (Observed::Booting, vec![Effect::BringUp]));
    let (life, _) = after([Event::Reset, Event::Reset, Event::CameUp, Event::Reset, Event::CameUp]);
    assert_eq!(life.observed(), Observed::Running);
    let (life, effects) = after([Event::Reset, Event::Reset, Event::Reset]);
    assert_eq!(life.observed(), Observed::Stopping);
    assert!(effects.contains(&Effect::PullPlug));
}

#[test]
fn a_lost_control_channel_waits_for_the_exit_that_explains_it() {
    let (life, effects) = after([Event::CameUp, Event::ControlLost]);
    assert_eq!((life.observed(), effects), (Observed::Running, vec![Effect::Wait(END_AFTER_CONTROL_WITHIN)]));
    assert_eq!(
        ending([Event::CameUp, Event::ControlLost, exited()]),
        Ending::Failed { reason: "gone".to_owned() }
    );
    let (_, effects) = after([Event::CameUp, Event::ControlLost, Event::WaitOver]);
    assert!(effects.contains(&Effect::PullPlug));
}

const OFF: Event = Event::ShutDown(Cause::Guest);

#[test]
fn asleep_and_awake_again() {
    let mut life = after([Event::CameUp]).0;
    assert_eq!(life.step(Event::SleepAsked), [Effect::FallAsleep]);
    assert_eq!(life.step(Event::Saved), [Effect::Record]);
    assert_eq!(life.observed(), Observed::Running, "until it is written down");
    let effects = life.step(Event::Recorded);
    assert_eq!(effects, [Effect::PullPlug, Effect::Wait(END_WITHIN)]);
    assert_eq!(life.observed(), Observed::Asleep { called: false });
    let effects = life.step(exited());
    assert_eq!(effects, [Effect::AnswerSleep(Ok(())), Effect::StopWaiting, Effect::Settle]);
    life.step(Event::Called);
    assert_eq!(life.observed(), Observed::Asleep { called: true });
    let effects = life.step(Event::WakeAsked);
    assert_eq!((effects.first(), effects.last()), (Some(&Effect::AbandonSettle), Some(&Effect::Wake)));
    assert_eq!(life.step(Event::Loaded), [Effect::StopWaiting, Effect::Resume]);
    assert_eq!(life.step(Event::Resumed), [Effect::AnswerWake(Ok(())), Effect::Rouse]);
    assert_eq!(life.observed(), Observed::Waking);
    life.step(Event::CameUp);
    assert_eq!(life.observed(), Observed::Running);
}

#[test]
fn what_the_guest_does_while_it_falls_asleep_comes_first() {
    let falling = || after([Event::CameUp, Event::SleepAsked, Event::Saved]).0;
    let mut life = falling();
    assert!(life.step(Event::SleepFailed(NoSleep::InUse)).contains(&Effect::GoOn));
    assert_eq!(life.observed(), Observed::Running);
    let mut life = falling();
    let effects = life.step(Event::Reset);
    assert!(effects.contains(&Effect::GoOn) && effects.contains(&Effect::BringUp));
    assert_eq!(life.observed(), Observed::Booting);
    let mut life = falling();
    assert!(life.step(OFF).contains(&Effect::AnswerSleep(Err(NoSleep::NotRunning))));
    assert_eq!(life.step(exited()).last(), Some(&Effect::Finish(Ending::PoweredOff)));
}

#[test]
fn a_shim_goes_when_the_sleep_lasts_and_nobody_is_connected() {
    let (mut life, effects) = Life::asleep();
    assert!(matches!(effects[..], [Effect::Wait(_)]), "whoever started it may ask it to wake");
    assert_eq!(life.step(Event::WaitOver), [Effect::Settle]);
    assert_eq!(life.step(Event::Unused), []);
    assert!(!life.may_leave());
    assert!(matches!(life.step(Event::Settled(false))[..], [Effect::Wait(_)]), "a full disk is tried again");
    life.step(Event::WaitOver);
    life.step(Event::Settled(true));
    assert!(life.may_leave());
    assert_eq!(life.step(Event::Unused).last(), Some(&Effect::Leave));
}

#[test]
fn a_wake_that_fails_leaves_the_sleep() {
    let mut life = Life::asleep().0;
    life.step(Event::WakeAsked);
    assert!(life.step(Event::WakeFailed("old".to_owned())).contains(&Effect::PullPlug));
    let effects = life.step(exited());
    assert!(effects.contains(&Effect::AnswerWake(Err("old".to_owned()))), "{effects:?}");
    assert_eq!(life.observed(), Observed::Asleep { called: false });
}

#[test]
fn a_host_that_goes_down_waits_for_the_copy() {
    let mut life = Life::asleep().0;
    assert!(life.step(Event::StopAsked(PATIENCE)).contains(&Effect::Settle));
    assert_eq!(life.step(Event::Settled(true)).last(), Some(&Effect::Leave));
}

/// The world around a life, as far as it has to be kept in order: one QEMU, one sleep.
#[derive(Debug, Default)]
struct World {
    qemu: bool,
    /// A record is on the disk.
    asleep: bool,
    /// What was begun and has not been heard of.
    saving: bool,
    recording: bool,
    loading: bool,
    resuming: bool,
    settling: bool,
    sleepers: bool,
    wakers: bool,
    time_set: bool,
    plug_pulled: bool,
    over: bool,
}

impl World {
    /// What can happen in it.
    fn possible(&self) -> Vec<Event> {
        if self.recording {
            return vec![Event::Recorded, Event::SleepFailed(NoSleep::Failed("x".to_owned()))];
        }
        let mut events = vec![
            Event::SleepAsked,
            Event::WakeAsked,
            Event::StopAsked(PATIENCE),
            Event::KillAsked,
            Event::LetGoAsked,
            Event::Called,
            Event::Unused,
        ];
        let mut when = |possible, more: &[Event]| {
            if possible {
                events.extend_from_slice(more);
            }
        };
        let listened_to = self.qemu && !self.resuming;
        let causes = [Cause::Guest, Cause::Panic, Cause::Signal, Cause::Error].map(Event::ShutDown);
        let failed = Event::BringUpFailed("x".to_owned());
        when(listened_to && !self.loading, &[Event::Reset, Event::CameUp, failed, Event::ControlLost]);
        when(listened_to && !self.loading, &causes);
        when(listened_to, &[exited()]);
        when(self.time_set, &[Event::WaitOver]);
        when(self.saving, &[Event::Saved, Event::SleepFailed(NoSleep::InUse)]);
        when(self.loading && self.qemu, &[Event::Loaded, Event::WakeFailed("x".to_owned())]);
        when(self.resuming, &[Event::Resumed, Event::WakeFailed("x".to_owned())]);
        when(self.settling, &[Event::Settled(true), Event::Settled(false)]);
        events
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::SleepAsked => self.sleepers = true,
            Event::WakeAsked => self.wakers = true,
            Event::Saved => self.saving = false,
            Event::SleepFailed(_) => (self.saving, self.recording) = (false, false),
            Event::Recorded => (self.recording, self.asleep) = (false, true),
            Event::Loaded => self.loading = false,
            Event::WakeFailed(_) => (self.loading, self.resuming) = (false, false),
            Event::Resumed => (self.resuming, self.asleep) = (false, false),
            Event::Settled(_) => self.settling = false,
            Event::WaitOver => self.time_set = false,
            Event::Exited(_) => (self.qemu, self.plug_pulled) = (false, false),
            _ => {}
        }
    }

    fn does(&mut self, effect: &Effect) {
        assert!(!self.over, "{effect:?} after the end");
        match effect {
            Effect::FallAsleep => {
                assert!(self.qemu && !self.asleep);
                self.saving = true;
            }
            Effect::Record => self.recording = true,
            Effect::GoOn => {
                assert!(self.qemu && !self.asleep, "a guest that sleeps does not go on");
                self.saving = false;
            }
            Effect::PullPlug => {
                assert!(self.qemu);
                self.plug_pulled = true;
            }
            Effect::AnswerSleep(Ok(())) => {
                assert!(self.asleep && !self.qemu);
                self.sleepers = false;
            }
            Effect::AnswerSleep(Err(_)) => self.sleepers = false,
            Effect::AnswerWake(_) => self.wakers = false,
            Effect::Settle => {
                assert!(self.asleep && !self.qemu && !self.settling);
                self.settling = true;
            }
            Effect::AbandonSettle => self.settling = false,
            Effect::Wake => {
                assert!(self.asleep && !self.qemu && !self.settling, "one QEMU, and a sleep for it");
                (self.qemu, self.loading) = (true, true);
            }
            Effect::AbandonWake => self.loading = false,
            Effect::Resume => {
                assert!(self.asleep && self.qemu);
                self.resuming = true;
            }
            Effect::Leave => {
                assert!(self.asleep && !self.qemu, "nobody is left to wake it");
                self.over = true;
            }
            Effect::Finish(_) => {
                assert!(!self.asleep && !self.qemu, "a sleep is lost");
                self.over = true;
            }
            Effect::Wait(_) => self.time_set = true,
            Effect::StopWaiting => self.time_set = false,
            Effect::BringUp | Effect::Rouse | Effect::AskToShutDown => assert!(self.qemu && !self.asleep),
            Effect::AbandonBringUp => {}
        }
    }

    /// What holds between any two events.
    fn is_in_order(&self, life: &Life) {
        match &life.0 {
            Phase::Awake(Awake::Ending(_)) => {
                assert!(self.qemu && !self.asleep && (self.time_set || self.plug_pulled));
            }

            Phase::Awake(Awake::Ended(_)) => assert!(self.over),
            Phase::Awake(_) => assert!(self.qemu && !self.asleep),
            Phase::Asleep(Asleep::Falling(_)) => assert!(self.saving || self.recording),
            Phase::Asleep(Asleep::Parking(_) | Asleep::Returning(..)) => {
                assert!(self.qemu && self.asleep && self.plug_pulled);
            }
            Phase::Asleep(Asleep::Resting(_)) => {
                assert!(self.asleep && !self.qemu && (self.settling || self.time_set || life.may_leave()));
            }
            Phase::Asleep(Asleep::Waking) => {
                assert!(self.loading && self.qemu && self.asleep && self.time_set)
            }
            Phase::Asleep(Asleep::Resuming(_)) => assert!(self.resuming),
            Phase::Asleep(Asleep::Left) => assert!(self.over),
        }
        if life.may_be_called() {
            let mut called = life.clone();
            called.step(Event::Called);
            assert!(!called.may_be_called(), "it would be called for ever: {life:?}");
        }
        let sleepers_wait = matches!(&life.0, Phase::Asleep(Asleep::Falling(_) | Asleep::Parking(_)));
        assert!(self.over || !self.sleepers || sleepers_wait, "somebody waits for a sleep: {life:?}");
        let wakers_wait = matches!(
            &life.0,
            Phase::Asleep(
                Asleep::Falling(_)
                    | Asleep::Parking(_)
                    | Asleep::Waking
                    | Asleep::Returning(..)
                    | Asleep::Resuming(_)
            )
        );
        assert!(self.over || !self.wakers || wakers_wait, "somebody waits for a wake: {life:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn whatever_happens_there_is_one_qemu_and_no_sleep_is_lost(
        found_asleep in any::<bool>(),
        choices in prop::collection::vec(any::<u16>(), 0..60),
    ) {
        let mut world = World { qemu: !found_asleep, asleep: found_asleep, ..World::default() };
        let mut life = if found_asleep {
            let (life, effects) = Life::asleep();
            effects.iter().for_each(|effect| world.does(effect));
            life
        } else {
            Life::booting()
        };
        for choice in choices {
            if world.over {
                break;
            }
            let mut possible = world.possible();
            let event = possible.swap_remove(usize::from(choice) % possible.len());
            world.happens(&event);
            for effect in life.step(event) {
                world.does(&effect);
            }
            world.is_in_order(&life);
        }
        // In the end, when QEMU is gone and nobody asks for anything, it comes to rest.
        while world.recording || world.resuming || world.qemu {
            let event = if world.recording {
                Event::Recorded
            } else if world.resuming {
                Event::Resumed
            } else {
                exited()
            };
            world.happens(&event);
            for effect in life.step(event) {
                world.does(&effect);
            }
            world.is_in_order(&life);
        }
        prop_assert!(world.over || world.asleep);
    }
}
