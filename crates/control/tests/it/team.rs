//! VMs that belong to the team: who makes them, who gets in as whom, and how that ends.

use std::time::Duration;

use berth_control::{Acting, Actor, AuditQuery, Error, Role, ShareTerms, SiteRefusal, WebError};
use berth_model::PublicKey;
use tokio::{io::AsyncReadExt, time::timeout};

use crate::world::{World, account, new_key, no_progress, vm};

const NAME: &str = "shared-0.koding";
const HOST: &str = "shared-0.koding.kd.io";

/// The world with a VM of the team. alice is the operator, bob is a member.
async fn with_team_vm() -> (World, PublicKey, PublicKey) {
    let (world, alices, bobs) = World::new().await;
    let made = world.control.acting(Actor::host()).add_team_vm().await.unwrap();
    assert_eq!((made.name.to_string().as_str(), made.names), (NAME, vec![HOST.to_owned()]));
    (world, alices, bobs)
}

async fn acting(world: &World, key: &PublicKey) -> Acting {
    world.control.acting(world.log_in(key).await.actor())
}

#[tokio::test]
async fn every_member_is_let_in_as_a_user_of_their_own() {
    let (world, alices, bobs) = with_team_vm().await;
    let id = world.id(NAME).await;
    let login = world.log_in(&bobs).await;
    let entry = world.control.enter(&login, HOST, 22).await.unwrap();
    assert_eq!((entry.vm(), entry.account(), entry.is_of_guest()), (&vm(NAME), &account("bob"), true));
    world.greet(&entry).await;
    let refused = world.control.enter(&login, "nothing.kd.io", 22).await.unwrap_err().to_string();
    assert!(refused.ends_with("Yours: vm-0. The team's: shared-0.koding."), "{refused}");

    let guest = world.engine.guest(&id).unwrap();
    assert_eq!((guest.user.as_str(), guest.hostname.as_str()), ("shared", "shared-0"));
    assert!(guest.authorized_keys.lines().all(|line| line.starts_with('#')), "{}", guest.authorized_keys);
    let seen: Vec<_> = guest.others.iter().map(|one| (one.name.as_str(), one.uid, one.sudo)).collect();
    assert_eq!(seen, [("alice", 70001, true), ("bob", 70002, false)]);
    assert!(guest.others[1].authorized_keys.contains(&bobs.to_openssh()));
    assert!(!guest.others[1].authorized_keys.contains(&alices.to_openssh()));

    // What changes is in the guest when the call returns.
    let second = new_key();
    world.add_key("bob", &second.to_openssh()).await;
    assert!(world.engine.guest(&id).unwrap().others[1].authorized_keys.contains(&second.to_openssh()));
    let host = world.control.acting(Actor::host());
    host.set_role(&account("bob"), Role::Operator).await.unwrap();
    assert!(world.engine.guest(&id).unwrap().others[1].sudo);
    host.remove_account(&account("bob")).await.unwrap();
    let left: Vec<_> = world.engine.guest(&id).unwrap().others;
    assert_eq!(left.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["alice"]);
}

#[tokio::test]
async fn members_see_it_and_wake_it_and_operators_do_the_rest() {
    let (world, _, bobs) = with_team_vm().await;
    let (bob, name) = (acting(&world, &bobs).await, vm(NAME));
    let missing = |result: Result<(), Error>| matches!(result, Err(Error::NoSuchVm(_)));
    assert_eq!(bob.team_vms().await.unwrap().len(), 1);
    assert_eq!(bob.find_vm("shared-0").await.unwrap(), name);
    assert!(bob.why(&name).await.unwrap().starts_with("shared-0 "));
    bob.start_vm(&name, no_progress()).await.unwrap();
    assert!(missing(bob.stop_vm(&name).await));
    assert!(missing(bob.sleep_vm(&name).await));
    assert!(missing(bob.set_always_on(&name, true).await));
    assert!(missing(bob.remove_vm(&name).await));
    assert!(missing(bob.set_title(&name, None).await));
    assert!(missing(bob.ports(&name).await.map(drop)));
    assert!(missing(bob.share_vm(&name, &account("alice"), ShareTerms::default()).await.map(drop)));
    assert!(matches!(bob.add_team_vm().await, Err(WebError::Missing)));
    assert_eq!(bob.vms(None).await.unwrap().len(), 1, "it is not among one's own");

    let host = world.control.acting(Actor::host());
    let refused = host.share_vm(&name, &account("bob"), ShareTerms::default()).await;
    assert!(matches!(refused, Err(Error::TeamVm(_))));
    host.set_always_on(&name, true).await.unwrap();
    host.set_always_on(&name, false).await.unwrap();
    host.stop_vm(&name).await.unwrap();
    assert_eq!(host.add_team_vm().await.unwrap().name.to_string(), "shared-1.koding");
    host.remove_vm(&name).await.unwrap();
    assert!(world.control.enter(&world.log_in(&bobs).await, HOST, 22).await.is_err());
    let names: Vec<_> = host.accounts().await.unwrap().into_iter().map(|one| one.name.to_string()).collect();
    assert_eq!(names, ["alice", "bob"], "the team is no account");
    // It is nobody's in the trail, and operators read it.
    let query = AuditQuery { text: Some(NAME.to_owned()), ..AuditQuery::default() };
    let trail = host.audit(&query).await.unwrap();
    assert!(trail.len() > 4 && trail.iter().all(|line| line.account.is_none()), "{trail:?}");
}

#[tokio::test]
async fn what_ends_a_member_ends_their_connections_to_it_and_no_others() {
    let (world, alices, bobs) = with_team_vm().await;
    let mut streams = vec![];
    for key in [&alices, &bobs] {
        let login = world.log_in(key).await;
        let entry = world.control.enter(&login, HOST, 22).await.unwrap();
        let mut stream = world.control.connect(&entry, no_progress()).await.unwrap();
        stream.read_exact(&mut [0; 14]).await.unwrap();
        streams.push(stream);
    }
    world.control.acting(Actor::host()).block_account(&account("bob")).await.unwrap();
    let ended = timeout(Duration::from_secs(10), streams[1].read(&mut [0; 1])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert!(timeout(Duration::from_millis(50), streams[0].read_u8()).await.is_err(), "it stays open");
    let guest = world.engine.guest(&world.id(NAME).await).unwrap();
    assert_eq!(guest.others.len(), 1);
}

#[tokio::test]
async fn its_limits_are_none_and_its_sites_are_the_members() {
    let (world, ..) = with_team_vm().await;
    let host = world.control.acting(Actor::host());
    for _ in 0..6 {
        host.add_team_vm().await.unwrap();
    }
    let name = vm(NAME);
    assert!(world.control.enter_site(None, &name, 80).await.is_ok());
    assert!(matches!(world.control.enter_site(None, &name, 3000).await, Err(SiteRefusal::LogIn)));
}
