//! VMs that nobody uses fall asleep by themselves, and others do not.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    Test,
    run::wait_for,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("idle::everyone_is_told_and_then_it_sleeps", warned),
    ("idle::keepalives_do_not_keep_it_awake", keepalives),
    ("idle::typing_and_keepawake_and_a_snooze_do", held),
    ("idle::always_on_is_always_on", always_on),
    ("idle::work_keeps_it_awake", work),
];

/// Short enough to wait for; everyone is told a quarter of it before.
const SOON: &str = "[idle]\nsleep_after = \"8 s\"\n";
const AFTER: Duration = Duration::from_secs(8);

/// That the VM runs all the time.
#[track_caller]
fn stays_awake(world: &World, time: Duration, mut meanwhile: impl FnMut()) {
    let began = Instant::now();
    while began.elapsed() < time {
        meanwhile();
        assert_eq!(world.status(VM), "running", "{}", world.why(VM));
        sleep(Duration::from_millis(500));
    }
}

/// Waits until `admin vm why` has these words.
#[track_caller]
fn why_becomes(world: &World, words: &str) {
    wait_for(&format!("it is so because {words}"), Duration::from_secs(90), || world.why(VM).contains(words));
}

fn warned(world: &World) {
    let _guard = world.alone();
    world.configure(SOON);
    let mut terminal = world.terminal(&format!("ssh {VM}"));
    terminal.expect(":~$");
    // Where everything is emulated it is at work for a while after a log-in, and that is said first.
    wait_for("ssh keeps it awake", Duration::from_secs(90), || {
        terminal.send("\n");
        sleep(Duration::from_secs(1));
        world.why(VM).contains("because leeolayvar used ssh")
    });
    terminal.expect("This VM goes to sleep in ");
    let words = terminal.expect("keepawake holds it.");
    assert!(words.contains("Your shells and programs stay as they are."), "{words}");
    world.until(VM, "asleep");
    assert!(world.why(VM).contains("because nothing had happened in it for"), "{}", world.why(VM));
    let list = world.admin(&["vm", "list"]).ok();
    assert!(list.contains(&format!("{VM}\tasleep\tfor ")), "{list}");
    sleep(Duration::from_secs(3));
    assert_eq!(world.status(VM), "asleep", "an open shell does not wake it");
    terminal.send("echo still here\n");
    terminal.expect("\rstill here\r\n");
    world.until(VM, "running");
}

fn keepalives(world: &World) {
    let _guard = world.alone();
    world.configure(SOON);
    let mut terminal = world.terminal(&format!("ssh -o ServerAliveInterval=3 {VM}"));
    terminal.expect(":~$");
    world.until(VM, "asleep");
    // Each wakes it for the moment that the answer takes.
    world.until(VM, "running");
    world.until(VM, "asleep");
    world.until(VM, "running");
    world.until(VM, "asleep");
    terminal.send("echo still connected\n");
    terminal.expect("\rstill connected\r\n");
}

fn held(world: &World) {
    let _guard = world.alone();
    world.configure(SOON);
    let mut terminal = world.terminal(&format!("ssh {VM}"));
    terminal.expect(":~$");
    let mut keys = "hello".chars().cycle();
    stays_awake(world, AFTER * 2, || terminal.send(&keys.next().unwrap().to_string()));

    terminal.send("\u{15}keepawake sleep 300\n");
    stays_awake(world, AFTER * 2, || ());
    why_becomes(world, "keepawake has held it for");
    terminal.send("\u{3}");
    terminal.expect("^C");
    world.until(VM, "asleep");

    let said = world.admin(&["vm", "snooze", VM, "1h"]).ok();
    assert!(said.contains("is asleep; once it is awake it stays so until "), "{said}");
    assert_eq!(world.status(VM), "asleep", "that wakes nobody");
    world.admin(&["vm", "wake", VM]).ok();
    stays_awake(world, AFTER * 2, || ());
    assert!(world.why(VM).contains("it was told to stay awake until"), "{}", world.why(VM));
    world.admin(&["vm", "snooze", VM, "off"]).ok();
    world.until(VM, "asleep");
}

fn always_on(world: &World) {
    let _guard = world.alone();
    world.configure(SOON);
    world.admin(&["vm", "always-on", VM, "on"]).ok();
    world.until(VM, "running");
    stays_awake(world, AFTER * 2, || ());
    assert!(world.why(VM).contains("because it is always-on."), "{}", world.why(VM));
    let said = world.admin(&["vm", "sleep", VM]).fails();
    assert!(said.contains("is always-on. Take that back first"), "{said}");
    let boot_id = || world.sh(&format!("ssh {VM} cat /proc/sys/kernel/random/boot_id")).ok();
    let before = boot_id();
    world.sh(&format!("ssh {VM} sudo poweroff"));
    // Nobody connects, and it comes back.
    wait_for("it goes down", Duration::from_secs(60), || world.status(VM) != "running");
    world.until(VM, "running");
    assert_ne!(boot_id(), before);
    // A person who turns it off means it.
    world.admin(&["vm", "stop", VM]).ok();
    sleep(Duration::from_secs(3));
    assert_eq!(world.status(VM), "off");
    world.admin(&["vm", "always-on", VM, "off"]).ok();
}

fn work(world: &World) {
    let _guard = world.alone();
    // What it does is looked at each minute.
    world.configure("[idle]\nsleep_after = \"100 s\"\n");
    world
        .sh(&format!(
            "ssh {VM} 'nohup timeout 200 sh -c \"while :; do :; done\" >/dev/null 2>&1 </dev/null &'"
        ))
        .ok();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(135) {
        assert_eq!(world.status(VM), "running", "{}", world.why(VM));
        sleep(Duration::from_secs(2));
    }
    assert!(world.why(VM).contains("its programs were at work"), "{}", world.why(VM));
    world.sh(&format!("ssh {VM} pkill timeout"));
}
