//! What works, and what is said, without a server.

use std::{net::TcpListener, path::Path};

use serde_json::json;

use crate::world::{World, command};

#[test]
fn without_a_server_it_is_said_how_to_start_one() {
    let world = World::new();
    let told = world.run("admin account list").refused();
    let state = world.state().display().to_string();
    assert_eq!(
        told,
        format!(
            "No server runs with the state folder {state}. Start it with “berth serve” (or “make up”), or name another \
             folder with --state DIR.\n"
        )
    );
    let told = world.json("admin vm start vm-0.alice");
    assert_eq!(told["error"]["kind"], "unavailable");
    assert!(!world.state().exists(), "asking makes nothing");
}

#[test]
fn a_command_line_that_makes_no_sense_is_status_2() {
    let world = World::new();
    for words in ["", "vm-shin", "admin", "admin key add alice", "serve --prot 1", "admin vm explode vm-0"] {
        let ran = world.run(words);
        assert_eq!(ran.status, 2, "{ran:?}");
        assert_eq!(ran.stdout, "", "{ran:?}");
        assert!(ran.stderr.contains("Usage:"), "{ran:?}");
        assert!(!ran.stderr.contains("vm-shim"), "{ran:?}");
    }
    assert_eq!(world.json("admin key add alice")["error"]["kind"], "usage");
    let help = world.run("admin key add --help").ok();
    assert!(help.contains("<FILE|->") && help.contains("--name <LABEL>"), "{help}");
}

#[test]
fn check_config_shows_what_is_in_force() {
    let world = World::new();
    let ran = world.run("check-config");
    assert_eq!((ran.status, ran.stderr.as_str()), (0, "Nothing is wrong with it.\n"), "{ran:?}");
    assert!(
        ran.stdout.starts_with("# In force: ") && ran.stdout.contains("berth.toml over the defaults.\n"),
        "{ran:?}"
    );
    let again = world.write("again.toml", &ran.stdout);
    let printed = world.run(&format!("check-config --config {}", again.display())).ok();
    assert_eq!(printed.lines().skip(1).collect::<Vec<_>>(), ran.stdout.lines().skip(1).collect::<Vec<_>>());

    let told = world.json("check-config");
    assert_eq!(told["problems"], json!([]));
    assert_eq!(told["config"]["state_dir"], json!(world.state()));
    assert_eq!(told["config"]["vm"]["memory"], "1 GiB");
}

#[test]
fn check_config_names_all_that_is_wrong() {
    let world = World::new();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    world.write(
        "berth.toml",
        &format!("state_dir = '/ignored'\n[ssh]\nlisten = ['127.0.0.1:{port}']\n[http]\nlisten = []\n[vm]\ncpus = 0"),
    );
    let ran = world.run("check-config");
    assert_eq!(ran.status, 1, "{ran:?}");
    let keys: Vec<&str> = ran.stderr.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(keys, ["http.listen", "vm.cpus", "ssh.listen"], "{ran:?}");
    assert!(ran.stderr.contains(&format!("Port {port} of 127.0.0.1 is in use")), "{ran:?}");

    let told = world.run("serve").refused();
    assert!(told.contains("http.listen: There is no address to listen on."), "{told}");
}

#[test]
fn an_unknown_key_is_refused_by_every_command() {
    let world = World::new();
    world.write("berth.toml", "[ssh]\nlisten = ['127.0.0.1:0']\n[http]\nlistn = []");
    for words in ["serve", "check-config", "image list", "admin account list"] {
        let told = world.run(words).refused();
        assert!(told.ends_with("berth.toml, line 4: There is no key http.listn. Did you mean http.listen? docs/configuration.md describes every key.\n"), "{words}: {told}");
    }
    assert_eq!(world.json("check-config")["error"]["kind"], "invalid");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let world = World::new();
    let mut asked = world.command("check-config --json");
    let ran = asked.envs([("BERTH_CONFIG", ""), ("BERTH_IMAGE_DIR", "")]).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(told["file"], serde_json::Value::Null);
    assert_eq!(told["config"]["image_dir"], json!(world.state().join("images")));
}

#[test]
fn no_images_yet() {
    let world = World::new();
    let ran = world.run("image list");
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""), "{ran:?}");
    assert_eq!(ran.stderr, "No images yet. Build one: berth image build\n");
    assert_eq!(world.json("image list"), json!({ "images": [] }));
}

#[test]
fn the_state_folder_follows_the_user() {
    let world = World::new();
    let mut asked = command(env!("CARGO_BIN_EXE_berth"));
    let ran =
        asked.args(["check-config", "--json"]).env("XDG_DATA_HOME", world.path("data")).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let root = rustix::process::geteuid().is_root();
    let expected = if root { "/var/lib/berth".into() } else { world.path("data/berth") };
    assert_eq!(told["config"]["state_dir"], json!(expected));
}

#[test]
fn the_account_name_for_a_login() {
    let world = World::new();
    assert_eq!(world.run("admin account name-for Lee.Olayvar").ok(), "lee-olayvar\n");
    assert_eq!(world.run("admin account name-for root").ok(), "dev\n");
    assert!(world.run("admin account name-for 1").refused().contains("No account name"));
}

#[test]
fn sites_are_measured_beside_nginx() {
    let world = World::new();
    let is_root = rustix::process::geteuid().is_root();
    // It is not among what tests need: its package starts a server on port 80.
    if !is_root || !Path::new("/usr/sbin/nginx").exists() {
        let told = world.run("bench http --quick").refused();
        assert!(told.contains(if is_root { "in the package nginx-light" } else { "as root" }), "{told}");
        return;
    }
    let figures = world.json("bench http --quick --runs 1");
    let figures = figures.as_array().unwrap();
    for metric in [
        "requests, 200 clients",
        "CPU of a request, 1 client",
        "download",
        "upload",
        "memory of a WebSocket, of 10",
    ] {
        let found = figures.iter().find(|figure| figure["metric"] == metric);
        let found = found.unwrap_or_else(|| panic!("no {metric} in {figures:#?}"));
        assert!(
            found["unit"].is_string() && found["berth"].is_number() && found["peer"].is_number(),
            "{found}"
        );
    }
}

#[test]
fn the_gateway_is_measured_beside_sshd() {
    let world = World::new();
    if !rustix::process::geteuid().is_root() {
        let told = world.run("bench gateway --quick").refused();
        assert!(told.contains("as root"), "{told}");
        return;
    }
    let figures = world.json("bench gateway --quick --runs 1");
    let figures = figures.as_array().unwrap();
    let of = |metric: &str| {
        let found = figures.iter().find(|figure| figure["metric"] == metric);
        found.unwrap_or_else(|| panic!("no {metric} in {figures:#?}"))
    };
    for metric in ["connections, 200 clients", "CPU of a connection, 1 client", "download, exec, chacha20"] {
        let [berth, peer, ratio] =
            ["berth", "peer", "ratio"].map(|of_whom| of(metric)[of_whom].as_f64().unwrap());
        assert!(berth > 0.0 && peer > 0.0, "{metric}");
        assert!((ratio - berth / peer).abs() < 1e-9, "{metric}");
    }
    assert_eq!(of("memory of a tunnel, of 20")["peer"], json!(null));
    assert!(of("memory of a tunnel, of 10")["peer"].as_f64().unwrap() > 100.0, "processes of sshd");
}
