//! Two servers over one store: the one that has left learns from it what the other decides.

use std::{sync::Arc, time::Duration};

use berth_control::{Actor, Control, Error, PortAccess, ShareTerms, SiteRefusal, Status};
use berth_model::PublicKey;
use berth_store::Store;
use berth_testkit::FakeEngine;
use tokio::time::timeout;

use crate::world::{World, account, no_progress, settings, team, vm};

const ALICES: &str = "vm-0.alice.koding";
const SOON: Duration = Duration::from_secs(30);

/// A server that has left, and the one in its place.
struct Two {
    old: World,
    new: Arc<Control>,
    alices: PublicKey,
    bobs: PublicKey,
    _folder: tempfile::TempDir,
}

impl Two {
    /// `before` is done while there is only the old one.
    async fn new(before: impl AsyncFn(&World, &PublicKey)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("berth.db");
        let engine = FakeEngine::new();
        let old = World::over(Store::open(&path, &team()).await.unwrap(), engine.clone()).await;
        let (old, alices, bobs) = old.peopled().await;
        before(&old, &bobs).await;
        old.control.begin_hand_over().await.unwrap();
        let store = Store::open(&path, &team()).await.unwrap();
        let new = Control::open(settings(), store, Arc::new(engine)).await.unwrap();
        old.control.leave().await.unwrap();
        Self { old, new, alices, bobs, _folder: folder }
    }
}

#[tokio::test]
async fn what_is_removed_by_the_new_one_ends_what_it_let_in_at_the_old_one_and_nothing_else() {
    let two = Two::new(async |_, _| ()).await;
    let (alice, bob) = (two.old.log_in(&two.alices).await, two.old.log_in(&two.bobs).await);
    let fingerprint = two.alices.fingerprint().to_string();
    two.new.remove_key(&account("alice"), &fingerprint).await.unwrap();
    timeout(SOON, alice.ended()).await.expect("her key is gone");
    assert!(timeout(Duration::from_millis(600), bob.ended()).await.is_err(), "his is not");
    two.new.acting(Actor::host()).block_account(&account("bob")).await.unwrap();
    timeout(SOON, bob.ended()).await.expect("he is out");
}

/// alice's VM runs, and bob has accepted to share it.
fn shared(terms: ShareTerms) -> impl AsyncFn(&World, &PublicKey) {
    async move |world: &World, bobs: &PublicKey| {
        world.control.start_vm(&vm(ALICES), no_progress()).await.unwrap();
        let host = world.control.acting(Actor::host());
        host.share_vm(&vm(ALICES), &account("bob"), terms).await.unwrap();
        let bob = world.log_in(bobs).await;
        world.control.acting(bob.actor()).accept_share(&vm(ALICES)).await.unwrap();
    }
}

#[tokio::test]
async fn sudo_that_is_taken_back_cuts_connections_of_the_old_one() {
    let two = Two::new(shared(ShareTerms { sudo: true, ..ShareTerms::default() })).await;
    let guest = two.old.entry(&two.bobs, "vm-0.alice.kd.io").await;
    two.old.greet(&guest).await;
    let host = two.new.acting(Actor::host());
    host.share_vm(&vm(ALICES), &account("bob"), ShareTerms::default()).await.unwrap();
    timeout(SOON, guest.ended()).await.expect("what runs there may be root's");
}

#[tokio::test]
async fn a_share_that_is_taken_back_cuts_connections_of_the_old_one() {
    let two = Two::new(shared(ShareTerms::default())).await;
    let guest = two.old.entry(&two.bobs, "vm-0.alice.kd.io").await;
    let owner = two.old.entry(&two.alices, "vm-0.alice.kd.io").await;
    two.old.greet(&guest).await;
    two.new.acting(Actor::host()).unshare_vm(&vm(ALICES), &account("bob")).await.unwrap();
    timeout(SOON, guest.ended()).await.expect("it is taken back");
    assert!(guest.is_over() && !owner.is_over());
    two.old.greet(&owner).await;
}

#[tokio::test]
async fn who_has_left_changes_nothing_and_wakes_what_is_asked_for() {
    let asleep = async |world: &World, _: &PublicKey| {
        world.control.start_vm(&vm(ALICES), no_progress()).await.unwrap();
        world.control.sleep_vm(&vm(ALICES)).await.unwrap();
    };
    let two = Two::new(asleep).await;
    let host = two.old.control.acting(Actor::host());
    let refused = host.add_account(&account("carol")).await.unwrap_err();
    assert_eq!(refused.to_string(), Error::Replaced.to_string());
    // By a connection that it has.
    let entry = two.old.entry(&two.alices, "alice.kd.io").await;
    two.old.greet(&entry).await;
    let seen = async {
        while two.new.vms(Some(&account("alice"))).await.unwrap().remove(0).status != Status::Running {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, seen).await.expect("the new one sees that it runs");
    // Of one that was off it would not know.
    let off = two.old.entry(&two.bobs, "bob.kd.io").await;
    let refused = two.old.control.connect(&off, no_progress()).await.err().expect("it is off");
    assert!(refused.to_string().contains("connect once more"), "{refused}");
}

#[tokio::test]
async fn what_is_not_handed_over_goes_on() {
    let (world, alices, _) = World::new().await;
    world.control.begin_hand_over().await.unwrap();
    let host = world.control.acting(Actor::host());
    let bob = account("carol");
    let waits = host.add_account(&bob);
    tokio::pin!(waits);
    assert!(
        timeout(Duration::from_millis(100), waits.as_mut()).await.is_err(),
        "it is not known who does it"
    );
    world.control.stay().await;
    timeout(SOON, waits).await.expect("it is").unwrap();
    world.greet(&world.entry(&alices, "alice.kd.io").await).await;
}

#[tokio::test]
async fn a_site_that_the_new_one_closes_is_closed_at_the_old_one() {
    let seen = async |world: &World, _: &PublicKey| {
        world.control.enter_site(None, &vm(ALICES), 80).await.unwrap();
    };
    let two = Two::new(seen).await;
    assert!(two.old.control.enter_site(None, &vm(ALICES), 80).await.is_ok());
    let host = two.new.acting(Actor::host());
    host.set_port(&vm(ALICES), 80, Some(PortAccess::Owner)).await.unwrap();
    assert_eq!(two.old.control.enter_site(None, &vm(ALICES), 80).await.err(), Some(SiteRefusal::LogIn));
}
