//! How the supervisor starts a QEMU, to boot or to wake, and has its guest brought up.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use berth_engine::Observed;
use tokio::{net::UnixStream, task::JoinSet, time::sleep as pause};

use super::{
    agent::Agent,
    bring_up::{BringUp, From},
    desk::Desk,
    fault,
    gate::Gate,
    life::Event,
    on_thread,
    put_away::{TakeUp, Waits},
    qemu::{self, Order, Started},
    qmp::Qmp,
    supervisor::{Supervisor, Work},
    vm::{FileId, Vm},
};
use crate::{
    accel::Accel,
    console,
    egress::WayOut,
    qemu::{Begin, Machine},
    sleep::{self, Found, Unusable},
};

/// From a boot to sshd's answer; several VMs may boot at once.
const BOOT_UNDER_KVM: Duration = Duration::from_secs(120);
const BOOT_UNDER_TCG: Duration = Duration::from_secs(300);
/// The clock of a guest that has slept, until it is given up.
const CLOCK_TRIES: u32 = 3;

impl Supervisor {
    /// Starts a VM that is off.
    pub(super) fn boot(&mut self, machine: Machine) -> io::Result<()> {
        sleep::fresh_memory(&self.host.paths, machine.memory_bytes())?;
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
    ) -> io::Result<UnixStream> {
        let host = &self.host;
        let memory = FileId::of(&machine.memory_file)?;
        let order = Order { program: &host.qemu, machine: &machine, way_out: &way_out, begin };
        let Started { child, complaints, lines, wires } = qemu::start(&order, &host.lock, &host.tasks)?;
        let gate = Gate::new(wires, self.desk.network.clone(), host);
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

    pub(super) fn bring_up(&mut self) {
        let accel = self.vm.as_ref().map_or(Accel::Tcg, |vm| vm.machine.accel);
        self.begin_to_bring_up(From::Boot(match accel {
            Accel::Kvm => BOOT_UNDER_KVM,
            Accel::Tcg => BOOT_UNDER_TCG,
        }));
    }

    pub(super) fn rouse(&mut self) {
        self.port_open.send_replace(true);
        self.begin_to_bring_up(From::Sleep);
        self.errands.spawn(set_clock(Arc::clone(&self.desk)));
        self.clear();
    }

    /// Deletes what is left of the sleep, which takes a moment; the next one waits for it. What a kill leaves of it, the
    /// next shim deletes.
    fn clear(&self) {
        self.cleared.send_replace(false);
        let (paths, cleared) = (self.host.paths.clone(), self.cleared.clone());
        drop(on_thread(move || {
            let done = sleep::clear_leftovers(&paths);
            cleared.send_replace(true);
            done
        }));
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

    /// Starts QEMU with what was put away. An error is a sentence, and then there is no QEMU.
    pub(super) fn wake(&mut self) -> Result<(), String> {
        let paths = self.host.paths.clone();
        let told = |error: Unusable| {
            tracing::error!(error = &error as &dyn std::error::Error, "the sleep cannot be used");
            error.to_string()
        };
        let found = sleep::find(&paths).map_err(told)?;
        let Found { record, warm } = found.ok_or_else(|| "it is not asleep".to_owned())?;
        let copy = if warm { None } else { Some(sleep::Restore::begin(&paths, &record).map_err(told)?) };
        self.desk.given.send_replace(record.keys.clone());
        self.waits = Waits::Nobody;
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
}

/// Guests have no clock that runs while they sleep.
async fn set_clock(desk: Arc<Desk>) {
    for _ in 0..CLOCK_TRIES {
        match desk.agent.lock().await.set_time().await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "the guest's clock is not set yet"),
        }
        pause(Duration::from_millis(200)).await;
    }
}
