//! What the supervisor does about each [`Effect`].

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    desk::Desk,
    fault,
    life::{Effect, Event, NoSleep},
    put_away,
    qmp::Qmp,
    supervisor::{Outcome, Supervisor, Work},
    vm::{FileId, Vm},
};
use crate::{protocol::Denied, sleep::Record};

/// A guest that boots does not hear the power button yet.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The last sleep is deleted in a moment, on a slow disk too.
const CLEARED_WITHIN: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Does it; `Some` when all is done.
    pub(super) async fn act(&mut self, effect: Effect) -> Option<Outcome> {
        match effect {
            Effect::BringUp => self.bring_up(),
            Effect::Rouse => self.rouse(),
            Effect::AbandonBringUp => self.bring_up = JoinSet::new(),
            Effect::AskToShutDown => {
                fault::at("stop:asked");
                let qmp = self.vm.as_ref().and_then(|vm| vm.qmp.clone());
                self.errands.spawn(ask_to_shut_down(qmp, Arc::clone(&self.desk)));
            }
            Effect::PullPlug => {
                fault::at("end:plug");
                if let Some(quit) = self.vm.as_mut().and_then(Vm::end) {
                    self.errands.spawn(quit);
                }
            }
            Effect::Wait(patience) => self.wait_until = Instant::now().checked_add(patience),
            Effect::StopWaiting => self.wait_until = None,
            Effect::FallAsleep => self.fall_asleep(),
            Effect::Record => {
                let recorded = self.record();
                self.queue.push_back(recorded.map_or_else(Event::SleepFailed, |()| Event::Recorded));
            }
            Effect::GoOn => self.go_on(),
            Effect::AnswerSleep(answer) => {
                for sleeper in self.sleepers.drain(..) {
                    drop(sleeper.send(answer.clone().map_err(why_awake)));
                }
            }
            Effect::Settle => {
                self.settling.begin(self.host.paths.clone());
            }
            Effect::AbandonSettle => self.settling.give_up(),
            Effect::Wake => {
                if let Err(reason) = self.wake() {
                    self.queue.push_back(Event::NotStarted(reason));
                }
            }
            Effect::AbandonWake => {
                self.restoring.store(false, Ordering::Relaxed);
                self.work = JoinSet::new();
            }
            Effect::Resume => self.resume(),
            Effect::AnswerWake(answer) => {
                for waker in self.wakers.drain(..) {
                    drop(waker.send(answer.clone().map_err(|reason| Denied::WakeFailed { reason })));
                }
            }
            Effect::Leave => {
                fault::at("leave");
                return Some(Outcome::Left);
            }
            Effect::Finish(ending) => {
                fault::at("end:gone");
                return Some(Outcome::Off(ending));
            }
        }
        None
    }

    fn fall_asleep(&mut self) {
        // An errand that lets it go on would do so in the middle.
        self.errands = JoinSet::new();
        self.work = JoinSet::new();
        let Some(qmp) = self.vm.as_ref().and_then(|vm| vm.qmp.clone()) else {
            self.queue.push_back(Event::SleepFailed(NoSleep::NotRunning));
            return;
        };
        let (desk, device) = (Arc::clone(&self.desk), self.host.paths.warm().device());
        let mut cleared = self.cleared.subscribe();
        self.work.spawn(async move {
            if timeout(CLEARED_WITHIN, cleared.wait_for(|cleared| *cleared)).await.is_err() {
                return Work::Event(Event::SleepFailed(NoSleep::InUse));
            }
            let put_away = put_away::put_away(&qmp, &desk, &device).await;
            put_away.map_or_else(|why| Work::Event(Event::SleepFailed(why)), Work::PutAway)
        });
    }

    fn record(&mut self) -> Result<(), NoSleep> {
        let failed = |reason: &str| NoSleep::Failed(reason.to_owned());
        let Some((vm, qmp)) = self.vm.as_ref().and_then(|vm| Some((vm, vm.qmp.as_ref()?))) else {
            return Err(NoSleep::NotRunning);
        };
        let warm = self.host.paths.warm();
        if FileId::of(&warm.memory()).ok() != Some(vm.memory) {
            tracing::error!(
                "{} is not the guest's memory any more: who deletes there?",
                warm.memory().display()
            );
            return Err(failed(
                "the file that is its memory was deleted on the host; stop it and start it again",
            ));
        }
        let keys = self.desk.given.borrow().clone();
        // One that nobody was put into is there to be forked.
        let fork = self.desk.guest.borrow().is_none();
        let written = Record::of(&warm, qmp.version, vm.machine.clone(), vm.way_out.clone(), keys).and_then(
            |mut record| {
                record.fork = fork;
                record.write(&warm)
            },
        );
        written.map_err(|error| {
            tracing::error!(%error, "the sleep cannot be written down");
            failed("the host has no room left for its memory")
        })?;
        fault::at("sleep:recorded");
        Ok(())
    }

    fn go_on(&mut self) {
        self.work = JoinSet::new();
        let Some(qmp) = self.vm.as_ref().and_then(|vm| vm.qmp.clone()) else { return };
        // What a kill leaves of it would be in the way of nothing.
        drop(fs::remove_file(self.host.paths.warm().device()));
        let desk = Arc::clone(&self.desk);
        self.errands.spawn(async move { put_away::go_on(&qmp, &desk).await });
    }

    fn resume(&mut self) {
        let Some((vm, qmp)) = self.vm.as_ref().and_then(|vm| Some((vm, vm.qmp.clone()?))) else {
            self.queue.push_back(Event::WakeFailed("its process on the host is gone".to_owned()));
            return;
        };
        let (desk, gate, paths) = (Arc::clone(&self.desk), Arc::clone(&vm.gate), self.host.paths.clone());
        let fork = vm.fork;
        self.resuming = true;
        self.work.spawn(async move { Work::Event(put_away::resume(qmp, desk, gate, paths, fork).await) });
    }
}

fn why_awake(why: NoSleep) -> Denied {
    match why {
        NoSleep::InUse => Denied::InUse,
        NoSleep::NotRunning => Denied::NotRunning,
        NoSleep::Failed(reason) => Denied::Failed { reason },
    }
}

/// By the power button and through the agent: either may be deaf, and one suffices.
async fn ask_to_shut_down(qmp: Option<Arc<Qmp>>, desk: Arc<Desk>) {
    loop {
        if let Some(qmp) = &qmp
            && let Err(error) = qmp.execute("system_powerdown", &json!({})).await
        {
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
