//! One VM from its first start to its removal, with everything that can happen to it in between.

use std::time::Duration;

use berth_engine::{Ending, Engine, EngineError, Observed};
use berth_model::VmId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::bench::{Bench, PATIENCE, image_dir, kill, qemus, shims, soon};

pub(crate) async fn life() {
    let bench = Bench::new(image_dir()).await;
    let vm = VmId::random();
    bench.engine.create(&vm, &bench.spec).await.expect("it is made");

    two_starts_at_once_are_one(&bench, &vm).await;
    its_processes_are_shut_in(&vm);
    the_guest_is_the_account_s(&bench, &vm).await;
    connections_end_one_half_at_a_time(&bench, &vm).await;
    keys_count_at_once(&bench, &vm).await;
    another_engine_finds_it(&bench, &vm).await;
    a_reboot_stays_a_reboot(&bench, &vm).await;
    a_killed_shim_takes_qemu_along(&bench, &vm).await;
    bench.start(&vm).await;
    assert_eq!(bench.prints(&vm, "cat kept").await, "still here", "the disk is as the guest left it");
    a_killed_qemu_is_a_failure(&bench, &vm).await;
    bench.start(&vm).await;
    a_poweroff_is_a_poweroff(&bench, &vm).await;
    bench.start(&vm).await;
    a_stop_is_clean(&bench, &vm).await;
    bench.start(&vm).await;
    no_patience_is_a_kill(&bench, &vm).await;
    removal(&bench, &vm).await;
}

/// What the sandbox keeps them from is tested beside it; that they are in it is seen here.
fn its_processes_are_shut_in(vm: &VmId) {
    println!(" in a sandbox");
    /// Being no stranger to files that it reads, which the sandbox names.
    const DAC_READ_SEARCH: u64 = 1 << 2;
    let processes = [shims(&vm.to_string()), qemus(&vm.to_string())].concat();
    assert_eq!(processes.len(), 2, "a shim and a QEMU");
    for pid in processes {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        assert_eq!((of("NoNewPrivs:"), of("Seccomp:")), (Some("1"), Some("2")), "{status}");
        let may = of("CapEff:").and_then(|bits| u64::from_str_radix(bits, 16).ok()).expect("capabilities");
        assert_eq!(may & !DAC_READ_SEARCH, 0, "{may:x}");
        let user: u32 =
            of("Uid:").and_then(|ids| ids.split_whitespace().next()?.parse().ok()).expect("a user");
        let root = rustix::process::geteuid().is_root();
        assert_eq!(user >= 0x7000_0000, root, "it runs as {user}");
    }
}

async fn two_starts_at_once_are_one(bench: &Bench, vm: &VmId) {
    println!(" two starts at once");
    let other = bench.another_engine();
    let (mine, theirs) = tokio::join!(
        bench.engine.start(vm, &bench.spec, &bench.guest),
        other.start(vm, &bench.spec, &bench.guest)
    );
    assert_eq!((mine, theirs), (Ok(()), Ok(())), "{}", bench.shim_log(vm));
    assert_eq!(qemus(&vm.to_string()).len(), 1);
    assert_eq!(shims(&vm.to_string()).len(), 1);
}

async fn the_guest_is_the_account_s(bench: &Bench, vm: &VmId) {
    println!(" the account in the guest");
    let seen = bench.prints(vm, "whoami; hostname; pwd; hostname -f; sudo -n id -u").await;
    assert_eq!(seen, "alice\nvm-0\n/home/alice\nvm-0.alice.koding.kd.io\n0");
    assert!(!bench.engine.boot_log(vm).await.expect("a log").is_empty());
    assert_eq!(bench.engine.dial(vm, 9).await.err(), Some(EngineError::Refused { port: 9 }));
}

async fn connections_end_one_half_at_a_time(bench: &Bench, vm: &VmId) {
    println!(" half-closes and a page of the web server");
    let mut page = bench.engine.dial(vm, 80).await.expect("the web server answers");
    page.write_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n").await.expect("it takes a request");
    page.shutdown().await.expect("our half ends");
    let mut text = String::new();
    page.read_to_string(&mut text).await.expect("its half goes on to its end");
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("</html>\n"), "{text}");
}

async fn keys_count_at_once(bench: &Bench, vm: &VmId) {
    println!(" keys");
    let second = bench.ssh.new_key("second", &["-t", "ed25519"]).await;
    assert_ne!(bench.run(vm, "second", "true").await.status, Some(0), "it is not there yet");
    let started = Instant::now();
    bench.engine.set_authorized_keys(vm, &second, &[], "").await.expect("a running VM takes keys");
    println!("  set in {:.1?}", started.elapsed());
    assert_eq!(bench.run(vm, "second", "true").await.status, Some(0), "it is there");
    assert_ne!(bench.run(vm, "member", "true").await.status, Some(0), "and the other one is not");
    let both = format!("{second}{}", bench.guest.authorized_keys);
    bench.engine.set_authorized_keys(vm, &both, &[], "").await.expect("a running VM takes keys");
}

async fn another_engine_finds_it(bench: &Bench, vm: &VmId) {
    println!(" another engine");
    let other = bench.another_engine();
    assert_eq!(other.observe(vm).await, Ok(Observed::Running));
    assert_eq!(other.list().await, Ok(vec![*vm]));
    assert!(other.dial(vm, 22).await.is_ok());
}

async fn a_reboot_stays_a_reboot(bench: &Bench, vm: &VmId) {
    println!(" reboot inside");
    assert_eq!(bench.prints(vm, "echo still here >kept && sync && cat kept").await, "still here");
    let qemu = qemus(&vm.to_string());
    let boot = bench.prints(vm, "cat /proc/sys/kernel/random/boot_id").await;
    let mut open = bench.engine.dial(vm, 22).await.expect("a connection");
    let _ended = bench.run(vm, "member", "sudo systemctl reboot").await;
    bench.becomes(vm, &Observed::Booting).await;
    let mut rest = Vec::new();
    let _end_or_reset = open.read_to_end(&mut rest).await;
    assert_eq!(bench.engine.dial(vm, 22).await.err(), Some(EngineError::NotRunning));
    bench.becomes(vm, &Observed::Running).await;
    assert_ne!(bench.prints(vm, "cat /proc/sys/kernel/random/boot_id").await, boot);
    assert_eq!(bench.run(vm, "second", "true").await.status, Some(0), "keys set before the reboot are there");
    assert_eq!(qemus(&vm.to_string()), qemu, "it is the same process");
}

async fn a_killed_shim_takes_qemu_along(bench: &Bench, vm: &VmId) {
    println!(" kill -9 of the shim");
    for shim in shims(&vm.to_string()) {
        kill(shim);
    }
    soon("QEMU dies with its shim", || qemus(&vm.to_string()).is_empty()).await;
    let seen = bench.engine.observe(vm).await;
    assert!(
        matches!(&seen, Ok(Observed::Off { ended: Some(Ending::Failed { reason }) }) if reason.contains("cut off")),
        "{seen:?}"
    );
}

async fn a_killed_qemu_is_a_failure(bench: &Bench, vm: &VmId) {
    println!(" kill -9 of QEMU");
    for qemu in qemus(&vm.to_string()) {
        kill(qemu);
    }
    let reason = "its process on the host was killed".to_owned();
    bench.becomes(vm, &Observed::Off { ended: Some(Ending::Failed { reason }) }).await;
    soon("the shim ends", || shims(&vm.to_string()).is_empty()).await;
}

async fn a_poweroff_is_a_poweroff(bench: &Bench, vm: &VmId) {
    println!(" poweroff inside");
    let _ended = bench.run(vm, "member", "sudo poweroff").await;
    bench.becomes(vm, &Observed::Off { ended: Some(Ending::PoweredOff) }).await;
}

async fn a_stop_is_clean(bench: &Bench, vm: &VmId) {
    println!(" stop");
    let started = Instant::now();
    assert_eq!(bench.engine.stop(vm, PATIENCE).await, Ok(()));
    println!("  stopped in {:.1?}", started.elapsed());
    assert_eq!(bench.engine.observe(vm).await, Ok(Observed::Off { ended: Some(Ending::Stopped) }));
    assert_eq!((qemus(&vm.to_string()).len(), shims(&vm.to_string()).len()), (0, 0));
}

async fn no_patience_is_a_kill(bench: &Bench, vm: &VmId) {
    println!(" stop without patience");
    assert_eq!(bench.engine.stop(vm, Duration::ZERO).await, Ok(()));
    assert_eq!(bench.engine.observe(vm).await, Ok(Observed::Off { ended: Some(Ending::Killed) }));
}

async fn removal(bench: &Bench, vm: &VmId) {
    println!(" removal");
    assert_eq!(bench.engine.remove(vm).await, Ok(()));
    assert_eq!(bench.engine.observe(vm).await, Ok(Observed::Missing));
    for dir in ["vms", "run"] {
        let left = std::fs::read_dir(bench.state.path().join(dir)).expect("the folder stays").count();
        assert_eq!(left, 0, "nothing is left in {dir}");
    }
}
