//! Put to sleep and woken: nothing is lost, and nothing is left running.

use std::{
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    Test,
    run::wait_for,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("sleep::a_shell_left_open_goes_on_at_the_next_key", open_shell),
    ("sleep::of_a_sleeping_vm_nothing_runs", nothing_runs),
    ("sleep::ssh_wakes_by_either_tunnel_and_says_so", ssh_wakes),
    ("sleep::bytes_on_their_way_survive_sleeps", traffic),
    ("sleep::a_log_in_gets_through_a_sleep_by_hand", log_in),
    ("sleep::the_clock_is_right_after_a_sleep", clock),
    ("sleep::a_server_that_is_killed_loses_no_sleep", killed_server),
    ("sleep::a_sleep_is_given_up_only_when_a_person_says_so", from_disk),
    ("sleep::what_the_commands_refuse", refused),
];

/// So long may a sleep take to be written to the disk.
const SETTLED: Duration = Duration::from_secs(60);

/// How many processes there are of a VM.
fn processes(pattern: &str) -> usize {
    let found = std::process::Command::new("pgrep").args(["-fc", pattern]).output().expect("pgrep runs");
    String::from_utf8_lossy(&found.stdout).trim().parse().expect("pgrep counts")
}

fn open_shell(world: &World) {
    let _guard = world.alone();
    let id = world.id_of(0);
    let qemus = || processes(&format!("qemu-system.*{id}"));
    let shims = || processes(&format!("vm-shim.*{id}"));
    world.sh(&format!("ssh {VM} true")).ok();
    let others = others_memory(world);
    let mut terminal = world.terminal(&format!("ssh {VM}"));
    terminal.expect(":~$");
    terminal.send("cd /tmp; kept=precious; sleep 1000 &\n");
    terminal.expect("/tmp$");

    assert_eq!(world.admin(&["vm", "sleep", VM]).ok(), format!("{VM} is asleep.\n"));
    assert_eq!((world.status(VM).as_str(), qemus()), ("asleep", 0));
    wait_for("its memory is free", SETTLED, || world.memory() <= others);
    assert_eq!(shims(), 1, "for the open connection");
    assert_eq!(world.status(VM), "asleep", "it was not woken by that");

    terminal.send("echo $kept in $PWD; jobs\n");
    terminal.expect("precious in /tmp\r\n");
    terminal.expect("sleep 1000 &\r\n");
    world.until(VM, "running");
    assert_eq!(qemus(), 1);
    terminal.send("kill %1; exit 5\n");
    assert_eq!(terminal.finish().1, Some(5));
}

/// Sends random bytes through `cat` in the VM for some seconds, and says whether they came back as they were.
const THROUGH_CAT: &str = r#"
import os, subprocess, sys, threading, time
cat = subprocess.Popen(["ssh", sys.argv[1], "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
sent = []
def send():
    end = time.time() + 10
    while time.time() < end:
        sent.append(os.urandom(20000))
        cat.stdin.write(sent[-1])
        cat.stdin.flush()
        time.sleep(0.02)
    cat.stdin.close()
threading.Thread(target=send).start()
came = cat.stdout.read()
print(cat.wait(), came == b"".join(sent), len(came) > 1000000)
"#;

fn traffic(world: &World) {
    let _guard = world.alone();
    std::fs::write(world.path("home/through_cat.py"), THROUGH_CAT).unwrap();
    let came = std::thread::scope(|scope| {
        let came = scope.spawn(|| world.sh(&format!("timeout 120 python3 through_cat.py {VM}")));
        for _ in 0..5 {
            sleep(Duration::from_secs(2));
            // Refused where something was on its way at that moment; what counts is what comes back.
            world.admin(&["vm", "sleep", VM]);
        }
        came.join().unwrap()
    });
    assert_eq!(came.out, "0 True True\n", "{came:?}");
}

fn log_in(world: &World) {
    let _guard = world.alone();
    for round in 0..12 {
        let said = std::thread::scope(|scope| {
            let said = scope.spawn(|| world.sh(&format!("timeout 40 ssh {VM} echo inside")));
            // At another step of the log-in each time.
            sleep(Duration::from_millis(60 * round));
            world.admin(&["vm", "sleep", VM]);
            said.join().unwrap()
        });
        assert_eq!((said.out.as_str(), said.code), ("inside\n", Some(0)), "round {round}: {said:?}");
    }
}

fn nothing_runs(world: &World) {
    let _guard = world.alone();
    let id = world.id_of(0);
    let others = others_memory(world);
    world.admin(&["vm", "start", VM]).ok();
    // With the connections that it keeps ready.
    world.kill_server();
    world.start_server();
    // Whoever was there before has gone for good by then.
    sleep(Duration::from_secs(11));
    world.admin(&["vm", "sleep", VM]).ok();
    wait_for("nothing of it runs", SETTLED, || {
        processes(&format!("(vm-shim|qemu-system).*{id}")) == 0 && world.memory() <= others
    });
    assert_eq!(world.status(VM), "asleep");
    assert_eq!(world.sh(&format!("ssh {VM} echo awake")).ok(), "awake\n");
}

/// The memory of all VMs but the tutorial's.
fn others_memory(world: &World) -> u64 {
    for vm in ["vm-0.mallory.koding.kd.io"] {
        if world.status(vm) == "running" {
            world.admin(&["vm", "sleep", vm]).ok();
        }
    }
    // Folders take a page each.
    1 << 20
}

fn ssh_wakes(world: &World) {
    let _guard = world.alone();
    world.sh(&format!("ssh {VM} 'echo kept >/dev/shm/memory'")).ok();
    world.admin(&["vm", "sleep", VM]).ok();
    let ran = world.sh(&format!("ssh {VM} cat /dev/shm/memory"));
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "kept\n"), "{ran:#?}");
    assert!(ran.err.starts_with("vm-0 is asleep, waking it"), "{:?}", ran.err);
    assert!(ran.err.trim_end().contains("ready in ") && ran.err.lines().count() == 1, "{:?}", ran.err);
    assert_eq!(world.sh(&format!("ssh {VM} true")).quiet(), "", "nothing is said of one that runs");

    world.admin(&["vm", "sleep", VM]).ok();
    let ran =
        world.sh(&format!("ssh -F none -J leeolayvar@ssh.koding.com leeolayvar@{VM} cat /dev/shm/memory"));
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "kept\n"), "{ran:#?}");

    world.admin(&["vm", "sleep", VM]).ok();
    let banner = world.sh(&format!("ssh -W {VM}:22 leeolayvar@ssh.koding.com </dev/null")).out;
    assert!(banner.starts_with("SSH-2.0-"), "{banner}");
    world.admin(&["vm", "sleep", VM]).ok();
    assert_eq!(world.admin(&["vm", "wake", VM]).ok(), format!("{VM} is running.\n"));
}

fn clock(world: &World) {
    let _guard = world.alone();
    world.sh(&format!("ssh {VM} true")).ok();
    world.admin(&["vm", "sleep", VM]).ok();
    sleep(Duration::from_secs(5));
    world.admin(&["vm", "wake", VM]).ok();
    sleep(Duration::from_secs(1));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let before = now();
    let guest: f64 = world.sh(&format!("ssh {VM} date +%s.%N")).ok().trim().parse().unwrap();
    let after = now();
    assert!((before - 0.5..=after + 0.5).contains(&guest), "it is {before} to {after}, and {guest} inside");
}

fn killed_server(world: &World) {
    let _guard = world.alone();
    world.sh(&format!("ssh {VM} 'echo kept >/dev/shm/memory'")).ok();
    world.admin(&["vm", "sleep", VM]).ok();
    // In the middle of writing it to the disk, as likely as not.
    world.kill_server();
    world.start_server();
    assert_eq!(world.status(VM), "asleep");
    assert_eq!(world.sh(&format!("ssh {VM} cat /dev/shm/memory")).ok(), "kept\n");
    world.kill_server();
    world.start_server();
    assert_eq!(world.status(VM), "running");
    assert_eq!(world.sh(&format!("ssh {VM} cat /dev/shm/memory")).quiet(), "kept\n");
}

fn from_disk(world: &World) {
    let _guard = world.alone();
    world.sh(&format!("ssh {VM} 'echo lost >/dev/shm/memory; echo kept >disk; sync'")).ok();
    world.admin(&["vm", "sleep", VM]).ok();
    // The boot takes its time, and what was in the memory is gone.
    let started = world.admin(&["vm", "start", "--from-disk", "--yes", VM]).ok();
    assert_eq!(started, format!("{VM} is running.\n"));
    assert_eq!(
        world.sh(&format!("ssh {VM} 'cat disk; test -e /dev/shm/memory || echo gone'")).ok(),
        "kept\ngone\n"
    );
}

fn refused(world: &World) {
    let _guard = world.alone();
    world.admin(&["vm", "stop", VM]).ok();
    let said = world.admin(&["vm", "sleep", VM]).fails();
    assert!(said.contains("is not running, so it cannot be put to sleep."), "{said}");
    let said = world.admin(&["vm", "wake", VM]).fails();
    assert!(said.contains("is off and not asleep. To start it: berth admin vm start"), "{said}");
    assert!(world.why(VM).contains("vm-0 is off: it was stopped. It starts when somebody connects."));
    world.admin(&["vm", "start", VM]).ok();
    let said = world.admin(&["vm", "snooze", VM, "200h"]).fails();
    assert!(said.contains("for a week at most"), "{said}");
}
