//! On, off, rebooted, killed: what a VM and a server live through.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    Test,
    run::{run, wait_for},
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("lifecycle::a_vm_that_is_off_starts_when_ssh_comes", starts),
    ("lifecycle::reboot_and_poweroff_inside_are_what_they_are", reboot_and_poweroff),
    ("lifecycle::a_key_counts_and_ceases_to_count_within_a_second", keys_travel),
    ("lifecycle::vms_outlive_the_server", outlive),
    ("lifecycle::a_killed_shim_takes_its_vm_along_and_no_data", killed_shim),
    ("lifecycle::a_boot_that_fails_is_told_with_its_log", failed_boot),
    ("lifecycle::a_removed_vm_leaves_nothing", removed),
    ("lifecycle::what_is_on_the_disk_stays", disk_stays),
];

fn starts(world: &World) {
    let _guard = world.alone();
    world.admin(&["vm", "stop", VM]).ok();
    assert_eq!(world.status(VM), "off");
    let ran = world.sh(&format!("ssh {VM} hostname"));
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "vm-0\n"), "{ran:#?}");
    assert!(ran.err.starts_with("vm-0 is off, starting it"), "{}", ran.err);
    assert!(ran.err.trim_end().contains("ready in ") && ran.err.lines().count() == 1, "{:?}", ran.err);
    // For a VM that runs nothing is said.
    assert_eq!(world.sh(&format!("ssh {VM} hostname")).quiet(), "vm-0\n");
}

fn reboot_and_poweroff(world: &World) {
    let _guard = world.alone();
    let boot_id = || world.sh(&format!("ssh {VM} cat /proc/sys/kernel/random/boot_id")).ok();
    let before = boot_id();
    world.sh(&format!("ssh {VM} sudo systemctl reboot"));
    wait_for("it reboots", Duration::from_secs(60), || world.status(VM) != "running");
    // A connection in the meantime waits for it.
    assert_ne!(boot_id(), before);
    assert_eq!(world.status(VM), "running");

    world.sh(&format!("ssh {VM} sudo poweroff"));
    world.until(VM, "off");
    let list = world.admin(&["vm", "list"]).ok();
    assert!(list.contains("somebody inside shut it down"), "{list}");
    assert_ne!(boot_id(), before);
}

fn keys_travel(world: &World) {
    let _guard = world.shared();
    let home = world.home_with_key(&["-t", "ed25519", "-N", ""]);
    assert_eq!(world.sh_at(&home, &format!("ssh {VM} echo in")).ok(), "in\n");

    let mut terminal = world.terminal_at(&home, &format!("ssh {VM}"));
    terminal.expect(":~$");
    let removed = Instant::now();
    world.admin(&["key", "remove", "leeolayvar", &home]).ok();
    let (rest, code) = terminal.finish();
    let took = removed.elapsed();
    assert!(took < Duration::from_secs(5), "the session went on for {took:?}");
    assert!(code.is_some_and(|code| code != 0), "{rest}");
    world.sh_at(&home, &format!("ssh {VM} true")).fails();
    // Nor at the inner hop, by way of somebody who may pass the first.
    let inner = world.path(&home).join(".ssh/id_ed25519");
    fs::copy(inner, world.path("home/removed")).unwrap();
    let said = world.sh(&format!(
        "ssh -F none -o IdentitiesOnly=yes -o IdentityFile=~/removed -o BatchMode=yes \
         -o ProxyCommand='ssh leeolayvar@ssh.koding.com nc %h %p' leeolayvar@{VM} true"
    ));
    assert!(said.fails().contains("Permission denied"));
}

fn outlive(world: &World) {
    let _guard = world.alone();
    world.sh(&format!("ssh {VM} 'echo kept >/dev/shm/memory'")).ok();
    let machines = || run(&["pgrep", "-fc", &format!("qemu-system.*{}", world.path("state").display())]);
    let before = machines();
    for _ in 0..2 {
        world.kill_server();
        world.start_server();
        assert_eq!(world.status(VM), "running");
        assert_eq!(world.sh(&format!("ssh {VM} cat /dev/shm/memory")).quiet(), "kept\n");
        assert_eq!(machines(), before);
    }
    // While a VM boots: the next server waits for it and does not start it twice.
    world.admin(&["vm", "stop", VM]).ok();
    let mut starting = world.terminal(&format!("ssh {VM}"));
    starting.expect("starting it");
    std::thread::sleep(Duration::from_secs(1));
    world.kill_server();
    world.start_server();
    assert_eq!(world.sh(&format!("ssh {VM} hostname")).ok(), "vm-0\n");
    assert_eq!(machines(), before);
}

fn killed_shim(world: &World) {
    let _guard = world.alone();
    let name = &world.new_vm();
    world.sh(&format!("ssh {name} 'echo precious >file; sync'")).ok();
    let folders = || {
        let mut all: Vec<_> =
            fs::read_dir(world.path("state/vms")).unwrap().map(|e| e.unwrap().path()).collect();
        all.sort_by_key(|path| fs::metadata(path).unwrap().created().ok());
        all
    };
    let newest = folders().pop().unwrap();
    let id = newest.file_name().unwrap().to_str().unwrap().to_owned();
    let shims = run(&["pgrep", "-f", &format!("vm-shim.*{id}")]);
    for pid in shims.split_whitespace() {
        run(&["kill", "-9", pid]);
    }
    wait_for("QEMU goes with its shim", Duration::from_secs(10), || {
        std::process::Command::new("pgrep")
            .args(["-f", &format!("qemu-system.*{id}")])
            .status()
            .unwrap()
            .code()
            == Some(1)
    });
    wait_for("it is seen", Duration::from_secs(10), || world.status(name) != "running");
    assert_eq!(world.sh(&format!("ssh {name} cat file")).ok(), "precious\n");
    world.admin(&["vm", "remove", name, "--yes"]).ok();
}

fn failed_boot(world: &World) {
    let _guard = world.alone();
    let name = &world.new_vm();
    // A member with sudo can do this to their own VM: without an init it cannot boot.
    let run = world.sh(&format!(
        "ssh {name} 'sudo mv /usr/lib/systemd/systemd /usr/lib/systemd/gone; sudo rm -f /sbin/init; sync'"
    ));
    assert_eq!(run.code, Some(0), "{run:#?}");
    world.admin(&["vm", "stop", name]).ok();
    let said = world.sh(&format!("ssh {name} true")).fails();
    assert!(said.contains("could not start: ") && said.contains("Nothing was lost."), "{said}");
    assert_eq!(world.status(name), "failed");
    let log = world.admin(&["vm", "log", name]).ok();
    assert!(log.contains("init"), "{log}");
    world.admin(&["vm", "remove", name, "--yes"]).ok();
}

fn removed(world: &World) {
    let _guard = world.alone();
    let folders = || fs::read_dir(world.path("state/vms")).unwrap().count();
    let before = folders();
    let name = world.admin(&["vm", "add", "leeolayvar"]).ok();
    let name = name.trim();
    world.admin(&["vm", "start", name]).ok();
    assert_eq!(folders(), before + 1);
    world.admin(&["vm", "remove", name, "--yes"]).ok();
    assert_eq!(folders(), before);
    assert!(!fs::read_to_string(world.path("state/known_hosts")).unwrap().contains(name));
    let said = world.sh(&format!("ssh leeolayvar@ssh.koding.com nc {name} 22")).fails();
    assert!(said.contains("There is no VM"), "{said}");
}

fn disk_stays(world: &World) {
    let _guard = world.alone();
    let host_keys = "cat /etc/ssh/ssh_host_*.pub; cat /etc/machine-id";
    world.sh(&format!("ssh {VM} 'echo still here >kept'")).ok();
    let before = world.sh(&format!("ssh {VM} '{host_keys}'")).ok();
    world.admin(&["vm", "stop", VM]).ok();
    assert_eq!(world.sh(&format!("ssh {VM} cat kept")).ok(), "still here\n");
    assert_eq!(world.sh(&format!("ssh {VM} '{host_keys}'")).quiet(), before);
    // Whatever somebody deletes, a log-in has a home.
    world.sh(&format!("ssh {VM} 'sudo rm -rf /home/leeolayvar'"));
    world.admin(&["vm", "stop", VM]).ok();
    let run = world.sh(&format!("ssh {VM} pwd"));
    assert_eq!(run.out, "/home/leeolayvar\n", "{run:#?}");
    assert!(!run.err.contains("chdir"), "{run:#?}");
}
