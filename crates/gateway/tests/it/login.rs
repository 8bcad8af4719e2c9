//! Who gets in, and when they are out again.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{VM, World, account};

const UNKNOWN: &str = "This key is not on any account here. Add it at https://koding.com/account/keys and try again. Fingerprint: SHA256:";

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_key_gets_in() {
    let world = World::awake().await;
    for kind in [
        &["-t", "ed25519"][..],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "rsa", "-b", "2048"],
        &["-t", "rsa", "-b", "4096"],
    ] {
        let name = kind.join("");
        let key = world.ssh.new_key(&name, kind).await;
        world.control.add_keys(&account("bob"), &key, None).await.unwrap();
        let identity = format!("IdentityFile={}", world.ssh.file(&name).display());
        let done = world
            .ssh(
                &[
                    "-F",
                    "none",
                    "-o",
                    &identity,
                    "-o",
                    "IdentitiesOnly=yes",
                    "-o",
                    "IdentityAgent=none",
                    "-o",
                    &format!("UserKnownHostsFile={}", world.ssh.file("known_hosts").display()),
                    "-o",
                    "HostKeyAlias=gateway",
                    "-p",
                    &world.gateway.port().to_string(),
                    "bob@127.0.0.1",
                    "nc vm-0.bob.kd.io 22",
                ],
                b"",
            )
            .await;
        assert_eq!(
            (done.status, done.stdout.as_slice()),
            (Some(0), b"SSH-2.0-Fake\r\n".as_slice()),
            "{kind:?}: {}",
            done.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_the_identity_and_not_the_user_name() {
    let world = World::awake().await;
    for user in ["bob", "root", "nobody", "vm"] {
        let done = world.ssh(&["-l", user, "gateway", "nc", VM, "22"], b"").await;
        assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""), "{user}");
        let done = world.ssh(&["-l", user, "gateway", "nc", "vm-0.bob.kd.io", "22"], b"").await;
        assert_eq!(done.status, Some(68), "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_key_here_is_told_once_and_where_to_add_it() {
    let world = World::awake().await;
    world.ssh.new_key("strange", &["-t", "ed25519"]).await;
    let strange = format!("IdentityFile={}", world.ssh.file("strange").display());
    world.ssh.add_config("Host stranger\n  HostName 127.0.0.1\n  HostKeyAlias gateway\n");
    let port = world.gateway.port().to_string();
    let base = ["-p", &port, "-o", &strange];
    let done = world.ssh(&[&base[..], &["stranger", "nc", VM, "22"]].concat(), b"").await;
    assert_eq!(done.status, Some(255));
    assert_eq!(done.stderr.matches(UNKNOWN).count(), 1, "{}", done.stderr);
    assert!(done.stderr.contains("Permission denied (publickey"), "{}", done.stderr);

    // In the tutorial's setting the person sees it as well: the client is the child of another ssh.
    let proxy = format!(
        "ProxyCommand=ssh -F {} -p {port} -o {strange} stranger nc %h %p",
        world.ssh.file("config").display()
    );
    let done = world.ssh(&["-o", &proxy, VM], b"").await;
    assert_eq!(done.stderr.matches(UNKNOWN).count(), 1, "{}", done.stderr);

    // Scripts ask not to be talked to, and are not.
    let done =
        world.ssh(&[&base[..], &["-o", "BatchMode=yes", "stranger", "nc", VM, "22"]].concat(), b"").await;
    assert_eq!(done.status, Some(255));
    assert!(!done.stderr.contains(UNKNOWN), "{}", done.stderr);

    let done = world
        .ssh(&["-p", &port, "-o", "IdentityFile=none", "-o", "PubkeyAuthentication=no", "stranger"], b"")
        .await;
    assert!(
        done.stderr.contains("lets people in by their ssh key, and none was offered."),
        "{}",
        done.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sixth_key_gets_in_without_a_word() {
    let world = World::awake().await;
    let mut identities = Vec::new();
    for n in 0..5 {
        let name = format!("other{n}");
        world.ssh.new_key(&name, &["-t", "ed25519"]).await;
        identities.extend(["-i".to_owned(), world.ssh.file(&name).to_str().unwrap().to_owned()]);
    }
    let mut args: Vec<&str> = identities.iter().map(String::as_str).collect();
    args.extend(["gateway", "nc", VM, "22"]);
    let begun = Instant::now();
    let done = world.ssh(&args, b"").await;
    assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""));
    eprintln!("the sixth key got in after {:?}", begun.elapsed());

    // With more than that before the right one, the person is told what to do about it.
    for n in 5..12 {
        let name = format!("other{n}");
        world.ssh.new_key(&name, &["-t", "ed25519"]).await;
        identities.extend(["-i".to_owned(), world.ssh.file(&name).to_str().unwrap().to_owned()]);
    }
    let mut args: Vec<&str> = identities.iter().map(String::as_str).collect();
    args.extend(["gateway", "nc", VM, "22"]);
    let done = world.ssh(&args, b"").await;
    assert_eq!(done.status, Some(255));
    assert!(
        done.stderr.contains("Choose the right one in ~/.ssh/config: IdentityFile FILE"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("Too many authentication attempts"), "{}", done.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_otherwise() {
    let world = World::awake().await;
    for options in [
        &["-o", "PreferredAuthentications=password"][..],
        &["-o", "PreferredAuthentications=keyboard-interactive"],
        &["-o", "PreferredAuthentications=none"],
        &["-o", "PreferredAuthentications=hostbased"],
        // SHA-1.
        &["-o", "PubkeyAcceptedAlgorithms=ssh-rsa", "-i", "sha1"],
    ] {
        if options.contains(&"sha1") {
            let key = world.ssh.new_key("sha1", &["-t", "rsa", "-b", "2048"]).await;
            world.control.add_keys(&account("alice"), &key, None).await.unwrap();
        }
        let done = world.ssh(&[options, &["gateway", "nc", VM, "22"]].concat(), b"").await;
        assert_eq!((done.status, done.stdout.as_slice()), (Some(255), b"".as_slice()), "{options:?}");
        assert!(done.stderr.contains("Permission denied"), "{options:?}: {}", done.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_ends_its_connections_within_a_second() {
    let world = World::awake().await;
    let other = world.ssh.new_key("other", &["-t", "ed25519"]).await;
    world.control.add_keys(&account("alice"), &other, Some("other")).await.unwrap();
    let mut ends = world.ssh.start("ssh", &["gateway", "nc", VM, "8080"]);
    let mut stays = world.ssh.start(
        "ssh",
        &[
            "-F",
            "none",
            "-i",
            "other",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "IdentityAgent=none",
            "-o",
            "LogLevel=ERROR",
            "-p",
            &world.gateway.port().to_string(),
            "alice@127.0.0.1",
            "nc alice.kd.io 8080",
        ],
    );
    for client in [&mut ends, &mut stays] {
        client.stdin.as_mut().unwrap().write_all(b"here").await.unwrap();
        client.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).await.unwrap();
    }
    let keys = world.control.keys(&account("alice")).await.unwrap();
    let first = keys.iter().find(|key| key.label != "other").unwrap();
    let begun = Instant::now();
    world.control.remove_key(&account("alice"), &first.fingerprint.to_string()).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(1), ends.wait_with_output()).await.unwrap().unwrap();
    eprintln!("out {:?} after the removal began", begun.elapsed());
    assert_eq!(ended.status.code(), Some(255));
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(told.contains("The key of this connection was removed or has expired."), "{told}");

    stays.stdin.as_mut().unwrap().write_all(b"still").await.unwrap();
    stays.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).await.unwrap();
    world.control.remove_account(&account("alice")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(2), stays.wait()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_ends_a_connection_that_is_stuck_both_ways() {
    let world = World::awake().await;
    world.engine.serve(
        9000,
        berth_testkit::Service::new(|mut stream| async move {
            // Neither side reads.
            while stream.write_all(&[0; 4096]).await.is_ok() {}
        }),
    );
    let mut client = world.ssh.start("ssh", &["gateway", "nc", VM, "9000"]);
    let bytes = vec![0; 1 << 20];
    let mut stdin = client.stdin.take().unwrap();
    while tokio::time::timeout(Duration::from_millis(500), stdin.write(&bytes)).await.is_ok() {}
    let key = world.control.keys(&account("alice")).await.unwrap().remove(0);
    world.control.remove_key(&account("alice"), &key.id).await.unwrap();
    crate::world::eventually("the VM is let go", || world.engine.connections() == 0).await;
    client.start_kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_gives_a_link_to_the_website() {
    let world = World::new().await;
    let done = world.ssh(&["gateway", "login"], b"").await;
    assert_eq!(done.status, Some(0), "{done:?}");
    let link = String::from_utf8(done.stdout).unwrap();
    let token = link.trim_end().rsplit_once("/link/").expect("a link").1.to_owned();
    assert!(done.stderr.contains("is logged in as alice. It works once."), "{}", done.stderr);
    let client = berth_control::Client { address: [192, 0, 2, 1].into(), user_agent: "" };
    let session = world.control.log_in_by_link(&berth_model::Secret::new(token), client).await.unwrap();
    assert_eq!(session.login.account().as_str(), "alice");
    assert_eq!(world.ssh(&["gateway", "login bob"], b"").await.status, Some(2));
}
