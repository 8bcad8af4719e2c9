//! `ssh GATEWAY`, with a terminal, from a pipe, and as single commands.

use std::time::Duration;

use berth_engine::EngineError;
use berth_model::Title;
use berth_testkit::Verb;
use serde_json::Value;

use crate::world::{World, account};

const HOST: &str = "vm-0.alice.koding.kd.io";

fn json(stdout: &[u8]) -> Value {
    serde_json::from_slice(stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(stdout)))
}

fn text(stdout: &[u8]) -> &str {
    std::str::from_utf8(stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn single_commands_answer_on_stdout_and_by_status() {
    let world = World::new().await;
    let done = world.ssh(&["gateway", "vms"], b"").await;
    assert_eq!((done.status, text(&done.stdout)), (Some(0), format!("vm-0\toff\t{HOST}\t\n").as_str()));
    let done = world.ssh(&["gateway", "start", "vm-0"], b"").await;
    assert_eq!((done.status, text(&done.stdout)), (Some(0), "vm-0 is running: ssh vm-0@ssh.koding.com\n"));
    assert!(
        done.stderr.starts_with("vm-0 is off, starting it") && done.stderr.contains("ready in"),
        "{done:?}"
    );
    let done = world.ssh(&["gateway", "sleep"], b"").await;
    assert_eq!(text(&done.stdout), "vm-0 is asleep, and wakes when you connect.\n", "{done:?}");
    let done = world.ssh(&["gateway", "why", HOST], b"").await;
    assert!(text(&done.stdout).starts_with("vm-0 ") && text(&done.stdout).contains("asleep"), "{done:?}");
    let done = world.ssh(&["gateway", "stop", "VM-0.alice.kd.io"], b"").await;
    assert_eq!(text(&done.stdout), "vm-0 is off, and starts when you connect.\n", "{done:?}");
    let done = world.ssh(&["gateway", "new"], b"").await;
    assert_eq!(text(&done.stdout), "vm-1 is there. Go in: ssh vm-1@ssh.koding.com\n");
    let done = world.ssh(&["gateway", "help"], b"").await;
    assert!(done.status == Some(0) && text(&done.stdout).contains("known-hosts"), "{done:?}");
    // Each stands in the trail as done by alice over ssh.
    let trail = world.control.acting(berth_control::Actor::host());
    let trail = trail.activity(&account("alice"), None).await.unwrap();
    let kinds: Vec<&str> = trail
        .iter()
        .filter(|line| line.way.as_str() == "ssh" && line.actor.is_some())
        .map(|line| line.kind.as_str())
        .collect();
    for kind in ["vm_added", "vm_stopped", "vm_slept", "vm_started"] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_words_and_statuses_and_tell_nothing_of_others() {
    let world = World::new().await;
    world.control.add_vm(&account("alice")).await.unwrap();
    for (command, status, said) in [
        ("start vm-7", 1, "There is no VM vm-7 of yours. Yours: vm-0, vm-1.\n"),
        ("start vm-0.bob", 1, "There is no VM vm-0.bob of yours. Yours: vm-0, vm-1.\n"),
        (
            "why vm-0.bob.koding.kd.io",
            1,
            "There is no VM vm-0.bob.koding.kd.io of yours. Yours: vm-0, vm-1.\n",
        ),
        ("stop", 2, "Which one? Say one of vm-0, vm-1.\n"),
        ("stop vm-0 vm-1", 2, "stop takes one VM, and \"vm-1\" is too much.\n"),
        ("vms --all", 2, "vms does not take --all, only --json.\n"),
        ("sleep vm-0", 1, "vm-0.alice.koding is not running, so it cannot be put to sleep.\n"),
        ("keys remove nothing", 1, "You have no key \"nothing\". They are in: keys\n"),
        ("vms | cat", 2, "A pipe cannot be used here: no shell reads this command.\n"),
    ] {
        let done = world.ssh(&["gateway", command], b"").await;
        assert_eq!((done.status, done.stderr.as_str()), (Some(status), said), "{command}");
        assert_eq!(text(&done.stdout), "", "{command}");
    }
    for (command, status, kind) in
        [("start vm-7 --json", 1, "missing"), ("stop --json", 2, "usage"), ("nonsense --json", 2, "usage")]
    {
        let done = world.ssh(&["gateway", command], b"").await;
        assert_eq!((done.status, done.stderr.as_str()), (Some(status), ""), "{command}");
        assert_eq!(json(&done.stdout)["error"]["kind"], kind, "{command}");
    }
    let reason = "its disk is full".to_owned();
    world.engine.fail(Verb::Start, Some(EngineError::StartFailed { reason }));
    let done = world.ssh(&["gateway", "start", "vm-0"], b"").await;
    assert_eq!(done.status, Some(1));
    assert!(
        done.stderr.ends_with("could not start: its disk is full. Nothing was lost.\n"),
        "{}",
        done.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_one_document_that_no_terminal_acts_on() {
    let world = World::new().await;
    let title: Title = "Größe 猫".parse().unwrap();
    let vm = "vm-0.alice.koding".parse().unwrap();
    world.control.acting(berth_control::Actor::host()).set_title(&vm, Some(&title)).await.unwrap();
    let done = world.ssh(&["gateway", "vms", "--json"], b"").await;
    assert!(done.stdout.iter().all(|byte| *byte == b'\n' || (0x20..0x7f).contains(byte)), "{done:?}");
    let vms = json(&done.stdout);
    assert_eq!((&vms["vms"][0]["host"], &vms["vms"][0]["status"]), (&Value::from(HOST), &Value::from("off")));
    assert_eq!(vms["vms"][0]["title"], title.to_string());
    let done = world.ssh(&["gateway", "start", "--json"], b"").await;
    assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""));
    assert_eq!(json(&done.stdout)["status"], "running");
    for (command, field) in [
        ("why", "why"),
        ("keys", "keys"),
        ("config", "ssh_config"),
        ("known-hosts", "known_hosts"),
        ("login", "link"),
        ("doctor", "findings"),
        ("new", "host"),
    ] {
        let done = world.ssh(&["gateway", command, "--json"], b"").await;
        assert!(json(&done.stdout).get(field).is_some(), "{command}: {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_by_stdin_or_in_the_line_and_go_by_name() {
    let world = World::new().await;
    let (one, two) = (
        world.ssh.new_key("one", &["-t", "ed25519"]).await,
        world.ssh.new_key("two", &["-t", "ecdsa"]).await,
    );
    let done = world.ssh(&["gateway", "keys", "add", "--name", "'the first'"], one.as_bytes()).await;
    assert!(
        done.status == Some(0) && text(&done.stdout).starts_with("Added: ssh-ed25519 SHA256:"),
        "{done:?}"
    );
    let done = world.ssh(&["gateway", &format!("keys add {}", two.trim())], b"").await;
    assert!(text(&done.stdout).starts_with("Added: ecdsa-sha2-nistp256 SHA256:"), "{done:?}");
    let listed = world.ssh(&["gateway", "keys"], b"").await;
    let listed = text(&listed.stdout);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(
        listed.lines().next().unwrap().ends_with("\tnow") && listed.contains("the first\tssh-ed25519"),
        "{listed}"
    );

    let private = std::fs::read(world.ssh.file("one")).unwrap();
    let done = world.ssh(&["gateway", "keys", "add"], &private).await;
    assert!(done.status == Some(1) && done.stderr.contains("That is a private key."), "{done:?}");
    let done = world.ssh(&["gateway", "keys", "add"], &vec![b'x'; 200_000]).await;
    assert_eq!((done.status, done.stderr.as_str()), (Some(2), "That is too long for public keys.\n"));
    let done = world.ssh(&["gateway", "keys", "remove", "'the first'"], b"").await;
    assert!(done.status == Some(0) && text(&done.stdout).starts_with("Removed: ssh-ed25519"), "{done:?}");
    assert_eq!(world.control.keys(&account("alice")).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_config_works_and_nothing_is_asked() {
    let world = World::awake().await;
    let done = world.ssh(&["gateway", "config"], b"").await;
    assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""));
    let config = text(&done.stdout).to_owned();
    assert!(
        config.starts_with('\n') && config.contains("ProxyCommand ssh %r@ssh.koding.com nc %h %p"),
        "{config}"
    );
    // Where its names lead in this world; all else is as printed.
    let here = format!(
        "Host ssh.koding.com\n  HostName 127.0.0.1\n  HostKeyAlias ssh.koding.com\n  Port {}\n  IdentityFile {}\n\
         Host *\n  UserKnownHostsFile /dev/null\n  GlobalKnownHostsFile /dev/null",
        world.gateway.port(),
        world.ssh.file("id").display()
    );
    let file = world.ssh.file("appended");
    std::fs::write(&file, here + &config).unwrap();
    // The harness says -F of its own first; the last one counts.
    let file = file.to_str().unwrap();
    let done = world.ssh.run("ssh", &["-F", file, "-o", "BatchMode=yes", "ssh.koding.com", "vms"], b"").await;
    assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""), "{config}");
    let trust = world.control.host_trust(&["ssh.koding.com".to_owned()]).join("\n");
    let done = world.ssh(&["gateway", "known-hosts"], b"").await;
    assert_eq!(text(&done.stdout), trust + "\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_an_agent_that_offers_too_much() {
    let world = World::new().await;
    let done = world.ssh(&["gateway", "doctor"], b"").await;
    assert_eq!(done.status, Some(0), "{done:?}");
    assert!(text(&done.stdout).contains("ssh came with the right key at once: test."), "{done:?}");
    let mut args = vec!["-o", "IdentitiesOnly=yes"];
    let mut files = vec![];
    for name in ["a", "b"] {
        world.ssh.new_key(name, &["-t", "ed25519"]).await;
        files.push(world.ssh.file(name).to_str().unwrap().to_owned());
    }
    for file in &files {
        args.extend(["-i", file]);
    }
    args.extend(["gateway", "doctor"]);
    let done = world.ssh(&args, b"").await;
    assert_eq!(done.status, Some(1), "{done:?}");
    assert!(text(&done.stdout).contains("ssh offered 2 keys that count for nothing here"), "{done:?}");
    assert!(text(&done.stdout).contains("IdentitiesOnly yes"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_pipe_every_line_is_a_command() {
    let world = World::new().await;
    let done = world.ssh(&["-T", "gateway"], b"vms\n\r\nstart\r\nwhy").await;
    assert_eq!(done.status, Some(0), "{done:?}");
    let lines: Vec<&str> = text(&done.stdout).lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("vm-0\toff") && lines[1].starts_with("vm-0 is running"), "{lines:?}");
    assert!(done.stderr.starts_with("Hello alice. vm-0 is off. Type help.\n"), "{}", done.stderr);
    let done = world.ssh(&["-T", "gateway"], b"nonsense\nexit\nvms\n").await;
    assert_eq!((done.status, text(&done.stdout)), (Some(2), ""));
    let done = world.ssh(&["-T", "gateway"], &vec![b'x'; 300_000]).await;
    assert_eq!(done.status, Some(2), "{}", done.stderr.len());
    let done = world.ssh(&["-T", "gateway"], b"").await;
    assert_eq!((done.status, text(&done.stdout)), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_lines_are_edited_completed_and_remembered() {
    let world = World::new().await;
    let hidden: Title = "of\u{e9} x".parse().unwrap();
    let vm = "vm-0.alice.koding".parse().unwrap();
    world.control.acting(berth_control::Actor::host()).set_title(&vm, Some(&hidden)).await.unwrap();
    let typed = "vmx\x7fs\rwh\tv\t\r\x1b[A\x1b[A\r\x03rubbish\x15exit\r";
    let done = world.ssh(&["-tt", "gateway"], typed.as_bytes()).await;
    let seen = text(&done.stdout);
    assert_eq!(done.status, Some(0), "{seen}");
    assert!(seen.starts_with("Hello alice. vm-0 is off. Type help.\r\n"), "{seen:?}");
    assert_eq!(seen.matches("NAME  STATE  HOST").count(), 2, "typed, and out of the history: {seen}");
    assert!(seen.contains("ofé x\r\n"), "{seen}");
    assert!(seen.contains("berth> why vm-0 ") && seen.contains("vm-0 is off"), "{seen}");
    assert!(seen.contains("^C\r\n"), "{seen}");
    let done = world.ssh(&["-tt", "gateway"], b"stop vm-9\r\x04").await;
    assert_eq!(done.status, Some(1), "that of the last command");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_pasted_at_a_terminal() {
    let world = World::new().await;
    let key = world.ssh.new_key("other", &["-t", "rsa", "-b", "4096"]).await;
    let typed = format!("keys add\r{}\r\rexit\r", key.trim());
    let done = world.ssh(&["-tt", "gateway"], typed.as_bytes()).await;
    assert!(text(&done.stdout).contains("Added: ssh-rsa SHA256:"), "{done:?}");
    let done = world.ssh(&["-tt", "gateway", "keys", "add"], b"\x03").await;
    assert_eq!(done.status, Some(1), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn control_c_gives_up_waiting_and_a_start_goes_on() {
    let world = World::new().await;
    world.engine.delay(Verb::Start, Duration::from_secs(3));
    let began = std::time::Instant::now();
    let mut client = world.ssh.start("ssh", &["-tt", "gateway"]);
    let mut input = client.stdin.take().unwrap();
    use tokio::io::AsyncWriteExt;
    input.write_all(b"start vm-0\r").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    input.write_all(b"\x03vms\rexit\r").await.unwrap();
    let done =
        tokio::time::timeout(Duration::from_secs(60), client.wait_with_output()).await.unwrap().unwrap();
    drop(input);
    let seen = String::from_utf8_lossy(&done.stdout);
    assert!(!seen.contains("vm-0 is running"), "{seen}");
    assert!(began.elapsed() < Duration::from_secs(30));
    let status = || world.control.vm_counts().running;
    crate::world::eventually("it is running", || status() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_share_is_listed_after_what_is_ones_own() {
    let world = World::new().await;
    let host = world.control.acting(berth_control::Actor::host());
    let vm = "vm-0.bob.koding".parse().unwrap();
    host.share_vm(&vm, &account("alice"), berth_control::ShareTerms::default()).await.unwrap();
    let done = world.ssh(&["gateway", "vms"], b"").await;
    let asked = "vm-0.bob\tasked\tvm-0.bob.koding.kd.io\tbob asks you to share it: accept vm-0.bob\n";
    assert_eq!(text(&done.stdout), format!("vm-0\toff\t{HOST}\t\n{asked}"), "{done:?}");
    let done = world.ssh(&["gateway", "vms", "--json"], b"").await;
    assert_eq!(json(&done.stdout)["shared"][0]["host"], "vm-0.bob.koding.kd.io");
    let done = world.ssh(&["gateway", "start", "vm-0.bob"], b"").await;
    assert_eq!(
        (done.status, done.stderr.as_str()),
        (Some(1), "There is no VM vm-0.bob of yours. Yours: vm-0.\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_is_shared_accepted_and_taken_back_from_here() {
    let world = World::new().await;
    let key = world.ssh.new_key("bobs", &["-t", "ed25519"]).await;
    world.control.add_keys(&account("bob"), &key, None).await.unwrap();
    let (bobs, port) = (world.ssh.file("bobs").display().to_string(), world.gateway.port().to_string());
    let bob = async |command: &str| {
        let options = ["-F", "none", "-i", &bobs, "-o", "IdentityAgent=none", "-p", &port];
        let quiet =
            ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
        let args: Vec<&str> =
            options.iter().chain(&quiet).chain(&["bob@127.0.0.1", command]).copied().collect();
        world.ssh(&args, b"").await
    };
    let alice = async |command: &str| world.ssh(&["gateway", command], b"").await;

    let missing = "There is no VM vm-0.alice that is shared with you. Shared with you: none.\n";
    let refused = bob("accept vm-0.alice").await;
    assert_eq!((refused.status, refused.stderr.as_str()), (Some(1), missing));
    let done = alice("share vm-0 Bob --sudo --for 8h").await;
    assert!(
        text(&done.stdout).starts_with("bob was asked to share vm-0, and can accept until 2"),
        "{done:?}"
    );
    let shares = alice("shares").await;
    assert!(text(&shares.stdout).starts_with("vm-0\tbob\tasked\tyes\t2"), "{shares:?}");
    let done = bob("accept vm-0.alice.koding.kd.io").await;
    let way_in = "You are in vm-0.alice with sudo now: ssh vm-0.alice@ssh.koding.com\n";
    assert_eq!((done.status, text(&done.stdout)), (Some(0), way_in), "{done:?}");
    let shares = json(&alice("shares vm-0 --json").await.stdout);
    let share = &shares["shares"][0];
    assert!(share["accepted"].is_string() && share["until"].is_string() && share["sudo"] == true, "{share}");
    let done = alice("unshare vm-0 bob").await;
    assert_eq!(
        text(&done.stdout),
        "vm-0 is not shared with bob any more. Their home in it stays.\n",
        "{done:?}"
    );
    assert_eq!(text(&alice("shares").await.stdout), "It is shared with nobody. Share a VM: share VM NAME\n");

    alice("share vm-0 bob").await;
    let done = bob("leave vm-0.alice").await;
    assert_eq!(text(&done.stdout), "vm-0.alice is not shared with you any more.\n", "{done:?}");
    for (command, status, said) in [
        ("unshare vm-0 bob", 1, "vm-0.alice.koding is not shared with bob.\n"),
        ("share vm-0 nobody-here", 1, "There is nobody called nobody-here here.\n"),
        ("share vm-0 alice", 1, "vm-0 is yours already.\n"),
        ("share vm-0.bob alice", 1, "There is no VM vm-0.bob of yours. Yours: vm-0.\n"),
        ("share vm-0 bob --until 2001-01-01", 1, "That moment is over. Choose one that is to come.\n"),
        ("accept", 2, "accept needs a VM, such as vm-0.bob. vms shows those that are shared with you.\n"),
    ] {
        let done = alice(command).await;
        assert_eq!((done.status, done.stderr.as_str()), (Some(status), said), "{command}");
    }
    let done = alice("share vm-0 root --json").await;
    assert_eq!((done.status, &json(&done.stdout)["error"]["kind"]), (Some(1), &Value::from("invalid")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_teams_can_be_seen_and_woken() {
    let world = World::new().await;
    let host = world.control.acting(berth_control::Actor::host());
    host.add_team_vm().await.unwrap();
    let done = world.ssh(&["gateway", "vms"], b"").await;
    let listed = format!("vm-0\toff\t{HOST}\t\nshared-0\toff\tshared-0.koding.kd.io\t\n");
    assert_eq!(text(&done.stdout), listed, "{done:?}");
    let done = world.ssh(&["gateway", "start", "shared-0"], b"").await;
    assert_eq!(text(&done.stdout), "shared-0 is running: ssh shared-0@ssh.koding.com\n", "{done:?}");
    let done = world.ssh(&["gateway", "why", "shared-0.koding.kd.io", "--json"], b"").await;
    assert_eq!(json(&done.stdout)["status"], "running", "{done:?}");
    let done = world.ssh(&["gateway", "stop", "shared-0"], b"").await;
    assert_eq!(
        done.stderr,
        "shared-0 is the team's. Here it can be started and looked at; the rest is for operators.\n"
    );
    let done = world.ssh(&["gateway", "nc", "shared-0.koding.kd.io", "8080"], b"echoed").await;
    assert_eq!(text(&done.stdout), "echoed", "{done:?}");
}
