//! VMs that are shared: who is let in, and how that ends.

use std::{sync::Arc, time::Duration};

use berth_control::{Acting, Actor, AuditKind, AuditQuery, ConnectError, Control, Error, Login, ShareTerms};
use berth_model::PublicKey;
use tokio::{io::AsyncReadExt, time::timeout};

use crate::{
    time::{self, Time},
    world::{HOME, World, account, new_key, no_progress, vm},
};

const HOST: &str = "vm-0.alice.koding.kd.io";

/// Who acts as the owner of a key.
async fn acting(world: &World, key: &PublicKey) -> Acting {
    world.control.acting(world.log_in(key).await.actor())
}

/// alice shares vm-0 with bob, who accepts.
async fn shared(world: &World, alices: &PublicKey, bobs: &PublicKey, terms: ShareTerms) {
    let vm = vm("vm-0.alice.koding");
    acting(world, alices).await.share_vm(&vm, &account("bob"), terms).await.unwrap();
    acting(world, bobs).await.accept_share(&vm).await.unwrap();
}

async fn may_enter(control: &Arc<Control>, login: &Login, host: &str) -> bool {
    control.enter(login, host, 22).await.is_ok()
}

#[tokio::test]
async fn who_is_asked_comes_in_once_they_have_accepted() {
    let (world, alices, bobs) = World::new().await;
    let (name, bob) = (vm("vm-0.alice.koding"), account("bob"));
    let login = world.log_in(&bobs).await;
    let refused = world.control.enter(&login, HOST, 22).await.unwrap_err().to_string();
    let alice = acting(&world, &alices).await;
    let asked = alice.share_vm(&name, &bob, ShareTerms::default()).await.unwrap();
    assert!(asked.accepted.is_none() && asked.accept_by.is_some());
    let still = world.control.enter(&login, HOST, 22).await.unwrap_err().to_string();
    assert_eq!(still, refused, "what was asked says nothing yet");

    let bobs_acting = acting(&world, &bobs).await;
    assert_eq!(bobs_acting.shared_with_me().await.unwrap(), [asked]);
    let accepted = bobs_acting.accept_share(&name).await.unwrap();
    assert!(accepted.accepted.is_some() && accepted.accept_by.is_none());
    let entry = world.control.enter(&login, HOST, 22).await.unwrap();
    assert_eq!((entry.vm(), entry.account(), entry.is_of_guest()), (&name, &bob, true));
    world.greet(&entry).await;
    let refused = world.control.enter(&login, "nothing.kd.io", 22).await.unwrap_err().to_string();
    assert!(refused.ends_with("Yours: vm-0. Shared with you: vm-0.alice.koding."), "{refused}");

    let listed = alice.shares(&name).await.unwrap();
    assert_eq!((listed.len(), listed[0].accepted), (1, accepted.accepted));
    bobs_acting.leave_share(&name).await.unwrap();
    assert!(!may_enter(&world.control, &login, HOST).await);
    assert!(matches!(bobs_acting.leave_share(&name).await, Err(Error::NoSuchVm(_))));
    assert!(matches!(bobs_acting.accept_share(&name).await, Err(Error::NoSuchVm(_))));
    assert_eq!(alice.shares(&name).await.unwrap(), []);
}

#[tokio::test]
async fn the_guest_has_a_user_of_their_own_and_loses_it() {
    let (world, alices, bobs) = World::new().await;
    let id = world.id("vm-0.alice.koding").await;
    shared(&world, &alices, &bobs, ShareTerms { sudo: true, until: None }).await;
    world.greet(&world.entry(&alices, HOST).await).await;
    let guests = world.engine.guest(&id).unwrap().others;
    let [bob] = guests.as_slice() else { panic!("{guests:?}") };
    assert_eq!((bob.name.as_str(), bob.sudo, bob.uid), ("bob", true, 70001));
    assert!(bob.authorized_keys.contains(&bobs.to_openssh()), "{}", bob.authorized_keys);
    assert!(bob.authorized_keys.contains(&format!("principals=\"{id}.bob\"")), "{}", bob.authorized_keys);
    assert!(!world.engine.authorized_keys(&id).unwrap().contains(&bobs.to_openssh()), "alice's are hers");

    // What changes is in the guest when the call returns.
    let second = new_key();
    world.add_key("bob", &second.to_openssh()).await;
    assert!(world.engine.guest(&id).unwrap().others[0].authorized_keys.contains(&second.to_openssh()));
    world.control.remove_key(&account("bob"), &second.fingerprint().to_string()).await.unwrap();
    assert!(!world.engine.guest(&id).unwrap().others[0].authorized_keys.contains(&second.to_openssh()));
    let name = vm("vm-0.alice.koding");
    acting(&world, &alices).await.unshare_vm(&name, &account("bob")).await.unwrap();
    assert_eq!(world.engine.guest(&id).unwrap().others, []);
}

/// bob is connected to alice's VM; what is done then ends it within a second, and he does not come back.
async fn ends<F: AsyncFnOnce(&World, &PublicKey)>(what: F) {
    let (world, alices, bobs) = World::new().await;
    shared(&world, &alices, &bobs, ShareTerms::default()).await;
    let id = world.id("vm-0.alice.koding").await;
    let login = world.log_in(&bobs).await;
    let entry = world.control.enter(&login, HOST, 22).await.unwrap();
    let mut stream = world.control.connect(&entry, no_progress()).await.unwrap();
    stream.read_exact(&mut [0; 14]).await.unwrap();
    assert!(timeout(Duration::from_millis(20), stream.read_u8()).await.is_err(), "it stays open");

    what(&world, &alices).await;
    let read = timeout(Duration::from_secs(1), stream.read_u8()).await.expect("it ends");
    assert!(read.is_err());
    timeout(Duration::from_secs(1), entry.ended()).await.expect("and so does the entry");
    assert!(entry.is_over());
    let refused = world.control.connect(&entry, no_progress()).await.err().unwrap();
    assert!(matches!(refused, ConnectError::NotShared { .. }), "{refused}");
    assert!(!may_enter(&world.control, &login, HOST).await);
    if let Some(guest) = world.engine.guest(&id) {
        assert!(guest.others.is_empty() || world.store.is_blocked(&account("alice")).await.unwrap());
    }
}

#[tokio::test]
async fn taking_it_back_ends_what_is_open() {
    ends(async |world, alices| {
        let alice = acting(world, alices).await;
        alice.unshare_vm(&vm("vm-0.alice.koding"), &account("bob")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn blocking_the_guest_ends_what_is_open() {
    ends(async |world, _| {
        world.control.acting(Actor::host()).block_account(&account("bob")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn blocking_the_owner_ends_what_is_open() {
    ends(async |world, _| {
        world.control.acting(Actor::host()).block_account(&account("alice")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn removing_the_guest_ends_what_is_open() {
    ends(async |world, _| world.control.remove_account(&account("bob")).await.unwrap()).await;
}

#[tokio::test]
async fn removing_the_vm_ends_what_is_open() {
    ends(async |world, _| {
        let removed = world.control.remove_vm(&vm("vm-0.alice.koding")).await;
        removed.unwrap();
    })
    .await;
}

#[tokio::test]
async fn its_time_ends_it() {
    let mut time = Time::stop();
    let settings = time::settings();
    let clock = settings.clock;
    let (world, alices, bobs) = World::with(settings).await.peopled().await;
    time.wait_for(&world.store);
    let until = clock.now() + Duration::from_secs(600);
    shared(&world, &alices, &bobs, ShareTerms { sudo: false, until: Some(until) }).await;
    let id = world.id("vm-0.alice.koding").await;
    let login = world.log_in(&bobs).await;
    let entry = world.control.enter(&login, HOST, 22).await.unwrap();
    let mut stream = world.control.connect(&entry, no_progress()).await.unwrap();
    stream.read_exact(&mut [0; 14]).await.unwrap();
    assert!(world.engine.guest(&id).unwrap().others[0].authorized_keys.contains("expiry-time="));

    time.pass(Duration::from_secs(540)).await;
    assert!(!entry.is_over() && may_enter(&world.control, &login, HOST).await, "not before");
    time.pass(Duration::from_secs(90)).await;
    assert!(entry.is_over() && !may_enter(&world.control, &login, HOST).await);
    assert!(stream.read_u8().await.is_err());
    time.pass(Duration::from_secs(120)).await;
    assert_eq!(world.engine.guest(&id).unwrap().others, [], "and its user goes soon after");
    let query = AuditQuery { kind: Some(AuditKind::VmUnshared), ..AuditQuery::default() };
    let lines = world.control.acting(Actor::host()).audit(&query).await.unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[tokio::test]
async fn other_terms_end_what_is_open_and_let_in_again() {
    let (world, alices, bobs) = World::new().await;
    shared(&world, &alices, &bobs, ShareTerms::default()).await;
    let login = world.log_in(&bobs).await;
    let entry = world.control.enter(&login, HOST, 22).await.unwrap();
    let more = ShareTerms { sudo: true, until: None };
    let alice = acting(&world, &alices).await;
    let share = alice.share_vm(&vm("vm-0.alice.koding"), &account("bob"), more).await.unwrap();
    assert!(share.accepted.is_some(), "they need not accept again");
    assert!(entry.is_over());
    world.greet(&world.control.enter(&login, HOST, 22).await.unwrap()).await;
}

#[tokio::test]
async fn what_cannot_be_shared() {
    let (world, alices, bobs) = World::new().await;
    let (alice, bob) = (acting(&world, &alices).await, acting(&world, &bobs).await);
    let (hers, his) = (vm("vm-0.alice.koding"), vm("vm-0.bob.koding"));
    let terms = ShareTerms::default();
    let refused = async |acting: &Acting, vm, with: &str, terms| {
        acting.share_vm(vm, &account(with), terms).await.unwrap_err()
    };
    assert!(matches!(refused(&alice, &his, "alice", terms).await, Error::NoSuchVm(_)), "it is bob's");
    assert!(matches!(refused(&alice, &hers, "alice", terms).await, Error::OwnVm(_)));
    assert!(matches!(refused(&alice, &hers, "nobody-here", terms).await, Error::NoSuchAccount(_)));
    let past = ShareTerms { until: Some(::time::OffsetDateTime::UNIX_EPOCH), ..terms };
    assert!(matches!(refused(&alice, &hers, "bob", past).await, Error::OverAlready));
    assert!(matches!(bob.shares(&hers).await, Err(Error::NoSuchVm(_))));
    assert!(matches!(bob.unshare_vm(&hers, &account("bob")).await, Err(Error::NoSuchVm(_))));
    assert!(matches!(bob.accept_share(&hers).await, Err(Error::NoSuchVm(_))), "nobody has asked him");
    assert!(matches!(alice.unshare_vm(&hers, &account("bob")).await, Err(Error::NotShared { .. })));
    let host = world.control.acting(Actor::host());
    assert!(host.accept_share(&hers).await.is_err() && host.shared_with_me().await.unwrap().is_empty());
}

/// A guest is let into the VM, and owns nothing of it.
#[tokio::test]
async fn a_guest_is_no_owner() {
    let (world, alices, bobs) = World::new().await;
    shared(&world, &alices, &bobs, ShareTerms { sudo: true, until: None }).await;
    let (bob, hers) = (acting(&world, &bobs).await, vm("vm-0.alice.koding"));
    assert!(bob.remove_vm(&hers).await.is_err());
    assert!(bob.stop_vm(&hers).await.is_err());
    assert!(bob.boot_log(&hers).await.is_err());
    assert!(bob.share_vm(&hers, &account("bob"), ShareTerms::default()).await.is_err());
    assert!(bob.find_vm(HOST).await.is_err());
    assert_eq!(bob.vms(None).await.unwrap().len(), 1);
    assert!(world.control.enter(&world.log_in(&bobs).await, "vm-1.alice.kd.io", 22).await.is_err());
}

#[tokio::test]
async fn both_read_what_happened() {
    let (world, alices, bobs) = World::new().await;
    shared(&world, &alices, &bobs, ShareTerms { sudo: true, until: None }).await;
    let (alice, bob) = (acting(&world, &alices).await, acting(&world, &bobs).await);
    bob.leave_share(&vm("vm-0.alice.koding")).await.unwrap();
    for (acting, name) in [(&alice, "alice"), (&bob, "bob")] {
        let lines = acting.activity(&account(name), None).await.unwrap();
        let said: Vec<_> = lines
            .iter()
            .filter(|line| line.subject == "vm-0.alice.koding")
            .map(|line| (line.kind, line.detail.as_str(), line.address == Some(HOME)))
            .collect();
        let own = |actor: &str| actor == name;
        assert_eq!(
            said,
            [
                (AuditKind::ShareLeft, "bob", own("bob")),
                (AuditKind::ShareAccepted, "bob", own("bob")),
                (AuditKind::VmShared, "bob, with sudo", own("alice")),
            ],
            "{name}"
        );
    }
}

#[tokio::test]
async fn what_is_shared_outlives_the_server() {
    let (mut world, alices, bobs) = World::new().await;
    shared(&world, &alices, &bobs, ShareTerms::default()).await;
    world.restart().await;
    world.greet(&world.entry(&bobs, HOST).await).await;
}
