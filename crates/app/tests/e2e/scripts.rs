//! What `make down` does to VMs.

use std::{fs, os::unix::fs::symlink};

use crate::{
    Test,
    world::{VM, World},
};

pub(crate) const TESTS: &[(&str, Test)] = &[("scripts::down_wakes_nobody", down)];

fn down(world: &World) {
    let _guard = world.alone();
    world.sh(&format!("ssh {VM} 'echo kept >/dev/shm/memory'")).ok();
    world.admin(&["vm", "sleep", VM]).ok();
    // A checkout in which this berth was built.
    let tree = world.path("tree");
    fs::create_dir_all(tree.join("target/release")).unwrap();
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts");
    crate::run::run(&["cp", "-rL", scripts, tree.join("scripts").to_str().unwrap()]);
    symlink(env!("CARGO_BIN_EXE_berth"), tree.join("target/release/berth")).unwrap();
    let script = format!(
        "BERTH_CONFIG={} BERTH_STATE={} {}/scripts/down.sh",
        world.path("berth.toml").display(),
        world.path("state").display(),
        tree.display()
    );
    let said = world.sh_that_ends_the_server(&script);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(!said.err.contains(&format!("Stopping {VM}")) && said.err.contains("Berth is down"), "{said:#?}");
    world.start_server();
    assert_eq!(world.status(VM), "asleep");
    assert_eq!(world.sh(&format!("ssh {VM} cat /dev/shm/memory")).ok(), "kept\n");
}
