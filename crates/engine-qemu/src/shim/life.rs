//! The life of a VM with its shim: pure, and the only place where its phases are decided.
//!
//! ```text
//!              came up                  asked to stop
//!   Booting ─────────────► Running ───────────────────► Stopping ── patience over ──┐
//!      ▲  │                ▲ │ │ │                         │                        │ plug pulled
//!      │  └─ rebooted thrice │ │ └── guest: poweroff ──┐    │ guest is down          │
//!      │     or too slow ─┐│ │ │                       ▼    ▼                        ▼
//!      └──── guest: reboot┼┼─┘ └── QEMU is gone ───► Ending (decided: how) ── QEMU is gone ──► Ended
//!                         └┼────────────────────────────────▲
//!                          │ asked to sleep: see `asleep`
//! ```
//!
//! [`Life::step`] never waits and does nothing; the supervisor carries out the effects and is the only caller. The phases
//! of a VM whose guest goes on are in `awake`, those of one that falls asleep or sleeps in `asleep`, and of one that wakes
//! in `waking`.

mod asleep;
mod awake;
#[cfg(test)]
mod tests;
mod waking;

use std::time::Duration;

use berth_engine::{Ending, Observed};

use self::{asleep::Asleep, awake::Awake};
use super::qmp::Cause;

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// The guest has its account and keys, and its sshd has answered, or did before it slept.
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
    /// Somebody asked it to fall asleep; answered with [`Effect::AnswerSleep`].
    SleepAsked,
    /// Its memory and devices are put away, and the guest has not gone on.
    Saved,
    /// The sleep is written down.
    Recorded,
    /// It cannot sleep now.
    SleepFailed(NoSleep),
    /// Somebody asked it to wake; answered with [`Effect::AnswerWake`].
    WakeAsked,
    /// QEMU has everything and waits; the sleep is as it was.
    Loaded,
    /// It does not wake, and the sleep is as it was; a sentence without a full stop. QEMU may still be there.
    WakeFailed(String),
    /// As [`Event::WakeFailed`], and there is no QEMU.
    NotStarted(String),
    /// The sleep is over, and the guest goes on.
    Resumed,
    /// Somebody asked a shim whose VM sleeps to go.
    LetGoAsked,
    /// The sleep lasts now (`true`), or it cannot be copied at the moment.
    Settled(bool),
    /// Something waits for the sleeping guest.
    Called,
    /// No connection into the guest is open.
    Unused,
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
    /// Begin to bring up a guest that boots, in place of an attempt that is under way.
    BringUp,
    /// Give a guest that has slept what it needs, in the same way.
    Rouse,
    /// Give up bringing it up.
    AbandonBringUp,
    /// Ask the guest to shut down, and again until it does.
    AskToShutDown,
    /// End QEMU.
    PullPlug,
    /// Tell [`Event::WaitOver`] after this time, instead of after one that was set before.
    Wait(Duration),
    /// Forget a time that was set.
    StopWaiting,
    /// Stop the guest and put it away, up to [`Event::Saved`].
    FallAsleep,
    /// Write down that it sleeps: [`Event::Recorded`], or [`Event::SleepFailed`].
    Record,
    /// Give up putting it away, and let the guest go on.
    GoOn,
    /// Tell those who asked for it.
    AnswerSleep(Result<(), NoSleep>),
    /// Copy the sleep to where it lasts.
    Settle,
    /// Give that up, at once.
    AbandonSettle,
    /// Start QEMU with what was put away, up to [`Event::Loaded`].
    Wake,
    /// Give that up.
    AbandonWake,
    /// End the sleep, and let the guest go on.
    Resume,
    /// Tell those who asked for it.
    AnswerWake(Result<(), String>),
    /// Nothing is left to do for a VM that sleeps.
    Leave,
    /// Nothing is left to do but to write this down.
    Finish(Ending),
}

/// Why a VM does not fall asleep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoSleep {
    /// Somebody is connecting to it.
    InUse,
    /// It does something else.
    NotRunning,
    /// A sentence without a full stop.
    Failed(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Awake(Awake),
    Asleep(Asleep),
}

/// A VM, for as long as it has this shim.
#[derive(Debug, Clone)]
pub(super) struct Life(Phase);

impl Life {
    /// QEMU has started, and bringing up the guest is under way.
    pub(super) fn booting() -> Self {
        Self(Phase::Awake(Awake::Booting { boots: 1 }))
    }

    /// The VM is asleep, and whoever started this shim will probably ask it to wake.
    pub(super) fn asleep() -> (Self, Vec<Effect>) {
        let (phase, effects) = Asleep::found();
        (Self(phase), effects)
    }

    /// What is told of it.
    pub(super) fn observed(&self) -> Observed {
        match &self.0 {
            Phase::Awake(awake) => awake.observed(),
            Phase::Asleep(asleep) => asleep.observed(),
        }
    }

    /// Whether [`Event::Called`] is of interest. Who calls while QEMU is on its way out is heard when it is gone: a call
    /// that is heard and changes nothing would be heard for ever.
    pub(super) fn may_be_called(&self) -> bool {
        matches!(&self.0, Phase::Asleep(asleep) if asleep.may_be_called())
    }

    /// Whether [`Event::Unused`] is of interest.
    pub(super) fn may_leave(&self) -> bool {
        matches!(&self.0, Phase::Asleep(asleep) if asleep.is_settled())
    }

    /// What becomes of it.
    pub(super) fn step(&mut self, event: Event) -> Vec<Effect> {
        let (phase, effects) = match self.0.clone() {
            Phase::Awake(awake) => awake.step(event),
            Phase::Asleep(asleep) => asleep.step(event),
        };
        self.0 = phase;
        effects
    }
}
