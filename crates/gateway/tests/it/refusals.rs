//! What this host does not do, and how it says so.

use std::process::Stdio;

use crate::world::{VM, World, account};

const HINT: &str = "For vm-0, type: ssh -J alice@ssh.koding.com alice@vm-0.alice.koding.kd.io";

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_forbidden_are_the_same_words() {
    let world = World::awake().await;
    let long = "a".repeat(300);
    for host in [
        "vm-3.alice.koding.kd.io",
        "vm-0.bob.koding.kd.io",
        "bob.kd.io",
        "vm-0.nobody.koding.kd.io",
        "vm-0.alice.koding.kd.io.",
        "127.0.0.1",
        "localhost",
        "::1",
        "gateway",
        "ssh.koding.com",
        "1.alice.koding.kd.io",
        long.as_str(),
    ] {
        let done = world.ssh(&["gateway", "nc", host, "22"], b"").await;
        let shown: String =
            host.chars().take(80).collect::<String>() + if host.len() > 80 { "…" } else { "" };
        let text = format!("There is no VM {shown} that you can enter. Yours: vm-0.");
        assert_eq!((done.status, done.stderr), (Some(68), format!("{text}\n")), "{host}");
        if !host.contains(':') {
            let done = world.ssh(&["-W", &format!("{host}:22"), "gateway"], b"").await;
            let text = text.replace('…', "...");
            assert!(done.stderr.contains(&format!("administratively prohibited: {text}")), "{}", done.stderr);
            assert_eq!(done.status, Some(255));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_that_are_not_to_be_had_are_named() {
    let world = World::awake().await;
    for (port, status, said) in [
        ("0", 77, "Port 0 is not open to you on a VM. Ports 22, 80 and 1024 to 65535 are.\n"),
        ("23", 77, "Port 23 is not open to you on a VM. Ports 22, 80 and 1024 to 65535 are.\n"),
        ("65536", 77, "Port 65536 is not open to you on a VM. Ports 22, 80 and 1024 to 65535 are.\n"),
        ("-1", 64, "nc needs a port from 1 to 65535, and \"-1\" is none.\n"),
        ("ssh", 64, "nc needs a port from 1 to 65535, and \"ssh\" is none.\n"),
    ] {
        let done = world.ssh(&["gateway", "nc", VM, port], b"").await;
        assert_eq!(done.status, Some(status), "{port}");
        assert!(done.stderr.starts_with(said), "{port}: {}", done.stderr);
    }
    let done = world.ssh(&["-W", &format!("{VM}:23"), "gateway"], b"").await;
    assert!(
        done.stderr.contains("administratively prohibited: Port 23 is not open to you"),
        "{}",
        done.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_shell_reads_a_command() {
    let world = World::awake().await;
    for (command, said) in [
        ("nc $(id) 22", "A dollar sign cannot be used here: no shell reads this command."),
        ("nc `id` 22", "A backtick cannot be used here: no shell reads this command."),
        ("nc alice.kd.io 22; id", "A semicolon cannot be used here: no shell reads this command."),
        ("nc alice.kd.io 22 | sh", "A pipe cannot be used here: no shell reads this command."),
        ("nc alice.kd.io 22\nid", "A line break cannot be used here: no shell reads this command."),
        ("nc alice.kd.io 22 && id", "An ampersand cannot be used here: no shell reads this command."),
    ] {
        let done = world.ssh(&["gateway", command], b"").await;
        assert_eq!(done.status, Some(64), "{command}");
        assert_eq!(done.stderr, format!("{said}\nA tunnel to vm-0 is: nc {VM} 22\n"), "{command}");
        assert_eq!(done.stdout, b"", "{command}");
    }
    for command in
        ["id", "sh -c 'nc alice.kd.io 22'", "scp -t /tmp", "rsync --server . /", "git-upload-pack 'x'"]
    {
        let done = world.ssh(&["gateway", command], b"").await;
        assert_eq!(done.status, Some(2), "{command}");
        let said = format!(
            "This host is the way into your VMs and has no command {command:?}.\n{HINT}\n\
             For what this host does itself, type: help\n"
        );
        assert_eq!(done.stderr, said, "{command}");
    }
    let done = world.ssh(&["gateway", "\u{1b}]0;owned\u{7}"], b"").await;
    assert!(!done.stderr.contains('\u{1b}'), "escapes are not said back: {:?}", done.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_in_vms_and_not_here() {
    let world = World::new().await;
    let done = world.ssh.run("sftp", &["gateway"], b"ls\n").await;
    assert_ne!(done.status, Some(0));
    let said = "This host is the way into your VMs and has no files itself.\n\
                For vm-0, type: sftp -J alice@ssh.koding.com alice@vm-0.alice.koding.kd.io\n";
    assert!(done.stderr.contains(said), "{}", done.stderr);
    let done = world.ssh(&["-s", "gateway", "netconf"], b"").await;
    assert!(done.stderr.contains("has no subsystem \"netconf\"."), "{}", done.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_forwarded_back() {
    let world = World::awake().await;
    let options = ["-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:1", "gateway"];
    let done = world.ssh(&options, b"").await;
    assert_eq!(done.status, Some(255));
    assert!(done.stderr.contains("remote port forwarding failed"), "{}", done.stderr);
    let socket = world.ssh.file("back");
    let remote = format!("{}:127.0.0.1:1", socket.display());
    let done = world.ssh(&["-o", "ExitOnForwardFailure=yes", "-N", "-R", &remote, "gateway"], b"").await;
    assert_eq!(done.status, Some(255));
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_and_the_environment_stay_where_they_are() {
    let world = World::awake().await;
    // What many have for `Host *`: none of it may disturb a tunnel, and no agent is asked for.
    let socket = world.ssh.file("agent");
    let _agent = tokio::net::UnixListener::bind(&socket).unwrap();
    let mut client =
        world.ssh.command("ssh", &["-v", "-A", "-o", "SendEnv=LANG LC_*", "gateway", "nc", VM, "22"]);
    client.env("LANG", "C.UTF-8").env("SSH_AUTH_SOCK", &socket).stdin(Stdio::null());
    let done = client.output().await.unwrap();
    assert_eq!(done.stdout, b"SSH-2.0-Fake\r\n");
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(!told.contains("client_request_agent"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_cannot_be_reached() {
    let world = World::awake().await;
    let local = world.ssh.file("local.sock");
    let forward = format!("{}:/run/docker.sock", local.display());
    let mut client = world.ssh.start("ssh", &["-N", "-L", &forward, "gateway"]);
    crate::world::eventually("ssh listens", || local.exists()).await;
    let mut stream = tokio::net::UnixStream::connect(&local).await.unwrap();
    let read = tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    client.start_kill().unwrap();
    let told = client.wait_with_output().await.unwrap();
    let told = String::from_utf8_lossy(&told.stderr);
    assert!(
        told.contains("administratively prohibited: This host leads to ports of VMs, not to sockets."),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_is_removed_is_no_more() {
    let world = World::awake().await;
    world.control.remove_account(&account("bob")).await.unwrap();
    world.control.remove_vm(&"vm-0.alice.koding".parse().unwrap()).await.unwrap();
    let done = world.ssh(&["gateway", "nc", VM, "22"], b"").await;
    assert_eq!(done.status, Some(68));
    assert!(done.stderr.starts_with(&format!("There is no VM {VM} that you can enter. You have no VM yet")));
}
