//! What strangers and careless clients meet.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::{VM, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_log_in_is_cut_off() {
    let world = World::with(|limits| limits.login_grace = Duration::from_millis(700)).await;
    let begun = Instant::now();
    let mut silent = TcpStream::connect(world.gateway).await.unwrap();
    let mut greets = TcpStream::connect(world.gateway).await.unwrap();
    greets.write_all(b"SSH-2.0-Silent\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = silent.read_to_end(&mut said).await;
    let _ = greets.read_to_end(&mut said).await;
    let took = begun.elapsed();
    assert!((Duration::from_millis(600)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert!(said.starts_with(b"SSH-2.0-Berth_"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_door_says_so_and_opens_again() {
    let world = World::with(|limits| limits.max_unauthenticated_per_source = 3).await;
    world.wake().await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        let mut stranger = TcpStream::connect(world.gateway).await.unwrap();
        stranger.read_exact(&mut [0; 8]).await.unwrap();
        strangers.push(stranger);
    }
    let mut turned_away = String::new();
    let mut fourth = TcpStream::connect(world.gateway).await.unwrap();
    let _ = fourth.read_to_string(&mut turned_away).await;
    assert_eq!(turned_away, "Too many connections are logging in. Try again in a minute.\r\n");
    drop(strangers);
    let mut done = None;
    for _ in 0..100 {
        let output = world.ssh(&["gateway", "nc", VM, "22"], b"").await;
        if output.status == Some(0) {
            done = Some(output);
            break;
        }
    }
    assert!(done.is_some(), "places are given back");
    // Who has logged in takes no place.
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut client = world.ssh.start("ssh", &["gateway", "nc", VM, "22"]);
        let stdin = client.stdin.take();
        client.stdout.as_mut().unwrap().read_exact(&mut [0; 14]).await.unwrap();
        held.push((client, stdin));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_harms_nobody() {
    let world = World::awake().await;
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 4096],
        b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff",
        b"SSH-1.5-old\r\n",
    ] {
        let mut stream = TcpStream::connect(world.gateway).await.unwrap();
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        let mut said = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut said)).await.unwrap();
    }
    assert_eq!(world.ssh(&["gateway", "nc", VM, "22"], b"").await.status, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_a_limit_of_channels_and_gives_them_back() {
    let world = World::awake().await;
    let control = world.ssh.file("mux");
    let mux = format!("ControlPath={}", control.display());
    let mut master = world.ssh.start("ssh", &["-M", "-N", "-o", &mux, "gateway"]);
    eventually("the master listens", || control.exists()).await;
    let start = || world.ssh.start("ssh", &["-o", &mux, "-o", "ControlMaster=no", "gateway", "nc", VM, "22"]);
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut client = start();
        let stdin = client.stdin.take();
        client.stdout.as_mut().unwrap().read_exact(&mut [0; 14]).await.unwrap();
        held.push((client, stdin));
    }
    assert_eq!(world.engine.connections(), 64);
    let refused = world.ssh(&["-v", "-o", &mux, "gateway", "nc", VM, "22"], b"").await;
    assert!(refused.stderr.contains("Session open refused by peer"), "{}", refused.stderr);
    drop(held);
    eventually("their tunnels are gone", || world.engine.connections() == 0).await;
    assert_eq!(world.ssh(&["-o", &mux, "gateway", "nc", VM, "22"], b"").await.status, Some(0));
    master.start_kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_leaves_nothing() {
    let world = World::awake().await;
    let mut client = world.ssh.start("ssh", &["gateway", "nc", VM, "22"]);
    client.stdout.as_mut().unwrap().read_exact(&mut [0; 14]).await.unwrap();
    assert_eq!(world.engine.connections(), 1);
    client.kill().await.unwrap();
    eventually("the tunnel is gone", || world.engine.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_so_and_waits_for_no_one() {
    let world = World::awake().await;
    let mut client = world.ssh.start("ssh", &["gateway", "nc", VM, "22"]);
    let _stdin = client.stdin.take();
    client.stdout.as_mut().unwrap().read_exact(&mut [0; 14]).await.unwrap();
    let _stranger = TcpStream::connect(world.gateway).await.unwrap();
    let begun = Instant::now();
    world.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(3), world.serving).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3));
    let told = client.wait_with_output().await.unwrap();
    let told = String::from_utf8_lossy(&told.stderr);
    assert!(told.contains("This gateway is restarting. Connect again in a moment."), "{told}");
}
