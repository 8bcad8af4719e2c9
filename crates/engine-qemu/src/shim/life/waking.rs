//! The phases of a VM that is asleep and wakes: from QEMU's start to the end of the sleep.

use std::time::Duration;

use super::{
    Effect, Event, NoSleep,
    asleep::{Asleep, Next, Then, rest_or},
    awake,
};

/// QEMU's start, and copying its memory back from a slow disk.
const WAKE_WITHIN: Duration = Duration::from_secs(120);
const STOPPED: &str = "it was stopped while it woke";

pub(super) fn begin(mut before: Vec<Effect>) -> Next {
    before.extend([Effect::Wait(WAKE_WITHIN), Effect::Wake]);
    Asleep::Waking.with(before)
}

pub(super) fn waking(event: Event) -> Next {
    let back = |reason: String, then| {
        Asleep::Returning(reason, then).with(vec![
            Effect::AbandonWake,
            Effect::PullPlug,
            Effect::Wait(awake::END_WITHIN),
        ])
    };
    match event {
        Event::Loaded => Asleep::Resuming(None).with(vec![Effect::StopWaiting, Effect::Resume]),
        Event::WakeFailed(reason) => back(reason, Then::Rest),
        Event::WaitOver => back("it did not wake in time".to_owned(), Then::Rest),
        Event::StopAsked(_) | Event::KillAsked | Event::LetGoAsked => back(STOPPED.to_owned(), Then::Leave),
        Event::NotStarted(reason) | Event::Exited(reason) => returned(reason, Then::Rest),
        Event::SleepAsked => Asleep::Waking.with(vec![Effect::AnswerSleep(Err(NoSleep::NotRunning))]),
        Event::WakeAsked
        | Event::CameUp
        | Event::BringUpFailed(_)
        | Event::Reset
        | Event::ShutDown(_)
        | Event::Saved
        | Event::Recorded
        | Event::SleepFailed(_)
        | Event::Resumed
        | Event::Settled(_)
        | Event::Called
        | Event::Unused
        | Event::ControlLost => Asleep::Waking.with(vec![]),
    }
}

/// There is no QEMU any more, and the sleep is as it was.
fn returned(reason: String, then: Then) -> Next {
    let (phase, mut effects) = rest_or(then);
    effects.splice(0..0, [Effect::AbandonWake, Effect::AnswerWake(Err(reason))]);
    (phase, effects)
}

pub(super) fn returning(reason: String, then: Then, event: Event) -> Next {
    match event {
        Event::Exited(_) => returned(reason, then),
        Event::WaitOver => Asleep::Returning(reason, then).with(vec![Effect::PullPlug]),
        Event::StopAsked(_) | Event::KillAsked | Event::LetGoAsked => {
            Asleep::Returning(reason, Then::Leave).with(vec![])
        }
        Event::SleepAsked => {
            Asleep::Returning(reason, then).with(vec![Effect::AnswerSleep(Err(NoSleep::NotRunning))])
        }
        Event::WakeAsked
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
        | Event::ControlLost => Asleep::Returning(reason, then).with(vec![]),
    }
}

pub(super) fn resuming(asked: Option<Event>, event: Event) -> Next {
    match event {
        Event::Resumed => {
            let mut effects = vec![Effect::AnswerWake(Ok(()))];
            let (phase, after) = match asked {
                Some(asked) => awake::Awake::Rousing.step(asked),
                None => awake::Awake::Rousing.with([Effect::Rouse]),
            };
            effects.extend(after);
            (phase, effects)
        }
        Event::WakeFailed(reason) => {
            let then = if asked.is_some() { Then::Leave } else { Then::Rest };
            Asleep::Returning(reason, then).with(vec![Effect::PullPlug, Effect::Wait(awake::END_WITHIN)])
        }
        asked @ (Event::StopAsked(_) | Event::KillAsked) => Asleep::Resuming(Some(asked)).with(vec![]),
        Event::SleepAsked => {
            Asleep::Resuming(asked).with(vec![Effect::AnswerSleep(Err(NoSleep::NotRunning))])
        }
        // The supervisor listens to QEMU again when this is over.
        Event::WakeAsked
        | Event::CameUp
        | Event::BringUpFailed(_)
        | Event::Reset
        | Event::ShutDown(_)
        | Event::Saved
        | Event::Recorded
        | Event::SleepFailed(_)
        | Event::Loaded
        | Event::NotStarted(_)
        | Event::LetGoAsked
        | Event::Settled(_)
        | Event::Called
        | Event::Unused
        | Event::WaitOver
        | Event::ControlLost
        | Event::Exited(_) => Asleep::Resuming(asked).with(vec![]),
    }
}
