//! `berth bench` leaves nothing behind, however it ends.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    Test,
    run::{run, wait_for},
    world::World,
};

pub(crate) const TESTS: &[(&str, Test)] = &[("bench::an_interrupted_one_leaves_nothing", interrupted)];

fn interrupted(world: &World) {
    let _guard = world.shared();
    let state = world.path("benched");
    fs::create_dir(&state).unwrap();
    // Others in this world wake VMs of their own meanwhile.
    let in_memory = || {
        let names = fs::read_dir(world.memory_dir()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().starts_with("berth-bench.")).count()
    };
    let mut bench = Command::new(env!("CARGO_BIN_EXE_berth"))
        .args([
            "bench",
            "vm",
            "--runs",
            "1",
            "--config",
            world.path("berth.toml").to_str().unwrap(),
            "--state",
        ])
        .arg(&state)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(bench.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line == "Making what new VMs are forked from…"));
    let folder = fs::read_dir(&state).unwrap().next().unwrap().unwrap().path();
    let processes = || {
        let found = Command::new("pgrep").args(["-fc", folder.to_str().unwrap()]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().trim().parse::<usize>().unwrap()
    };
    // The server, and the QEMU of what is to be forked.
    wait_for("a VM runs in it", Duration::from_secs(60), || processes() >= 2);
    assert_eq!(in_memory(), 1);

    run(&["kill", "-INT", &bench.id().to_string()]);
    let last: Vec<_> = said.collect();
    assert_eq!(last, ["Clearing away…", "It was interrupted."]);
    assert_eq!(bench.wait().unwrap().code(), Some(1));
    wait_for("nothing runs in it any more", Duration::from_secs(10), || processes() == 0);
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    assert_eq!(in_memory(), 0);
}
