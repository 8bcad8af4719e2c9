//! What happens when memory is short.

use std::time::Duration;

use crate::{
    Test,
    run::wait_for,
    world::{SMALL, VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("room::the_longest_idle_gives_way_and_who_is_at_work_does_not", gives_way),
    ("room::an_account_has_no_more_than_it_may", limits),
];

fn gives_way(world: &World) {
    let _guard = world.alone();
    world.configure(SMALL);
    let (one, two) = (world.new_vm(), world.new_vm());
    let mut first = world.terminal(&format!("ssh {one}"));
    first.expect(":~$");
    world.sh(&format!("ssh {VM} true")).ok();

    // Both were used a moment ago, so there is no room.
    let mut waits = world.terminal(&format!("ssh {two}"));
    let words = waits.expect("taken by VMs that are in use");
    let label = two.split('.').next().unwrap();
    assert!(
        words.contains(&format!("There is no memory free for {label} on this host right now")),
        "{words}"
    );
    drop(waits);
    assert_eq!((world.status(VM).as_str(), world.status(&one).as_str()), ("running", "running"));

    // An hour ago, for one of them.
    world.kill_server();
    world.sql("UPDATE vms SET used_at = used_at - 3600000 WHERE number = 0");
    world.start_server();
    world.sh_at("home", &format!("ssh {one} true")).ok();
    let mut second = world.terminal(&format!("ssh {two}"));
    second.expect(":~$");
    assert_eq!((world.status(VM).as_str(), world.status(&one).as_str()), ("asleep", "running"));
    assert!(world.why(VM).contains("another VM needed its memory and nobody used it"), "{}", world.why(VM));

    // Who waits gets in when somebody makes room.
    let mut waits = world.terminal(&format!("ssh {VM}"));
    waits.expect("taken by VMs that are in use");
    world.admin(&["vm", "sleep", &one]).ok();
    waits.expect("vm-0:~$");
    wait_for("it runs", Duration::from_secs(10), || world.status(VM) == "running");
    for name in [one, two] {
        world.admin(&["vm", "remove", &name, "--yes"]).ok();
    }
}

fn limits(world: &World) {
    let _guard = world.alone();
    world.configure("[limits]\nvms = 2\n");
    let one = world.new_vm();
    let said = world.admin(&["vm", "add", "leeolayvar"]).fails();
    assert!(said.contains("leeolayvar has 2 VMs, and may have 2 VMs."), "{said}");
    world.admin(&["account", "limits", "leeolayvar", "--vms", "3", "--memory", "2500MiB"]).ok();
    let said = world.admin(&["vm", "add", "leeolayvar"]).fails();
    assert!(said.contains("2 GiB of memory") && said.contains("2.4 GiB"), "{said}");
    world.admin(&["account", "limits", "leeolayvar", "--default"]).ok();
    assert!(world.admin(&["vm", "add", "leeolayvar"]).fails().contains("may have 2 VMs."));
    world.admin(&["vm", "remove", &one, "--yes"]).ok();
}
