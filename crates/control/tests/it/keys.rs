//! Keys on their way from a paste into the guests.

use std::time::Duration;

use berth_control::{AddedKey, Error};
use berth_engine::EngineError;
use berth_testkit::Verb;

use crate::world::{World, account, new_key, no_progress, vm};

#[tokio::test]
async fn a_running_vm_has_a_new_key_when_the_call_returns_and_loses_a_removed_one() {
    let (world, alices, _) = World::new().await;
    let name = vm("vm-0.alice.koding");
    world.control.start_vm(&name, no_progress()).await.unwrap();
    let id = world.id("vm-0.alice.koding").await;
    let has = |line: &str| world.engine.authorized_keys(&id).unwrap().contains(line);
    assert!(has(&alices.to_openssh()));

    let second = new_key().to_openssh();
    world.add_key("alice", &second).await;
    assert!(has(&second) && has(&alices.to_openssh()));

    world.control.remove_key(&account("alice"), &alices.fingerprint().to_string()).await.unwrap();
    assert!(has(&second) && !has(&alices.to_openssh()));
}

#[tokio::test]
async fn a_key_that_changes_while_the_vm_starts_arrives() {
    let (world, ..) = World::new().await;
    let name = vm("vm-0.alice.koding");
    world.engine.delay(Verb::Start, Duration::from_millis(200));
    let control = world.control.clone();
    let starting =
        tokio::task::JoinSet::from_iter([async move { control.start_vm(&name, no_progress()).await }]);
    while world.engine.calls(Verb::Start, None) == 0 {
        tokio::task::yield_now().await;
    }
    let second = new_key().to_openssh();
    world.add_key("alice", &second).await;
    assert!(starting.join_all().await.iter().all(Result::is_ok));
    let id = world.id("vm-0.alice.koding").await;
    assert!(
        world.engine.authorized_keys(&id).unwrap().contains(&second),
        "who waited for the start finds the key"
    );
}

#[tokio::test]
async fn a_guest_that_cannot_be_reached_gets_the_keys_later() {
    let (world, ..) = World::new().await;
    world.control.start_vm(&vm("vm-0.alice.koding"), no_progress()).await.unwrap();
    world.engine.fail(Verb::SetAuthorizedKeys, Some(EngineError::TimedOut));
    let second = new_key().to_openssh();
    world.add_key("alice", &second).await;
    let id = world.id("vm-0.alice.koding").await;
    assert!(!world.engine.authorized_keys(&id).unwrap().contains(&second));

    world.engine.fail(Verb::SetAuthorizedKeys, None);
    tokio::time::timeout(Duration::from_secs(5), async {
        while !world.engine.authorized_keys(&id).unwrap().contains(&second) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn addresses_are_the_gateways_business_and_expiry_the_guests_too() {
    let (world, ..) = World::new().await;
    let key = new_key().to_openssh();
    world.add_key("alice", &format!("from=\"192.0.2.0/24\",expiry-time=\"20990101Z\" {key}")).await;
    world.control.start_vm(&vm("vm-0.alice.koding"), no_progress()).await.unwrap();
    let text = world.engine.authorized_keys(&world.id("vm-0.alice.koding").await).unwrap();
    let line = text.lines().find(|line| line.contains(&key)).unwrap();
    assert!(line.starts_with("expiry-time=\"2099") && !line.contains("from="), "{line}");
}

#[tokio::test]
async fn each_key_of_a_paste_is_judged() {
    let (world, alices, bobs) = World::new().await;
    let paste = format!(
        "{}\n{}\n{}\nssh-dss AAAA old\n",
        new_key().to_openssh(),
        alices.to_openssh(),
        bobs.to_openssh()
    );
    let judged = world.control.add_keys(&account("alice"), &paste, Some("laptop")).await.unwrap();
    let [
        AddedKey::Added { key },
        AddedKey::AlreadyThere { .. },
        AddedKey::Refused { reason },
        AddedKey::Refused { .. },
    ] = judged.as_slice()
    else {
        panic!("{judged:?}");
    };
    assert_eq!(key.label, "laptop");
    assert!(reason.contains("another account") && !reason.contains("bob"), "{reason}");
}

#[tokio::test]
async fn a_key_that_is_there_is_not_quietly_left_as_it_is() {
    let (world, alices, _) = World::new().await;
    let line = format!("from=\"10.0.0.0/8\" {}", alices.to_openssh());
    let judged = world.control.add_keys(&account("alice"), &line, None).await.unwrap();
    let [AddedKey::Refused { reason }] = judged.as_slice() else { panic!("{judged:?}") };
    assert!(reason.contains("with other options") && reason.contains("remove it first"), "{reason}");
}

#[tokio::test]
async fn a_key_removed_while_a_vm_boots_is_gone_also_when_the_server_was_restarted_meanwhile() {
    let (mut world, alices, _) = World::new().await;
    let name = vm("vm-0.alice.koding");
    world.control.start_vm(&name, no_progress()).await.unwrap();
    let id = world.id("vm-0.alice.koding").await;
    // The guest boots anew with the keys that it had, and the server that removes one is gone before it is up.
    world.engine.delay(Verb::Start, Duration::from_millis(300));
    world.engine.fail(Verb::SetAuthorizedKeys, Some(EngineError::TimedOut));
    world.engine.reboot(&id);
    world.control.remove_key(&account("alice"), &alices.fingerprint().to_string()).await.unwrap();
    assert!(world.engine.authorized_keys(&id).unwrap().contains(&alices.to_openssh()));
    world.engine.fail(Verb::SetAuthorizedKeys, None);
    world.restart().await;
    world.control.start_vm(&name, no_progress()).await.unwrap();
    assert!(!world.engine.authorized_keys(&id).unwrap().contains(&alices.to_openssh()));
}

#[tokio::test]
async fn a_private_key_is_refused_and_not_stored() {
    let (world, ..) = World::new().await;
    let private =
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
    let refused = world.control.add_keys(&account("alice"), private, None).await.unwrap_err();
    assert!(matches!(refused, Error::Paste(_)));
    assert!(refused.to_string().contains("private key"), "{refused}");
    assert_eq!(world.control.keys(&account("alice")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_gets_another_name_and_is_the_same_key() {
    let (world, ..) = World::new().await;
    let alice = account("alice");
    let key = world.control.keys(&alice).await.unwrap().remove(0);
    let renamed = world.control.rename_key(&alice, &key.id, "desk").await.unwrap();
    assert_eq!((renamed.label.as_str(), &renamed.fingerprint), ("desk", &key.fingerprint));
    assert_eq!(world.control.keys(&alice).await.unwrap().remove(0), renamed);
    assert_eq!(world.control.rename_key(&alice, "desk", "").await.unwrap().label, key.algorithm);
    let bobs = world.control.keys(&account("bob")).await.unwrap();
    assert!(world.control.rename_key(&alice, &bobs[0].id, "mine").await.is_err());
    assert!(matches!(world.control.rename_key(&alice, "nothing", "x").await, Err(Error::NoSuchKey { .. })));
}

#[tokio::test]
async fn a_key_is_removed_by_any_of_its_names_and_never_by_a_guess() {
    let (world, ..) = World::new().await;
    let alice = account("alice");
    for _ in 0..2 {
        world.control.add_keys(&alice, &new_key().to_openssh(), Some("laptop")).await.unwrap();
    }
    let refused = world.control.remove_key(&alice, "laptop").await.unwrap_err();
    assert!(matches!(refused, Error::AmbiguousKey { .. }));
    let keys = world.control.keys(&alice).await.unwrap();
    let last = keys.last().unwrap();
    assert_eq!(&world.control.remove_key(&alice, &last.id).await.unwrap().fingerprint, &last.fingerprint);
    assert!(world.control.remove_key(&alice, "laptop").await.is_ok());
    assert!(matches!(world.control.remove_key(&alice, "laptop").await, Err(Error::NoSuchKey { .. })));
    // Not by a key of another account.
    let bobs = world.control.keys(&account("bob")).await.unwrap();
    assert!(world.control.remove_key(&alice, &bobs[0].id).await.is_err());
}
