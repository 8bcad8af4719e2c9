//! Starting, stopping, removing, and what restarts of the server change: nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use berth_control::{Progress, Status};
use berth_engine::{Engine, EngineError, Observed};
use berth_testkit::{Service, Verb};
use futures::future::join_all;
use tokio::{io::AsyncWriteExt, sync::mpsc};

use crate::world::{World, account, no_progress, vm};

const ALICES: &str = "vm-0.alice.koding";

async fn status(world: &World) -> (Status, Option<String>) {
    let vms = world.control.vms(Some(&account("alice"))).await.unwrap();
    (vms[0].status, vms[0].reason.clone())
}

async fn until(world: &World, wanted: Status) {
    let reached = async {
        while status(world).await.0 != wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reached).await.expect("the status is reached");
}

#[tokio::test]
async fn a_vm_that_is_off_is_started_once_however_many_come() {
    let (world, alices, _) = World::new().await;
    let entry = world.entry(&alices, "alice.kd.io").await;
    world.engine.delay(Verb::Start, Duration::from_millis(50));
    join_all((0..50).map(|_| world.greet(&entry))).await;
    assert_eq!(world.engine.calls(Verb::Start, None), 1);
    assert_eq!(world.engine.calls(Verb::Create, None), 1);
}

#[tokio::test]
async fn who_waits_is_told_and_who_does_not_wait_is_not() {
    let (world, alices, _) = World::new().await;
    let entry = world.entry(&alices, "alice.kd.io").await;
    let told = async || {
        let (progress, mut heard) = mpsc::channel(8);
        drop(world.control.connect(&entry, progress).await.unwrap());
        let mut told = vec![];
        while let Some(progress) = heard.recv().await {
            told.push(progress);
        }
        told
    };
    let first = told().await;
    assert!(
        matches!(first.as_slice(), [Progress::Starting { usual: None, .. }, Progress::Ready { .. }]),
        "{first:?}"
    );
    assert_eq!(told().await, []);
    world.control.stop_vm(entry.vm()).await.unwrap();
    assert!(matches!(
        told().await.as_slice(),
        [Progress::Starting { usual: Some(_), .. }, Progress::Ready { .. }]
    ));
}

#[tokio::test]
async fn a_start_that_fails_says_why_and_the_next_one_may_work() {
    let (world, alices, _) = World::new().await;
    let entry = world.entry(&alices, "alice.kd.io").await;
    let reason = "its disk is full (10 GB of 10 GB)".to_owned();
    world.engine.fail(Verb::Start, Some(EngineError::StartFailed { reason: reason.clone() }));
    let refused = world.control.connect(&entry, no_progress()).await.err().unwrap();
    assert_eq!(
        refused.to_string(),
        "vm-0 could not start: its disk is full (10 GB of 10 GB). Nothing was lost."
    );
    assert_eq!(status(&world).await, (Status::Failed, Some(reason)));
    world.engine.fail(Verb::Start, None);
    world.greet(&entry).await;
    assert_eq!(status(&world).await.0, Status::Running);
}

#[tokio::test]
async fn what_the_guest_does_by_itself_is_seen() {
    let (world, alices, _) = World::new().await;
    let entry = world.entry(&alices, "alice.kd.io").await;
    let id = world.id(ALICES).await;
    world.greet(&entry).await;

    world.engine.power_off(&id);
    until(&world, Status::Off).await;
    assert_eq!(status(&world).await.1.as_deref(), Some("somebody inside shut it down"));

    world.greet(&entry).await;
    world.engine.delay(Verb::Start, Duration::from_millis(100));
    world.engine.reboot(&id);
    until(&world, Status::Starting).await;
    world.greet(&entry).await;

    world.engine.crash(&id, "QEMU was killed");
    until(&world, Status::Failed).await;
    world.greet(&entry).await;
}

#[tokio::test]
async fn a_connection_right_after_a_power_off_starts_it_again() {
    let (world, alices, _) = World::new().await;
    let entry = world.entry(&alices, "alice.kd.io").await;
    let id = world.id(ALICES).await;
    for _ in 0..20 {
        world.greet(&entry).await;
        world.engine.power_off(&id);
    }
    world.greet(&entry).await;
}

#[tokio::test]
async fn a_port_on_which_nothing_listens_is_named() {
    let (world, alices, _) = World::new().await;
    let login = world.log_in(&alices).await;
    let entry = world.control.enter(&login, "alice.kd.io", 3000).await.unwrap();
    let refused = world.control.connect(&entry, no_progress()).await.err().unwrap();
    assert_eq!(refused.to_string(), "vm-0 is running, but nothing in it listens on port 3000.");
}

#[tokio::test]
async fn an_sshd_that_is_on_its_way_down_is_waited_for() {
    let (world, alices, _) = World::new().await;
    let entry = world.entry(&alices, "alice.kd.io").await;
    world.greet(&entry).await;
    world.engine.serve(22, Service::refuses());
    let back = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.engine.serve(22, Service::greeting(b"SSH-2.0-Fake\r\n"));
    };
    tokio::join!(world.greet(&entry), back);
}

#[tokio::test]
async fn an_sshd_that_hangs_up_without_a_word_is_tried_again() {
    let (world, alices, _) = World::new().await;
    let entry = world.entry(&alices, "alice.kd.io").await;
    world.greet(&entry).await;
    let visitors = Arc::new(AtomicUsize::new(0));
    let came = visitors.clone();
    let restarts = Service::new(move |mut stream| {
        let first = came.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if !first && stream.write_all(b"SSH-2.0-Fake\r\n").await.is_ok() {
                let (mut from, mut to) = tokio::io::split(stream);
                let _until_it_ends = tokio::io::copy(&mut from, &mut to).await;
            }
        }
    });
    world.engine.serve(22, restarts);
    world.greet(&entry).await;
    assert_eq!(visitors.load(Ordering::Relaxed), 2);

    tokio::time::pause();
    world.engine.serve(22, Service::new(|_| async {}));
    let never = world.control.connect(&entry, no_progress()).await.err().unwrap();
    assert_eq!(
        never.to_string(),
        "vm-0 is running but does not answer on port 22. If this goes on, ask the operator to stop and start it."
    );
    world.engine.serve(22, Service::stalls());
    assert!(
        world.control.connect(&entry, no_progress()).await.is_ok(),
        "one that is slow to speak is heard as it is"
    );
}

#[tokio::test]
async fn a_disk_that_is_gone_is_told_and_not_replaced() {
    let (world, alices, _) = World::new().await;
    let entry = world.entry(&alices, "alice.kd.io").await;
    world.greet(&entry).await;
    world.control.stop_vm(entry.vm()).await.unwrap();
    world.engine.remove(&world.id(ALICES).await).await.unwrap();
    let refused = world.control.connect(&entry, no_progress()).await.err().unwrap();
    assert_eq!(
        refused.to_string(),
        "vm-0 cannot be reached: its disk is missing on the server. Ask the operator of this server."
    );
}

#[tokio::test]
async fn the_last_word_counts() {
    let (world, ..) = World::new().await;
    let name = vm(ALICES);
    world.engine.delay(Verb::Start, Duration::from_secs(3600));
    let starting = world.control.start_vm(&name, no_progress());
    let stopping = async {
        until(&world, Status::Starting).await;
        world.control.stop_vm(&name).await
    };
    let (started, stopped) = tokio::join!(starting, stopping);
    assert_eq!(
        started.unwrap_err().to_string(),
        "vm-0.alice.koding was stopped by somebody else in the meantime."
    );
    stopped.unwrap();
    assert_eq!(status(&world).await.0, Status::Off);
}

#[tokio::test]
async fn a_guest_that_does_not_shut_down_is_told_as_such() {
    let (world, ..) = World::new().await;
    let name = vm(ALICES);
    world.control.start_vm(&name, no_progress()).await.unwrap();
    world.engine.set_deaf(true);
    world.control.stop_vm(&name).await.unwrap();
    until(&world, Status::Off).await;
    assert_eq!(
        status(&world).await.1.as_deref(),
        Some("it did not shut down in time, so its plug was pulled")
    );
}

#[tokio::test]
async fn a_restart_of_the_server_changes_nothing() {
    let (mut world, alices, _) = World::new().await;
    world.control.start_vm(&vm(ALICES), no_progress()).await.unwrap();
    world.restart().await;
    assert_eq!(status(&world).await.0, Status::Running);
    let entry = world.entry(&alices, "alice.kd.io").await;
    world.greet(&entry).await;
    assert_eq!(world.engine.calls(Verb::Start, None), 1);
}

#[tokio::test]
async fn a_removal_that_failed_is_finished_after_a_restart() {
    let (mut world, ..) = World::new().await;
    let name = vm(ALICES);
    let id = world.id(ALICES).await;
    world.control.start_vm(&name, no_progress()).await.unwrap();
    world
        .engine
        .fail(Verb::Remove, Some(EngineError::Broken { reason: "the disk cannot be written".into() }));
    let refused = world.control.remove_vm(&name).await.unwrap_err();
    assert_eq!(refused.to_string(), "vm-0.alice.koding: the disk cannot be written.");
    assert_eq!(status(&world).await.0, Status::Removing);

    world.engine.fail(Verb::Remove, None);
    world.restart().await;
    tokio::time::timeout(Duration::from_secs(5), async {
        while !world.control.vms(Some(&account("alice"))).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert_eq!(world.engine.observe(&id).await.unwrap(), Observed::Missing);
}

#[tokio::test]
async fn a_new_vm_takes_a_removed_ones_number_and_host_key() {
    let (world, ..) = World::new().await;
    let alice = account("alice");
    let first = world.control.vms(Some(&alice)).await.unwrap().remove(0);
    let second = world.control.add_vm(&alice).await.unwrap();
    assert_eq!(second.host, "vm-1.alice.koding.kd.io");
    assert_ne!(first.host_key, second.host_key);
    assert!(first.host_key.starts_with("ssh-ed25519 "));

    world.control.remove_vm(&first.name).await.unwrap();
    let again = world.control.add_vm(&alice).await.unwrap();
    assert_eq!((again.name, again.host_key), (first.name, first.host_key));
}

#[tokio::test]
async fn an_account_goes_with_its_vms_and_its_name_stays() {
    let (world, alices, _) = World::new().await;
    world.control.start_vm(&vm(ALICES), no_progress()).await.unwrap();
    let id = world.id(ALICES).await;
    world.control.remove_account(&account("alice")).await.unwrap();
    assert_eq!(world.engine.observe(&id).await.unwrap(), Observed::Missing);
    assert!(world.control.log_in(&alices, None, crate::world::HOME).await.is_err());
    let refused = world.control.add_account(&account("alice")).await.unwrap_err();
    assert!(refused.to_string().contains("names never change hands"), "{refused}");
    assert_eq!(world.control.accounts().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_vm_is_found_by_any_name_that_an_operator_types() {
    let (world, ..) = World::new().await;
    for name in ["vm-0.alice.koding.kd.io", "vm-0.alice.koding", "vm-0.alice", "alice"] {
        assert_eq!(world.control.find_vm(name).await.unwrap(), vm(ALICES), "{name}");
    }
    for name in ["", "vm-0", "vm-9.alice", "alice.koding.kd.io.", "*"] {
        assert!(world.control.find_vm(name).await.is_err(), "{name}");
    }
}

/// What its machine does is not known, so nothing is told that was known; and nobody has to do anything when it is back.
#[tokio::test]
async fn a_vm_whose_machine_does_not_answer_is_told_so_until_it_does() {
    let (world, alices, _) = World::new().await;
    let name = vm(ALICES);
    world.control.start_vm(&name, no_progress()).await.unwrap();
    let reason = "the machine that it is on does not answer".to_owned();
    let away = EngineError::Away { reason: reason.clone() };
    for verb in [Verb::Observe, Verb::Start] {
        world.engine.fail(verb, Some(away.clone()));
    }
    until(&world, Status::Failed).await;
    assert_eq!(status(&world).await.1, Some(reason.clone()));
    let refused = world.control.start_vm(&name, no_progress()).await.unwrap_err();
    assert!(refused.to_string().contains(&reason), "who wants it is told: {refused}");
    for verb in [Verb::Observe, Verb::Start] {
        world.engine.fail(verb, None);
    }
    let back = async {
        while status(&world).await.0 != Status::Running {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), back).await.expect("it runs on, and is told so");
    world.greet(&world.entry(&alices, "alice.kd.io").await).await;
}
