//! The disk of a VM is copied while somebody writes to it, and comes back.

use crate::{Test, run::run, world::World};

pub(crate) const TESTS: &[(&str, Test)] =
    &[("backup::a_disk_is_copied_while_it_is_written_to_and_comes_back", copied)];

/// A file that grows a line at a time, each on the disk before the next; and one that is in the guest's memory alone.
const WRITE: &str = r#"echo in memory alone >unwritten
nohup sh -c 'i=0; while :; do i=$((i+1)); echo $i; sync; done' >lines 2>/dev/null </dev/null &
until [ "$(wc -l <lines)" -gt 3 ]; do sleep 0.1; done"#;

fn copied(world: &World) {
    let _guard = world.shared();
    let vm = world.new_vm();
    // A file that grows a line at a time, each on the disk before the next, and one that is only in the guest's memory yet.
    world.sh(&format!("ssh {vm} bash -s <<'END'\n{WRITE}\nEND")).ok();
    let file = world.path("kept.qcow2");
    let file = file.to_str().unwrap();
    let told = world.admin(&["vm", "disk", "backup", &vm, file]).ok();
    assert!(told.contains("kept.qcow2 has the disk of "), "{told}");
    assert!(world.admin(&["vm", "disk", "backup", &vm, file]).fails().contains("is there already"));
    run(&["qemu-img", "check", "-q", file]);
    let info: serde_json::Value =
        serde_json::from_str(&run(&["qemu-img", "info", "--output=json", file])).unwrap();
    assert!(info.get("backing-filename").is_none(), "it needs no other file: {info}");
    assert!(info["actual-size"].as_u64().unwrap() < info["virtual-size"].as_u64().unwrap() / 4, "{info}");
    let number = vm.trim_start_matches("vm-").split('.').next().unwrap().parse().unwrap();
    let log = world.path(&format!("state/vms/{}/shim.log", world.id_of(number)));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("not frozen") && !log.contains("do not go on"), "{log}");
    let lines_then: u64 = world.sh(&format!("ssh {vm} 'wc -l <lines'")).ok().trim().parse().unwrap();
    world.sh(&format!("ssh {vm} 'touch later; sync'")).ok();

    assert!(world.admin(&["vm", "disk", "restore", &vm, file]).fails().contains("is not off"));
    world.admin(&["vm", "stop", &vm]).ok();
    let rubbish = world.path("rubbish");
    std::fs::write(&rubbish, vec![b'x'; 4096]).unwrap();
    let told = world.admin(&["vm", "disk", "restore", &vm, rubbish.to_str().unwrap()]).fails();
    assert!(told.contains("it is no qcow2 file. Nothing was changed."), "{told}");
    run(&["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", file, rubbish.to_str().unwrap()]);
    let told = world.admin(&["vm", "disk", "restore", &vm, rubbish.to_str().unwrap()]).fails();
    assert!(told.contains("it needs another file"), "{told}");
    world.admin(&["vm", "disk", "restore", &vm, file]).ok();
    assert_eq!(world.status(&vm), "off");

    // Its lines are whole and in order, as many as there were at some moment of the copy.
    let said = world.sh(&format!("ssh {vm} 'cat unwritten; ls later 2>&1; cat lines'")).ok();
    let mut said = said.lines();
    assert_eq!(said.next(), Some("in memory alone"));
    assert!(said.next().is_some_and(|line| line.contains("No such file")));
    let lines: Vec<u64> = said.map(|line| line.parse().expect("a whole line")).collect();
    assert!(lines.len() >= 3 && lines.iter().copied().eq(1..=lines.len() as u64), "{lines:?}");
    assert!(lines.len() as u64 <= lines_then, "{} lines of then {lines_then}", lines.len());
    world.admin(&["vm", "remove", &vm, "--yes"]).ok();
}
