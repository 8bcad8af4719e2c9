//! Lists a page at a time, who is connected, how it is, and what a VM is called.

use std::time::Duration;

use berth_control::{AccountsQuery, Actor, AuditKind, AuditQuery, Kind, Status, VmsQuery};
use berth_engine::{EngineError, Room};
use berth_testkit::Verb;
use tokio::io::AsyncWriteExt;

use crate::world::{HOME, World, account, no_progress, vm};

async fn names(world: &World, query: VmsQuery) -> (Vec<String>, bool) {
    let page = world.control.vms_page(&query).await.unwrap();
    (page.rows.into_iter().map(|info| info.name.to_string()).collect(), page.more)
}

#[tokio::test]
async fn vms_come_a_page_at_a_time_in_the_order_of_their_owners() {
    let (world, ..) = World::new().await;
    for _ in 0..11 {
        world.control.add_vm(&account("alice")).await.unwrap();
    }
    let page = VmsQuery { most: 2, ..VmsQuery::default() };
    assert_eq!(
        names(&world, page.clone()).await,
        (vec!["vm-0.alice.koding".into(), "vm-1.alice.koding".into()], true)
    );
    let after = VmsQuery { after: Some(vm("vm-9.alice.koding")), ..page.clone() };
    assert_eq!(
        names(&world, after).await,
        (vec!["vm-10.alice.koding".into(), "vm-11.alice.koding".into()], true)
    );
    let last = VmsQuery { after: Some(vm("vm-11.alice.koding")), ..page.clone() };
    assert_eq!(names(&world, last).await, (vec!["vm-0.bob.koding".into()], false));
    let text = VmsQuery { text: "vm-1.".into(), ..page.clone() };
    assert_eq!(names(&world, text).await, (vec!["vm-1.alice.koding".into()], false));

    world.control.start_vm(&vm("vm-7.alice.koding"), no_progress()).await.unwrap();
    let running = VmsQuery { status: Some(Status::Running), ..page.clone() };
    assert_eq!(names(&world, running).await, (vec!["vm-7.alice.koding".into()], false));
    assert_eq!(names(&world, VmsQuery { most: 0, ..page }).await, (vec![], true));
    let counts = world.control.vm_counts();
    assert_eq!((counts.running, counts.off, counts.asleep), (1, 12, 0));
}

#[tokio::test]
async fn members_see_the_team_and_only_operators_the_rest() {
    let (world, ..) = World::new().await;
    let bob = world.log_in_by_link("bob").await.login;
    let acting = world.control.acting(bob.actor());
    let team = acting.team("", None, 10).await.unwrap();
    let seen: Vec<_> = team.rows.iter().map(|member| (member.name.as_str(), member.hosts.clone())).collect();
    assert_eq!(
        seen,
        [
            ("alice", vec!["vm-0.alice.koding.kd.io".to_owned()]),
            ("bob", vec!["vm-0.bob.koding.kd.io".to_owned()])
        ]
    );
    world.host().block_account(&account("alice")).await.unwrap();
    let team = acting.team("", None, 10).await.unwrap();
    assert_eq!(team.rows.len(), 1, "who is blocked is not shown");
    assert_eq!(acting.team("x", None, 10).await.unwrap().rows, []);

    assert_eq!(acting.vms_page(&VmsQuery::default()).await.unwrap_err().kind(), Kind::Missing);
    assert_eq!(acting.accounts_page(&AccountsQuery::default()).await.unwrap_err().kind(), Kind::Missing);
    assert_eq!(acting.account(&account("alice")).await.unwrap_err().kind(), Kind::Missing);
    assert_eq!(acting.connections("", 9).unwrap_err().kind(), Kind::Missing);
    assert_eq!(acting.health().await.unwrap_err().kind(), Kind::Missing);
    assert_eq!(acting.history(&vm("vm-0.alice.koding")).unwrap_err().kind(), Kind::Missing);
    assert_eq!(acting.history(&vm("vm-0.bob.koding")).unwrap(), []);
}

#[tokio::test]
async fn who_is_connected_is_listed_with_what_went_through() {
    let (world, alices, _) = World::new().await;
    let entry = world.entry(&alices, "alice.kd.io").await;
    world.greet(&entry).await;
    assert_eq!(world.control.connections("", 9).0, [], "it has ended");
    let mut stream = world.control.connect(&entry, no_progress()).await.unwrap();
    stream.write_all(b"12345").await.unwrap();
    let host = world.control.acting(Actor::host());
    let (list, count) = host.connections("alice", 9).unwrap();
    let [info] = list.as_slice() else { panic!("{list:?}") };
    assert_eq!((info.by.as_str(), info.from, info.port, count), ("alice", HOME, 22, 1));
    assert_eq!((info.vm.to_string().as_str(), info.sent), ("vm-0.alice.koding", 5));
    assert_eq!(host.connections("192.0.2.1", 9).unwrap().1, 1);
    assert_eq!(host.connections("bob", 9).unwrap(), (vec![], 0));
    assert_eq!(host.connections("", 0).unwrap(), (vec![], 1));
}

#[tokio::test]
async fn what_is_wrong_is_told_with_what_to_do() {
    let (world, ..) = World::new().await;
    let host = world.control.acting(Actor::host());
    let health = host.health().await.unwrap();
    assert_eq!((health.accounts, health.vms.off, health.warnings.as_slice()), (2, 2, &[][..]));
    assert!(health.database > 0 && health.engine.is_some());

    let bobs = vm("vm-0.bob.koding");
    world.engine.fail(Verb::Start, Some(EngineError::StartFailed { reason: "its disk is full".into() }));
    world.control.start_vm(&bobs, no_progress()).await.unwrap_err();
    world.engine.set_room(Room { memory: 1 << 40, memory_free: 1 << 30, disk_free: 1 << 30 });
    let health = host.health().await.unwrap();
    assert_eq!(health.failed, [(bobs, "its disk is full".to_owned())]);
    let said: Vec<_> = health.warnings.iter().map(|warning| warning.what.as_str()).collect();
    assert_eq!(said, ["The disk that VMs are on has 1024 MB left.", "1 VM failed or could not be woken."]);
}

#[tokio::test]
async fn a_vm_is_called_what_its_owner_likes_and_keeps_its_address() {
    let (world, ..) = World::new().await;
    let (bob, alices) = (world.log_in_by_link("bob").await.login, vm("vm-0.alice.koding"));
    let (acting, title) = (world.control.acting(bob.actor()), "web shop".parse().unwrap());
    assert_eq!(acting.set_title(&alices, Some(&title)).await.unwrap_err().kind(), Kind::Missing);
    let bobs = vm("vm-0.bob.koding");
    acting.set_title(&bobs, Some(&title)).await.unwrap();
    let info = acting.vms(None).await.unwrap().remove(0);
    assert_eq!((info.title, info.host.as_str()), (Some(title), "vm-0.bob.koding.kd.io"));
    acting.set_title(&bobs, None).await.unwrap();
    assert_eq!(acting.vms(None).await.unwrap().remove(0).title, None);
    let query = AuditQuery { kind: Some(AuditKind::VmTitled), ..AuditQuery::default() };
    let lines = world.host().audit(&query).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.detail.as_str()).collect::<Vec<_>>(), ["", "web shop"]);
}

#[tokio::test]
async fn how_long_a_start_takes_is_known_from_the_last_one() {
    let (world, ..) = World::new().await;
    let name = vm("vm-0.bob.koding");
    let takes = async || world.control.vms(Some(&account("bob"))).await.unwrap().remove(0).start_takes_ms;
    assert_eq!(takes().await, None);
    world.engine.delay(Verb::Start, Duration::from_millis(30));
    world.control.start_vm(&name, no_progress()).await.unwrap();
    assert_eq!(takes().await, None, "it runs");
    world.control.sleep_vm(&name).await.unwrap();
    assert_eq!(takes().await, None, "it was never woken");
    world.control.start_vm(&name, no_progress()).await.unwrap();
    world.control.sleep_vm(&name).await.unwrap();
    assert!((30..10_000).contains(&takes().await.unwrap()));
    world.control.stop_vm(&name).await.unwrap();
    assert!((30..10_000).contains(&takes().await.unwrap()));
}
