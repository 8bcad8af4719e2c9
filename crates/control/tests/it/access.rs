//! Who is let in, and where to.

use std::time::Duration;

use berth_control::{Actor, AddedKey, EntryError, LoginError, ShareTerms};
use berth_store::NewKey;
use proptest::prelude::*;
use tokio::time::timeout;

use crate::world::{HOME, World, account, new_key, vm};

#[tokio::test]
async fn a_key_lets_its_account_in_and_no_other_key_does() {
    let (world, alices, _) = World::new().await;
    let login = world.log_in(&alices).await;
    assert_eq!(login.account(), &account("alice"));

    let stranger = new_key();
    let refused = world.control.log_in(&stranger, None, HOME).await.unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("https://koding.com/account/keys")
            && text.contains(&stranger.fingerprint().to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn the_use_of_a_key_is_written_down() {
    let (world, alices, _) = World::new().await;
    world.log_in(&alices).await;
    let keys = world.control.keys(&account("alice")).await.unwrap();
    assert_eq!(keys[0].last_used.as_ref().unwrap().from, HOME);
    let keys = world.control.keys(&account("bob")).await.unwrap();
    assert_eq!(keys[0].last_used, None);
}

#[tokio::test]
async fn the_options_of_a_key_are_honoured() {
    let (world, ..) = World::new().await;
    let (elsewhere, old) = (new_key(), new_key());
    world.add_key("alice", &format!("from=\"198.51.100.0/24\" {}", elsewhere.to_openssh())).await;
    let refused = world.control.log_in(&elsewhere, None, HOME).await.unwrap_err();
    assert!(matches!(refused, LoginError::WrongAddress { .. }));
    assert!(world.control.log_in(&elsewhere, None, "198.51.100.7".parse().unwrap()).await.is_ok());

    // One that is over when it is pasted is refused there, one that ends later is refused here.
    let line = format!("expiry-time=\"20200101Z\" {}", old.to_openssh());
    let judged = world.control.add_keys(&account("alice"), &line, None).await.unwrap();
    let [AddedKey::Refused { reason }] = judged.as_slice() else { panic!("{judged:?}") };
    assert_eq!(reason, "This key expired on 2020-01-01. Add one that is still good.");
    let expired = NewKey {
        key: old.clone(),
        options: "expiry-time=\"20200101Z\"".parse().unwrap(),
        comment: String::new(),
        label: None,
    };
    world.store.add_key(&account("alice"), &expired, time::OffsetDateTime::UNIX_EPOCH).await.unwrap();
    let refused = world.control.log_in(&old, None, HOME).await.unwrap_err();
    assert!(matches!(refused, LoginError::Expired { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_login_ends_with_its_key_and_with_its_account() {
    let (world, alices, bobs) = World::new().await;
    let (alice, bob) = (world.log_in(&alices).await, world.log_in(&bobs).await);
    let still = |login: berth_control::Login| async move {
        timeout(Duration::from_millis(20), login.ended()).await.is_err()
    };
    assert!(still(alice.clone()).await);

    world.control.remove_key(&account("alice"), &alices.fingerprint().to_string()).await.unwrap();
    alice.ended().await;
    assert!(still(bob.clone()).await);
    assert!(world.control.log_in(&alices, None, HOME).await.is_err());

    world.control.remove_account(&account("bob")).await.unwrap();
    bob.ended().await;
    assert!(world.control.log_in(&bobs, None, HOME).await.is_err());
}

#[tokio::test]
async fn a_key_that_was_offered_before_it_was_taken_away_lets_nobody_in() {
    let (world, alices, bobs) = World::new().await;
    let known = async |key| world.control.knows(key).await.unwrap();
    let (alice, bob) = (known(&alices).await, known(&bobs).await);
    assert!(alice.is_some() && bob.is_some());
    let by_anothers = world.control.log_in(&alices, bob.clone(), HOME).await.unwrap();
    assert_eq!(by_anothers.account(), &account("alice"), "what was found is of another key");
    world.control.remove_key(&account("alice"), &alices.fingerprint().to_string()).await.unwrap();
    world.control.acting(Actor::host()).block_account(&account("bob")).await.unwrap();
    for (key, known) in [(&alices, alice), (&bobs, bob)] {
        let refused = world.control.log_in(key, known, HOME).await.unwrap_err();
        assert!(matches!(refused, LoginError::UnknownKey { .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn a_removal_that_nobody_waits_for_still_ends_the_login() {
    let (world, alices, _) = World::new().await;
    let login = world.log_in(&alices).await;
    let name = account("alice");
    let fingerprint = alices.fingerprint().to_string();
    let removal = world.control.remove_key(&name, &fingerprint);
    // Polled once and dropped, as when the administrator's connection breaks.
    let _ = timeout(Duration::ZERO, removal).await;
    timeout(Duration::from_secs(5), login.ended()).await.unwrap();
}

#[tokio::test]
async fn unknown_and_forbidden_are_told_alike() {
    let (world, alices, _) = World::new().await;
    let login = world.log_in(&alices).await;
    let refusal = async |host: &str| world.control.enter(&login, host, 22).await.unwrap_err().to_string();
    let forbidden = refusal("vm-0.bob.koding.kd.io").await;
    assert_eq!(forbidden, "There is no VM vm-0.bob.koding.kd.io that you can enter. Yours: vm-0.");
    for short in ["vm-0", "VM-0", "vm-0.alice", "alice", "vm-0.alice.koding"] {
        let told = refusal(short).await;
        assert_eq!(told, "A VM is asked for by its whole name here: vm-0.alice.koding.kd.io.", "{short}");
    }
    for other in ["vm-0.bob", "vm-1", "vm-", "", ".", "bob"] {
        assert!(refusal(other).await.starts_with("There is no VM "), "{other}");
    }
    for host in [
        "vm-1.bob.koding.kd.io",
        "vm-1.alice.koding.kd.io",
        "127.0.0.1",
        "localhost",
        "koding.com",
        "ssh.koding.com",
    ] {
        assert_eq!(refusal(host).await, forbidden.replace("vm-0.bob.koding.kd.io", host));
    }
}

#[tokio::test]
async fn every_name_of_ones_own_vm_is_let_through() {
    let (world, alices, _) = World::new().await;
    for host in [
        "vm-0.alice.koding.kd.io",
        "vm-0.alice.kd.io",
        "alice.koding.kd.io",
        "alice.kd.io",
        "VM-0.Alice.KD.io",
    ] {
        assert_eq!(world.entry(&alices, host).await.vm(), &vm("vm-0.alice.koding"));
    }
}

#[tokio::test]
async fn only_some_ports_are_open() {
    let (world, alices, _) = World::new().await;
    let login = world.log_in(&alices).await;
    for (port, open) in [
        (22, true),
        (80, true),
        (3000, true),
        (65535, true),
        (0, false),
        (25, false),
        (65536, false),
        (65558, false),
        (u32::MAX, false),
    ] {
        let result = world.control.enter(&login, "alice.kd.io", port).await;
        assert_eq!(result.is_ok(), open, "port {port}");
        if let Err(refused) = result {
            assert_eq!(refused, EntryError::PortNotAllowed { port });
        }
    }
}

#[tokio::test]
async fn a_vm_that_is_being_removed_cannot_be_entered() {
    let (world, alices, _) = World::new().await;
    let entry = world.entry(&alices, "alice.kd.io").await;
    world.control.remove_vm(&vm("vm-0.alice.koding")).await.unwrap();
    let login = world.log_in(&alices).await;
    assert!(world.control.enter(&login, "alice.kd.io", 22).await.is_err());
    // A proof from before is not worth anything either, not even for the next VM of the same name.
    world.control.add_vm(&account("alice")).await.unwrap();
    let refused = world.control.connect(&entry, crate::world::no_progress()).await.err().unwrap();
    assert_eq!(refused.to_string(), "vm-0 was removed.");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is taken away, nobody gains anything by it.
    #[test]
    fn taking_away_never_adds_access(removals in prop::collection::vec(0..6usize, 1..5), host in "(vm-[01]\\.)?(alice|bob|carol)(\\.koding)?\\.kd\\.io", port in prop_oneof![Just(22u32), 0..70000u32]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (world, alices, bobs) = World::new().await;
            let (hers, bob) = (vm("vm-0.alice.koding"), account("bob"));
            let host_acts = world.control.acting(Actor::host());
            host_acts.share_vm(&hers, &bob, ShareTerms::default()).await.unwrap();
            let his = world.control.acting(world.log_in(&bobs).await.actor());
            his.accept_share(&hers).await.unwrap();
            let allowed = async || {
                let mut allowed = vec![];
                for key in [&alices, &bobs] {
                    allowed.push(match world.control.log_in(key, None, HOME).await {
                        Ok(login) => world.control.enter(&login, &host, port).await.is_ok(),
                        Err(_) => false,
                    });
                }
                allowed
            };
            let mut before = allowed().await;
            for removal in removals {
                // Each may be done already; that is an error, and no access either.
                match removal {
                    0 => drop(world.control.remove_key(&account("alice"), &alices.fingerprint().to_string()).await),
                    1 => drop(world.control.remove_vm(&vm("vm-0.alice.koding")).await),
                    2 => drop(world.control.remove_vm(&vm("vm-0.bob.koding")).await),
                    3 => drop(host_acts.unshare_vm(&hers, &bob).await),
                    4 => drop(host_acts.block_account(&account("alice")).await),
                    _ => drop(world.control.remove_account(&account("bob")).await),
                }
                let after = allowed().await;
                for (before, after) in before.iter().zip(&after) {
                    assert!(*before || !*after);
                }
                before = after;
            }
        });
    }
}
