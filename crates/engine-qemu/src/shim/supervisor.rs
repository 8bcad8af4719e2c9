//! The one task that decides: it hears what happens, lets [`Life`] judge, and does what follows.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use berth_engine::{Ending, Guest, Observed};
use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::task::TaskTracker;

use super::{
    desk::{Command, Desk},
    life::{Effect, Event, Life},
    outside::Outside,
    put_away::{Opened, Waits},
    qmp::QmpEvent,
    settling::Settling,
    vm::{News, Vm, at},
};
use crate::{egress::WayOut, lock::VmLock, paths::VmPaths, protocol::Denied, qemu::AGENT_PORT};

/// The firmware resets a PC a second time, a moment after the first: both are one boot.
const ONE_RESET: Duration = Duration::from_millis(500);
/// A guest whose disk could not grow goes on when there may be room again.
const TRY_DISK_AGAIN: Duration = Duration::from_secs(10);

/// What the shim was given, and keeps.
pub(super) struct Host {
    pub(super) vm: berth_model::VmId,
    pub(super) paths: VmPaths,
    pub(super) qemu: PathBuf,
    /// What leads out on this host now.
    pub(super) way_out: WayOut,
    pub(super) outside: Option<Arc<Outside>>,
    pub(super) lock: VmLock,
    pub(super) tasks: TaskTracker,
}

/// How a shim ends.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The VM is off.
    Off(Ending),
    /// The VM is asleep, and nothing is left to do.
    Left,
}

/// What has been waited for beside the events.
pub(super) enum Work {
    Event(Event),
    PutAway(Waits),
    /// A QEMU that boots.
    Opened(Opened),
    /// A QEMU that has everything.
    TakenUp(Opened),
}

type Answers = Vec<oneshot::Sender<Result<(), Denied>>>;

/// See the module's documentation. What it does about an [`Effect`] is in `act`, and in `start` how it starts
/// a QEMU.
pub(super) struct Supervisor {
    pub(super) host: Host,
    pub(super) life: Life,
    pub(super) vm: Option<Vm>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) observed: watch::Sender<Observed>,
    pub(super) desk: Arc<Desk>,
    pub(super) port_open: watch::Sender<bool>,
    /// At most one, which answers whether the guest came up.
    pub(super) bring_up: JoinSet<Result<Option<Arc<Guest>>, String>>,
    /// Opening QEMU's control channel, putting the guest away, taking it up: at most one, and what it comes to.
    pub(super) work: JoinSet<Work>,
    /// Asking the guest to go, or QEMU to go on; given up with the loop.
    pub(super) errands: JoinSet<()>,
    pub(super) settling: Settling,
    /// To give up copying a sleep back.
    pub(super) restoring: Arc<AtomicBool>,
    /// Ending the sleep: QEMU is not listened to, because what it says comes after that.
    pub(super) resuming: bool,
    /// Nothing is left any more of a sleep that has ended.
    pub(super) cleared: watch::Sender<bool>,
    /// For the guest, since it was put away; later ones are told by the network.
    pub(super) waits: Waits,
    pub(super) wait_until: Option<Instant>,
    pub(super) sleepers: Answers,
    pub(super) wakers: Answers,
    /// What is to be judged before anything else is heard.
    pub(super) queue: VecDeque<Event>,
}

impl Supervisor {
    pub(super) fn new(
        host: Host,
        desk: Arc<Desk>,
        commands: mpsc::Receiver<Command>,
        observed: watch::Sender<Observed>,
    ) -> Self {
        Self {
            host,
            life: Life::booting(),
            vm: None,
            commands,
            observed,
            desk,
            port_open: watch::Sender::new(false),
            bring_up: JoinSet::new(),
            work: JoinSet::new(),
            errands: JoinSet::new(),
            settling: Settling::default(),
            restoring: Arc::default(),
            resuming: false,
            cleared: watch::Sender::new(true),
            waits: Waits::Nobody,
            wait_until: None,
            sleepers: Vec::new(),
            wakers: Vec::new(),
            queue: VecDeque::new(),
        }
    }

    /// Runs until the VM is off or asleep and done with; `effects` come first.
    pub(super) async fn run(mut self, mut effects: Vec<Effect>) -> Outcome {
        loop {
            for effect in effects {
                if let Some(outcome) = self.act(effect).await {
                    return outcome;
                }
            }
            self.show();
            let event = self.next().await;
            tracing::debug!(?event, "what happened");
            effects = self.life.step(event);
            // Before those who asked are answered, they can see it.
            self.show();
        }
    }

    fn show(&self) {
        self.observed.send_if_modified(|observed| {
            let now = self.life.observed();
            let changed = *observed != now;
            *observed = now;
            changed
        });
    }

    async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return event;
            }
            let asleep = (self.life.may_be_called(), self.life.may_leave());
            let (network, waits) = (self.desk.network.clone(), self.waits);
            let called = async {
                if waits == Waits::Nobody {
                    network.called().await;
                }
            };
            tokio::select! {
                biased;
                news = Vm::news(&mut self.vm), if !self.resuming => {
                    if let Some(event) = self.heard(news).await {
                        return event;
                    }
                }
                Some(command) = self.commands.recv() => return self.asked(command),
                Some(worked) = self.work.join_next() => {
                    if let Some(event) = self.worked(worked) {
                        return event;
                    }
                }
                Some(brought_up) = self.bring_up.join_next() => match brought_up {
                    Ok(Ok(guest)) if self.is_wanted(&guest) => return Event::CameUp,
                    // The keys have changed while it came up.
                    Ok(Ok(_)) => self.bring_up_again(),
                    Ok(Err(reason)) => return Event::BringUpFailed(reason),
                    Err(_) => return Event::BringUpFailed("its shim met an error of its own".to_owned()),
                },
                settled = self.settling.settled() => return Event::Settled(settled),
                () = called, if asleep.0 => return Event::Called,
                () = network.deserted(), if asleep.1 => return Event::Unused,
                Some(_) = self.errands.join_next() => {}
                () = at(self.wait_until) => {
                    self.wait_until = None;
                    return Event::WaitOver;
                }
            }
        }
    }

    fn is_wanted(&self, guest: &Option<Arc<Guest>>) -> bool {
        guest.as_ref().map(Arc::as_ptr) == self.desk.guest.borrow().as_ref().map(Arc::as_ptr)
    }

    fn asked(&mut self, command: Command) -> Event {
        match command {
            Command::Stop(patience) => Event::StopAsked(patience),
            Command::Kill => Event::KillAsked,
            Command::LetGo => Event::LetGoAsked,
            Command::Sleep(answer) => {
                self.sleepers.push(answer);
                Event::SleepAsked
            }
            Command::Wake(guest, answer) => {
                if matches!(*self.observed.borrow(), Observed::Asleep { .. } | Observed::Waking) {
                    self.desk.guest.send_replace(Some(guest));
                }
                self.wakers.push(answer);
                Event::WakeAsked
            }
        }
    }

    async fn heard(&mut self, news: News) -> Option<Event> {
        let status = match news {
            News::Said(event) => return self.said(event),
            News::Silent => return Some(Event::ControlLost),
            News::Exited(status) => status,
        };
        let mut vm = self.vm.take()?;
        self.desk.qemu.send_replace(None);
        // Its last words first: they tell whether the guest had gone off by itself.
        for word in vm.last_words().await {
            if let QmpEvent::ShutDown(cause) = word {
                self.queue.push_back(Event::ShutDown(cause));
            }
        }
        self.queue.push_back(Event::Exited(vm.complaints.explain(status).await));
        None
    }

    fn said(&mut self, event: QmpEvent) -> Option<Event> {
        match event {
            QmpEvent::ShutDown(cause) => Some(Event::ShutDown(cause)),
            QmpEvent::Reset(_) => {
                let last = self.vm.as_mut()?.last_reset.replace(Instant::now());
                self.port_open.send_replace(false);
                last.is_none_or(|last| last.elapsed() >= ONE_RESET).then_some(Event::Reset)
            }
            QmpEvent::Port { id, open } => {
                if id == AGENT_PORT {
                    self.port_open.send_replace(open);
                }
                None
            }
            QmpEvent::DiskStopped { no_space } => {
                tracing::warn!(no_space, "the disk cannot be written: the VM waits until it can");
                let qmp = self.vm.as_ref()?.qmp.clone()?;
                self.errands.spawn(async move {
                    sleep(TRY_DISK_AGAIN).await;
                    drop(qmp.execute("cont", &json!({})).await);
                });
                None
            }
        }
    }

    fn worked(&mut self, worked: Result<Work, tokio::task::JoinError>) -> Option<Event> {
        self.resuming = false;
        match worked {
            Ok(Work::Event(event)) => Some(event),
            Ok(Work::PutAway(waits)) => {
                self.waits = waits;
                Some(Event::Saved)
            }
            Ok(Work::Opened(opened)) => {
                self.has_control(opened);
                None
            }
            Ok(Work::TakenUp(opened)) => {
                self.has_control(opened);
                Some(Event::Loaded)
            }
            Err(error) => {
                tracing::error!(%error, "the shim met an error of its own");
                Some(Event::ControlLost)
            }
        }
    }

    fn has_control(&mut self, (qmp, events): Opened) {
        let Some(vm) = &mut self.vm else { return };
        let pid = vm.child.id().unwrap_or_default();
        self.desk.qemu.send_replace(Some(super::desk::Qemu { qmp: Arc::clone(&qmp), pid }));
        vm.qmp = Some(qmp);
        vm.events = Some(events);
    }
}
