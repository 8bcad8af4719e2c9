//! Room on the host, and what an account may have.

use std::time::Duration;

use berth_control::{OwnLimits, Progress, Settings, Status};
use berth_testkit::Verb;
use tokio::{io::AsyncWriteExt, sync::mpsc};

use crate::{
    time::{Time, settings},
    world::{World, account, no_progress, vm},
};

const GIB: u64 = 1 << 30;

async fn status(world: &World, name: &str) -> Status {
    let vms = world.control.vms(None).await.unwrap();
    vms.into_iter().find(|info| info.name == vm(name)).unwrap().status
}

#[tokio::test]
async fn the_longest_idle_vm_gives_way_and_one_in_use_never() {
    let mut time = Time::stop();
    let two = Settings { memory: Some(2 * GIB), ..settings() };
    let (world, alices, bobs) = World::with(two).await.peopled().await;
    time.wait_for(&world.store);
    world.control.add_vm(&account("alice")).await.unwrap();
    let first = world.entry(&alices, "vm-0.alice.kd.io").await;
    let second = world.entry(&alices, "vm-1.alice.kd.io").await;
    let bobs = world.entry(&bobs, "bob.kd.io").await;
    world.greet(&first).await;
    time.pass(Duration::from_secs(60)).await;
    world.greet(&second).await;
    time.pass(Duration::from_secs(180)).await;

    world.greet(&bobs).await;
    assert_eq!(status(&world, "vm-0.alice.koding").await, Status::Asleep, "it was idle for longest");
    assert_eq!(status(&world, "vm-1.alice.koding").await, Status::Running);
    let why = world.control.why(&vm("vm-0.alice.koding")).await.unwrap();
    assert!(why.contains("because another VM needed its memory and nobody used it"), "{why}");

    let mut typing = world.control.connect(&second, no_progress()).await.unwrap();
    let (progress, mut heard) = mpsc::channel(8);
    let wait = world.control.connect(&first, progress);
    tokio::pin!(wait);
    tokio::select! {
        _ = &mut wait => panic!("both are in use"),
        () = time.pass(Duration::from_secs(30)) => {}
    }
    assert!(matches!(heard.recv().await, Some(Progress::Starting { was: Status::Asleep, .. })));
    let told = heard.recv().await;
    assert!(
        matches!(&told, Some(Progress::Queued { ahead: 0, reason, .. }) if reason.starts_with("2048 MB of the 2048 MB")),
        "{told:?}"
    );
    let type_on = async {
        loop {
            time.pass(Duration::from_secs(7)).await;
            typing.write_all(b"x").await.unwrap();
            time.pass(Duration::from_secs(4)).await;
            typing.write_all(b"x").await.unwrap();
        }
    };
    tokio::select! {
        connected = &mut wait => drop(connected.unwrap()),
        () = type_on => unreachable!("it types for ever"),
    }
    assert_eq!(status(&world, "vm-1.alice.koding").await, Status::Running, "somebody types in it");
    assert_eq!(status(&world, "vm-0.bob.koding").await, Status::Asleep, "nobody has used it for two minutes");
}

#[tokio::test]
async fn a_vm_that_was_found_running_has_its_place() {
    let mut time = Time::stop();
    let one = Settings { memory: Some(GIB), ..settings() };
    let (mut world, alices, bobs) = World::with(one).await.peopled().await;
    time.wait_for(&world.store);
    let alices = world.entry(&alices, "alice.kd.io").await;
    world.greet(&alices).await;
    world.restart().await;
    let bobs = world.entry(&bobs, "bob.kd.io").await;
    let wait = world.control.connect(&bobs, no_progress());
    tokio::pin!(wait);
    tokio::select! {
        _ = &mut wait => panic!("alice has just used hers"),
        () = time.pass(Duration::from_secs(20)) => {}
    }
    world.control.stop_vm(alices.vm()).await.unwrap();
    drop(wait.await.unwrap());
}

#[tokio::test]
async fn what_never_fits_is_said_at_once() {
    let small = Settings { memory: Some(GIB / 2), ..settings() };
    let (world, alices, _) = World::with(small).await.peopled().await;
    let entry = world.entry(&alices, "alice.kd.io").await;
    let refused = world.control.connect(&entry, no_progress()).await.err().unwrap().to_string();
    assert_eq!(
        refused,
        "vm-0 could not start: it has 1024 MB of memory, and this host has 512 MB for all VMs together. Nothing was lost."
    );
    assert_eq!(world.engine.calls(Verb::Start, None), 0);
}

#[tokio::test]
async fn an_account_has_no_more_than_it_may() {
    let (world, _, _) = World::new().await;
    let alice = account("alice");
    let one = OwnLimits { vms: Some(1), ..OwnLimits::default() };
    world.control.set_limits(&alice, one).await.unwrap();
    let refused = world.control.add_vm(&alice).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "alice has 1 VM, and may have 1 VM. Remove a VM first, or ask the operator for more."
    );
    assert_eq!(refused.kind(), berth_control::Kind::Denied);
    let (own, all) = world.control.limits(&alice).await.unwrap();
    assert_eq!((own, all.vms), (one, 1));
    world.control.set_limits(&alice, OwnLimits::default()).await.unwrap();
    world.control.add_vm(&alice).await.unwrap();
}
