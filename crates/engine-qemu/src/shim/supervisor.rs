//! The one task that decides: it hears what happens, lets [`Life`] judge, and does what follows.

use std::{sync::Arc, time::Duration};

use berth_engine::{Ending, Guest, Observed};
use serde_json::json;
use tokio::{
    process::Child,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    bring_up::BringUp,
    life::{Effect, Event, Life},
    qemu::Complaints,
    qmp::{Qmp, QmpEvent},
    serve::{Command, Desk},
};
use crate::qemu::AGENT_PORT;

/// The firmware resets a PC a second time, a moment after the first: both are one boot.
const ONE_RESET: Duration = Duration::from_millis(500);
/// A guest that boots does not hear the power button yet.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// QEMU writes back what it holds when it is told to quit; then it is killed.
const QUIT_WITHIN: Duration = Duration::from_secs(5);
/// What QEMU said last may still be on its way when its process is gone.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(2);
/// A guest whose disk could not grow goes on when there may be room again.
const TRY_DISK_AGAIN: Duration = Duration::from_secs(10);

/// Everything that one run of a VM consists of.
pub(super) struct Supervisor {
    pub(super) qemu: Child,
    pub(super) complaints: Complaints,
    pub(super) qmp: Arc<Qmp>,
    pub(super) events: mpsc::Receiver<QmpEvent>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) observed: watch::Sender<Observed>,
    pub(super) desk: Arc<Desk>,
    pub(super) boot_within: Duration,
}

/// What the loop carries from one event to the next.
struct Course {
    life: Life,
    port_open: watch::Sender<bool>,
    /// At most one, which answers whether the guest came up.
    bring_up: JoinSet<Result<Arc<Guest>, String>>,
    /// Asking the guest to go, or QEMU to go on; given up with the loop.
    errands: JoinSet<()>,
    wait_until: Option<Instant>,
    kill_at: Option<Instant>,
    last_reset: Option<Instant>,
    heard_out: bool,
}

impl Supervisor {
    /// Runs until QEMU is gone, and tells how that came.
    pub(super) async fn run(mut self) -> Ending {
        let mut course = Course {
            life: Life::new(),
            port_open: watch::Sender::new(false),
            bring_up: JoinSet::new(),
            errands: JoinSet::new(),
            wait_until: None,
            kill_at: None,
            last_reset: None,
            heard_out: false,
        };
        self.bring_up(&mut course);
        loop {
            let event = self.next(&mut course).await;
            tracing::debug!(?event, "what happened");
            for effect in course.life.step(event) {
                if let Some(ending) = self.act(&mut course, effect) {
                    return ending;
                }
            }
            self.observed.send_if_modified(|observed| {
                let now = course.life.observed();
                let changed = *observed != now;
                *observed = now;
                changed
            });
        }
    }

    async fn next(&mut self, course: &mut Course) -> Event {
        loop {
            tokio::select! {
                biased;
                event = self.events.recv(), if !course.heard_out => match event {
                    Some(event) => {
                        if let Some(event) = self.heard(course, event) {
                            return event;
                        }
                    }
                    None => {
                        course.heard_out = true;
                        return Event::ControlLost;
                    }
                },
                Some(command) = self.commands.recv() => return match command {
                    Command::Stop(patience) => Event::StopAsked(patience),
                    Command::Kill => Event::KillAsked,
                },
                Some(brought_up) = course.bring_up.join_next() => match brought_up {
                    Ok(Ok(guest)) if Arc::ptr_eq(&guest, &self.desk.guest.borrow()) => return Event::CameUp,
                    // The keys have changed while it came up.
                    Ok(Ok(_)) => self.bring_up(course),
                    Ok(Err(reason)) => return Event::BringUpFailed(reason),
                    Err(_) => return Event::BringUpFailed("its shim met an error of its own".to_owned()),
                },
                Some(_) = course.errands.join_next() => {}
                () = at(course.wait_until) => {
                    course.wait_until = None;
                    return Event::WaitOver;
                }
                () = at(course.kill_at) => {
                    course.kill_at = None;
                    drop(self.qemu.start_kill());
                }
                status = self.qemu.wait() => {
                    // Its last words first: they tell whether the guest had gone off by itself.
                    let last = timeout(LAST_WORDS_WITHIN, self.last_shutdown(course)).await;
                    if let Ok(Some(shutdown)) = last {
                        let _effects = course.life.step(shutdown);
                    }
                    return Event::Exited(self.complaints.explain(status.ok()).await);
                }
            }
        }
    }

    async fn last_shutdown(&mut self, course: &mut Course) -> Option<Event> {
        let mut last = None;
        while let Some(event) = self.events.recv().await {
            if let QmpEvent::ShutDown(cause) = event {
                last = Some(Event::ShutDown(cause));
            }
        }
        course.heard_out = true;
        last
    }

    fn heard(&mut self, course: &mut Course, event: QmpEvent) -> Option<Event> {
        match event {
            QmpEvent::ShutDown(cause) => Some(Event::ShutDown(cause)),
            QmpEvent::Reset(_) => {
                let again = course.last_reset.is_some_and(|last| last.elapsed() < ONE_RESET);
                course.last_reset = Some(Instant::now());
                course.port_open.send_replace(false);
                (!again).then_some(Event::Reset)
            }
            QmpEvent::Port { id, open } => {
                if id == AGENT_PORT {
                    course.port_open.send_replace(open);
                }
                None
            }
            QmpEvent::DiskStopped { no_space } => {
                tracing::warn!(no_space, "the disk cannot be written: the VM waits until it can");
                let qmp = Arc::clone(&self.qmp);
                course.errands.spawn(async move {
                    sleep(TRY_DISK_AGAIN).await;
                    drop(qmp.execute("cont", &json!({})).await);
                });
                None
            }
        }
    }

    /// Does it; `Some` when all is done.
    fn act(&mut self, course: &mut Course, effect: Effect) -> Option<Ending> {
        match effect {
            Effect::BringUp => self.bring_up(course),
            Effect::AbandonBringUp => course.bring_up = JoinSet::new(),
            Effect::AskToShutDown => {
                course.errands.spawn(ask_to_shut_down(Arc::clone(&self.qmp), Arc::clone(&self.desk)));
            }
            Effect::PullPlug => {
                let qmp = Arc::clone(&self.qmp);
                course.errands.spawn(async move { drop(qmp.execute("quit", &json!({})).await) });
                course.kill_at = Some(Instant::now() + QUIT_WITHIN);
            }
            Effect::Wait(patience) => course.wait_until = Instant::now().checked_add(patience),
            Effect::Finish(ending) => return Some(ending),
        }
        None
    }

    fn bring_up(&self, course: &mut Course) {
        // A new set, so that nothing of an earlier attempt is heard any more.
        course.bring_up = JoinSet::new();
        let bring_up = BringUp {
            agent: Arc::clone(&self.desk.agent),
            port_open: course.port_open.subscribe(),
            network: self.desk.network.clone(),
            guest: self.desk.guest.borrow().clone(),
            within: self.boot_within,
        };
        course.bring_up.spawn(bring_up.run());
    }
}

/// By the power button and through the agent: either may be deaf, and one suffices.
async fn ask_to_shut_down(qmp: Arc<Qmp>, desk: Arc<Desk>) {
    loop {
        if let Err(error) = qmp.execute("system_powerdown", &json!({})).await {
            tracing::warn!(%error, "the power button cannot be pressed");
        }
        let asked = async { desk.agent.lock().await.shut_down().await };
        match timeout(ASK_AGAIN, asked).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the guest agent does not shut the guest down"),
            Err(_) => tracing::debug!("the guest agent is busy"),
        }
        sleep(ASK_AGAIN).await;
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
