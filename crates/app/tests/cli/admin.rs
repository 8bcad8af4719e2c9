//! Accounts, keys and VMs through the admin socket of a real server.

use std::fs;

use serde_json::json;

use crate::world::{World, command};

#[test]
fn an_account_from_its_beginning_to_its_end() {
    let world = World::new();
    let _server = world.serve();
    assert_eq!(
        world.run("admin account list").stderr,
        "No accounts yet. Add one: berth admin account add NAME\n"
    );
    let added = world.run("admin account add alice").ok();
    assert_eq!(
        added,
        "The account alice is added. Next: berth admin key add alice FILE, then berth admin vm add alice; \
         or berth admin account link alice for the website\n"
    );
    let taken = world.run("admin account add alice").refused();
    assert!(taken.contains("alice is taken"), "{taken}");
    assert_eq!(world.json("admin account add alice")["error"]["kind"], "conflict");
    assert!(world.run("admin account add Alice!").refused().contains("2 to 32 characters"));
    assert!(world.run("admin account add main").refused().contains("main is taken"), "the team's name");

    let listed = world.run("admin account list").ok();
    assert!(listed.starts_with("alice\t0\t0\t20") && listed.lines().count() == 1, "for a pipe: {listed:?}");
    let told = world.json("admin account list");
    assert_eq!((&told["accounts"][0]["name"], &told["accounts"][0]["keys"]), (&json!("alice"), &json!(0)));

    assert_eq!(world.run("admin account remove alice").ok(), "The account alice is removed.\n");
    assert!(world.run("admin account remove alice").refused().contains("There is no account alice"));
    let reserved = world.run("admin account add alice").refused();
    assert!(reserved.contains("never change hands"), "{reserved}");
}

#[test]
fn keys_from_a_file_and_from_a_pipe() {
    let world = World::new();
    let _server = world.serve();
    world.run("admin account add alice").ok();
    let (one, two) = (world.key_pair("one"), world.key_pair("two"));
    let public = |path: &std::path::Path| fs::read_to_string(path.with_extension("pub")).unwrap();

    let added = world.run("admin key add alice --name laptop one.pub").ok();
    assert!(added.starts_with("Added to alice: ssh-ed25519 SHA256:"), "{added}");
    let again = world.run("admin key add alice one.pub").ok();
    assert!(again.starts_with("alice has this key already: SHA256:"), "{again}");
    let wrapped = public(&two).replace("AAAA", "AAAA\r\n");
    let piped = world.run_with_input("admin key add alice -", &wrapped).ok();
    assert!(piped.starts_with("Added to alice: ssh-ed25519 SHA256:"), "{piped}");

    let keys = world.json("admin key list alice");
    assert_eq!(
        (&keys["keys"][0]["label"], &keys["keys"][1]["label"]),
        (&json!("laptop"), &json!("a comment"))
    );
    let fingerprint = keys["keys"][0]["fingerprint"].as_str().unwrap().to_owned();
    let theirs = command("ssh-keygen").args(["-lf"]).arg(&one).output().unwrap();
    assert!(String::from_utf8(theirs.stdout).unwrap().contains(&fingerprint), "as ssh-keygen says it");

    world.run("admin account add bob").ok();
    let stolen = world.run("admin key add bob one.pub");
    assert_eq!(stolen.status, 1, "{stolen:?}");
    assert!(stolen.stdout.starts_with("Not added: ") && !stolen.stdout.contains("alice"), "{stolen:?}");

    let removed = world.run("admin key remove alice laptop").ok();
    assert_eq!(removed, format!("Removed from alice: ssh-ed25519 {fingerprint}\n"));
    assert!(world.run("admin key remove alice laptop").refused().contains("has no key"));
    assert_eq!(world.run("admin key list alice").ok().lines().count(), 1);
}

#[test]
fn a_private_key_is_refused_and_kept_nowhere() {
    let world = World::new();
    let server = world.serve();
    world.run("admin account add alice").ok();
    let private = fs::read_to_string(world.key_pair("one")).unwrap();
    let told = world.run("admin key add alice one").refused();
    assert!(told.contains("That is a private key. It was not stored."), "{told}");

    let secret = private.lines().nth(2).unwrap();
    assert!(secret.len() > 40, "a line of the key itself");
    assert!(!server.log().contains(secret));
    for entry in fs::read_dir(world.state()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{}", path.display());
        }
    }
}

#[test]
fn a_vm_is_shared_and_taken_back() {
    let world = World::new();
    let _server = world.serve();
    for name in ["alice", "bob"] {
        world.run(&format!("admin account add {name}")).ok();
    }
    world.run("admin vm add alice").ok();
    let none = world.run("admin vm shares vm-0.alice").stderr;
    assert_eq!(none, "It is shared with nobody. Share it: berth admin vm share vm-0.alice ACCOUNT\n");
    let asked = world.run("admin vm share vm-0.alice bob --sudo --for 8h").ok();
    assert!(asked.starts_with("bob was asked to share vm-0.alice.main, and can accept until 20"), "{asked}");
    let listed = world.run("admin vm shares vm-0.alice").ok();
    assert!(listed.starts_with("bob\tasked\tyes\t20") && listed.lines().count() == 1, "{listed:?}");
    let told = world.json("admin vm shares vm-0.alice");
    assert_eq!((&told["shares"][0]["sudo"], &told["shares"][0]["accepted"]), (&json!(true), &json!(null)));
    assert!(world.run("admin vm share vm-0.alice alice").refused().contains("is theirs already"));
    assert!(world.run("admin vm share vm-0.alice carol").refused().contains("There is no account carol"));
    assert_eq!(world.run("admin vm share vm-0.alice bob --for off").status, 2);
    let back = world.run("admin vm unshare vm-0.alice bob").ok();
    assert_eq!(back, "vm-0.alice.main is not shared with bob any more. Their home in it stays.\n");
    let again = world.json("admin vm unshare vm-0.alice bob");
    assert_eq!(again["error"]["kind"], "missing", "{again}");
}

#[test]
fn files_that_are_no_keys() {
    let world = World::new();
    let _server = world.serve();
    world.run("admin account add alice").ok();
    world.write("empty", "");
    world.write("long", &"x".repeat(200_000));
    fs::write(world.path("binary"), [0xff, 0xfe]).unwrap();
    for (file, says) in [
        ("missing.pub", "missing.pub cannot be read"),
        ("state", "state cannot be read"),
        ("long", "long is longer than 128 KiB."),
        ("binary", "binary is not text. Give the file that ends in .pub."),
    ] {
        let told = world.run(&format!("admin key add alice {file}")).refused();
        assert!(told.contains(says), "{file}: {told}");
    }
    let piped = world.run_with_input("admin key add alice -", &"x".repeat(130 * 1024)).refused();
    assert_eq!(piped, "Standard input is longer than 128 KiB.\n");
    assert_eq!(world.run("admin key add alice empty").status, 1);
    assert!(
        world.run_with_input("admin key add carol -", "x").refused().contains("There is no account carol")
    );
}

#[test]
fn vms_and_the_way_to_them() {
    let world = World::new();
    let server = world.serve();
    world.run("admin account add alice").ok();
    assert_eq!(world.run("admin vm add alice").ok(), "vm-0.alice.main.vm.localhost\n");
    assert_eq!(world.run("admin vm add alice").ok(), "vm-1.alice.main.vm.localhost\n");
    assert_eq!(
        world.run("admin vm list alice").ok().lines().next(),
        Some("vm-0.alice.main.vm.localhost\toff\t\t")
    );

    let known = fs::read_to_string(world.state().join("known_hosts")).unwrap();
    let ssh = server.address("ssh");
    let (_, port) = ssh.split_once(':').unwrap();
    let gateway = known.lines().find(|line| line.starts_with("[ssh.berth.localhost]:")).unwrap();
    assert!(
        gateway.contains(&format!("[127.0.0.1]:{port} ssh-ed25519 "))
            || gateway.contains(&format!("[127.0.0.1]:{port},")),
        "{known}"
    );
    assert!(known.contains("vm-0.alice.main.vm.localhost,vm-0.alice.vm.localhost,"), "{known}");
    assert!(known.contains("\nvm-1.alice.main.vm.localhost,"), "{known}");

    let text = world.run("admin account ssh-config alice --for-file ssh_config --identity one").ok();
    let file = world.write("ssh_config", &text);
    let read =
        command("ssh").arg("-F").arg(&file).args(["-G", "vm-0.alice.main.vm.localhost"]).output().unwrap();
    let read = String::from_utf8(read.stdout).unwrap();
    for line in ["user alice", "stricthostkeychecking true", "identitiesonly yes"] {
        assert!(read.lines().any(|have| have == line), "{line}: {read}");
    }
    let known_hosts = format!("userknownhostsfile {}", world.state().join("known_hosts").display());
    assert!(read.contains(&known_hosts), "{read}");
    let read = command("ssh").arg("-F").arg(&file).args(["-G", "ssh.berth.localhost"]).output().unwrap();
    let read = String::from_utf8(read.stdout).unwrap();
    assert!(read.contains(&format!("port {port}\n")) && read.contains("hostname 127.0.0.1\n"), "{read}");

    let larger = world.run("admin vm resize vm-0.alice --disk 12GiB").ok();
    assert_eq!(
        larger,
        "vm-0.alice.main.vm.localhost has a disk of 12 GiB, which its file system takes up when it next runs.\n"
    );
    let smaller = world.json("admin vm resize vm-0.alice --disk 11GiB");
    assert_eq!(smaller["error"]["kind"], "invalid", "{smaller}");
    assert_eq!(world.json("admin vm list alice")["vms"][0]["disk"], 12_u64 << 30);

    assert_eq!(world.run("admin vm remove vm-1.alice").ok(), "vm-1.alice.main is removed.\n");
    assert!(!fs::read_to_string(world.state().join("known_hosts")).unwrap().contains("vm-1.alice"));
    assert!(world.run("admin vm remove vm-1.alice").refused().contains("There is no VM"));
    assert!(world.run("admin vm add carol").refused().contains("There is no account carol"));
    assert!(world.run("admin vm start vm-0.alice.main.kd.io").refused().contains("There is no VM"));
    assert_eq!(world.run("admin vm stop vm-0.alice").ok(), "vm-0.alice.main.vm.localhost is off.\n");
}

#[test]
fn one_host_ca_takes_the_place_of_another() {
    let world = World::new();
    let _server = world.serve();
    let known = || fs::read_to_string(world.state().join("known_hosts")).unwrap();
    let trusted = || known().lines().filter(|line| line.starts_with("@cert-authority ")).count();
    let all = |words: &str| world.json(&format!("admin host-ca {words}"))["host_cas"].clone();
    let first = all("list")[0]["fingerprint"].as_str().unwrap().to_owned();
    assert!(known().contains(",*.vm.localhost ssh-ed25519 ") && trusted() == 1, "{}", known());

    let added = all("add");
    assert_eq!((&added[0]["signs"], &added[1]["signs"]), (&true.into(), &false.into()), "{added}");
    let second = added[1]["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(trusted(), 2);
    assert!(world.run("admin host-ca add").refused().contains("There are 2 host CAs already"));
    assert!(world.run(&format!("admin host-ca remove {first}")).refused().contains("This host CA signs."));
    assert!(world.run("admin host-ca use SHA256:x").refused().contains("There is no host CA SHA256:x."));

    assert_eq!(all(&format!("use {second}"))[0]["fingerprint"], second);
    assert_eq!(all(&format!("remove {first}")).as_array().unwrap().len(), 1);
    assert_eq!(trusted(), 1);
    let trail = world.run("admin audit --kind host_ca").ok();
    assert_eq!(trail.lines().count(), 3, "{trail}");
}

#[test]
fn cas_of_members_are_trusted_revoked_and_forgotten() {
    let world = World::new();
    let _server = world.serve();
    let empty = world.run("admin team ca list").stderr;
    assert!(empty.starts_with("No CA is trusted: members come by the keys on their accounts."), "{empty}");
    world.key_pair("ca");
    let added = world.run("admin team ca add --name office ca.pub").ok();
    assert!(added.starts_with("office\tSHA256:") && added.lines().count() == 1, "{added}");
    let told = world.json("admin team ca list");
    assert_eq!((&told["cas"][0]["label"], &told["krl"]), (&json!("office"), &json!(null)));
    assert_eq!(told["team"], "main");
    assert!(world.run("admin team ca add ca").refused().contains("private key"));
    assert!(world.run("admin team ca revoke ca.pub").refused().contains("That is no key revocation list."));
    world.write("long", &"x".repeat(600 * 1024));
    assert!(world.run("admin team ca revoke long").refused().contains("is longer than 512 KiB."));
    assert!(world.run("admin team ca remove nothing").refused().contains("There is no CA \"nothing\""));
    world.run("admin team ca remove office").ok();
    assert_eq!(world.json("admin team ca list")["cas"], json!([]));
}

#[test]
fn a_vm_of_the_team_is_an_operators_to_make() {
    let world = World::new();
    let _server = world.serve();
    world.run("admin account add alice").ok();
    assert_eq!(world.run("admin team vm add").ok(), "shared-0.main.vm.localhost\n");
    assert!(world.run("admin vm list").ok().starts_with("shared-0.main.vm.localhost\toff\t"));
    assert_eq!(world.json("admin vm always-on shared-0 on")["name"], "shared-0.main");
    assert!(world.run("admin vm share shared-0 alice").refused().contains("every member is let into it"));
    assert!(world.run("admin account add shared").refused().contains("reserved"));
    assert_eq!(world.json("admin account list")["accounts"].as_array().unwrap().len(), 1);
    assert!(world.run("admin audit").ok().contains("shared-0.main"));
    world.run("admin vm remove shared-0").ok();
}
