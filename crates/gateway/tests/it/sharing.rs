//! VMs that are shared, and what the audit trail has of the ways in.

use std::time::Duration;

use berth_control::{Actor, AuditInfo, AuditKind, AuditQuery, ShareTerms};
use berth_model::{PublicKey, VmName};
use berth_testkit::{Service, Sshd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{ECHO, World, account, eventually};

const HIS: &str = "vm-0.bob.koding.kd.io";

fn his() -> VmName {
    "vm-0.bob.koding".parse().unwrap()
}

/// A world in which bob's VM runs and is shared with alice.
async fn shared() -> World {
    let world = World::awake().await;
    let host = world.control.acting(Actor::host());
    host.start_vm(&his(), tokio::sync::mpsc::channel(1).0).await.unwrap();
    host.share_vm(&his(), &account("alice"), ShareTerms::default()).await.unwrap();
    let key = std::fs::read_to_string(world.ssh.file("id.pub")).unwrap();
    let key = PublicKey::from_openssh(key.trim()).unwrap();
    let alice = world.control.log_in(&key, None, [127, 0, 0, 1].into()).await.unwrap();
    world.control.acting(alice.actor()).accept_share(&his()).await.unwrap();
    world
}

async fn take_back(world: &World) {
    world.control.acting(Actor::host()).unshare_vm(&his(), &account("alice")).await.unwrap();
}

async fn lines(world: &World, kind: AuditKind) -> Vec<AuditInfo> {
    let query = AuditQuery { kind: Some(kind), ..AuditQuery::default() };
    for _ in 0..500 {
        let lines = world.control.acting(Actor::host()).audit(&query).await.unwrap();
        if !lines.is_empty() {
            return lines;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("there is no line of {kind}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_is_taken_back_ends_its_tunnels_and_no_other() {
    let world = shared().await;
    let mut ends = world.ssh.start("ssh", &["gateway", "nc", HIS, ECHO]);
    let mut stays = world.ssh.start("ssh", &["gateway", "nc", "alice.kd.io", ECHO]);
    for client in [&mut ends, &mut stays] {
        client.stdin.as_mut().unwrap().write_all(b"here").await.unwrap();
        client.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).await.unwrap();
    }
    take_back(&world).await;
    let ended = tokio::time::timeout(Duration::from_secs(1), ends.wait_with_output()).await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(told.contains("vm-0.bob.koding is not shared with you any more."), "{told}");
    stays.stdin.as_mut().unwrap().write_all(b"still").await.unwrap();
    stays.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).await.unwrap();
    stays.start_kill().unwrap();
    let refused = world.ssh(&["gateway", "nc", HIS, ECHO], b"").await;
    assert!(refused.stderr.contains(&format!("There is no VM {HIS} that you can enter.")), "{refused:?}");
    let lines = lines(&world, AuditKind::Connection).await;
    let line = lines.iter().find(|line| line.account == Some(account("bob"))).unwrap();
    assert_eq!(line.actor, Some(account("alice")));
    assert_eq!((line.traffic.unwrap().sent, line.traffic.unwrap().received), (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_a_tunnel_that_is_not_read_and_that_nobody_feeds() {
    let world = shared().await;
    let flood = Service::new(|mut stream| async move { while stream.write_all(&[0; 4096]).await.is_ok() {} });
    world.engine.serve(9000, flood);
    let mut client = world.ssh.start("ssh", &["gateway", "nc", HIS, "9000"]);
    client.stdout.as_mut().unwrap().read_exact(&mut [0; 4096]).await.unwrap();
    // Until all that is between the two is full.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(world.engine.connections(), 1);
    take_back(&world).await;
    eventually("the VM is let go", || world.engine.connections() == 0).await;
    client.start_kill().unwrap();
}

/// bob's ssh, carried into alice's VM, where he is a guest.
fn carried(world: &World) -> tokio::process::Child {
    let (key, port) = (world.ssh.file("bobs").display().to_string(), world.gateway.port().to_string());
    let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"];
    let mut args =
        vec!["-F", "none", "-i", &key, "-o", "IdentityAgent=none", "-p", &port, "-l", "vm-0.alice"];
    args.extend(options.iter().flat_map(|option| ["-o", option]));
    args.extend(["127.0.0.1", "run"]);
    world.ssh.start("ssh", &args)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_carried_in_as_themselves_and_out_at_once() {
    let world = World::awake().await;
    let hers: VmName = "vm-0.alice.koding".parse().unwrap();
    let key = world.ssh.new_key("bobs", &["-t", "ed25519"]).await;
    world.control.add_keys(&account("bob"), &key, None).await.unwrap();
    let host = world.control.acting(Actor::host());
    host.share_vm(&hers, &account("bob"), ShareTerms::default()).await.unwrap();
    let key = PublicKey::from_openssh(key.trim()).unwrap();
    let bob = world.control.log_in(&key, None, [127, 0, 0, 1].into()).await.unwrap();
    world.control.acting(bob.actor()).accept_share(&hers).await.unwrap();
    let (id, engine) = (world.vm_id().await, world.engine.clone());
    let host_key = engine.guest(&id).unwrap().host_key;
    let sshd =
        Sshd::new(host_key.expose(), move || engine.guest(&id).unwrap().others[0].authorized_keys.clone());
    let serving = sshd.clone();
    let service = Service::new(move |stream| {
        let sshd = serving.clone();
        async move { sshd.serve(stream).await }
    });
    world.engine.serve(22, service);

    let (mut typed, mut flooded) = (carried(&world), carried(&world));
    for (session, word) in [(&mut typed, &b"here"[..]), (&mut flooded, b"flood")] {
        session.stdin.as_mut().unwrap().write_all(word).await.unwrap();
        session.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).await.unwrap();
    }
    assert!(sshd.seen().iter().all(|seen| seen != "log-in alice"), "{:?}", sshd.seen());
    assert!(sshd.seen().iter().any(|seen| seen == "log-in bob"), "{:?}", sshd.seen());
    // Until all that is between the two is full.
    tokio::time::sleep(Duration::from_millis(500)).await;
    host.unshare_vm(&hers, &account("bob")).await.unwrap();
    let ended =
        tokio::time::timeout(Duration::from_secs(1), typed.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(255));
    eventually("the VM is let go", || world.engine.connections() == 0).await;
    flooded.start_kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_key_here_is_in_the_audit_trail_once() {
    let world = World::new().await;
    let strange = world.ssh.new_key("strange", &["-t", "ed25519"]).await;
    let fingerprint = PublicKey::from_openssh(strange.trim()).unwrap().fingerprint();
    let port = world.gateway.port().to_string();
    let identity = format!("IdentityFile={}", world.ssh.file("strange").display());
    let host = "HostKeyAlias=gateway";
    for _ in 0..2 {
        let args = ["-p", &port, "-o", &identity, "-o", host, "stranger@127.0.0.1", "nc", HIS, ECHO];
        assert_eq!(world.ssh(&args, b"").await.status, Some(255));
    }
    for _ in 0..500 {
        let lines = lines(&world, AuditKind::LogInRefused).await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line = &lines[0];
        assert_eq!((line.subject.clone(), &line.account), (fingerprint.to_string(), &None));
        if line.times == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the second one was not counted");
}
