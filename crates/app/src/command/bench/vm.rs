//! What is measured of VMs, in which order.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use berth_control::{Status, VmInfo};
use tokio::{task::spawn_blocking, time::sleep};

use super::{
    client::{Shell, first_output},
    figures::Figures,
    machine, processes,
    world::{ACCOUNT, World},
};
use crate::{
    admin::wire::{Answer, Request},
    cli::BenchVmArgs,
    command::Context,
};

const SSH_RUNNING: &str = "ssh to a running VM";
const SSH_ASLEEP: &str = "ssh to a sleeping VM";
const DIRECT_NEW: &str = "ssh in direct mode, by a new connection";
const DIRECT_READY: &str = "ssh in direct mode, by one kept ready";
const DIRECT_ASLEEP: &str = "ssh in direct mode to a sleeping VM, by one kept ready";
const ECHO: &str = "key to echo over a sleep";
const SLEEP: &str = "sleep, until QEMU is gone";
const WAKE_AT_ONCE: &str = "sleeping to running, memory in tmpfs";
const WAKE_WARM: &str = "sleeping to running, memory in the page cache";
const WAKE_COLD: &str = "sleeping to running, from a cold disk";
const NEW: &str = "a new VM to its first shell";
const BOOT: &str = "a boot";
const ON_DISK: &str = "a fresh VM asleep, on disk";
const ON_DISK_BY_HAND: &str = "a fresh VM put to sleep by hand, on disk";

/// The gateway makes a connection ready two seconds after a VM was left alone.
const MADE_READY: Duration = Duration::from_secs(6);
/// Long enough for the policy to see that a VM has come to rest.
const SLEEPS_AFTER: Duration = Duration::from_secs(12);
/// Each takes a minute until the guest has come to rest, and they hardly differ.
const FRESH_RUNS: u32 = 3;
const ASLEEP_WITHIN: Duration = Duration::from_secs(180);
const GLANCE: Duration = Duration::from_millis(200);
const QEMU_GONE_WITHIN: Duration = Duration::from_secs(30);

/// Measures everything. Gives a line about the machine, and the figures.
pub(super) async fn measure(
    context: &Context<'_>,
    world: &mut World,
    args: &BenchVmArgs,
) -> anyhow::Result<(String, Figures)> {
    let say = |what: &str| context.output.note(&format!("{what}…"));
    say("Starting a server");
    world.open().await?;
    say("Making what new VMs are forked from");
    if !world.forks().await? {
        context.output.note("New VMs boot here instead of being forked; the server's log says why.");
    }
    let mut bench = Bench { world, figures: Figures::default(), runs: args.runs };
    let vm = bench.new_vm().await?;
    bench.start(&vm).await?;
    let machine = machine::describe(bench.world.qemus().first());
    context.output.note(&machine);
    // The first time is not like the others.
    bench.ssh(&vm).await?;

    say(SSH_RUNNING);
    bench.ssh_to_a_running_vm(&vm).await?;
    say(SSH_ASLEEP);
    bench.ssh_to_a_sleeping_vm(&vm).await?;
    say("ssh in direct mode");
    bench.direct_mode(&vm).await?;
    say(ECHO);
    bench.key_to_echo(&vm).await?;
    say("Sleep, and wake while the memory is in tmpfs");
    bench.sleep_and_wake(&vm).await?;
    say(WAKE_WARM);
    bench.wake_from_the_page_cache(&vm).await?;
    if args.cold {
        say(WAKE_COLD);
        bench.wake_from_a_cold_disk(&vm).await?;
    }
    say(BOOT);
    bench.boot(&vm).await?;
    bench.remove(&vm).await?;
    say(NEW);
    bench.new_vms().await?;
    say(ON_DISK);
    bench.fresh_vms_asleep().await?;
    Ok((machine, bench.figures))
}

struct Bench<'a> {
    world: &'a mut World,
    figures: Figures,
    runs: u32,
}

impl Bench<'_> {
    async fn ssh_to_a_running_vm(&mut self, vm: &str) -> anyhow::Result<()> {
        for _ in 0..self.runs {
            let took = self.ssh(vm).await?;
            self.figures.took(SSH_RUNNING, took);
        }
        Ok(())
    }

    async fn ssh_to_a_sleeping_vm(&mut self, vm: &str) -> anyhow::Result<()> {
        for _ in 0..self.runs {
            self.sleep(vm).await?;
            self.world.settled().await?;
            let took = self.ssh(vm).await?;
            self.figures.took(SSH_ASLEEP, took);
        }
        Ok(())
    }

    async fn direct_mode(&mut self, vm: &str) -> anyhow::Result<()> {
        let direct = self.world.direct(vm);
        for _ in 0..self.runs {
            // What was ready is of no use once the VM is used by another way.
            self.ssh(vm).await?;
            let took = self.ssh(&direct).await?;
            self.figures.took(DIRECT_NEW, took);
        }
        for _ in 0..self.runs {
            sleep(MADE_READY).await;
            let took = self.ssh(&direct).await?;
            self.figures.took(DIRECT_READY, took);
        }
        for _ in 0..self.runs {
            sleep(MADE_READY).await;
            self.sleep(vm).await?;
            self.world.settled().await?;
            let took = self.ssh(&direct).await?;
            self.figures.took(DIRECT_ASLEEP, took);
        }
        Ok(())
    }

    async fn key_to_echo(&mut self, vm: &str) -> anyhow::Result<()> {
        let mut shell = Shell::open(&self.world.ssh_config(), vm).await?;
        for _ in 0..self.runs {
            self.sleep(vm).await?;
            self.world.settled().await?;
            let took = shell.echo().await?;
            self.figures.took(ECHO, took);
        }
        Ok(())
    }

    async fn sleep_and_wake(&mut self, vm: &str) -> anyhow::Result<()> {
        for _ in 0..self.runs {
            let took = self.sleep(vm).await?;
            self.figures.took(SLEEP, took);
            let took = self.wake(vm).await?;
            self.figures.took(WAKE_AT_ONCE, took);
        }
        Ok(())
    }

    async fn wake_from_the_page_cache(&mut self, vm: &str) -> anyhow::Result<()> {
        for _ in 0..self.runs {
            self.sleep(vm).await?;
            self.world.settled().await?;
            let took = self.wake(vm).await?;
            self.figures.took(WAKE_WARM, took);
        }
        Ok(())
    }

    async fn wake_from_a_cold_disk(&mut self, vm: &str) -> anyhow::Result<()> {
        for _ in 0..self.runs {
            self.sleep(vm).await?;
            self.world.settled().await?;
            spawn_blocking(machine::empty_the_page_cache).await??;
            let took = self.wake(vm).await?;
            self.figures.took(WAKE_COLD, took);
        }
        Ok(())
    }

    async fn boot(&mut self, vm: &str) -> anyhow::Result<()> {
        for _ in 0..self.runs {
            self.world.ask(Request::VmStop { vm: vm.into() }).await?;
            let took = self.start(vm).await?;
            self.figures.took(BOOT, took);
        }
        Ok(())
    }

    /// One at a time, so that what is on the disk is its own.
    async fn new_vms(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.runs {
            let began = Instant::now();
            let vm = self.new_vm().await?;
            self.ssh(&vm).await?;
            self.figures.took(NEW, began.elapsed());
            self.sleep(&vm).await?;
            self.world.settled().await?;
            self.figures.has(ON_DISK_BY_HAND, self.world.bytes_of_vms());
            self.remove(&vm).await?;
        }
        Ok(())
    }

    /// As the idle policy puts them to sleep, which has them give back memory first.
    async fn fresh_vms_asleep(&mut self) -> anyhow::Result<()> {
        self.world.let_them_sleep_after(SLEEPS_AFTER).await?;
        for _ in 0..self.runs.min(FRESH_RUNS) {
            let vm = self.new_vm().await?;
            self.ssh(&vm).await?;
            self.asleep_by_itself(&vm).await?;
            self.world.settled().await?;
            self.figures.has(ON_DISK, self.world.bytes_of_vms());
            self.remove(&vm).await?;
        }
        Ok(())
    }

    async fn asleep_by_itself(&self, vm: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + ASLEEP_WITHIN;
        loop {
            let Answer::Vms(vms) = self.world.ask(Request::VmList { account: None }).await? else {
                bail!(crate::command::misfit())
            };
            if vms.iter().any(|info| info.host == vm && info.status == Status::Asleep) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{vm} does not fall asleep by itself");
            }
            sleep(GLANCE).await;
        }
    }

    async fn ssh(&self, vm: &str) -> anyhow::Result<Duration> {
        first_output(&self.world.ssh_config(), vm).await
    }

    async fn new_vm(&self) -> anyhow::Result<String> {
        match self.world.ask(Request::VmAdd { account: ACCOUNT.into() }).await? {
            Answer::Vm(VmInfo { host, .. }) => Ok(host),
            _ => bail!(crate::command::misfit()),
        }
    }

    async fn start(&self, vm: &str) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.world.ask(Request::VmStart { vm: vm.into(), from_disk: false }).await?;
        Ok(began.elapsed())
    }

    async fn wake(&self, vm: &str) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.world.ask(Request::VmWake { vm: vm.into() }).await?;
        Ok(began.elapsed())
    }

    async fn remove(&self, vm: &str) -> anyhow::Result<()> {
        self.world.ask(Request::VmRemove { vm: vm.into() }).await?;
        Ok(())
    }

    /// From asking for it until it is said to sleep and QEMU is gone.
    async fn sleep(&self, vm: &str) -> anyhow::Result<Duration> {
        let qemus = self.world.qemus();
        let began = Instant::now();
        self.world.ask(Request::VmSleep { vm: vm.into() }).await?;
        let gone = spawn_blocking(move || processes::ended(&qemus, QEMU_GONE_WITHIN)).await?;
        Ok(gone.context("QEMU runs on though the VM sleeps")? - began)
    }
}
