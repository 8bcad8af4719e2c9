//! A backup, while the server runs, and what a server has of it again.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::json;

use crate::world::{Server, World, command};

/// Asks the lobby, as somebody who trusts what they were told before the backup.
fn vms_by_ssh(world: &World, server: &Server<'_>, key: &std::path::Path, known: &std::path::Path) -> String {
    let address = server.address("ssh");
    let (host, port) = address.rsplit_once(':').unwrap();
    let ran = command("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"])
        .args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .arg("-i")
        .arg(key)
        .args(["-p", port, &format!("alice@{host}"), "vms"])
        .env("HOME", world.path(""))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// The line by which the gateway is trusted, whatever its port.
fn host_ca(world: &World) -> String {
    let known = fs::read_to_string(world.state().join("known_hosts")).unwrap();
    let line = known.lines().find(|line| line.starts_with("@cert-authority")).unwrap();
    let key = line.split(' ').skip(2).collect::<Vec<_>>().join(" ");
    format!("@cert-authority * {key}\n")
}

#[test]
fn a_restored_server_is_the_one_that_was_backed_up() {
    let world = World::new();
    let server = world.serve();
    let key = world.key_pair("id");
    world.run("admin account add alice").ok();
    world.run("admin key add alice id.pub").ok();
    let vm = world.run("admin vm add alice").ok();
    fs::create_dir_all(world.state().join("certificates")).unwrap();
    fs::write(world.state().join("certificates/koding.com.pem"), "a certificate").unwrap();
    fs::write(world.state().join("certificates/a note"), "of the operator's").unwrap();
    let made = world.run("admin backup berth.tar");
    assert!(
        made.stderr.contains("certificates/a note is left out: it is no file of Berth's."),
        "{}",
        made.stderr
    );
    let told = made.ok();
    assert!(told.contains("keep it as you would those"), "{told}");
    let mode = fs::metadata(world.path("berth.tar")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let told = world.run("admin backup berth.tar").refused();
    assert!(told.contains("is there already"), "{told}");
    let left: Vec<_> = fs::read_dir(world.path(""))
        .unwrap()
        .chain(fs::read_dir(world.state()).unwrap())
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name.starts_with("copy-") || name.starts_with(".berth-backup"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let audit = world.json("admin audit --kind backup_made");
    assert_eq!(audit.to_string().matches("\"backup_made\"").count(), 1, "{audit}");
    world.run("admin account add after-it").ok();
    let known = world.write("known", &host_ca(&world));

    let told = world.run("restore berth.tar").refused();
    assert!(told.contains("A server runs already"), "{told}");
    assert_eq!(server.terminate().0, 0);
    let told = world.run("restore berth.tar").refused();
    assert!(told.contains("nothing is replaced"), "{told}");
    fs::rename(world.state(), world.path("lost")).unwrap();
    let told = world.json("restore berth.tar");
    assert_eq!(told["restored"], json!(world.state()), "{told}");
    let config = fs::read_to_string(world.state().join("berth.toml")).unwrap();
    assert_eq!(config, fs::read_to_string(world.path("berth.toml")).unwrap());
    assert_eq!(
        fs::read_to_string(world.state().join("certificates/koding.com.pem")).unwrap(),
        "a certificate"
    );

    let server = world.serve();
    let accounts = world.json("admin account list").to_string();
    assert!(accounts.contains("alice") && !accounts.contains("after-it"), "{accounts}");
    assert!(vms_by_ssh(&world, &server, &key, &known).contains(vm.trim()));
    assert_eq!(host_ca(&world), fs::read_to_string(&known).unwrap());
}

#[test]
fn what_is_no_backup_leaves_nothing_behind() {
    let world = World::new();
    world.write("rubbish", "this is no backup");
    // As of one that was killed.
    fs::create_dir_all(world.state().join(".restoring-abc/recordings")).unwrap();
    assert!(world.run("restore rubbish").refused().contains("Nothing was restored"));
    let left: Vec<_> =
        fs::read_dir(world.state()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["lock"]);
    assert!(world.run("restore missing").refused().contains("cannot be read"));
    // What a database leaves beside itself would be taken for a part of another one.
    fs::write(world.state().join("berth.db-wal"), "x").unwrap();
    assert!(world.run("restore rubbish").refused().contains("berth.db-wal"));
    assert!(world.run("admin backup x.tar").refused().contains("No server runs"));
    assert!(!world.path("x.tar").exists());
}
