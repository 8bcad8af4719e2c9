//! A VM's disk grows, and is replaced, whoever is killed or in the way.

use std::time::Duration;

use berth_control::{AuditKind, AuditQuery, Error, Grown, Home, OwnLimits, Status, VmInfo};
use berth_engine::{Engine, EngineError, Observed, Room};
use berth_store::Rebuild;
use berth_testkit::Verb;
use tokio::{task::JoinSet, time::timeout};

use crate::world::{World, account, no_progress, vm};

const ALICES: &str = "vm-0.alice.koding";
const GIB: u64 = 1 << 30;
const A_WHILE: Duration = Duration::from_millis(300);

async fn info(world: &World) -> VmInfo {
    world.control.vms(Some(&account("alice"))).await.unwrap().remove(0)
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waited = timeout(Duration::from_secs(15), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

async fn is(world: &World, status: Status) {
    until(&format!("it is {status}"), async || info(world).await.status == status).await;
}

async fn pending(world: &World) -> Option<Rebuild> {
    world.store.vm(&vm(ALICES)).await.unwrap().unwrap().rebuilding
}

#[tokio::test]
async fn a_running_vm_is_rebuilt_and_runs_again_as_who_it_was() {
    let (world, alices, _) = World::new().await;
    let (control, name, id) = (&world.control, vm(ALICES), world.id(ALICES).await);
    control.start_vm(&name, no_progress()).await.unwrap();
    let before = info(&world).await;
    assert_eq!(before.rebuilt, None);
    for (home, times) in [(Home::Keep, 1), (Home::Discard, 2)] {
        control.rebuild_vm(&name, home).await.unwrap();
        is(&world, Status::Running).await;
        assert_eq!(world.engine.rebuilt(&id).len(), times);
        assert_eq!(world.engine.rebuilt(&id).last(), Some(&home));
        assert_eq!(pending(&world).await, None);
        let after = info(&world).await;
        assert!(after.rebuilt.is_some());
        assert_eq!((after.host_key, after.names), (before.host_key.clone(), before.names.clone()));
        let guest = world.engine.guest(&id).unwrap();
        assert!(guest.authorized_keys.contains(&alices.to_openssh()), "its keys are put into the new one");
    }
    assert_eq!(world.engine.calls(Verb::Stop, Some(&id)), 1, "only for its home it is shut down");
    world.greet(&world.entry(&alices, "alice.kd.io").await).await;
}

#[tokio::test]
async fn what_was_off_or_asleep_does_not_run_afterwards() {
    let (world, ..) = World::new().await;
    let (control, name) = (&world.control, vm(ALICES));
    control.rebuild_vm(&name, Home::Keep).await.unwrap();
    assert_eq!(info(&world).await.status, Status::Off, "one that never ran has nothing to keep");
    world.engine.set_forks(true);
    control.start_vm(&name, no_progress()).await.unwrap();
    control.sleep_vm(&name).await.unwrap();
    control.rebuild_vm(&name, Home::Keep).await.unwrap();
    is(&world, Status::Asleep).await;
    let why = control.why(&name).await.unwrap();
    assert!(why.contains("it is new"), "it did not fall asleep, it was made so: {why}");
    assert_eq!(info(&world).await.asleep_since, None);
    control.start_vm(&name, no_progress()).await.unwrap();
}

#[tokio::test]
async fn an_always_on_vm_is_on_again() {
    let (world, ..) = World::new().await;
    let name = vm(ALICES);
    world.control.set_always_on(&name, true).await.unwrap();
    is(&world, Status::Running).await;
    world.control.rebuild_vm(&name, Home::Discard).await.unwrap();
    is(&world, Status::Running).await;
    assert!(info(&world).await.always_on);
}

#[tokio::test]
async fn while_it_is_rebuilt_who_connects_waits_and_others_are_refused() {
    let (world, alices, _) = World::new().await;
    let (control, name, id) = (&world.control, vm(ALICES), world.id(ALICES).await);
    let entry = world.entry(&alices, "alice.kd.io").await;
    world.greet(&entry).await;
    control.stop_vm(&name).await.unwrap();
    world.engine.delay(Verb::Rebuild, A_WHILE);
    let meanwhile = async {
        is(&world, Status::Rebuilding).await;
        for refused in [
            control.rebuild_vm(&name, Home::Discard).await,
            control.sleep_vm(&name).await,
            control.stop_vm(&name).await,
        ] {
            let refused = refused.unwrap_err().to_string();
            assert_eq!(refused, format!("{ALICES} is being rebuilt. Wait until that is done."));
        }
        assert!(control.why(&name).await.unwrap().contains("is being rebuilt"));
        world.greet(&entry).await;
        assert_eq!(world.engine.rebuilt(&id), [Home::Keep], "they are in the new one");
    };
    let (rebuilt, ()) = tokio::join!(control.rebuild_vm(&name, Home::Keep), meanwhile);
    rebuilt.unwrap();
    is(&world, Status::Running).await;
}

#[tokio::test]
async fn what_goes_wrong_leaves_it_as_it_was_and_is_told() {
    let (world, ..) = World::new().await;
    let (control, name, id) = (&world.control, vm(ALICES), world.id(ALICES).await);
    control.start_vm(&name, no_progress()).await.unwrap();
    let reason = "its home could not be copied whole".to_owned();
    world.engine.fail(Verb::Rebuild, Some(EngineError::Broken { reason }));
    let refused = control.rebuild_vm(&name, Home::Keep).await.unwrap_err();
    let words = "could not be rebuilt: its home could not be copied whole. Nothing was lost";
    assert!(refused.to_string().contains(words), "{refused}");
    assert_eq!((world.engine.rebuilt(&id), pending(&world).await), (vec![], None));
    is(&world, Status::Running).await;
    let why = control.why(&name).await.unwrap();
    assert!(
        why.ends_with(
            "could not be rebuilt: its home could not be copied whole. It has the disk that it had."
        )
    );
    world.engine.fail(Verb::Rebuild, None);
    control.rebuild_vm(&name, Home::Keep).await.unwrap();
    assert!(!control.why(&name).await.unwrap().contains("could not be"));

    // One that cannot be woken keeps its sleep.
    is(&world, Status::Running).await;
    control.sleep_vm(&name).await.unwrap();
    let reason = "its saved memory is cut short".to_owned();
    world.engine.fail(Verb::Start, Some(EngineError::WakeFailed { reason }));
    let refused = control.rebuild_vm(&name, Home::Keep).await.unwrap_err();
    assert!(matches!(refused, Error::WakeFailed { .. }), "{refused}");
    assert_eq!(world.engine.observe(&id).await, Ok(Observed::Asleep { called: false }));
    is(&world, Status::Asleep).await;
}

#[tokio::test]
async fn a_server_that_ends_in_the_middle_is_followed_by_one_that_goes_on() {
    let (mut world, alices, _) = World::new().await;
    let (name, id) = (vm(ALICES), world.id(ALICES).await);
    world.control.start_vm(&name, no_progress()).await.unwrap();
    world.engine.delay(Verb::Rebuild, Duration::from_secs(3600));
    let control = world.control.clone();
    let mut asked = JoinSet::new();
    asked.spawn(async move { control.rebuild_vm(&vm(ALICES), Home::Discard).await });
    is(&world, Status::Rebuilding).await;
    world.engine.delay(Verb::Rebuild, 4 * A_WHILE);
    timeout(Duration::from_secs(5), world.restart()).await.expect("nobody holds it up");
    let told = asked.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(told.to_string().starts_with("The server is stopped, and"), "{told}");
    assert_eq!(info(&world).await.status, Status::Rebuilding, "from the first moment");
    world.greet(&world.entry(&alices, "alice.kd.io").await).await;
    assert_eq!((world.engine.rebuilt(&id), pending(&world).await), (vec![Home::Discard], None));
}

#[tokio::test]
async fn what_was_only_written_down_is_done() {
    for (written, home) in [(Rebuild::KeepHome, Home::Keep), (Rebuild::DiscardHome, Home::Discard)] {
        let (mut world, ..) = World::new().await;
        let id = world.id(ALICES).await;
        world.control.start_vm(&vm(ALICES), no_progress()).await.unwrap();
        world.control.close().await;
        assert!(world.store.begin_rebuilding(id, written).await.unwrap());
        world.restart().await;
        until("it is rebuilt", async || world.engine.rebuilt(&id) == [home]).await;
        until("that is written down", async || pending(&world).await.is_none()).await;
    }
}

#[tokio::test]
async fn a_vm_is_removed_while_it_is_rebuilt() {
    let (world, ..) = World::new().await;
    let (control, name, id) = (&world.control, vm(ALICES), world.id(ALICES).await);
    control.start_vm(&name, no_progress()).await.unwrap();
    world.engine.delay(Verb::Rebuild, Duration::from_secs(3600));
    let remove = async {
        is(&world, Status::Rebuilding).await;
        control.remove_vm(&name).await
    };
    let (rebuilt, removed) = tokio::join!(control.rebuild_vm(&name, Home::Keep), remove);
    assert!(matches!(rebuilt, Err(Error::BeingRemoved(_))), "{rebuilt:?}");
    removed.unwrap();
    assert_eq!(world.engine.observe(&id).await, Ok(Observed::Missing));
}

#[tokio::test]
async fn a_disk_grows_at_once_where_it_runs_and_else_at_the_next_start() {
    let (world, ..) = World::new().await;
    let (control, name, id) = (&world.control, vm(ALICES), world.id(ALICES).await);
    let has = || world.engine.spec(&id).unwrap().disk;
    assert_eq!(control.resize_vm(&name, 11 * GIB).await.unwrap(), Grown::AtStart);
    control.start_vm(&name, no_progress()).await.unwrap();
    assert_eq!(has(), 11 * GIB);
    assert_eq!(control.resize_vm(&name, 12 * GIB - 1).await.unwrap(), Grown::Now);
    assert_eq!((has(), info(&world).await.disk), (12 * GIB, 12 * GIB), "whole megabytes");
    assert_eq!(control.resize_vm(&name, 12 * GIB).await.unwrap(), Grown::Now, "asked again");
    control.sleep_vm(&name).await.unwrap();
    assert_eq!(control.resize_vm(&name, 13 * GIB).await.unwrap(), Grown::AtStart);
    assert_eq!(has(), 12 * GIB, "what sleeps is not touched");
    control.start_vm(&name, no_progress()).await.unwrap();
    assert_eq!(has(), 13 * GIB);
    control.rebuild_vm(&name, Home::Discard).await.unwrap();
    assert_eq!(has(), 13 * GIB, "a new disk is as large");
}

#[tokio::test]
async fn a_vm_that_starts_has_the_room_when_it_runs() {
    let (world, ..) = World::new().await;
    let (control, name, id) = (&world.control, vm(ALICES), world.id(ALICES).await);
    world.engine.delay(Verb::Start, A_WHILE);
    let meanwhile = async {
        is(&world, Status::Starting).await;
        control.resize_vm(&name, 20 * GIB).await
    };
    let (started, grown) = tokio::join!(control.start_vm(&name, no_progress()), meanwhile);
    started.unwrap();
    assert_eq!(grown.unwrap(), Grown::Now);
    assert_eq!(world.engine.spec(&id).unwrap().disk, 20 * GIB);
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_before_anything_changes() {
    let (mut world, ..) = World::new().await;
    let name = vm(ALICES);
    let room = |disk_free| Room { memory: 1 << 40, memory_free: 1 << 40, disk_free };
    world.engine.set_room(room(5 * GIB));
    let refused = |disk| {
        let (control, name) = (world.control.clone(), name.clone());
        async move { control.resize_vm(&name, disk).await.unwrap_err().to_string() }
    };
    let smaller = refused(9 * GIB).await;
    assert!(smaller.starts_with("vm-0.alice.koding has a disk of 10 GB, and a disk only grows"), "{smaller}");
    let full = refused(16 * GIB).await;
    assert_eq!(
        full,
        "The host has 5 GB of disk left, and vm-0.alice.koding would need 6 GB more. Nothing was changed."
    );
    let own = OwnLimits { disk: Some(12 * GIB), ..OwnLimits::default() };
    world.control.set_limits(&account("alice"), own).await.unwrap();
    let over = refused(13 * GIB).await;
    assert!(over.starts_with("alice has 10 GiB of disk, and may have 12 GiB of disk."), "{over}");
    assert_eq!(info(&world).await.disk, 10 * GIB);
    assert_eq!(world.engine.calls(Verb::Grow, None), 0);

    // What an engine cannot do now stays written down, and is done at the next start.
    world.control.start_vm(&name, no_progress()).await.unwrap();
    world.engine.fail(Verb::Grow, Some(EngineError::TimedOut));
    assert!(refused(11 * GIB).await.contains("does not answer"));
    world.restart().await;
    world.control.stop_vm(&name).await.unwrap();
    world.control.start_vm(&name, no_progress()).await.unwrap();
    assert_eq!(world.engine.spec(&world.id(ALICES).await).unwrap().disk, 11 * GIB);
}

#[tokio::test]
async fn only_its_owner_and_operators_do_so_and_it_leaves_a_trail() {
    let (world, ..) = World::new().await;
    let alice = world.by(&world.log_in_by_link("alice").await.login);
    let bob = world.by(&world.log_in_by_link("bob").await.login);
    let (hers, his) = (vm(ALICES), vm("vm-0.bob.koding"));
    let there_is_none = |told: Error| {
        assert_eq!(told.to_string(), format!("There is no VM \"{ALICES}\". See: berth admin vm list"))
    };
    there_is_none(bob.rebuild_vm(&hers, Home::Discard).await.unwrap_err());
    there_is_none(bob.resize_vm(&hers, 20 * GIB).await.unwrap_err());
    bob.rebuild_vm(&his, Home::Keep).await.unwrap();
    bob.resize_vm(&his, 20 * GIB).await.unwrap();
    alice.rebuild_vm(&his, Home::Discard).await.unwrap();
    let query =
        AuditQuery { about: Some(account("bob")), text: Some("vm-0".into()), ..AuditQuery::default() };
    let mut trail: Vec<_> = alice.audit(&query).await.unwrap();
    trail.reverse();
    let told: Vec<_> =
        trail.into_iter().map(|line| (line.kind, line.actor.unwrap().to_string(), line.detail)).collect();
    let line = |kind, actor: &str, detail: &str| (kind, actor.to_owned(), detail.to_owned());
    assert_eq!(
        told,
        [
            line(AuditKind::VmRebuilt, "bob", "its home is kept"),
            line(AuditKind::VmResized, "bob", "20480 MB of disk"),
            line(AuditKind::VmRebuilt, "alice", "its home is erased"),
        ]
    );
}
