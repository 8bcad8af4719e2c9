//! Connections into VMs, and refused log-ins at the gateway, in the audit trail.

use std::time::Duration;

use berth_control::{Actor, AuditInfo, AuditKind, AuditQuery, Way};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{HOME, World, account, new_key, no_progress};

/// The lines of a kind, the latest first, when there are so many: they are written while nobody waits.
async fn lines(world: &World, kind: AuditKind, count: usize) -> Vec<AuditInfo> {
    let query = AuditQuery { kind: Some(kind), ..AuditQuery::default() };
    for _ in 0..200 {
        let lines = world.control.acting(Actor::host()).audit(&query).await.unwrap();
        if lines.len() >= count {
            return lines;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("there are no {count} lines of {kind}");
}

#[tokio::test]
async fn a_connection_is_written_down_when_it_ends() {
    let (world, alices, _) = World::new().await;
    let entry = world.entry(&alices, "alice.kd.io").await;
    let mut stream = world.control.connect(&entry, no_progress()).await.unwrap();
    stream.read_exact(&mut [0; 14]).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut [0; 5]).await.unwrap();
    drop(stream);
    let lines = lines(&world, AuditKind::Connection, 1).await;
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(
        (line.account.as_ref(), line.actor.as_ref()),
        (Some(&account("alice")), Some(&account("alice")))
    );
    assert_eq!((line.subject.as_str(), line.way, line.address), ("vm-0.alice.koding", Way::Ssh, Some(HOME)));
    assert_eq!(line.detail, format!("port 22 by {}, end to end", alices.fingerprint()));
    let traffic = line.traffic.unwrap();
    assert_eq!((traffic.sent, traffic.received), (5, 19));
}

#[tokio::test]
async fn connections_that_are_alike_are_one_line() {
    let (world, alices, _) = World::new().await;
    let entry = world.entry(&alices, "alice.kd.io").await;
    for _ in 0..5 {
        world.greet(&entry).await;
    }
    for _ in 0..200 {
        let lines = lines(&world, AuditKind::Connection, 1).await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        if lines[0].times == 5 {
            assert_eq!(lines[0].traffic.unwrap().sent, 20);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("they were not written down");
}

#[tokio::test]
async fn the_owner_sees_from_where_a_guest_came() {
    let (world, alices, bobs) = World::new().await;
    let name = crate::world::vm("vm-0.alice.koding");
    let (alice, bob) = (world.log_in(&alices).await, world.log_in(&bobs).await);
    let alice = world.control.acting(alice.actor());
    alice.share_vm(&name, &account("bob"), berth_control::ShareTerms::default()).await.unwrap();
    world.control.acting(bob.actor()).accept_share(&name).await.unwrap();
    world.greet(&world.control.enter(&bob, "alice.kd.io", 22).await.unwrap()).await;
    lines(&world, AuditKind::Connection, 1).await;
    let seen = alice.activity(&account("alice"), None).await.unwrap();
    let line = seen.iter().find(|line| line.kind == AuditKind::Connection).unwrap();
    assert_eq!((line.actor.as_ref(), line.address), (Some(&account("bob")), Some(HOME)));
    let his = world.control.acting(bob.actor()).activity(&account("bob"), None).await.unwrap();
    assert!(his.iter().all(|line| line.kind != AuditKind::Connection), "the owner's trail, not the guest's");
}

#[tokio::test]
async fn what_is_refused_at_the_gateway_is_written_down_and_a_flood_is_not() {
    let (world, ..) = World::new().await;
    let key = new_key().fingerprint();
    world.control.note_refused_key(HOME, Some(&key));
    world.control.note_refused_key("2001:db8::1".parse().unwrap(), None);
    let refused = lines(&world, AuditKind::LogInRefused, 2).await;
    let said: Vec<_> = refused.iter().rev().map(|line| (line.address, line.subject.clone())).collect();
    assert_eq!(said[0], (Some(HOME), key.to_string()));
    assert_eq!(said[1].1, "");
    for _ in 0..10_000 {
        world.control.note_refused_key("198.51.100.1".parse().unwrap(), Some(&new_key_fingerprint()));
    }
    world.control.close().await;
    let query = AuditQuery { kind: Some(AuditKind::LogInRefused), ..AuditQuery::default() };
    let lines = world.store.audit(&query).await.unwrap();
    assert!(lines.len() <= 22, "{} lines", lines.len());
}

/// A fingerprint of some key: making ten thousand keys takes too long.
fn new_key_fingerprint() -> berth_model::Fingerprint {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let text = format!("SHA256:{:A<43}", NEXT.fetch_add(1, Ordering::Relaxed));
    text.parse().unwrap()
}
