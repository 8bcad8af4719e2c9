//! New VMs are forks of one guest, and nobody can tell.

use std::time::{Duration, Instant};

use crate::{
    Test,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[("forks::two_new_vms_have_nothing_in_common", strangers)];

/// What has to be another in every VM, a line each.
const OWN: &str = "hostname; cat /etc/machine-id; cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub; \
                   head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid; \
                   python3 -c 'import os, random; print(os.getrandom(16).hex(), random.random())'";

fn strangers(world: &World) {
    let _guard = world.alone();
    let first_lines = || {
        let began = Instant::now();
        let name = world.new_vm();
        let lines = world.sh(&format!("ssh {name} \"{OWN}\"")).ok();
        (name, lines, began.elapsed())
    };
    let (one, one_says, took) = first_lines();
    let (two, two_says, took_two) = first_lines();
    // A boot takes longer than both together, here as anywhere; the figures are the bench's.
    assert!(took.min(took_two) < Duration::from_secs(30), "{took:?}, {took_two:?}");
    let pairs: Vec<_> = one_says.lines().zip(two_says.lines()).collect();
    assert_eq!(pairs.len(), 6, "{one_says}{two_says}");
    for (mine, theirs) in pairs {
        assert!(!mine.trim().is_empty() && mine != theirs, "both have {mine:?}");
    }
    let label = |name: &str| name.split('.').next().unwrap().to_owned();
    assert_eq!(one_says.lines().next().map(str::to_owned), Some(label(&one)));
    // They are as they are after a boot, too.
    let machine_id = |name: &str| world.sh(&format!("ssh {name} cat /etc/machine-id")).ok();
    let before = machine_id(&one);
    world.admin(&["vm", "stop", &one]).ok();
    assert_eq!(machine_id(&one), before);
    assert_ne!(before, machine_id(VM));
    for name in [one, two] {
        world.admin(&["vm", "remove", &name, "--yes"]).ok();
    }
}
