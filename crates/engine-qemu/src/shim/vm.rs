//! A QEMU that the supervisor has.

use std::{io, os::unix::fs::MetadataExt, path::Path, process::ExitStatus, sync::Arc, time::Duration};

use serde_json::json;
use tokio::{
    process::Child,
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{
    gate::Gate,
    qemu::Complaints,
    qmp::{Qmp, QmpEvent},
};
use crate::{egress::WayOut, qemu::Machine};

/// QEMU writes back what it holds when it is told to quit; then it is killed.
const QUIT_WITHIN: Duration = Duration::from_secs(5);
/// What QEMU said last may still be on its way when its process is gone.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(2);

/// Its process, its control channel once that is open, and what it was started as.
pub(super) struct Vm {
    pub(super) child: Child,
    pub(super) complaints: Complaints,
    pub(super) gate: Arc<Gate>,
    pub(super) machine: Machine,
    pub(super) way_out: WayOut,
    /// Which file its memory is.
    pub(super) memory: FileId,
    /// A guest without an identity of its own is in it.
    pub(super) fork: bool,
    pub(super) qmp: Option<Arc<Qmp>>,
    pub(super) events: Option<mpsc::Receiver<QmpEvent>>,
    pub(super) kill_at: Option<Instant>,
    pub(super) last_reset: Option<Instant>,
}

/// A file, whatever its name is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    number: u64,
}

impl FileId {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let found = std::fs::metadata(path)?;
        Ok(Self { device: found.dev(), number: found.ino() })
    }
}

/// What became of a QEMU that there may be.
pub(super) enum News {
    Said(QmpEvent),
    /// Its control channel has ended.
    Silent,
    Exited(Option<ExitStatus>),
}

impl Vm {
    /// Waits for news. Nothing is lost when the future is dropped.
    pub(super) async fn news(vm: &mut Option<Self>) -> News {
        let Some(vm) = vm else { return std::future::pending().await };
        loop {
            tokio::select! {
                biased;
                event = next(&mut vm.events) => {
                    return event.map_or_else(|| { vm.events = None; News::Silent }, News::Said);
                }
                () = at(vm.kill_at) => {
                    vm.kill_at = None;
                    drop(vm.child.start_kill());
                }
                status = vm.child.wait() => return News::Exited(status.ok()),
            }
        }
    }

    /// What it has still said, after its process is gone.
    pub(super) async fn last_words(&mut self) -> Vec<QmpEvent> {
        let mut words = Vec::new();
        let Some(events) = &mut self.events else { return words };
        let listen = async {
            while let Some(event) = events.recv().await {
                words.push(event);
            }
        };
        let _heard_out = timeout(LAST_WORDS_WITHIN, listen).await;
        words
    }

    /// Has it end, by itself if it can.
    pub(super) fn end(&mut self) -> Option<impl Future<Output = ()> + use<>> {
        let Some(qmp) = self.qmp.clone() else {
            drop(self.child.start_kill());
            return None;
        };
        self.kill_at = Some(Instant::now() + QUIT_WITHIN);
        Some(async move { drop(qmp.execute("quit", &json!({})).await) })
    }
}

async fn next(events: &mut Option<mpsc::Receiver<QmpEvent>>) -> Option<QmpEvent> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits until a time that may not be set.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
