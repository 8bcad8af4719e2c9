//! The phases of a VM whose guest goes on, or ends.

use std::time::Duration;

use berth_engine::{Ending, Observed};

use super::{Asleep, Cause, Effect, Event, NoSleep, Phase, asleep::Then};

/// So often may a guest begin anew before it has come up once: a kernel that cannot start does so for ever.
const BOOTS: u32 = 3;
/// QEMU writes back what it holds before it ends.
pub(super) const END_WITHIN: Duration = Duration::from_secs(20);
/// After its control channel has ended, QEMU should too.
pub(super) const END_AFTER_CONTROL_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Awake {
    /// `boots` counts this one and those before it that did not come up.
    Booting {
        boots: u32,
    },
    /// It has slept, goes on, and is given what it needs.
    Rousing,
    Running,
    Stopping,
    Ending(Ending),
    Ended(Ending),
}

type Next = (Phase, Vec<Effect>);

impl Awake {
    pub(super) fn observed(&self) -> Observed {
        match self {
            Self::Booting { .. } => Observed::Booting,
            Self::Rousing => Observed::Waking,
            Self::Running => Observed::Running,
            Self::Stopping | Self::Ending(_) => Observed::Stopping,
            Self::Ended(ending) => Observed::Off { ended: Some(ending.clone()) },
        }
    }

    pub(super) fn step(self, event: Event) -> Next {
        match (self, event) {
            (Self::Booting { .. } | Self::Rousing, Event::CameUp) => Self::Running.with([]),
            (Self::Booting { .. } | Self::Rousing, Event::BringUpFailed(reason)) => {
                cut(Ending::Failed { reason })
            }
            (Self::Booting { boots }, Event::Reset) if boots >= BOOTS => {
                cut(Ending::Failed { reason: format!("it began to boot {BOOTS} times and did not come up") })
            }
            (Self::Booting { boots }, Event::Reset) => {
                Self::Booting { boots: boots + 1 }.with([Effect::BringUp])
            }
            (Self::Running | Self::Rousing, Event::Reset) => rebooted(),
            (Self::Booting { .. } | Self::Rousing | Self::Running, Event::ShutDown(cause)) => {
                going_off(alone(cause))
            }
            (Self::Stopping, Event::ShutDown(cause)) => going_off(when_asked(cause)),

            (Self::Booting { .. } | Self::Rousing | Self::Running, Event::StopAsked(patience)) => {
                stopping(patience)
            }
            (Self::Stopping, Event::StopAsked(patience)) => Self::Stopping.with([Effect::Wait(patience)]),
            (Self::Booting { .. } | Self::Rousing | Self::Running | Self::Stopping, Event::KillAsked)
            | (Self::Stopping, Event::WaitOver) => cut(Ending::Killed),

            // Only a lost control channel sets a time in these.
            (Self::Booting { .. } | Self::Rousing | Self::Running, Event::WaitOver) => stopped_answering(),
            (awake @ (Self::Booting { .. } | Self::Rousing | Self::Running | Self::Stopping), Event::ControlLost) => {
                awake.with([Effect::Wait(END_AFTER_CONTROL_WITHIN)])
            }
            (Self::Booting { .. } | Self::Rousing | Self::Running | Self::Stopping, Event::Exited(reason)) => {
                ended(Ending::Failed { reason })
            }
            (Self::Ending(ending), Event::Exited(_)) => ended(ending),
            (awake @ Self::Ending(_), Event::WaitOver | Event::KillAsked) => awake.with([Effect::PullPlug]),

            (Self::Running, Event::SleepAsked) => {
                (Phase::Asleep(Asleep::Falling(Then::Rest)), vec![Effect::FallAsleep])
            }
            (awake, Event::SleepAsked) => awake.with([Effect::AnswerSleep(Err(NoSleep::NotRunning))]),
            (awake, Event::WakeAsked) => awake.with([Effect::AnswerWake(Ok(()))]),

            // Too late to matter: the shutdown goes on as it was decided.
            (awake @ Self::Running, Event::CameUp | Event::BringUpFailed(_))
            | (awake @ Self::Stopping, Event::CameUp | Event::BringUpFailed(_) | Event::Reset)
            | (
                awake @ Self::Ending(_),
                Event::CameUp
                | Event::BringUpFailed(_)
                | Event::Reset
                | Event::ShutDown(_)
                | Event::StopAsked(_)
                | Event::ControlLost,
            )
            | (
                awake @ Self::Ended(_),
                Event::CameUp
                | Event::BringUpFailed(_)
                | Event::Reset
                | Event::ShutDown(_)
                | Event::StopAsked(_)
                | Event::KillAsked
                | Event::WaitOver
                | Event::ControlLost
                | Event::Exited(_),
            )
            // What belongs to a sleep that was given up.
            | (
                awake,
                Event::Saved
                | Event::Recorded
                | Event::SleepFailed(_)
                | Event::Loaded
                | Event::WakeFailed(_)
                | Event::NotStarted(_)
                | Event::Resumed
                | Event::LetGoAsked
                | Event::Settled(_)
                | Event::Called
                | Event::Unused,
            ) => awake.with([]),
        }
    }

    pub(super) fn with<const N: usize>(self, effects: [Effect; N]) -> Next {
        (Phase::Awake(self), effects.into())
    }
}

/// The guest begins anew, after it had come up.
pub(super) fn rebooted() -> Next {
    Awake::Booting { boots: 1 }.with([Effect::BringUp])
}

pub(super) fn stopping(patience: Duration) -> Next {
    Awake::Stopping.with([Effect::AbandonBringUp, Effect::AskToShutDown, Effect::Wait(patience)])
}

/// QEMU is on its way out by itself.
pub(super) fn going_off(ending: Ending) -> Next {
    Awake::Ending(ending).with([Effect::AbandonBringUp, Effect::Wait(END_WITHIN)])
}

/// QEMU has to be ended.
pub(super) fn cut(ending: Ending) -> Next {
    Awake::Ending(ending).with([Effect::AbandonBringUp, Effect::PullPlug, Effect::Wait(END_WITHIN)])
}

pub(super) fn stopped_answering() -> Next {
    cut(Ending::Failed { reason: "its process on the host stopped answering".to_owned() })
}

pub(super) fn ended(ending: Ending) -> Next {
    Awake::Ended(ending.clone()).with([Effect::AbandonBringUp, Effect::Finish(ending)])
}

/// What a shutdown means that nobody asked for from outside.
pub(super) fn alone(cause: Cause) -> Ending {
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
