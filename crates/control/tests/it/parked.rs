//! Connections that wait for somebody.

use std::time::Duration;

use berth_control::{Actor, AuditKind, AuditQuery, Entry, Login, Parked, ShareTerms, Status};
use berth_engine::Stream;
use berth_model::PublicKey;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::world::{World, account, new_key, no_progress, vm};

const HOST: &str = "vm-0.alice.koding.kd.io";
const SOON: Duration = Duration::from_secs(5);

/// alice's VM, which runs, and a connection into it that waits.
struct Scene {
    world: World,
    alices: PublicKey,
    bobs: PublicKey,
    parked: Parked,
    stream: Box<dyn Stream>,
}

async fn park(world: &World, key: &PublicKey) -> Option<(Parked, Box<dyn Stream>)> {
    let login = world.log_in(key).await;
    let entry = world.control.enter(&login, HOST, 22).await.unwrap();
    world.control.park(&login, &entry).await
}

impl Scene {
    async fn new() -> Self {
        let (world, alices, bobs) = World::new().await;
        world.control.start_vm(&vm("vm-0.alice.koding"), no_progress()).await.unwrap();
        let (parked, mut stream) = park(&world, &alices).await.unwrap();
        stream.read_exact(&mut [0; 14]).await.unwrap();
        Self { world, alices, bobs, parked, stream }
    }

    async fn take_up(&self, login: &Login) -> bool {
        self.world.control.take_up(&self.entry(login).await, &self.parked, &no_progress()).await.unwrap()
    }

    async fn entry(&self, login: &Login) -> Entry {
        self.world.control.enter(login, HOST, 22).await.unwrap()
    }

    async fn echoes(&mut self) {
        self.stream.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        self.stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ping");
    }
}

/// It fails for whoever reads it to its end.
async fn is_cut(mut stream: Box<dyn Stream>) {
    let read = timeout(SOON, stream.read_to_end(&mut vec![])).await.expect("it ends");
    assert!(read.is_err());
}

#[tokio::test]
async fn it_is_no_use_and_in_no_list_until_somebody_takes_it_up() {
    let mut scene = Scene::new().await;
    let why = scene.world.control.why(&vm("vm-0.alice.koding")).await.unwrap();
    assert!(!why.contains("connect"), "{why}");
    assert_eq!(scene.world.control.connections("", 9).1, 0);
    assert!(!scene.parked.is_stale());

    // Who takes it up has another key than who was there when it was made.
    let second = new_key();
    scene.world.add_key("alice", &second.to_openssh()).await;
    let login = scene.world.log_in(&second).await;
    assert!(scene.take_up(&login).await);
    let (open, count) = scene.world.control.connections("", 9);
    assert_eq!((count, open[0].by.as_str(), open[0].port), (1, "alice", 22));
    assert!(!scene.take_up(&login).await, "once");
    // The first one's key is nothing to it any more.
    let first = scene.alices.fingerprint().to_string();
    scene.world.control.remove_key(&account("alice"), &first).await.unwrap();
    scene.echoes().await;
    let why = scene.world.control.why(&vm("vm-0.alice.koding")).await.unwrap();
    assert!(why.contains("alice"), "{why}");

    drop(scene.stream);
    let query = AuditQuery { kind: Some(AuditKind::Connection), ..AuditQuery::default() };
    let line = loop {
        let lines = scene.world.control.acting(Actor::host()).audit(&query).await.unwrap();
        match lines.into_iter().next() {
            Some(line) => break line,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!(line.detail, format!("port 22 by {}, end to end", second.fingerprint()));
    assert_eq!((line.traffic.unwrap().sent, line.traffic.unwrap().received), (4, 4));
}

#[tokio::test]
async fn it_is_stale_when_the_vm_is_used() {
    let scene = Scene::new().await;
    let login = scene.world.log_in(&scene.alices).await;
    scene.world.greet(&scene.entry(&login).await).await;
    timeout(SOON, scene.parked.staled()).await.unwrap();
    assert!(scene.parked.is_stale() && !scene.take_up(&login).await);
}

#[tokio::test]
async fn it_sleeps_with_the_vm_and_wakes_it_when_it_is_taken_up() {
    let mut scene = Scene::new().await;
    let name = vm("vm-0.alice.koding");
    scene.world.control.sleep_vm(&name).await.unwrap();
    assert!(park(&scene.world, &scene.alices).await.is_none(), "none is woken for that");
    assert!(!scene.world.control.left_alone(&name, Duration::ZERO).await);
    let login = scene.world.log_in(&scene.alices).await;
    assert!(scene.take_up(&login).await);
    let info = scene.world.control.vms(Some(&account("alice"))).await.unwrap().remove(0);
    assert_eq!((info.status, info.connections), (Status::Running, 1));
    scene.echoes().await;
}

#[tokio::test]
async fn it_ends_with_the_key_of_who_was_there() {
    let scene = Scene::new().await;
    let key = scene.alices.fingerprint().to_string();
    scene.world.control.remove_key(&account("alice"), &key).await.unwrap();
    timeout(SOON, scene.parked.ended()).await.unwrap();
    is_cut(scene.stream).await;
}

#[tokio::test]
async fn it_ends_with_the_account() {
    let scene = Scene::new().await;
    scene.world.control.acting(Actor::host()).block_account(&account("alice")).await.unwrap();
    timeout(SOON, scene.parked.ended()).await.unwrap();
    is_cut(scene.stream).await;
}

#[tokio::test]
async fn that_of_a_guest_is_the_guests_and_ends_with_the_share() {
    let Scene { world, alices, bobs, parked: of_alice, .. } = Scene::new().await;
    let name = vm("vm-0.alice.koding");
    let alice = world.control.acting(world.log_in(&alices).await.actor());
    let share = || async {
        alice.share_vm(&name, &account("bob"), ShareTerms::default()).await.unwrap();
        let bob = world.log_in(&bobs).await;
        world.control.acting(bob.actor()).accept_share(&name).await.unwrap();
        world.control.enter(&bob, HOST, 22).await.unwrap()
    };
    let entry = share().await;
    assert!(!world.control.take_up(&entry, &of_alice, &no_progress()).await.unwrap(), "alice's is not bob's");

    let (parked, stream) = park(&world, &bobs).await.unwrap();
    alice.unshare_vm(&name, &account("bob")).await.unwrap();
    timeout(SOON, parked.ended()).await.unwrap();
    assert!(world.control.take_up(&entry, &parked, &no_progress()).await.is_err());
    is_cut(stream).await;

    // One that was taken up ends with the share by which it was.
    let entry = share().await;
    let (parked, mut stream) = park(&world, &bobs).await.unwrap();
    stream.read_exact(&mut [0; 14]).await.unwrap();
    assert!(world.control.take_up(&entry, &parked, &no_progress()).await.unwrap());
    alice.unshare_vm(&name, &account("bob")).await.unwrap();
    is_cut(stream).await;
}
