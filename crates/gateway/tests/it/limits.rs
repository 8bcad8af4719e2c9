//! What strangers and careless clients meet.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use berth_testkit::Service;
use russh::{ChannelMsg, client};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::{
    protocol::{log_in, log_in_with},
    world::{ECHO, VM, World, eventually},
};

/// A connection from another address of the loopback, on which the gateway has begun to speak.
async fn stranger(world: &World, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::from(from), 0))).unwrap();
    let mut stream = socket.connect(world.gateway).await.unwrap();
    stream.read_exact(&mut [0; 8]).await.unwrap();
    stream
}

/// What is said to somebody from there until the connection ends.
async fn said_to(world: &World, from: [u8; 4]) -> String {
    let mut said = Vec::new();
    let _ = stranger(world, from).await.read_to_end(&mut said).await;
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_log_in_is_cut_off() {
    let world = World::with(|settings| settings.limits.login_grace = Duration::from_millis(700)).await;
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
    world.tells("login_grace").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_door_says_so_and_opens_again() {
    let world = World::with(|settings| settings.limits.logging_in_per_source = 3).await;
    world.wake().await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        let mut stranger = TcpStream::connect(world.gateway).await.unwrap();
        stranger.read_exact(&mut [0; 8]).await.unwrap();
        strangers.push(stranger);
    }
    let refused = world.ssh(&["gateway", "nc", VM, "22"], b"").await;
    assert_eq!(refused.status, Some(255));
    let words = ":12: Too many connections are logging in. Try again in a minute.";
    assert!(refused.stderr.contains(words), "{}", refused.stderr);
    assert_eq!(world.metric("ssh_connections{state=\"logging_in\"}"), 3.0);
    world.tells("logging_in_per_source").await;
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
async fn a_flood_from_one_network_does_not_keep_others_out() {
    let world = World::with(|settings| settings.limits.logging_in = 4).await;
    world.wake().await;
    let mut flood = Vec::new();
    for host in 1..=4 {
        flood.push(stranger(&world, [127, 1, 1, host]).await);
    }
    assert!(said_to(&world, [127, 1, 1, 5]).await.contains("Too many connections are logging in."));
    world.tells("logging_in").await;
    // From another network, which has to have more than one place to log in by.
    let mut others = Vec::new();
    for host in 1..=2 {
        others.push(stranger(&world, [127, 2, 2, host]).await);
    }
    assert_eq!(world.ssh(&["gateway", "nc", VM, "22"], b"").await.status, Some(0));
    let mut rest = Vec::new();
    let cut = flood[0].read_to_end(&mut rest).await;
    assert!(cut.is_ok() || cut.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    let still_there = tokio::time::timeout(Duration::from_millis(50), others[0].read(&mut [0; 4096])).await;
    assert!(still_there.is_err() || still_there.is_ok_and(|read| read.is_ok_and(|bytes| bytes > 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_log_in_again_and_again_waits_and_is_told() {
    let world = World::with(|settings| {
        settings.penalties.no_try = Duration::from_secs(20);
        settings.penalties.exempt = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    world.wake().await;
    let guilty = [127, 0, 0, 2];
    for _ in 0..2 {
        assert_eq!(world.metric("ssh_refused_sources"), 0.0);
        drop(stranger(&world, guilty).await);
        eventually("the connection is gone", || world.metric("ssh_connections{state=\"logging_in\"}") == 0.0)
            .await;
    }
    eventually("it is refused", || world.metric("ssh_refused_sources") == 1.0).await;
    let refused = world.ssh(&["-b", "127.0.0.2", "gateway", "nc", VM, "22"], b"").await;
    let words = ":12: Too many connections from your address did not log in. Try again in ";
    assert!(refused.status == Some(255) && refused.stderr.contains(words), "{}", refused.stderr);
    world.tells("penalty").await;
    for other in ["127.0.0.1", "127.0.0.3"] {
        let done = world.ssh(&["-b", other, "gateway", "nc", VM, "22"], b"").await;
        assert_eq!(done.status, Some(0), "{other}: {}", done.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_should_not_be_done_costs_its_time() {
    let world = World::with(|settings| {
        let never = Duration::ZERO;
        settings.limits.login_grace = Duration::from_millis(700);
        let penalties = &mut settings.penalties;
        (penalties.no_try, penalties.crash, penalties.exempt) = (never, never, vec![]);
        for time in [&mut penalties.refused, &mut penalties.too_slow, &mut penalties.broken] {
            *time = penalties.threshold;
        }
    })
    .await;
    let waits = async |from: [u8; 4]| {
        for _ in 0..1000 {
            if said_to(&world, from).await.contains("did not log in") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{from:?} never waits");
    };
    // Whoever says nothing, and is gone: not for a moment.
    drop(stranger(&world, [127, 0, 0, 2]).await);
    // Nonsense.
    let mut nonsense = stranger(&world, [127, 0, 0, 3]).await;
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    waits([127, 0, 0, 3]).await;
    // A key that nobody has.
    world.ssh.new_key("strange", &["-t", "ed25519"]).await;
    let identity = format!("IdentityFile={}", world.ssh.file("strange").display());
    let args =
        ["-F", "none", "-b", "127.0.0.4", "-o", "StrictHostKeyChecking=no", "-o", "IdentityAgent=none"];
    let port = world.gateway.port().to_string();
    let to = ["-o", "IdentitiesOnly=yes", "-o", &identity, "-p", &port, "alice@127.0.0.1"];
    assert_eq!(world.ssh(&[&args[..], &to].concat(), b"").await.status, Some(255));
    waits([127, 0, 0, 4]).await;
    // Nothing at all, for too long.
    let mut slow = stranger(&world, [127, 0, 0, 5]).await;
    let _ = slow.read_to_end(&mut Vec::new()).await;
    waits([127, 0, 0, 5]).await;
    assert_eq!(world.metric("ssh_refused_sources"), 3.0);
    drop(stranger(&world, [127, 0, 0, 2]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_sends_only_so_much() {
    let world = World::new().await;
    let mut flood = stranger(&world, [127, 0, 0, 1]).await;
    flood.write_all(b"SSH-2.0-Flood\r\n").await.unwrap();
    // SSH_MSG_IGNORE, as often as it goes in.
    let ignored = [0, 0, 0, 12, 6, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].repeat(1024);
    let mut sent = 0;
    while flood.write_all(&ignored).await.is_ok() {
        sent += ignored.len();
        assert!(sent < 64 << 20, "somebody takes everything");
    }
    world.tells("login_data").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_keys_are_looked_at() {
    let world = World::with(|settings| settings.limits.login_tries = 2).await;
    let mut args = vec!["-o".to_owned(), "IdentitiesOnly=yes".to_owned()];
    for name in ["a", "b", "c"] {
        world.ssh.new_key(name, &["-t", "ed25519"]).await;
        args.extend(["-i".to_owned(), world.ssh.file(name).display().to_string()]);
    }
    args.push("gateway".to_owned());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let refused = world.ssh(&args, b"").await;
    assert!(refused.stderr.contains("None of the 2 keys that this client has tried"), "{}", refused.stderr);
    world.tells("login_tries").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_only_so_many_connections_and_channels() {
    let world = World::with(|settings| {
        settings.limits.connections_per_account = 2;
        settings.limits.channels_per_account = 3;
    })
    .await;
    world.wake().await;
    let (first, second) = (log_in(&world, "alice").await, log_in(&world, "alice").await);
    assert_eq!(world.metric("ssh_connections{state=\"logged_in\"}"), 2.0);
    let refused = world.ssh(&["gateway", "vms"], b"").await;
    let words = ":12: This account has as many connections here as it may have. Close some and try again.";
    assert!(refused.stderr.contains(words), "{}", refused.stderr);
    world.tells("connections_per_account").await;
    let mut open = Vec::new();
    for client in [&first, &second, &first] {
        open.push(client.channel_open_direct_tcpip(VM, 8080, "127.0.0.1", 0).await.unwrap());
    }
    assert!(second.channel_open_direct_tcpip(VM, 8080, "127.0.0.1", 0).await.is_err());
    world.tells("channels_per_account").await;
    drop((first, open));
    eventually("places are given back", || world.metric("ssh_connections{state=\"logged_in\"}") == 1.0).await;
    assert_eq!(world.ssh(&["gateway", "nc", VM, "22"], b"").await.status, Some(0));
    assert!(second.channel_open_direct_tcpip(VM, 8080, "127.0.0.1", 0).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_more_than_there_is_room_for_loses_that_channel_only() {
    let world = World::with(|settings| settings.limits.memory = 1 << 20).await;
    world.wake().await;
    world.engine.serve(9000, Service::stalls());
    let client = log_in(&world, "alice").await;
    let mut stuck = client.channel_open_session().await.unwrap();
    stuck.exec(true, format!("nc {VM} 9000")).await.unwrap();
    let mut quick = client.channel_open_direct_tcpip(VM, 8080, "127.0.0.1", 0).await.unwrap();
    // Within the credit of a channel.
    for _ in 0..60 {
        stuck.data_bytes(vec![0; 32 << 10]).await.unwrap();
    }
    let mut said = Vec::new();
    while let Some(message) = stuck.wait().await {
        if let ChannelMsg::ExtendedData { data, .. } = message {
            said.extend_from_slice(&data);
        }
    }
    assert!(String::from_utf8_lossy(&said).contains("than there is room for here."));
    world.tells("memory").await;
    quick.data(&b"still here"[..]).await.unwrap();
    let Some(ChannelMsg::Data { data }) = quick.wait().await else { panic!("no echo") };
    assert_eq!(data.as_ref(), b"still here");
    eventually("nothing waits", || world.metric("ssh_waiting_bytes") == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_is_cut_off() {
    let world = World::with(|settings| settings.limits.stalled = Duration::from_secs(1)).await;
    world.wake().await;
    world.engine.serve(
        9000,
        Service::new(|mut stream| async move { while stream.write_all(&[0; 32 << 10]).await.is_ok() {} }),
    );
    // A client that gives more credit than fits between here and it, and reads nothing after some messages.
    let config = client::Config { window_size: 1 << 30, channel_buffer_size: 2, ..client::Config::default() };
    let client = log_in_with(&world, "alice", config).await;
    let _unread = client.channel_open_direct_tcpip(VM, 9000, "127.0.0.1", 0).await.unwrap();
    world.tells("stalled").await;
    eventually("it is gone", || world.engine.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_carry_nothing_are_slow_and_others_are_not() {
    let world = World::with(|settings| settings.limits.idle_messages = 10).await;
    world.wake().await;
    let typing = log_in(&world, "alice").await;
    let mut echo = typing.channel_open_direct_tcpip(VM, ECHO.parse().unwrap(), "127.0.0.1", 0).await.unwrap();
    for _ in 0..1000 {
        echo.data(&b"x"[..]).await.unwrap();
        let mut heard = 0;
        while heard == 0 {
            let Some(message) = echo.wait().await else { panic!("no echo") };
            heard += usize::from(matches!(message, ChannelMsg::Data { .. }));
        }
    }
    assert_eq!(world.reached("idle_messages"), 0.0, "what carries something counts for nothing");
    let flooding = log_in(&world, "alice").await;
    let channel = flooding.channel_open_session().await.unwrap();
    for _ in 0..1000 {
        channel.set_env(false, "NAME", "value").await.unwrap();
    }
    world.tells("idle_messages").await;
    channel.exec(true, "vms").await.unwrap();
    echo.data(&b"y"[..]).await.unwrap();
    while !matches!(echo.wait().await.unwrap(), ChannelMsg::Data { data } if data.as_ref() == b"y") {}
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
    world.tells("channels_per_connection").await;
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
