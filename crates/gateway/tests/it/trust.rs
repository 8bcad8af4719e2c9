//! How clients know the gateway: by its certificate, by its key, and not at all when another one answers.

use std::time::Duration;

use berth_control::Actor;
use berth_gateway::{Gateway, GatewaySettings, HostKey};
use berth_testkit::{OpenSsh, Output};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::world::{World, eventually};

/// What every client of these tests runs, without an answer of interest.
const KNOWN: Option<i32> = Some(0);
/// OpenSSH's own, for a host that it does not trust.
const UNKNOWN: Option<i32> = Some(255);

/// `ssh` to alice's gateway under its own name, with these lines as all that it knows.
async fn with_known_hosts(world: &World, lines: &str, port: u16) -> Output {
    std::fs::write(world.ssh.file("known"), lines).unwrap();
    let known = format!("UserKnownHostsFile={}", world.ssh.file("known").display());
    let identity = world.ssh.file("id");
    let args = [
        "-o",
        &known,
        "-o",
        "HostKeyAlias=ssh.koding.com",
        "-i",
        identity.to_str().unwrap(),
        "-p",
        &port.to_string(),
        "127.0.0.1",
        "nc vm-0.alice.koding.kd.io 8080",
    ];
    world.ssh(&args, b"").await
}

fn gateway() -> Vec<String> {
    vec!["ssh.koding.com".to_owned()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_trusts_the_host_ca_asks_nothing() {
    let world = World::awake().await;
    let lines = world.control.host_trust(&gateway()).join("\n");
    assert!(lines.starts_with("@cert-authority ssh.koding.com,*.kd.io ssh-ed25519 AAAA"), "{lines}");
    let done = with_known_hosts(&world, &lines, world.gateway.port()).await;
    assert_eq!((done.status, done.stderr.as_str()), (KNOWN, ""));
    // Under another name it is not the gateway.
    let done =
        with_known_hosts(&world, &lines.replace("ssh.koding.com", "other"), world.gateway.port()).await;
    assert_eq!(done.status, UNKNOWN, "{}", done.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_the_key_alone_takes_the_key() {
    let world = World::awake().await;
    let key = HostKey::load_or_create(&world.ssh.file("gateway_key")).unwrap().public_line();
    let done = with_known_hosts(&world, &format!("ssh.koding.com {key}\n"), world.gateway.port()).await;
    assert_eq!((done.status, done.stderr.as_str()), (KNOWN, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_answers_with_another_key_is_noticed() {
    let world = World::awake().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let impostor = listener.local_addr().unwrap().port();
    // All that he has is the gateway's name, and a host CA of his own.
    let other = World::new().await;
    let stop = CancellationToken::new();
    let key = HostKey::load_or_create(&other.ssh.file("another_key")).unwrap();
    let settings = GatewaySettings::new("ssh.koding.com", 22);
    let serving = Gateway::serve(other.control.clone(), vec![listener], key, settings, stop.clone());
    let lines = world.control.host_trust(&gateway()).join("\n");
    let trying = async {
        let done = with_known_hosts(&world, &lines, impostor).await;
        stop.cancel();
        done
    };
    let ((), done) = tokio::join!(serving, trying);
    assert_eq!(done.status, UNKNOWN);
    assert!(done.stderr.contains("Host key verification failed."), "{}", done.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_host_ca_takes_the_place_of_another_without_a_question() {
    let world = World::awake().await;
    let host = world.control.acting(Actor::host());
    let port = world.gateway.port();
    let first = world.control.host_trust(&gateway()).join("\n");

    let all = host.add_host_ca().await.unwrap();
    assert_eq!(all.iter().map(|ca| ca.signs).collect::<Vec<_>>(), [true, false]);
    assert!(host.add_host_ca().await.is_err(), "two are enough");
    let both = world.control.host_trust(&gateway()).join("\n");
    assert_eq!((both.lines().count(), both.lines().next()), (2, first.lines().next()));
    for lines in [&first, &both] {
        assert_eq!(with_known_hosts(&world, lines, port).await.status, KNOWN);
    }

    let id = world.vm_id().await;
    let of_vm = || world.engine.guest(&id).unwrap().host_certificate;
    let before = of_vm();
    let all = host.use_host_ca(&all[1].fingerprint).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    eventually("the VM that runs has the new one", || of_vm() != before).await;
    assert_eq!(with_known_hosts(&world, &both, port).await.status, KNOWN);
    assert_eq!(with_known_hosts(&world, &first, port).await.status, UNKNOWN, "who has missed the overlap");

    assert!(host.remove_host_ca(&all[0].fingerprint).await.is_err(), "it signs");
    assert!(host.remove_host_ca("SHA256:x").await.is_err());
    host.remove_host_ca(&all[1].fingerprint).await.unwrap();
    let second = world.control.host_trust(&gateway()).join("\n");
    assert_eq!(second.lines().count(), 1);
    assert_eq!(with_known_hosts(&world, &second, port).await.status, KNOWN);
}

/// The certificate that a VM is given, as `ssh-keygen` reads it.
#[tokio::test(flavor = "multi_thread")]
async fn a_vm_is_given_a_certificate_for_all_its_names_and_the_same_each_time() {
    let world = World::awake().await;
    let id = world.vm_id().await;
    let given = world.engine.guest(&id).unwrap().host_certificate;
    std::fs::write(world.ssh.file("vm-cert.pub"), &given).unwrap();
    let file = world.ssh.file("vm-cert.pub");
    let read = OpenSsh::run(&world.ssh, "ssh-keygen", &["-L", "-f", file.to_str().unwrap()], b"").await;
    let read = String::from_utf8(read.stdout).unwrap();
    for part in [
        "Type: ssh-ed25519-cert-v01@openssh.com host certificate",
        "Key ID: \"vm-0.alice.koding\"",
        "Valid: forever",
        "vm-0.alice.koding.kd.io\n",
        "vm-0.alice.kd.io\n",
        "alice.koding.kd.io\n",
        "alice.kd.io\n",
        &world.control.host_cas()[0].fingerprint,
    ] {
        assert!(read.contains(part), "{part}: {read}");
    }
    let vm = "vm-0.alice.koding".parse().unwrap();
    world.control.stop_vm(&vm).await.unwrap();
    world.wake().await;
    assert_eq!(world.engine.guest(&id).unwrap().host_certificate, given);
}
