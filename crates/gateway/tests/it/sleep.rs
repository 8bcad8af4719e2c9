//! VMs that sleep, and VMs that wait for memory.

use std::time::{Duration, Instant};

use berth_engine::EngineError;
use berth_model::VmName;
use berth_testkit::Verb;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::world::{VM, World, without_times};

const FAKE: &[u8] = b"SSH-2.0-Fake\r\n";

fn vm(name: &str) -> VmName {
    name.parse().unwrap()
}

/// alice's VM was connected to once, so that its identification is known, and sleeps.
async fn asleep(world: World) -> World {
    world.wake().await;
    let seen = world.ssh(&["gateway", "nc", VM, "22"], b"").await;
    assert_eq!(seen.status, Some(0), "{}", seen.stderr);
    world.control.sleep_vm(&vm("vm-0.alice.koding")).await.unwrap();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_vm_is_woken_with_a_line_and_not_spoken_for() {
    let world = asleep(World::new().await).await;
    world.engine.delay(Verb::Start, Duration::from_millis(700));
    for (args, line) in [
        (vec!["gateway", "nc", VM, "22"], "vm-0 is asleep, waking it… ready in N s\n"),
        (vec!["-W", "vm-0.alice.koding.kd.io:22", "gateway"], ""),
    ] {
        let begun = Instant::now();
        let mut client = world.ssh.start("ssh", &args);
        let mut first = [0];
        client.stdout.as_mut().unwrap().read_exact(&mut first).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(700), "{args:?}: {:?}", begun.elapsed());
        drop(client.stdin.take());
        let done = client.wait_with_output().await.unwrap();
        assert_eq!(done.stdout, &FAKE[1..], "{args:?}");
        assert_eq!(without_times(&String::from_utf8_lossy(&done.stderr)), line);
        world.control.sleep_vm(&vm("vm-0.alice.koding")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_that_fails_says_so() {
    let world = asleep(World::new().await).await;
    let reason = "its state file is cut short".to_owned();
    world.engine.fail(Verb::Start, Some(EngineError::WakeFailed { reason }));
    let said = "vm-0 could not be woken: its state file is cut short. Nothing on its disk was lost.";
    let done = world.ssh(&["gateway", "nc", VM, "22"], b"").await;
    assert_eq!((done.status, done.stdout.as_slice()), (Some(69), b"".as_slice()), "{}", done.stderr);
    assert!(done.stderr.starts_with(&format!("vm-0 is asleep, waking it…\n{said}")), "{}", done.stderr);
    let done = world.ssh(&["-W", "vm-0.alice.koding.kd.io:22", "gateway"], b"").await;
    assert!(done.stderr.contains(&format!("connect failed: {said}")), "{}", done.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_memory_is_told_and_spoken_for() {
    let world = asleep(World::with_room_for_one().await).await;
    let bobs = vm("vm-0.bob.koding");
    let (progress, _nobody) = tokio::sync::mpsc::channel(1);
    world.control.start_vm(&bobs, progress).await.unwrap();

    let mut clients = Vec::new();
    for args in [vec!["gateway", "nc", VM, "22"], vec!["-W", "vm-0.alice.koding.kd.io:22", "gateway"]] {
        let mut client = world.ssh.start("ssh", &args);
        let mut early = [0; 14];
        client.stdout.as_mut().unwrap().read_exact(&mut early).await.unwrap();
        assert_eq!(early, FAKE, "{args:?}");
        clients.push(client);
    }
    let mut told = BufReader::new(clients[0].stderr.take().unwrap());
    let mut first = String::new();
    told.read_line(&mut first).await.unwrap();
    assert_eq!(first, "vm-0 is asleep, waking it…\n");

    world.control.sleep_vm(&bobs).await.unwrap();
    for mut client in clients {
        drop(client.stdin.take());
        let done = client.wait_with_output().await.unwrap();
        assert_eq!((done.status.code(), done.stdout.as_slice()), (Some(0), b"".as_slice()));
    }
    let mut rest = String::new();
    told.read_to_string(&mut rest).await.unwrap();
    let words = "There is no memory free for vm-0 on this host right now: 256 MB of the 256 MB that this host has for \
                 VMs are taken by VMs that are in use. You are next in the queue; it starts by itself… ready in ";
    assert!(rest.starts_with(words) && rest.ends_with(" s\n"), "{rest}");
}
