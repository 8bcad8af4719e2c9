//! Disks are copied while their VMs live on, and put back.

use std::{path::Path, time::Duration};

use berth_control::{Actor, AuditKind, AuditQuery, Error, Status};
use berth_testkit::Verb;
use tokio::task::JoinSet;

use crate::world::{World, account, no_progress, vm};

const ALICES: &str = "vm-0.alice.koding";

async fn kinds(world: &World) -> Vec<AuditKind> {
    let lines = world.control.acting(Actor::host()).audit(&AuditQuery::default()).await.unwrap();
    lines.iter().map(|line| line.kind).collect()
}

async fn status(world: &World) -> Status {
    world.control.vms(Some(&account("alice"))).await.unwrap().remove(0).status
}

#[tokio::test]
async fn a_copy_is_made_of_what_runs_and_of_what_is_off_and_what_sleeps_is_woken() {
    let (world, ..) = World::new().await;
    let (control, name, id) = (&world.control, vm(ALICES), world.id(ALICES).await);
    let host = control.acting(Actor::host());
    assert!(host.copy_disk(&name).await.is_err(), "it has no disk yet");
    control.start_vm(&name, no_progress()).await.unwrap();
    let copy = host.copy_disk(&name).await.unwrap();
    assert!(copy.to_string_lossy().contains(&id.to_string()));
    control.sleep_vm(&name).await.unwrap();
    host.copy_disk(&name).await.unwrap();
    assert_eq!(status(&world).await, Status::Running, "what its guest had not written is in its memory");
    control.stop_vm(&name).await.unwrap();
    host.copy_disk(&name).await.unwrap();
    assert_eq!(status(&world).await, Status::Off);
    assert_eq!(kinds(&world).await.iter().filter(|kind| **kind == AuditKind::DiskCopied).count(), 3);
}

#[tokio::test]
async fn who_starts_a_vm_that_is_being_copied_does_not_wait() {
    let (world, ..) = World::new().await;
    let (control, name, id) = (&world.control, vm(ALICES), world.id(ALICES).await);
    control.start_vm(&name, no_progress()).await.unwrap();
    control.stop_vm(&name).await.unwrap();
    // As good as never.
    world.engine.delay(Verb::CopyDisk, Duration::from_secs(3600));
    let host = control.acting(Actor::host());
    let mut copying = JoinSet::new();
    copying.spawn(async move { host.copy_disk(&vm(ALICES)).await });
    while world.engine.calls(Verb::CopyDisk, Some(&id)) == 0 {
        tokio::task::yield_now().await;
    }
    control.start_vm(&name, no_progress()).await.unwrap();
    // Of the one that was off it was given up, and is made of the one that runs.
    while world.engine.calls(Verb::CopyDisk, Some(&id)) < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&world).await, Status::Running);
    assert!(copying.try_join_next().is_none());
}

#[tokio::test]
async fn a_disk_is_put_back_into_what_is_off_alone() {
    let (world, ..) = World::new().await;
    let (control, name) = (&world.control, vm(ALICES));
    let host = control.acting(Actor::host());
    let file = Path::new("/nowhere/x.qcow2");
    control.start_vm(&name, no_progress()).await.unwrap();
    for _ in 0..2 {
        let refused = host.replace_disk(&name, file).await.unwrap_err();
        assert_eq!(refused.to_string(), Error::NotOff(name.clone()).to_string());
        control.sleep_vm(&name).await.unwrap();
    }
    control.start_vm(&name, no_progress()).await.unwrap();
    control.stop_vm(&name).await.unwrap();
    host.replace_disk(&name, file).await.unwrap();
    assert_eq!(status(&world).await, Status::Off);
    control.start_vm(&name, no_progress()).await.unwrap();
    assert!(kinds(&world).await.contains(&AuditKind::DiskReplaced));
}
