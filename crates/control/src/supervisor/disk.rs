//! A VM's disk: its size on the way into a guest that runs, and its replacement.

use berth_engine::{EngineError, Grown, Home};
use tokio::sync::oneshot;

use super::{Answer, Pending, Supervisor};
use crate::{
    idle::UseKind,
    lifecycle::{Event, Refusal, State},
};

/// Who asked for a larger disk, and is told when the guest has it.
pub(super) type Asker = oneshot::Sender<Result<Grown, Refusal>>;

/// Whether the guest has the room that its disk is to have.
#[derive(Default)]
pub(super) struct Growth {
    /// It was asked for after the engine was last told.
    wanted: bool,
    /// The engine has been told.
    pub(super) under_way: Option<Pending<Result<Grown, EngineError>>>,
    waiting: Vec<Asker>,
}

impl Growth {
    fn answer(&mut self, result: &Result<Grown, Refusal>) {
        self.wanted = false;
        for asker in self.waiting.drain(..) {
            // Whoever asked may have gone away.
            let _ = asker.send(result.clone());
        }
    }
}

impl Supervisor {
    /// It is written down that the disk is to have so many bytes.
    pub(super) fn on_resize_asked(&mut self, disk: u64, asker: Asker) {
        self.spec.disk = self.spec.disk.max(disk);
        self.growth.wanted = true;
        self.growth.waiting.push(asker);
    }

    /// Has a guest that runs take the room. A start gives it to one that does not.
    pub(super) fn grow_if_wanted(&mut self) {
        let state = self.state.borrow().clone();
        if state != State::Running {
            self.growth.wanted |= self.growth.under_way.take().is_some();
        }
        if !self.growth.wanted {
            return;
        }
        match state {
            State::Running if self.growth.under_way.is_none() => {
                self.growth.wanted = false;
                let (engine, id, spec) = (self.tools.engine.clone(), self.id, self.spec.clone());
                self.growth.under_way = Some(Box::pin(async move { engine.grow(&id, &spec).await }));
            }
            State::Off { .. } | State::Asleep { .. } | State::Rebuilding { .. } => {
                self.growth.answer(&Ok(Grown::AtStart));
            }
            State::Removing { .. } | State::Removed => self.growth.answer(&Err(Refusal::Removed)),
            // What is under way may have begun with the size of before: it is told when that is over.
            State::Running
            | State::Starting
            | State::Waking
            | State::FallingAsleep { .. }
            | State::Stopping { .. } => {}
        }
    }

    pub(super) async fn on_grown(&mut self, result: Result<Grown, EngineError>) {
        self.growth.under_way = None;
        match result {
            // It stopped or fell asleep a moment ago.
            Err(EngineError::NotRunning) => {
                self.growth.wanted = true;
                self.look().await;
            }
            // Asked once more in the meantime: they are all told the same.
            _ if self.growth.wanted => {}
            result => self.growth.answer(&result.map_err(Refusal::Engine)),
        }
    }

    /// Who asked may be long gone when it has failed: it is told until it is asked for again.
    pub(super) fn note_rebuild(&self, event: &Event) {
        match event {
            Event::RebuildAsked(_) => drop(self.not_rebuilt.send_replace(None)),
            Event::RebuildEnded(Err(error)) => {
                drop(self.not_rebuilt.send_replace(Some(error.to_string())));
            }
            _ => {}
        }
    }

    /// It is written down that it is to have a new disk.
    pub(super) fn on_rebuild_asked(&mut self, home: Home, answer: Answer) {
        self.rebuilds.push(answer);
        self.activity.note(UseKind::Started);
        self.on_event(Event::RebuildAsked(home));
    }
}
