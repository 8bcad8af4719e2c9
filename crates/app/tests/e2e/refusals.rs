//! What is refused, and in which words.

use crate::{
    Test,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("refusals::a_key_that_nobody_has", unknown_key),
    ("refusals::somebody_elses_vm_and_no_vm_are_alike", forbidden_is_unknown),
    ("refusals::names_and_ports_that_are_none", nonsense),
    ("refusals::a_shell_on_the_gateway", no_shell_here),
    ("refusals::a_port_on_which_nothing_listens", nothing_listens),
];

fn unknown_key(world: &World) {
    let _guard = world.shared();
    let home = world.new_home("stranger");
    std::fs::copy(world.path("state/known_hosts"), world.path(&home).join(".ssh/known_hosts")).unwrap();
    let said = world.sh_at(&home, &format!("ssh {VM} true")).fails();
    let fingerprint = world.sh_at(&home, "ssh-keygen -lf ~/.ssh/id_ed25519.pub | cut -d' ' -f2").ok();
    assert!(said.contains("This key is not on any account here. Add it at http"), "{said}");
    assert!(said.contains(fingerprint.trim()), "{said}");
}

fn forbidden_is_unknown(world: &World) {
    let _guard = world.shared();
    let said = |name: &str| {
        world.sh(&format!("ssh leeolayvar@ssh.koding.com nc {name} 22")).fails().replace(name, "NAME")
    };
    let forbidden = said("vm-0.mallory.koding.kd.io");
    assert!(forbidden.contains("There is no VM NAME that you can enter. Yours: vm-0"), "{forbidden}");
    assert_eq!(forbidden, said("vm-7.mallory.koding.kd.io"));
    assert_eq!(forbidden, said("vm-0.nobody-here.koding.kd.io"));
    assert_eq!(forbidden, said("localhost"));
    assert_eq!(forbidden, said("127.0.0.1"));
    assert_eq!(forbidden, said("169.254.77.2"));
    // The whole way of the tutorial.
    let tutorial = world.sh("ssh vm-0.mallory.koding.kd.io true").fails();
    assert!(tutorial.contains("There is no VM vm-0.mallory.koding.kd.io that you can enter."), "{tutorial}");
}

fn nonsense(world: &World) {
    let _guard = world.shared();
    for port in ["0", "65536", "23", "-1", "22x", "99999999999999999999", "''"] {
        let said = world.sh(&format!("ssh leeolayvar@ssh.koding.com nc {VM} {port}")).fails();
        assert!(!said.trim().is_empty() && !said.contains("panicked"), "{port}: {said}");
    }
    let long = "a".repeat(300);
    for words in [
        format!("nc {long}.kd.io 22"),
        "'nc $(id) 22'".to_owned(),
        "'nc vm-0.leeolayvar.koding.kd.io 22; id'".to_owned(),
        "'nc `id` 22'".to_owned(),
        "'nc vm-0.leeolayvar.koding.kd.io 22 | id'".to_owned(),
        "'nc vm-0.leeolayvar.koding.kd.io 22\nid'".to_owned(),
        "'nc -e /bin/sh vm-0.leeolayvar.koding.kd.io 22'".to_owned(),
        "id".to_owned(),
    ] {
        let run = world.sh(&format!("ssh leeolayvar@ssh.koding.com {words}"));
        assert!(!run.out.contains("uid="), "{run:#?}");
        let said = run.fails();
        assert!(!said.trim().is_empty() && said.len() < 1000, "{words}: {said}");
    }
}

fn no_shell_here(world: &World) {
    let _guard = world.shared();
    for words in [
        "-s leeolayvar@ssh.koding.com sftp",
        "-N -R 9000:localhost:1 -o ExitOnForwardFailure=yes leeolayvar@ssh.koding.com",
    ] {
        assert!(!world.sh(&format!("ssh {words}")).fails().trim().is_empty(), "{words}");
    }
}

fn nothing_listens(world: &World) {
    let _guard = world.shared();
    world.sh(&format!("ssh {VM} true")).ok();
    let said = world.sh(&format!("ssh leeolayvar@ssh.koding.com nc {VM} 4999")).fails();
    assert!(said.contains("vm-0 is running, but nothing in it listens on port 4999."), "{said}");
    let said = world.sh(&format!("ssh -W {VM}:4999 leeolayvar@ssh.koding.com")).fails();
    assert!(said.contains("nothing in it listens on port 4999"), "{said}");
}
