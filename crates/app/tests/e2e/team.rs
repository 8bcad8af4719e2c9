//! A VM of the team: made by the operator, entered by members as themselves, with its site, and gone again.

use std::fs;

use crate::{Test, world::World};

pub(crate) const TESTS: &[(&str, Test)] = &[("team::members_come_into_a_vm_of_the_team", members)];

const HOST: &str = "shared-0.koding.kd.io";

fn members(world: &World) {
    let _guard = world.alone();
    assert_eq!(world.admin(&["team", "vm", "add"]).ok().trim(), HOST);
    for home in ["home", "mallory"] {
        let known = world.path(&format!("{home}/.ssh/known_hosts"));
        fs::copy(world.path("state/known_hosts"), known).unwrap();
    }
    // Her first connection makes and starts it. leeolayvar is the operator.
    let seen = world
        .sh_at("mallory", &format!("ssh {HOST} 'id -un; hostname; sudo -n true 2>/dev/null || echo no'"));
    assert_eq!(seen.ok(), "mallory\nshared-0\nno\n");
    let seen = world.sh(&format!("ssh {HOST} 'id -un; sudo id -u; ls /home'")).ok();
    assert_eq!(seen, "leeolayvar\n0\nleeolayvar\nmallory\nshared\n");
    let direct = world.sh_at("mallory", "ssh -o LogLevel=ERROR shared-0@ssh.koding.com id -un").ok();
    assert_eq!(direct, "mallory\n");
    let site = |host: &str| {
        let curl = "curl -sS -H 'Accept: text/html' --retry 20 --retry-delay 1 -o page -w '%{http_code}'";
        world.sh(&format!("{curl} -H 'Host: {host}' http://koding.com/")).ok()
    };
    assert_eq!(site(HOST), "200");
    assert_eq!(site("shared-0--3000.koding.kd.io"), "303", "who is unknown is led to log in");

    world.admin(&["vm", "sleep", "shared-0"]).ok();
    let listed = world.sh_at("mallory", "ssh mallory@ssh.koding.com vms").ok();
    assert!(listed.contains("shared-0\tasleep"), "{listed}");
    assert_eq!(world.sh_at("mallory", &format!("ssh {HOST} id -un")).ok(), "mallory\n");
    let refused = world.sh_at("mallory", "ssh mallory@ssh.koding.com stop shared-0").fails();
    assert!(refused.contains("shared-0 is the team's. Here it can be started and looked at"), "{refused}");
    world.admin(&["vm", "remove", "shared-0"]).ok();
}
