//! Who may do what, and the trail that it leaves.

use std::time::Duration;

use berth_control::{AuditKind, AuditQuery, Error, Invitation, LinkFor, OwnLimits, Role, Status, WebError};
use berth_engine::EngineError;
use berth_testkit::Verb;
use tokio::time::timeout;

use crate::{
    web::{PASSWORD, words},
    world::{World, account, new_key, no_progress, vm},
};

const ALICES: &str = "vm-0.alice.koding";
const BOBS: &str = "vm-0.bob.koding";

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waited = timeout(Duration::from_secs(15), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

async fn status(world: &World, name: &str) -> Status {
    let vms = world.control.vms(None).await.unwrap();
    vms.into_iter().find(|info| info.name == vm(name)).unwrap().status
}

#[tokio::test]
async fn a_member_does_nothing_with_what_is_somebody_elses() {
    let (world, alices, _) = World::new().await;
    let bob = world.by(&world.log_in_by_link("bob").await.login);
    let (hers, alice) = (vm(ALICES), account("alice"));
    let no_vm = [
        bob.start_vm(&hers, no_progress()).await,
        bob.boot_vm(&hers, no_progress()).await,
        bob.stop_vm(&hers).await,
        bob.sleep_vm(&hers).await,
        bob.set_always_on(&hers, true).await,
        bob.snooze_vm(&hers, Duration::from_secs(60)).await,
        bob.remove_vm(&hers).await,
        bob.why(&hers).await.map(drop),
        bob.boot_log(&hers).await.map(drop),
        bob.find_vm(ALICES).await.map(drop),
    ];
    let missing = world.control.stop_vm(&vm("vm-7.alice.koding")).await.unwrap_err().to_string();
    for refused in no_vm {
        let told = refused.unwrap_err().to_string();
        assert_eq!(told, missing.replace("vm-7.", "vm-0."), "as if there were none");
    }
    let no_account = [
        bob.vms(Some(&alice)).await.map(drop),
        bob.add_vm(&alice).await.map(drop),
        bob.keys(&alice).await.map(drop),
        bob.add_keys(&alice, &new_key().to_openssh(), None).await.map(drop),
        bob.remove_key(&alice, &alices.fingerprint().to_string()).await.map(drop),
        bob.limits(&alice).await.map(drop),
    ];
    for refused in no_account {
        assert!(matches!(refused, Err(Error::NoSuchAccount(name)) if name == alice));
    }
    assert_eq!(status(&world, ALICES).await, Status::Off);
    assert_eq!(world.control.keys(&alice).await.unwrap().len(), 1);
    let own: Vec<_> = bob.vms(None).await.unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(own, [vm(BOBS)]);
}

#[tokio::test]
async fn a_member_does_nothing_of_an_operator() {
    let (world, ..) = World::new().await;
    let bob = world.by(&world.log_in_by_link("bob").await.login);
    let (alice, own) = (account("alice"), account("bob"));
    let invitation = Invitation { name: None, role: Role::Operator, note: String::new() };
    for name in [&alice, &own] {
        let refused = [
            bob.set_role(name, Role::Operator).await,
            bob.block_account(name).await,
            bob.unblock_account(name).await,
            bob.remove_account(name).await,
            bob.set_limits(name, OwnLimits::default()).await,
            bob.add_account(&account("carol")).await,
            bob.make_link(name, LinkFor::Reset).await.map(drop),
            bob.invite(invitation.clone()).await.map(drop),
            bob.invitations().await.map(drop),
            bob.accounts().await.map(drop),
            bob.audit(&AuditQuery::default()).await.map(drop),
        ];
        for refused in refused {
            assert!(matches!(refused, Err(WebError::Missing)), "{refused:?}");
        }
    }
    assert!(bob.make_link(&alice, LinkFor::LogIn).await.is_err());
    assert_eq!(world.control.accounts().await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_operator_does_it_all_but_shut_themselves_out() {
    let (world, ..) = World::new().await;
    let alice = world.by(&world.log_in_by_link("alice").await.login);
    alice.start_vm(&vm(BOBS), no_progress()).await.unwrap();
    assert_eq!(alice.vms(None).await.unwrap().len(), 2);
    for refused in [
        alice.set_role(&account("alice"), Role::Member).await,
        alice.block_account(&account("alice")).await,
        alice.remove_account(&account("alice")).await,
    ] {
        assert!(matches!(refused, Err(WebError::Yourself)), "{refused:?}");
    }
    let accounts = alice.accounts().await.unwrap();
    let seen: Vec<_> = accounts.iter().map(|info| (info.name.as_str(), info.role, info.blocked)).collect();
    assert_eq!(seen, [("alice", Role::Operator, None), ("bob", Role::Member, None)]);
}

#[tokio::test]
async fn what_people_do_is_written_down_with_who_it_was() {
    let (world, ..) = World::new().await;
    world.has_password("bob").await;
    let before = world.trail().await.len();
    let login = world.try_password("bob", PASSWORD).await.unwrap().login;
    world.try_password("bob", "a guess at it").await.unwrap_err();
    world.try_password("my password by mistake", "a guess at it").await.unwrap_err();
    let bob = world.by(&login);
    let key = new_key();
    bob.add_keys(&account("bob"), &key.to_openssh(), Some("laptop")).await.unwrap();
    bob.start_vm(&vm(BOBS), no_progress()).await.unwrap();
    bob.set_always_on(&vm(BOBS), true).await.unwrap();
    bob.set_always_on(&vm(BOBS), false).await.unwrap();
    bob.sleep_vm(&vm(BOBS)).await.unwrap();
    bob.stop_vm(&vm(BOBS)).await.unwrap();
    bob.remove_key(&account("bob"), "laptop").await.unwrap();
    world.engine.fail(Verb::Remove, Some(EngineError::TimedOut));
    bob.remove_vm(&vm(BOBS)).await.unwrap_err();
    world.engine.fail(Verb::Remove, None);
    bob.remove_vm(&vm(BOBS)).await.unwrap();
    world.host().set_role(&account("bob"), Role::Operator).await.unwrap();
    world.host().remove_account(&account("bob")).await.unwrap();

    let fingerprint = key.fingerprint().to_string();
    let expected = [
        "log_in bob by bob/web password".to_owned(),
        "log_in_refused bob by -/web password".to_owned(),
        "log_in_refused - by -/web password".to_owned(),
        format!("key_added bob by bob/web {fingerprint} laptop"),
        "vm_started bob by bob/web vm-0.bob.koding".to_owned(),
        "vm_always_on bob by bob/web vm-0.bob.koding on".to_owned(),
        "vm_always_on bob by bob/web vm-0.bob.koding off".to_owned(),
        "vm_slept bob by bob/web vm-0.bob.koding".to_owned(),
        "vm_stopped bob by bob/web vm-0.bob.koding".to_owned(),
        format!("key_removed bob by bob/web {fingerprint} laptop"),
        "vm_removed bob by bob/web vm-0.bob.koding".to_owned(),
        "role_set bob by -/host operator".to_owned(),
        "account_removed bob by -/host".to_owned(),
    ];
    assert_eq!(world.trail().await[before..], expected);
}

#[tokio::test]
async fn a_log_in_over_ssh_is_in_the_trail_with_its_key() {
    let (world, alices, _) = World::new().await;
    for _ in 0..3 {
        world.log_in(&alices).await;
    }
    let lines =
        world.host().audit(&AuditQuery { kind: Some(AuditKind::LogIn), ..AuditQuery::default() }).await;
    let lines = lines.unwrap();
    assert_eq!(
        lines.iter().map(words).collect::<Vec<_>>(),
        [format!("log_in alice by alice/ssh {} key", alices.fingerprint())]
    );
    assert_eq!(lines[0].times, 3);
}

#[tokio::test]
async fn a_member_sees_what_concerns_them_and_not_where_the_operator_is() {
    let (world, ..) = World::new().await;
    let (alice, bob) = (world.log_in_by_link("alice").await.login, world.log_in_by_link("bob").await.login);
    world.by(&alice).stop_vm(&vm(BOBS)).await.unwrap();
    world.by(&alice).stop_vm(&vm(ALICES)).await.unwrap();
    let seen = world.control.activity(&bob, None).await.unwrap();
    assert!(seen.iter().all(|line| line.account == Some(account("bob"))), "{seen:?}");
    assert_eq!(words(&seen[0]), "vm_stopped bob by alice/web vm-0.bob.koding");
    assert_eq!(seen[0].address, None);
    assert!(seen[1].kind == AuditKind::LogIn && seen[1].address.is_some(), "one's own is told");
    let page = world.control.activity(&bob, Some(seen[0].id)).await.unwrap();
    assert_eq!(page, seen[1..]);
}

#[tokio::test]
async fn a_blocked_account_is_out_at_once_and_its_vms_sleep() {
    let (world, _, bobs) = World::new().await;
    world.has_password("bob").await;
    let (ssh, web) = (world.log_in(&bobs).await, world.try_password("bob", PASSWORD).await.unwrap());
    let link = world.link("bob", LinkFor::LogIn).await;
    world.control.start_vm(&vm(BOBS), no_progress()).await.unwrap();
    world.control.set_always_on(&vm(BOBS), true).await.unwrap();
    world.host().block_account(&account("bob")).await.unwrap();
    timeout(Duration::from_secs(1), ssh.ended()).await.unwrap();
    timeout(Duration::from_secs(1), web.login.ended()).await.unwrap();
    until("it falls asleep", async || status(&world, BOBS).await == Status::Asleep).await;

    let stranger = new_key();
    let unknown = world.control.log_in(&stranger, None, crate::world::HOME).await.unwrap_err().to_string();
    let refused = world.control.log_in(&bobs, None, crate::world::HOME).await.unwrap_err().to_string();
    let same = unknown.replace(&stranger.fingerprint().to_string(), &bobs.fingerprint().to_string());
    assert_eq!(refused, same, "as if it were on no account");
    assert!(world.control.knows(&bobs).await.unwrap().is_none());
    assert!(matches!(world.try_password("bob", PASSWORD).await, Err(WebError::Refused)));
    assert!(world.control.look_at_link(&link, crate::web::client(crate::world::HOME)).await.is_err());

    world.host().unblock_account(&account("bob")).await.unwrap();
    world.log_in(&bobs).await;
    world.try_password("bob", PASSWORD).await.unwrap();
    until("always-on counts again", async || status(&world, BOBS).await == Status::Running).await;
}

#[tokio::test]
async fn a_vm_that_was_about_to_start_when_its_account_was_blocked_does_not_stay_awake() {
    let (world, ..) = World::new().await;
    world.engine.delay(Verb::Start, Duration::from_millis(300));
    let control = world.control.clone();
    let starting =
        tokio::task::JoinSet::from_iter([async move { control.start_vm(&vm(BOBS), no_progress()).await }]);
    while world.engine.calls(Verb::Start, None) == 0 {
        tokio::task::yield_now().await;
    }
    world.host().block_account(&account("bob")).await.unwrap();
    assert!(starting.join_all().await.iter().all(Result::is_ok));
    until("it falls asleep", async || status(&world, BOBS).await == Status::Asleep).await;
}

#[tokio::test]
async fn a_restart_does_not_wake_the_vms_of_a_blocked_account() {
    let (mut world, ..) = World::new().await;
    for name in [ALICES, BOBS] {
        world.control.set_always_on(&vm(name), true).await.unwrap();
    }
    until("both run", async || {
        status(&world, ALICES).await == Status::Running && status(&world, BOBS).await == Status::Running
    })
    .await;
    // The server is gone before the VM sleeps.
    world.store.block_account(&account("bob"), time::OffsetDateTime::UNIX_EPOCH).await.unwrap();
    world.restart().await;
    until("it falls asleep", async || status(&world, BOBS).await == Status::Asleep).await;
    world.restart().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(status(&world, BOBS).await, Status::Asleep);
    assert_eq!(status(&world, ALICES).await, Status::Running);
}
