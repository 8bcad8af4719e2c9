//! A VM gets a larger disk, and a new one, with its home and without; and whoever is killed meanwhile, nothing is lost.

use std::{fs, path::PathBuf, time::Duration};

use berth_engine::{Engine, EngineError, Grown, Home, Observed, VmSpec};
use berth_model::VmId;
use tokio::time::{sleep, timeout};

use crate::bench::{Bench, PATIENCE};

const GIB: u64 = 1 << 30;
const ASLEEP: Observed = Observed::Asleep { called: false };

/// There is a template, so that what is made here need not boot.
pub(crate) async fn rebuilds(bench: &Bench) {
    let vm = VmId::random();
    bench.engine.create(&vm, &bench.spec).await.expect("it is made");
    bench.start(&vm).await;
    let spec = a_disk_grows(bench, &vm).await;
    let (old, machine) = a_home(bench, &vm).await;
    the_old_disk_outlives_whoever_is_killed(bench, &vm, &spec).await;
    the_home_is_on_the_new_disk(bench, &vm, &spec, &old, &machine).await;
    without_its_home_it_is_new(bench, &vm, &spec).await;
    bench.engine.remove(&vm).await.expect("it is removed");
}

async fn megabytes(bench: &Bench, vm: &VmId) -> u64 {
    let shown = bench.prints(vm, "df --output=size -B1M / | tail -n 1").await;
    shown.trim().parse().expect("a number")
}

async fn a_disk_grows(bench: &Bench, vm: &VmId) -> VmSpec {
    println!(" a disk grows while it runs, and while it sleeps");
    let larger = |more: u64| VmSpec { disk: bench.spec.disk + more * GIB, ..bench.spec.clone() };
    let before = megabytes(bench, vm).await;
    assert_eq!(bench.engine.grow(vm, &larger(2)).await, Ok(Grown::Now));
    let grown = megabytes(bench, vm).await;
    assert!(grown > before + 1900, "{before} MB before, {grown} MB after");
    let boot = bench.prints(vm, "cat /proc/sys/kernel/random/boot_id; cat /proc/uptime").await;
    bench.sleep(vm).await;
    assert_eq!(bench.engine.grow(vm, &larger(4)).await, Ok(Grown::AtStart), "what sleeps is not touched");
    bench.engine.start(vm, &larger(4), &bench.guest).await.expect("it wakes");
    let at_last = megabytes(bench, vm).await;
    assert!(at_last > grown + 1900, "{grown} MB before, {at_last} MB after");
    let still = bench.prints(vm, "cat /proc/sys/kernel/random/boot_id").await;
    assert!(boot.starts_with(&still), "it woke, and did not boot");
    larger(4)
}

/// What a home can have in it, and what tells of it.
const FILL: &str = "mkdir -p deep/er && echo kept >deep/er/file && ln deep/er/file hard && ln -s deep/er soft && \
    chmod 0640 hard && touch -d 2001-02-03T04:05:06Z dated && truncate -s 200M holes && mkfifo pipe && \
    python3 -c 'import os; os.setxattr(\"hard\", \"user.berth\", b\"attribute\")' && \
    sudo sh -c 'mkdir /home/other && echo theirs >/home/other/file && chown -R 1234:4321 /home/other && chmod 0700 /home/other' && \
    echo changed | sudo tee /etc/changed";
const TELL: &str = "stat -c '%n %a %U %h %Y %F' deep deep/er/file hard soft dated holes pipe; readlink soft; cat hard; \
    python3 -c 'import os; print(os.getxattr(\"hard\", \"user.berth\"))'; stat -c %b holes; \
    sudo stat -c '%n %a %u %g' /home/other /home/other/file; sudo cat /home/other/file; cat late";

/// What it tells of its home, and its machine id.
async fn a_home(bench: &Bench, vm: &VmId) -> (String, String) {
    bench.prints(vm, FILL).await;
    // Not on its disk yet when it falls asleep.
    bench.prints(vm, "echo in memory >late").await;
    let old = bench.prints(vm, TELL).await;
    let machine = bench.prints(vm, "cat /etc/machine-id").await;
    bench.sleep(vm).await;
    (old, machine)
}

fn rebuilds_of(bench: &Bench) -> Vec<PathBuf> {
    let dir = bench.state.path().join("rebuilds");
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

async fn the_old_disk_outlives_whoever_is_killed(bench: &Bench, vm: &VmId, spec: &VmSpec) {
    println!(" killed in the middle");
    let disk = bench.state.path().join(format!("vms/{vm}/disk.qcow2"));
    let cut = bench.engine_with(&["fault", "home:copied", "shim"]);
    let failed = timeout(PATIENCE, cut.rebuild(vm, spec, &bench.guest, Home::Keep, PATIENCE)).await;
    let failed = failed.expect("it ends in time");
    assert!(matches!(failed, Err(EngineError::StartFailed { .. })), "{failed:?}");
    assert!(matches!(bench.engine.observe(vm).await, Ok(Observed::Off { .. })), "it is shut down");
    assert_eq!(rebuilds_of(bench), Vec::<PathBuf>::new(), "nothing is left of the attempt");
    let before = fs::read(&disk).expect("its disk is there");

    // The server is killed: nobody is there to clean up.
    let server = bench.another_engine();
    let begun = async {
        while !rebuilds_of(bench).iter().any(|dir| dir.join("console.log").exists()) {
            sleep(Duration::from_millis(20)).await;
        }
        sleep(Duration::from_secs(1)).await;
    };
    tokio::select! {
        ended = server.rebuild(vm, spec, &bench.guest, Home::Keep, PATIENCE) => panic!("{ended:?}"),
        () = begun => drop(server),
    }
    assert_eq!(rebuilds_of(bench).len(), 1);
    assert!(matches!(bench.engine.observe(vm).await, Ok(Observed::Off { .. })));
    assert!(fs::read(&disk).expect("its disk is there") == before, "the old disk is never written");
}

async fn the_home_is_on_the_new_disk(bench: &Bench, vm: &VmId, spec: &VmSpec, old: &str, machine: &str) {
    println!(" a new disk with the old home");
    let rebuilt = timeout(PATIENCE, bench.engine.rebuild(vm, spec, &bench.guest, Home::Keep, PATIENCE)).await;
    assert_eq!(rebuilt.expect("it ends in time"), Ok(()));
    assert_eq!(rebuilds_of(bench), Vec::<PathBuf>::new());
    assert_eq!(fs::read_dir(bench.state.path().join("run")).expect("a folder").count(), 0, "nothing runs");
    assert_eq!(bench.engine.observe(vm).await, Ok(ASLEEP));
    for round in ["first", "second"] {
        bench.engine.start(vm, spec, &bench.guest).await.expect(round);
        // The host key is the known one, or ssh would not come in.
        assert_eq!(bench.prints(vm, TELL).await, old, "{round}");
        assert_eq!(bench.prints(vm, "ls /home; ls -d /etc/changed 2>/dev/null; true").await, "alice\nother");
        assert_ne!(bench.prints(vm, "cat /etc/machine-id").await, machine, "it is another system");
        assert_eq!(bench.prints(vm, "ls /sys/block; whoami; hostname").await, "vda\nalice\nvm-0", "{round}");
        assert!(megabytes(bench, vm).await > (spec.disk >> 20) * 9 / 10, "as large as it was");
        bench.sleep(vm).await;
    }
}

async fn without_its_home_it_is_new(bench: &Bench, vm: &VmId, spec: &VmSpec) {
    println!(" a new disk with nothing of the old one");
    bench.engine.start(vm, spec, &bench.guest).await.expect("it wakes");
    let rebuilt = bench.engine.rebuild(vm, spec, &bench.guest, Home::Discard, PATIENCE).await;
    assert_eq!(rebuilt, Ok(()));
    assert_eq!(bench.engine.observe(vm).await, Ok(ASLEEP), "as a new one is");
    bench.engine.start(vm, spec, &bench.guest).await.expect("it wakes");
    assert_eq!(bench.prints(vm, "ls /home; ls").await, "alice\nWeb");
    assert!(megabytes(bench, vm).await > (spec.disk >> 20) * 9 / 10, "as large as it was");
}
