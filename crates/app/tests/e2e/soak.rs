//! Mixed use for a while, with processes killed at random, against a model of what must hold; then nothing may be left over.
//!
//! ```text
//!   seed ──► the order of actions ──► world (a real server, real VMs)
//!                    └──────────────► model: what each VM has on its disk and in its memory ──► compared after each action
//! ```
//!
//! What must hold: what was synced to a disk is there, whoever was killed since; what is in a VM's memory is there unless its
//! own process was killed or it was stopped; a removed VM is gone; and a member who connects gets in.
//!
//! `BERTH_SOAK_SECONDS` says how long (a minute without it), `BERTH_SOAK_SEED` repeats the order of another run. How long each
//! action takes differs, so a run that is repeated may meet other moments.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    Test,
    run::{run, wait_for},
    world::World,
};

pub(crate) const TESTS: &[(&str, Test)] =
    &[("soak::mixed_use_leaves_nothing_behind_and_loses_nothing", soak)];

/// The order in ordinary runs: what fails then is what has changed. `make soak` takes another one each time.
const SEED: u64 = 0x5eed;
const A_MINUTE: u64 = 60;
/// VMs at a time.
const MOST_VMS: usize = 2;
/// A server that serves has about as many files open as at the beginning, whatever it has been through.
const MORE_FILES: usize = 20;
/// The same for its memory, in KiB; the allocator keeps some.
const MORE_MEMORY: u64 = 100 << 10;

/// A sequence that its seed decides (xorshift64*).
struct Order(u64);

impl Order {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % end
    }
}

/// What must be found in a VM.
#[derive(Default)]
struct Held {
    disk: Option<String>,
    memory: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Connect,
    Write,
    Transfer,
    Sleep,
    Wake,
    Stop,
    New,
    Remove,
    Upgrade,
    KillServer,
    KillShim,
    KillQemu,
    KillPasst,
}

/// As often as they stand here.
const ACTIONS: [Action; 18] = [
    Action::Connect,
    Action::Connect,
    Action::Write,
    Action::Write,
    Action::Write,
    Action::Transfer,
    Action::Transfer,
    Action::Sleep,
    Action::Sleep,
    Action::Wake,
    Action::Stop,
    Action::New,
    Action::Remove,
    Action::Upgrade,
    Action::KillServer,
    Action::KillShim,
    Action::KillQemu,
    Action::KillPasst,
];

struct Soak<'a> {
    world: &'a World,
    order: Order,
    vms: BTreeMap<String, Held>,
}

fn soak(world: &World) {
    let _guard = world.alone();
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().expect("a number"));
    let seed = number("BERTH_SOAK_SEED").unwrap_or(SEED);
    let seconds = number("BERTH_SOAK_SECONDS").unwrap_or(A_MINUTE);
    println!("soak: {seconds} s, BERTH_SOAK_SEED={seed}");
    let mut soak = Soak { world, order: Order(seed.max(1)), vms: BTreeMap::new() };
    let before = Left::of(world);
    soak.act(Action::New);
    let began = Instant::now();
    let mut actions = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        let action = ACTIONS[soak.order.below(ACTIONS.len())];
        soak.act(action);
        actions += 1;
    }
    println!("soak: {actions} actions in {} s", began.elapsed().as_secs());
    for vm in soak.vms.keys() {
        soak.look(vm);
    }
    for vm in soak.vms.keys() {
        world.admin(&["vm", "remove", vm, "--yes"]).ok();
    }
    before.compare(world);
}

impl Soak<'_> {
    fn act(&mut self, action: Action) {
        let world = self.world;
        let at = self.order.below(self.vms.len().max(1));
        let vm = self.vms.keys().nth(at).cloned().unwrap_or_default();
        println!("soak: {action:?} {vm}");
        match action {
            Action::Connect => self.look(&vm),
            Action::Write => self.write(&vm),
            Action::Transfer => {
                let bytes = self.order.below(4 << 20);
                let script = format!(
                    "head -c {bytes} /dev/urandom >sent && ssh {vm} 'cat >got && sha256sum <got' <sent >there && sha256sum <sent | cmp - there"
                );
                world.sh(&script).ok();
            }
            // Refused while somebody connects, which is no fault.
            Action::Sleep => drop(world.admin(&["vm", "sleep", &vm])),
            Action::Wake => drop(world.admin(&["vm", "start", &vm]).ok()),
            Action::Stop => {
                world.admin(&["vm", "stop", &vm]).ok();
                self.held(&vm).memory = None;
            }
            Action::New if self.vms.len() < MOST_VMS => {
                self.vms.insert(world.new_vm(), Held::default());
            }
            Action::Remove if self.vms.len() > 1 => {
                world.admin(&["vm", "remove", &vm, "--yes"]).ok();
                self.vms.remove(&vm);
                assert!(world.sh(&format!("ssh {vm} true")).code != Some(0), "{vm} is removed");
            }
            Action::New | Action::Remove => {}
            Action::Upgrade => upgrade(world),
            Action::KillServer => {
                world.kill_server();
                world.start_server();
            }
            Action::KillShim => self.kill(&vm, "vm-shim"),
            Action::KillQemu => self.kill(&vm, "qemu-system"),
            Action::KillPasst => {
                // It is a child of the shim's way out. Who is in the VM does not notice, and it is started again.
                for shim in pids(&["-f", &format!("vm-shim.*{}", self.id(&vm))]) {
                    for way_out in pids(&["-P", &shim, "-f", "way-out"]) {
                        kill_all(&pids(&["-P", &way_out, "passt"]));
                    }
                }
            }
        }
    }

    fn held(&mut self, vm: &str) -> &mut Held {
        self.vms.get_mut(vm).expect("it is in the model")
    }

    fn id(&self, vm: &str) -> String {
        let number = vm.trim_start_matches("vm-").split('.').next().unwrap().parse().unwrap();
        self.world.id_of(number)
    }

    fn write(&mut self, vm: &str) {
        let token = format!("{:016x}", self.order.next());
        let script = format!("ssh {vm} 'echo {token} >token && sync && echo {token} >/dev/shm/token'");
        self.world.sh(&script).ok();
        *self.held(vm) = Held { disk: Some(token.clone()), memory: Some(token) };
    }

    /// Gets in, and finds what was put there.
    fn look(&self, vm: &str) {
        let Some(Held { disk, memory }) = self.vms.get(vm) else { return };
        let said = self.world.sh(&format!("ssh {vm} 'cat token; echo -; cat /dev/shm/token' 2>/dev/null"));
        let (on_disk, in_memory) = said.out.split_once("-\n").unwrap_or_else(|| panic!("{vm}: {said:#?}"));
        if let Some(disk) = disk {
            assert_eq!(on_disk.trim(), disk, "{vm} has lost what was on its disk");
        }
        if let Some(memory) = memory {
            assert_eq!(in_memory.trim(), memory, "{vm} has lost what was in its memory");
        }
    }

    /// Kills one of a VM's processes: if there was one, what was in its memory is lost, unless it sleeps on the disk.
    fn kill(&mut self, vm: &str, program: &str) {
        let id = self.id(vm);
        let status = self.world.status(vm);
        let found = pids(&["-f", &format!("{program}.*{id}")]);
        kill_all(&found);
        if !found.is_empty() && status != "asleep" {
            self.held(vm).memory = None;
        }
        wait_for("somebody has noticed", Duration::from_secs(60), || {
            self.world.status(vm) != "running" || status != "running"
        });
    }
}

/// The processes that pgrep(1) finds.
fn pids(arguments: &[&str]) -> Vec<String> {
    let found = Command::new("pgrep").args(arguments).output().expect("pgrep runs");
    String::from_utf8(found.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

fn kill_all(pids: &[String]) {
    for pid in pids {
        // It may be gone by itself.
        let _ = Command::new("kill").args(["-KILL", pid]).output();
    }
}

/// The server is replaced; the old one has nobody, and ends.
fn upgrade(world: &World) {
    let mut old = world.take_server();
    world.admin(&["upgrade"]).ok();
    wait_for("the old server ends", Duration::from_secs(60), || old.try_wait().unwrap().is_some());
    // One that is a child of the test's is easier to kill.
    let pid = fs::read_to_string(world.path("state/lock")).unwrap();
    run(&["kill", "-TERM", pid.trim()]);
    // One that nobody waits for stays as a zombie, without a program.
    let program = Path::new("/proc").join(pid.trim()).join("exe");
    wait_for("the new server ends", Duration::from_secs(60), || fs::read_link(&program).is_err());
    world.start_server();
}

/// What could leak.
#[derive(Debug)]
struct Left {
    vms: usize,
    memory: usize,
    sockets: usize,
    processes: usize,
    files: usize,
    resident: u64,
}

impl Left {
    fn of(world: &World) -> Self {
        let entries = |name: &Path| fs::read_dir(name).map_or(0, Iterator::count);
        let memory =
            fs::read_dir(world.memory_dir()).unwrap().flatten().map(|entry| entries(&entry.path())).sum();
        let pid = fs::read_to_string(world.path("state/lock")).unwrap();
        let proc = Path::new("/proc").join(pid.trim());
        let status = fs::read_to_string(proc.join("status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let state = world.path("state");
        Self {
            vms: entries(&state.join("vms")),
            memory,
            sockets: entries(&state.join("run")),
            processes: pids(&["-f", state.to_str().unwrap()]).len(),
            files: entries(&proc.join("fd")),
            resident: resident.split_whitespace().next().unwrap().parse().unwrap(),
        }
    }

    /// Waits until there is no more than there was.
    fn compare(&self, world: &World) {
        let began = Instant::now();
        loop {
            let now = Self::of(world);
            let more = now.vms > self.vms
                || now.memory > self.memory
                || now.sockets > self.sockets
                || now.processes > self.processes
                || now.files > self.files + MORE_FILES
                || now.resident > self.resident + MORE_MEMORY;
            if !more {
                println!("soak: {self:?} before, {now:?} after");
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(90), "{self:?} before, {now:?} after");
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}
