//! What the supervisor does about each [`Effect`].

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use berth_engine::Observed;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    agent::Agent,
    bring_up::{BringUp, From},
    desk::Desk,
    fault,
    gate::Gate,
    life::{Effect, Event, NoSleep},
    on_thread, put_away,
    put_away::TakeUp,
    qemu::{self, Order, Started},
    qmp::Qmp,
    supervisor::{Outcome, Supervisor, Work},
    vm::{FileId, Vm},
};
use crate::{
    accel::Accel,
    console,
    egress::WayOut,
    protocol::Denied,
    qemu::{Begin, Machine},
    sleep::{self as asleep, Found, Record, Unusable},
};

/// From a boot to sshd's answer; several VMs may boot at once.
const BOOT_UNDER_KVM: Duration = Duration::from_secs(120);
const BOOT_UNDER_TCG: Duration = Duration::from_secs(300);
/// A guest that boots does not hear the power button yet.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// The clock of a guest that has slept, until it is given up.
const CLOCK_TRIES: u32 = 3;

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

    /// Starts a VM that is off.
    pub(super) fn boot(&mut self, machine: Machine) -> io::Result<()> {
        asleep::fresh_memory(&self.host.paths, machine.memory_bytes())?;
        fault::at("boot:owned");
        let way_out = self.host.way_out.clone();
        let control = self.start(machine, way_out, Begin::Boot, false)?;
        let tasks = self.host.tasks.clone();
        self.work.spawn(async move {
            match Qmp::open(control, &tasks).await {
                Ok((qmp, events)) => Work::Opened((Arc::new(qmp), events)),
                Err(error) => {
                    tracing::error!(%error, "QEMU does not come up");
                    Work::Event(Event::ControlLost)
                }
            }
        });
        if !self.host.paths.unclaimed().exists() {
            self.open_gate();
        }
        fault::at("boot:started");
        self.bring_up();
        Ok(())
    }

    fn open_gate(&self) {
        if let Some(vm) = &self.vm {
            vm.gate.open();
        }
    }

    /// Starts a QEMU, and returns its control channel.
    fn start(
        &mut self,
        machine: Machine,
        way_out: WayOut,
        begin: Begin,
        fork: bool,
    ) -> io::Result<tokio::net::UnixStream> {
        let host = &self.host;
        let memory = FileId::of(&machine.memory_file)?;
        let order = Order { program: &host.qemu, machine: &machine, way_out: &way_out, begin };
        let Started { child, complaints, lines, wires } = qemu::start(&order, &host.lock, &host.tasks)?;
        let gate = Gate::new(wires, self.desk.network.clone(), host.way_out.clone(), host.tasks.clone());
        let paths = host.paths.clone();
        host.tasks.spawn(async move {
            let console = match begin {
                Begin::Boot => console::begin(&paths).await,
                Begin::Incoming => console::resume(&paths).await,
            };
            match console {
                Ok(console) => console.record(lines.console).await,
                Err(error) => console::discard(lines.console, &error).await,
            }
        });
        // Whoever has it has the line of a QEMU that is gone, and is told so.
        let agent = Arc::clone(&self.desk.agent);
        let line = Agent::new(lines.agent);
        self.errands.spawn(async move { *agent.lock().await = line });
        self.vm = Some(Vm {
            child,
            complaints,
            gate: Arc::new(gate),
            machine,
            way_out,
            memory,
            fork,
            qmp: None,
            events: None,
            kill_at: None,
            last_reset: None,
        });
        Ok(lines.control)
    }

    fn bring_up(&mut self) {
        let accel = self.vm.as_ref().map_or(Accel::Tcg, |vm| vm.machine.accel);
        self.begin_to_bring_up(From::Boot(match accel {
            Accel::Kvm => BOOT_UNDER_KVM,
            Accel::Tcg => BOOT_UNDER_TCG,
        }));
    }

    fn rouse(&mut self) {
        self.port_open.send_replace(true);
        self.begin_to_bring_up(From::Sleep);
        self.errands.spawn(set_clock(Arc::clone(&self.desk)));
    }

    /// What it came up with is not what is wanted any more.
    pub(super) fn bring_up_again(&mut self) {
        match self.life.observed() {
            Observed::Waking => self.begin_to_bring_up(From::Sleep),
            _ => self.bring_up(),
        }
    }

    fn begin_to_bring_up(&mut self, from: From) {
        // A new set, so that nothing of an earlier attempt is heard any more.
        self.bring_up = JoinSet::new();
        let Some(vm) = &self.vm else { return };
        let bring_up = BringUp {
            desk: Arc::clone(&self.desk),
            port_open: self.port_open.subscribe(),
            gate: Arc::clone(&vm.gate),
            guest: self.desk.guest.borrow().clone(),
            unclaimed: self.host.paths.unclaimed(),
            from,
        };
        self.bring_up.spawn(bring_up.run());
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
        self.work.spawn(async move {
            let put_away = put_away::put_away(&qmp, &desk, &device).await;
            Work::Event(put_away.map_or_else(Event::SleepFailed, |()| Event::Saved))
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

    /// Starts QEMU with what was put away. An error is a sentence, and then there is no QEMU.
    fn wake(&mut self) -> Result<(), String> {
        let paths = self.host.paths.clone();
        let told = |error: Unusable| {
            tracing::error!(error = &error as &dyn std::error::Error, "the sleep cannot be used");
            error.to_string()
        };
        let found = asleep::find(&paths).map_err(told)?;
        let Found { record, warm } = found.ok_or_else(|| "it is not asleep".to_owned())?;
        let copy = if warm { None } else { Some(asleep::Restore::begin(&paths, &record).map_err(told)?) };
        self.desk.given.send_replace(record.keys.clone());
        let machine = record.machine.clone().at(self.host.vm, &paths);
        let control =
            self.start(machine, record.way_out.clone(), Begin::Incoming, record.fork).map_err(|error| {
                tracing::error!(%error, "QEMU cannot be started");
                "QEMU cannot be started on the host".to_owned()
            })?;
        self.restoring = Arc::new(AtomicBool::new(true));
        let go_on = Arc::clone(&self.restoring);
        let restored =
            on_thread(move || Ok(copy.map_or(Ok(()), |copy| copy.run(|| go_on.load(Ordering::Relaxed)))));
        let restored = async { restored.await.unwrap_or_else(|error| Err(error.into())) };
        let take_up = TakeUp { control, record, paths, restored, tasks: self.host.tasks.clone() };
        self.work = JoinSet::new();
        self.work.spawn(async move {
            take_up.run().await.map_or_else(|reason| Work::Event(Event::WakeFailed(reason)), Work::TakenUp)
        });
        Ok(())
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

/// Guests have no clock that runs while they sleep.
async fn set_clock(desk: Arc<Desk>) {
    for _ in 0..CLOCK_TRIES {
        match desk.agent.lock().await.set_time().await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "the guest's clock is not set yet"),
        }
        sleep(Duration::from_millis(200)).await;
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
