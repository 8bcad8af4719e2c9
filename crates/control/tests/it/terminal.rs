//! Certificates for sessions that Berth opens in somebody's name.

use std::{net::IpAddr, time::Duration};

use berth_control::{Actor, Client, ConnectError, Error, LinkFor, Role, SessionKey, WebLogin};
use berth_model::Secret;
use ssh_key::{Certificate, HashAlg, PrivateKey, PublicKey, certificate::CertType};
use time::OffsetDateTime;

use crate::world::{HOME, World, account, no_progress, vm};

const ALICES: &str = "vm-0.alice.koding";

async fn logged_in(world: &World, name: &str) -> WebLogin {
    let host = world.control.acting(Actor::host());
    let link = host.make_link(&account(name), LinkFor::LogIn).await.unwrap();
    let token = Secret::new(link.expose().rsplit('/').next().unwrap().to_owned());
    let client = Client { address: HOME as IpAddr, user_agent: "" };
    world.control.log_in_by_link(&token, client).await.unwrap().login
}

/// What alice's terminal in her VM, which runs then, logs in with.
async fn key(world: &World) -> SessionKey {
    let acting = world.control.acting(logged_in(world, "alice").await.actor());
    let entry = acting.enter_shell(&vm(ALICES)).await.unwrap();
    world.control.connect(&entry, no_progress()).await.unwrap();
    acting.terminal_key(&entry).await.unwrap()
}

/// The authority and the principal that alice's guest trusts.
async fn trusted(world: &World, name: &str) -> (PublicKey, String) {
    let keys = world.engine.authorized_keys(&world.id(name).await).unwrap();
    let line = keys.lines().find_map(|line| line.strip_prefix("cert-authority,principals=\"")).unwrap();
    let (principal, authority) = line.split_once("\" ").unwrap();
    (PublicKey::from_openssh(authority).unwrap(), principal.to_owned())
}

#[tokio::test]
async fn a_certificate_is_for_one_vm_one_account_and_some_minutes() {
    let (world, ..) = World::new().await;
    let key = key(&world).await;
    let (authority, principal) = trusted(&world, ALICES).await;
    let certificate = Certificate::from_openssh(&key.certificate).unwrap();
    let trusted = [authority.fingerprint(HashAlg::Sha256)];
    certificate.validate(&trusted).unwrap();

    assert_eq!(certificate.cert_type(), CertType::User);
    assert_eq!(certificate.valid_principals(), std::slice::from_ref(&principal));
    assert_eq!(principal, format!("{}.alice", world.id(ALICES).await));
    assert_eq!(certificate.key_id(), "alice terminal on the website");
    let extensions: Vec<_> = certificate.extensions().keys().cloned().collect();
    assert_eq!(extensions, ["permit-pty"], "no forwarding");
    assert!(certificate.critical_options().iter().next().is_none());
    let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap();
    let minutes = Duration::from_secs(6 * 60).as_secs();
    assert!(certificate.valid_before() > now && certificate.valid_before() < now + minutes);
    assert!(certificate.valid_after() < now && certificate.valid_after() > now - minutes);

    let private = PrivateKey::from_openssh(key.private_key.expose()).unwrap();
    assert_eq!(private.public_key().key_data(), certificate.public_key());
    assert_eq!(key.user, account("alice"));
    let host = world.engine.guest(&world.id(ALICES).await).unwrap().host_key;
    let host = PrivateKey::from_openssh(host.expose()).unwrap();
    assert_eq!(PublicKey::from_openssh(&key.host_key).unwrap().key_data(), host.public_key().key_data());
}

#[tokio::test]
async fn a_client_that_is_carried_over_may_do_what_a_key_does() {
    let (world, ..) = World::new().await;
    let acting = world.control.acting(logged_in(&world, "alice").await.actor());
    let entry = acting.enter_shell(&vm(ALICES)).await.unwrap();
    world.control.connect(&entry, no_progress()).await.unwrap();
    let key = acting.direct_key(&entry).await.unwrap();
    let certificate = Certificate::from_openssh(&key.certificate).unwrap();
    assert_eq!(certificate.valid_principals(), [trusted(&world, ALICES).await.1]);
    assert_eq!(certificate.key_id(), "alice ssh by the gateway");
    let permitted: Vec<_> = certificate.extensions().keys().map(|name| &name["permit-".len()..]).collect();
    assert_eq!(permitted, ["X11-forwarding", "agent-forwarding", "port-forwarding", "pty", "user-rc"]);
}

#[tokio::test]
async fn each_session_has_a_key_of_its_own_and_all_guests_one_authority() {
    let (mut world, ..) = World::new().await;
    let (one, other) = (key(&world).await, key(&world).await);
    assert_ne!(one.private_key.expose(), other.private_key.expose());
    let before = trusted(&world, ALICES).await;

    let bobs = world.control.find_vm("vm-0.bob.koding").await.unwrap();
    world.control.start_vm(&bobs, no_progress()).await.unwrap();
    let bob = trusted(&world, "vm-0.bob.koding").await;
    assert_eq!(bob.0.key_data(), before.0.key_data());
    assert_ne!(bob.1, before.1, "but not each other's principals");

    world.restart().await;
    let after = key(&world).await;
    let certificate = Certificate::from_openssh(&after.certificate).unwrap();
    certificate.validate(&[before.0.fingerprint(HashAlg::Sha256)]).unwrap();
}

#[tokio::test]
async fn nobody_opens_a_shell_in_somebody_elses_vm() {
    let (world, ..) = World::new().await;
    let operators = world.control.acting(Actor::host());
    operators.set_role(&account("alice"), Role::Operator).await.unwrap();
    let alice = world.control.acting(logged_in(&world, "alice").await.actor());
    let bob = world.control.acting(logged_in(&world, "bob").await.actor());
    let host = world.control.acting(Actor::host());
    let refused = |result: Result<_, Error>| matches!(result, Err(Error::NoSuchVm(_)));
    assert!(refused(bob.enter_shell(&vm(ALICES)).await));
    assert!(refused(alice.enter_shell(&vm("vm-0.bob.koding")).await));
    assert!(refused(alice.enter_shell(&vm("vm-9.alice.koding")).await));
    assert!(refused(host.enter_shell(&vm(ALICES)).await));
    assert!(alice.enter_shell(&vm(ALICES)).await.is_ok());
}

#[tokio::test]
async fn a_vm_that_was_removed_meanwhile_has_no_certificates() {
    let (world, ..) = World::new().await;
    let acting = world.control.acting(logged_in(&world, "alice").await.actor());
    let entry = acting.enter_shell(&vm(ALICES)).await.unwrap();
    world.control.remove_vm(&vm(ALICES)).await.unwrap();
    assert!(matches!(acting.terminal_key(&entry).await, Err(ConnectError::Removed { .. })));
    assert!(acting.enter_shell(&vm(ALICES)).await.is_err());
}
