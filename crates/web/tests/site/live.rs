//! Streams: what they send, and what they hold.

use std::time::Duration;

use axum::body::Body;
use berth_model::VmName;
use http_body_util::BodyExt;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::world::{World, account, key};

/// The next piece of a stream, as text; `None` at its end.
async fn next(body: &mut Body) -> Option<String> {
    let frame = timeout(Duration::from_secs(20), body.frame()).await.expect("something is sent")?;
    Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

/// Waits until the VM says so. It looks for reasons once a minute, and when its policy changes.
async fn until_why(world: &World, vm: &VmName, words: &str) {
    let says = async {
        while !world.control.why(vm).await.unwrap().contains(words) {
            // Changes nothing and has the policy look again; the end of a snooze would count as a use.
            world.control.set_always_on(vm, false).await.unwrap();
            sleep(Duration::from_millis(50)).await;
        }
    };
    if timeout(Duration::from_secs(20), says).await.is_err() {
        panic!("{}", world.control.why(vm).await.unwrap());
    }
}

#[tokio::test]
async fn a_page_that_is_open_keeps_the_vms_awake_until_it_is_gone() {
    let world = World::new().await;
    let vm = world.control.vms(Some(&account("alice"))).await.unwrap().remove(0).name;
    world.control.start_vm(&vm, mpsc::channel(1).0).await.unwrap();
    let alice = world.logged_in("alice").await;
    let response = alice.open("/live").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let mut body = response.into_body();
    assert_eq!(next(&mut body).await.unwrap(), ": beat\n\n");
    until_why(&world, &vm, "its owner has the website open").await;
    drop(body);
    until_why(&world, &vm, "its owner closed the website").await;
}

#[tokio::test]
async fn what_changes_is_sent_where_it_belongs() {
    let world = World::new().await;
    let alice = world.logged_in("alice").await;
    let mut all = alice.open("/live/environments").await.into_body();
    let first = next(&mut all).await.unwrap();
    assert!(first.starts_with("data: <hx-partial hx-target=\"#vms\""), "{first}");
    assert!(first.contains(">off</span>") && first.ends_with("\n\n"), "{first}");
    assert!(first.trim_end().lines().all(|line| line.starts_with("data: ")), "{first}");

    let vm = world.control.vms(Some(&account("alice"))).await.unwrap().remove(0).name;
    world.control.start_vm(&vm, mpsc::channel(1).0).await.unwrap();
    assert!(next(&mut all).await.unwrap().contains(">running</span>"));

    let mut keys = alice.open("/live/keys").await.into_body();
    assert!(next(&mut keys).await.unwrap().contains("first connection with alice"));
    let line = key("desk");
    world.control.add_keys(&account("alice"), &line, None).await.unwrap();
    assert!(next(&mut keys).await.unwrap().contains("first connection with desk"));
    let added = berth_model::parse_pasted(&line).unwrap().remove(0).unwrap();
    world.control.log_in(&added.key, None, [192, 0, 2, 9].into()).await.unwrap();
    let used = next(&mut keys).await.unwrap();
    assert!(used.contains("It works") && used.contains("192.0.2.9"), "{used}");
}

#[tokio::test]
async fn a_stream_ends_with_its_log_in() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    let mut body = alice.open("/live").await.into_body();
    assert_eq!(next(&mut body).await.unwrap(), ": beat\n\n");
    alice.post("/log-out", &[]).await;
    assert_eq!(next(&mut body).await.unwrap(), "event: berth:ended\ndata: \n\n");
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test]
async fn an_account_has_so_many_streams_and_no_more() {
    let world = World::new().await;
    let alice = world.logged_in("alice").await;
    let mut open = vec![];
    for _ in 0..32 {
        let response = alice.open("/live").await;
        assert_eq!(response.status(), 200);
        open.push(response);
    }
    assert_eq!(alice.open("/live").await.status(), 429);
    assert_eq!(world.logged_in("bob").await.open("/live").await.status(), 200);
    open.pop();
    assert_eq!(alice.open("/live").await.status(), 200);
}
