//! The life of a server.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use crate::world::{Server, World};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn it_ends_at_once_when_it_is_told_to() {
    let world = World::new();
    let server = world.serve();
    let log = world.path("server.log");
    let (status, took) = server.terminate();
    assert_eq!(status, 0);
    assert!(took < Duration::from_secs(4), "{took:?}");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("stopping; VMs run on") && !log.contains("are cut"), "{log}");
    assert!(!log.contains('\x1b'), "no colours in a file");
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let world = World::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let server = world.serve_into(full);
    assert_eq!(world.run("admin account add alice").status, 0);
    assert!(world.run("admin account list").ok().starts_with("alice\t"));
    assert_eq!(server.terminate().0, 0);
}

#[test]
fn one_server_for_a_state_folder() {
    let world = World::new();
    let _server = world.serve();
    let told = world.run("serve").refused();
    let state = world.state().display().to_string();
    assert!(
        told.starts_with(&format!("A server runs already with the state folder {state}: process ")),
        "{told}"
    );
    assert_eq!(world.run("check-config").status, 0, "its own ports are no problem");
}

#[test]
fn a_killed_server_is_followed_by_one_that_knows_everything() {
    let world = World::new();
    let server = world.serve();
    world.run("admin account add alice").ok();
    world.run("admin vm add alice").ok();
    let known = fs::read_to_string(world.state().join("known_hosts")).unwrap();
    server.kill();
    assert!(world.run("admin account list").refused().starts_with("No server runs"));

    let _server = world.serve();
    assert_eq!(world.run("admin vm list").ok(), "vm-0.alice.main.vm.localhost\toff\t\t\n");
    let line = |text: &str| text.lines().last().map(str::to_owned);
    assert_eq!(line(&fs::read_to_string(world.state().join("known_hosts")).unwrap()), line(&known));
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_else_happens() {
    let world = World::new();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    world.write(
        "berth.toml",
        &format!("[ssh]\nlisten = ['127.0.0.1:{port}']\n[http]\nlisten = ['127.0.0.1:0']"),
    );
    let told = world.run("serve").refused();
    assert!(told.contains(&format!("Port {port} of 127.0.0.1 is in use by another program")), "{told}");
    assert!(!world.state().join("berth.db").exists());
}

#[test]
fn what_is_secret_is_the_servers_alone() {
    let world = World::new();
    let _server = world.serve();
    let state = world.state();
    for name in ["admin.sock", "berth.db", "host_key", "lock"] {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&state), 0o711);
    assert_eq!(mode(&state.join("known_hosts")) & 0o444, 0o444);
    for entry in fs::read_dir(&state).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "known_hosts" {
            assert_eq!(mode(&entry.path()) & 0o044, 0, "{:?}", entry.file_name());
        }
    }
}

#[test]
fn the_website_and_the_gateway_answer() {
    let world = World::new();
    let server = world.serve();
    let page = get(&server, "/");
    let ssh = server.address("ssh");
    let (_, port) = ssh.split_once(':').unwrap();
    assert!(page.contains(&format!("ProxyCommand ssh -p {port} %r@ssh.berth.localhost nc %h %p")), "{page}");
    assert!(page.contains("SHA256:"), "{page}");

    let mut gateway = TcpStream::connect(&ssh).unwrap();
    let mut line = [0; 8];
    gateway.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"SSH-2.0-");
}

/// A page of the website, with its head.
fn get(server: &Server<'_>, path: &str) -> String {
    let mut site = TcpStream::connect(server.address("http")).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: berth.localhost\r\nConnection: close\r\n\r\n");
    site.write_all(head.as_bytes()).unwrap();
    let mut page = String::new();
    site.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn links_into_the_website() {
    let world = World::new();
    let server = world.serve();
    world.run("admin account add alice").ok();
    world.run("admin account add bob").ok();
    let followed = |command: &str| {
        let link = world.run(command).ok();
        let path = link.trim().strip_prefix("http://berth.localhost:0").unwrap_or_else(|| panic!("{link}"));
        get(&server, path)
    };
    assert!(followed("admin account link alice").contains("Log in as alice"));
    assert!(followed("admin account link alice --reset").contains("password"));
    assert!(followed("admin account invite carol --note hello").contains("carol"));
    assert!(world.run("admin account link carol").refused().contains("There is no account carol"));

    assert!(world.run("admin account block bob").ok().starts_with("bob is blocked"));
    assert!(
        world
            .run("admin account list")
            .ok()
            .lines()
            .any(|line| line.starts_with("bob") && line.ends_with("blocked"))
    );
    world.run("admin account link bob").refused();
    assert_eq!(world.run("admin account unblock bob").ok(), "bob is let in again.\n");
    assert!(world.run("admin account role bob operator").ok().starts_with("bob runs this Berth"));

    let trail = world.json("admin audit --about bob");
    let kinds: Vec<_> =
        trail["audit"].as_array().unwrap().iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["role_set", "account_unblocked", "account_blocked", "account_added"]);
    assert_eq!(trail["audit"][0]["way"], "host");
    assert_eq!(world.run("admin audit -n 2").ok().lines().count(), 2);
    let told = world.run("admin audit --kind burnt").refused();
    assert!(told.contains("The kinds are:") && told.contains("log_in"), "{told}");
}
