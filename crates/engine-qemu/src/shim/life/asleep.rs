//! The phases of a VM that falls asleep, sleeps or wakes.
//!
//! ```text
//!             saved           recorded           QEMU is gone           asked to wake
//!   Falling ─────────► Falling ─────────► Parking ──────────► Resting ───────────────► Waking
//!      │                                                       ▲ │ ▲                   │  │ loaded
//!      │ a connection, a reboot, an error                      │ │ └──── QEMU is gone ─┘  ▼
//!      ▼                                                       │ │ Returning ◄─ failed ─ Resuming
//!   awake again                                          copied, unused                     │ the sleep is over
//!                                                                ▼                          ▼
//!                                                               Left                   awake: Rousing
//! ```
//!
//! Up to `recorded` the VM is awake, and everything that goes wrong leaves it so, or ends it as if it had never been
//! asked. From there to the end of `Resuming` it is asleep, and everything that goes wrong leaves it so.

use std::time::Duration;

use berth_engine::{Ending, Observed};

use super::{Effect, Event, NoSleep, Phase, awake, waking};

/// Who starts a shim for a sleeping VM asks it to wake at once, or wants it settled.
const ASKED_WITHIN: Duration = Duration::from_secs(5);
/// A full disk may have room later.
const SETTLE_AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asleep {
    /// The guest is being put away.
    Falling(Then),
    /// It is put away, and QEMU is on its way out.
    Parking(Then),
    /// There is no QEMU.
    Resting(Rest),
    /// QEMU starts, and is given what was put away.
    Waking,
    /// That failed, and QEMU is on its way out; why, as a sentence.
    Returning(String, Then),
    /// The sleep ends and the guest goes on: what somebody has asked for meanwhile comes after it.
    Resuming(Option<Event>),
    /// The shim is done.
    Left,
}

/// What follows when QEMU is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Rest,
    Wake,
    Leave,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rest {
    copy: Copy,
    called: bool,
    /// To go as soon as it is settled, or cannot be.
    leaving: bool,
}

/// How far the sleep is copied to where it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    /// When the time that is set is over.
    Due,
    UnderWay,
    Done,
}

pub(super) type Next = (Phase, Vec<Effect>);

impl Asleep {
    /// As a new shim finds the VM.
    pub(super) fn found() -> Next {
        let rest = Rest { copy: Copy::Due, called: false, leaving: false };
        Self::Resting(rest).with(vec![Effect::Wait(ASKED_WITHIN)])
    }

    pub(super) fn observed(&self) -> Observed {
        match self {
            Self::Falling(_) => Observed::Running,
            Self::Parking(_) | Self::Left => Observed::Asleep { called: false },
            Self::Resting(rest) => Observed::Asleep { called: rest.called },
            Self::Waking | Self::Returning(..) | Self::Resuming(_) => Observed::Waking,
        }
    }

    pub(super) fn may_be_called(&self) -> bool {
        matches!(self, Self::Resting(Rest { called: false, .. }))
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Self::Resting(Rest { copy: Copy::Done, .. }))
    }

    pub(super) fn step(self, event: Event) -> Next {
        match self {
            Self::Falling(then) => falling(then, event),
            Self::Parking(then) => parking(then, event),
            Self::Resting(rest) => resting(rest, event),
            Self::Waking => waking::waking(event),
            Self::Returning(reason, then) => waking::returning(reason, then, event),
            Self::Resuming(asked) => waking::resuming(asked, event),
            Self::Left => Self::Left.with(vec![]),
        }
    }

    pub(super) fn with(self, effects: Vec<Effect>) -> Next {
        (Phase::Asleep(self), effects)
    }
}

fn falling(then: Then, event: Event) -> Next {
    // The guest goes on, or ends, as if it had not been asked.
    let refused = |effects: &[Effect], why, (phase, after): Next| {
        let answers = [Effect::AnswerSleep(Err(why)), Effect::AnswerWake(Ok(()))];
        (phase, effects.iter().cloned().chain(answers).chain(after).collect())
    };
    let goes_on = |why, next| refused(&[Effect::GoOn], why, next);
    let ends = |next| refused(&[], NoSleep::NotRunning, next);
    match event {
        Event::Saved => Asleep::Falling(then).with(vec![Effect::Record]),
        Event::Recorded => {
            Asleep::Parking(then).with(vec![Effect::PullPlug, Effect::Wait(awake::END_WITHIN)])
        }
        Event::SleepFailed(why) => goes_on(why, awake::Awake::Running.with([])),
        Event::WakeAsked => Asleep::Falling(Then::Wake).with(vec![]),
        Event::Reset => goes_on(NoSleep::NotRunning, awake::rebooted()),
        Event::StopAsked(patience) => goes_on(NoSleep::NotRunning, awake::stopping(patience)),
        Event::ShutDown(cause) => ends(awake::going_off(awake::alone(cause))),
        Event::KillAsked => ends(awake::cut(Ending::Killed)),
        Event::WaitOver => ends(awake::stopped_answering()),
        Event::Exited(reason) => ends(awake::ended(Ending::Failed { reason })),
        Event::ControlLost => Asleep::Falling(then).with(vec![Effect::Wait(awake::END_AFTER_CONTROL_WITHIN)]),
        Event::SleepAsked
        | Event::CameUp
        | Event::BringUpFailed(_)
        | Event::Loaded
        | Event::WakeFailed(_)
        | Event::NotStarted(_)
        | Event::Resumed
        | Event::LetGoAsked
        | Event::Settled(_)
        | Event::Called
        | Event::Unused => Asleep::Falling(then).with(vec![]),
    }
}

fn parking(then: Then, event: Event) -> Next {
    match event {
        Event::Exited(_) => {
            let (phase, mut effects) = rest_or(then);
            effects.insert(0, Effect::AnswerSleep(Ok(())));
            (phase, effects)
        }
        Event::WaitOver => Asleep::Parking(then).with(vec![Effect::PullPlug]),
        Event::WakeAsked if then == Then::Rest => Asleep::Parking(Then::Wake).with(vec![]),
        Event::StopAsked(_) | Event::KillAsked | Event::LetGoAsked => {
            Asleep::Parking(Then::Leave).with(vec![])
        }
        Event::WakeAsked
        | Event::SleepAsked
        | Event::CameUp
        | Event::BringUpFailed(_)
        | Event::Reset
        | Event::ShutDown(_)
        | Event::Saved
        | Event::Recorded
        | Event::SleepFailed(_)
        | Event::Loaded
        | Event::WakeFailed(_)
        | Event::NotStarted(_)
        | Event::Resumed
        | Event::Settled(_)
        | Event::Called
        | Event::Unused
        | Event::ControlLost => Asleep::Parking(then).with(vec![]),
    }
}

/// QEMU is gone.
pub(super) fn rest_or(then: Then) -> Next {
    match then {
        Then::Rest => settling(false),
        Then::Wake => waking::begin(vec![]),
        Then::Leave => Asleep::Left.with(vec![Effect::Leave]),
    }
}

fn settling(leaving: bool) -> Next {
    let rest = Rest { copy: Copy::UnderWay, called: false, leaving };
    Asleep::Resting(rest).with(vec![Effect::StopWaiting, Effect::Settle])
}

fn resting(rest: Rest, event: Event) -> Next {
    let left = || Asleep::Left.with(vec![Effect::AbandonSettle, Effect::Leave]);
    match event {
        Event::WakeAsked => waking::begin(vec![Effect::AbandonSettle]),
        Event::Settled(_) if rest.leaving => left(),
        Event::Settled(true) => Asleep::Resting(Rest { copy: Copy::Done, ..rest }).with(vec![]),
        Event::Settled(false) => {
            Asleep::Resting(Rest { copy: Copy::Due, ..rest }).with(vec![Effect::Wait(SETTLE_AGAIN)])
        }
        Event::WaitOver if rest.copy == Copy::Due => {
            Asleep::Resting(Rest { copy: Copy::UnderWay, ..rest }).with(vec![Effect::Settle])
        }
        Event::Unused if rest.copy == Copy::Done => left(),
        Event::Called => Asleep::Resting(Rest { called: true, ..rest }).with(vec![]),
        Event::SleepAsked => Asleep::Resting(rest).with(vec![Effect::AnswerSleep(Ok(()))]),
        Event::KillAsked | Event::LetGoAsked => left(),
        // The host goes down: what is only in the tmpfs would be lost.
        Event::StopAsked(_) => match rest.copy {
            Copy::Done => left(),
            Copy::UnderWay => Asleep::Resting(Rest { leaving: true, ..rest }).with(vec![]),
            Copy::Due => settling(true),
        },
        Event::WaitOver
        | Event::Unused
        | Event::CameUp
        | Event::BringUpFailed(_)
        | Event::Reset
        | Event::ShutDown(_)
        | Event::Saved
        | Event::Recorded
        | Event::SleepFailed(_)
        | Event::Loaded
        | Event::WakeFailed(_)
        | Event::NotStarted(_)
        | Event::Resumed
        | Event::ControlLost
        | Event::Exited(_) => Asleep::Resting(rest).with(vec![]),
    }
}
