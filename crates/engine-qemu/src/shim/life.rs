//! The life of one run of a VM, from QEMU's start to its end: pure, and the only place where its phases are decided.
//!
//! ```text
//!              came up                  asked to stop
//!   Booting ─────────────► Running ───────────────────► Stopping ── patience over ──┐
//!      ▲  │                 │ │ │                          │                        │ plug pulled
//!      │  └─ rebooted thrice│ │ └── guest: poweroff ──┐    │ guest is down          │
//!      │     or too slow ─┐ │ │                       ▼    ▼                        ▼
//!      └──── guest: reboot┼─┘ └── QEMU is gone ───► Ending (decided: how) ── QEMU is gone ──► Ended
//!                         └─────────────────────────────────▲
//! ```
//!
//! [`Life::step`] never waits and does nothing; the supervisor carries out the effects and is the only caller.

use std::time::Duration;

use berth_engine::{Ending, Observed};

use super::qmp::Cause;

/// So often may a guest begin anew before it has come up once: a kernel that cannot start does so for ever.
const BOOTS: u32 = 3;
/// QEMU writes back what it holds before it ends.
const END_WITHIN: Duration = Duration::from_secs(20);
/// After its control channel has ended, QEMU should too.
const END_AFTER_CONTROL_WITHIN: Duration = Duration::from_secs(3);

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// The guest has its account and keys, and its sshd has answered.
    CameUp,
    /// It will not come up; a sentence without a full stop.
    BringUpFailed(String),
    /// The guest began anew.
    Reset,
    /// The machine goes off.
    ShutDown(Cause),
    /// Somebody asked for a clean stop.
    StopAsked(Duration),
    /// Somebody asked for the plug to be pulled.
    KillAsked,
    /// The time that was set with [`Effect::Wait`] is over.
    WaitOver,
    /// QEMU's control channel ended.
    ControlLost,
    /// QEMU's process ended; a sentence for the case that nothing else explains it.
    Exited(String),
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Begin to bring the guest up, in place of an attempt that is under way.
    BringUp,
    /// Give up bringing it up.
    AbandonBringUp,
    /// Ask the guest to shut down, and again until it does.
    AskToShutDown,
    /// End QEMU.
    PullPlug,
    /// Tell [`Event::WaitOver`] after this time, instead of after one that was set before.
    Wait(Duration),
    /// Nothing is left to do but to write this down.
    Finish(Ending),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// `boots` counts this one and those before it that did not come up.
    Booting {
        boots: u32,
    },
    Running,
    Stopping,
    Ending(Ending),
    Ended(Ending),
}

/// One run of a VM.
#[derive(Debug)]
pub(super) struct Life(Phase);

impl Life {
    /// QEMU has started, and bringing up the guest is under way.
    pub(super) fn new() -> Self {
        Self(Phase::Booting { boots: 1 })
    }

    /// What is told of this run.
    pub(super) fn observed(&self) -> Observed {
        match &self.0 {
            Phase::Booting { .. } => Observed::Booting,
            Phase::Running => Observed::Running,
            Phase::Stopping | Phase::Ending(_) => Observed::Stopping,
            Phase::Ended(ending) => Observed::Off { ended: Some(ending.clone()) },
        }
    }

    /// What becomes of it.
    pub(super) fn step(&mut self, event: Event) -> Vec<Effect> {
        let phase = self.0.clone();
        match (phase, event) {
            (Phase::Booting { .. }, Event::CameUp) => {
                self.0 = Phase::Running;
                vec![]
            }
            (Phase::Booting { .. }, Event::BringUpFailed(reason)) => self.cut(Ending::Failed { reason }),
            (Phase::Booting { boots }, Event::Reset) if boots >= BOOTS => self.cut(Ending::Failed {
                reason: format!("it began to boot {BOOTS} times and did not come up"),
            }),
            (Phase::Booting { boots }, Event::Reset) => {
                self.0 = Phase::Booting { boots: boots + 1 };
                vec![Effect::BringUp]
            }
            (Phase::Running, Event::Reset) => {
                self.0 = Phase::Booting { boots: 1 };
                vec![Effect::BringUp]
            }
            (Phase::Booting { .. } | Phase::Running, Event::ShutDown(cause)) => self.going_off(alone(cause)),
            (Phase::Stopping, Event::ShutDown(cause)) => self.going_off(when_asked(cause)),

            (Phase::Booting { .. } | Phase::Running, Event::StopAsked(patience)) => {
                self.0 = Phase::Stopping;
                vec![Effect::AbandonBringUp, Effect::AskToShutDown, Effect::Wait(patience)]
            }
            (Phase::Stopping, Event::StopAsked(patience)) => vec![Effect::Wait(patience)],
            (Phase::Booting { .. } | Phase::Running | Phase::Stopping, Event::KillAsked)
            | (Phase::Stopping, Event::WaitOver) => self.cut(Ending::Killed),

            // Only a lost control channel sets a time in these two.
            (Phase::Booting { .. } | Phase::Running, Event::WaitOver) => {
                self.cut(Ending::Failed { reason: "its process on the host stopped answering".to_owned() })
            }
            (Phase::Booting { .. } | Phase::Running | Phase::Stopping, Event::ControlLost) => {
                vec![Effect::Wait(END_AFTER_CONTROL_WITHIN)]
            }
            (Phase::Booting { .. } | Phase::Running | Phase::Stopping, Event::Exited(reason)) => {
                self.ended(Ending::Failed { reason })
            }

            (Phase::Ending(ending), Event::Exited(_)) => self.ended(ending),
            (Phase::Ending(_), Event::WaitOver | Event::KillAsked) => vec![Effect::PullPlug],

            // Too late to matter: the shutdown goes on as it was decided.
            (Phase::Running, Event::CameUp | Event::BringUpFailed(_))
            | (Phase::Stopping, Event::CameUp | Event::BringUpFailed(_) | Event::Reset)
            | (
                Phase::Ending(_),
                Event::CameUp
                | Event::BringUpFailed(_)
                | Event::Reset
                | Event::ShutDown(_)
                | Event::StopAsked(_)
                | Event::ControlLost,
            )
            | (
                Phase::Ended(_),
                Event::CameUp
                | Event::BringUpFailed(_)
                | Event::Reset
                | Event::ShutDown(_)
                | Event::StopAsked(_)
                | Event::KillAsked
                | Event::WaitOver
                | Event::ControlLost
                | Event::Exited(_),
            ) => vec![],
        }
    }

    /// QEMU is on its way out by itself.
    fn going_off(&mut self, ending: Ending) -> Vec<Effect> {
        self.0 = Phase::Ending(ending);
        vec![Effect::AbandonBringUp, Effect::Wait(END_WITHIN)]
    }

    /// QEMU has to be ended.
    fn cut(&mut self, ending: Ending) -> Vec<Effect> {
        self.0 = Phase::Ending(ending);
        vec![Effect::AbandonBringUp, Effect::PullPlug, Effect::Wait(END_WITHIN)]
    }

    fn ended(&mut self, ending: Ending) -> Vec<Effect> {
        self.0 = Phase::Ended(ending.clone());
        vec![Effect::AbandonBringUp, Effect::Finish(ending)]
    }
}

/// What a shutdown means that nobody asked for from outside.
fn alone(cause: Cause) -> Ending {
    let reason = match cause {
        Cause::Guest => return Ending::PoweredOff,
        Cause::Panic => "its kernel panicked",
        Cause::Signal => "its process on the host was ended from outside",
        Cause::Asked | Cause::Error => "its process on the host met an error",
    };
    Ending::Failed { reason: reason.to_owned() }
}

/// What a shutdown means after the guest was asked for one.
fn when_asked(cause: Cause) -> Ending {
    match cause {
        Cause::Guest => Ending::Stopped,
        Cause::Panic | Cause::Signal | Cause::Asked | Cause::Error => alone(cause),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn after(events: impl IntoIterator<Item = Event>) -> (Life, Vec<Effect>) {
        let mut life = Life::new();
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
        assert_eq!(
            ending([Event::CameUp, Event::StopAsked(PATIENCE), off.clone(), exited()]),
            Ending::Stopped
        );
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
        assert_eq!(
            (life.observed(), effects),
            (Observed::Running, vec![Effect::Wait(END_AFTER_CONTROL_WITHIN)])
        );
        assert_eq!(
            ending([Event::CameUp, Event::ControlLost, exited()]),
            Ending::Failed { reason: "gone".to_owned() }
        );
        let (_, effects) = after([Event::CameUp, Event::ControlLost, Event::WaitOver]);
        assert!(effects.contains(&Effect::PullPlug));
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::CameUp),
            Just(Event::BringUpFailed("x".to_owned())),
            Just(Event::Reset),
            prop_oneof![Just(Cause::Guest), Just(Cause::Panic), Just(Cause::Signal), Just(Cause::Error)]
                .prop_map(Event::ShutDown),
            Just(Event::StopAsked(PATIENCE)),
            Just(Event::KillAsked),
            Just(Event::WaitOver),
            Just(Event::ControlLost),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_it_finishes_once_when_qemu_is_gone(events in prop::collection::vec(any_event(), 0..20)) {
            let mut life = Life::new();
            let mut decided = None;
            for event in events {
                for effect in life.step(event) {
                    prop_assert!(!matches!(effect, Effect::Finish(_)), "QEMU still runs");
                }
                match (&decided, &life.0) {
                    (None, Phase::Ending(ending)) => decided = Some(ending.clone()),
                    (Some(ending), phase) => prop_assert_eq!(&Phase::Ending(ending.clone()), phase),
                    _ => {}
                }
            }
            let effects = life.step(exited());
            let expected = decided.unwrap_or(Ending::Failed { reason: "gone".to_owned() });
            prop_assert_eq!(effects.last(), Some(&Effect::Finish(expected.clone())));
            prop_assert_eq!(life.observed(), Observed::Off { ended: Some(expected) });
            prop_assert!(life.step(exited()).is_empty());
        }

        #[test]
        fn a_life_that_is_ending_always_has_a_time_set(events in prop::collection::vec(any_event(), 0..20)) {
            let mut life = Life::new();
            for event in events {
                let was_ending = matches!(life.0, Phase::Ending(_));
                let effects = life.step(event);
                if !was_ending && matches!(life.0, Phase::Ending(_)) {
                    prop_assert!(effects.iter().any(|effect| matches!(effect, Effect::Wait(_))));
                }
            }
        }
    }
}
