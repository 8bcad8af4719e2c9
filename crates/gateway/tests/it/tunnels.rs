//! The two ways in, and the bytes in them.

use std::time::{Duration, Instant};

use berth_engine::EngineError;
use berth_testkit::{Service, Verb};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{ECHO, VM, World, eventually, noise, without_times};

#[tokio::test(flavor = "multi_thread")]
async fn exec_carries_every_byte_both_ways_and_ends_with_0() {
    let world = World::awake().await;
    let bytes = noise(50_000_000);
    let done = world.ssh(&["gateway", "nc", VM, ECHO], &bytes).await;
    assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""));
    assert!(done.stdout == bytes, "{} bytes came back", done.stdout.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_carries_every_byte_both_ways_and_ends_with_0() {
    let world = World::awake().await;
    let bytes = noise(20_000_000);
    let done = world.ssh(&["-W", &format!("{VM}:{ECHO}"), "gateway"], &bytes).await;
    assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""));
    assert!(done.stdout == bytes, "{} bytes came back", done.stdout.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_of_a_vm_and_every_spelling_of_nc_leads_to_it() {
    let world = World::awake().await;
    for command in [
        "nc vm-0.alice.koding.kd.io 22",
        "nc vm-0.alice.kd.io 22",
        "nc alice.koding.kd.io 22",
        "nc alice.kd.io 22",
        "nc VM-0.Alice.KD.io 22",
        "netcat -q0 alice.kd.io 22",
        "nc -N -w 5 -- alice.kd.io 22",
        "nc 'alice.kd.io' \"22\"",
    ] {
        let done = world.ssh(&["gateway", command], b"").await;
        assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""), "{command}");
        assert_eq!(done.stdout, b"SSH-2.0-Fake\r\n", "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ends_of_both_sides_are_passed_on_one_by_one() {
    let world = World::awake().await;
    // Answers only after the client's end; the client, having ended, still hears all of it.
    world.engine.serve(
        9000,
        Service::new(|mut stream| async move {
            let mut sent = Vec::new();
            stream.read_to_end(&mut sent).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
            stream.write_all(format!("{} bytes", sent.len()).as_bytes()).await.unwrap();
        }),
    );
    // Ends first, and still hears what the client has to say.
    let (heard, mut hears) = tokio::sync::mpsc::channel(1);
    world.engine.serve(
        9001,
        Service::new(move |mut stream| {
            let heard = heard.clone();
            async move {
                stream.shutdown().await.unwrap();
                let mut sent = Vec::new();
                stream.read_to_end(&mut sent).await.unwrap();
                heard.send(sent).await.unwrap();
            }
        }),
    );
    for way in [vec!["gateway", "nc", VM, "9000"], vec!["-W", "vm-0.alice.kd.io:9000", "gateway"]] {
        let done = world.ssh(&way, &noise(300_000)).await;
        assert_eq!((done.status, done.stdout.as_slice()), (Some(0), b"300000 bytes".as_slice()), "{way:?}");
    }
    let mut client = world.ssh.start("ssh", &["gateway", "nc", VM, "9001"]);
    let (mut stdin, mut stdout) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    assert_eq!(stdout.read(&mut [0]).await.unwrap(), 0, "the VM's end arrives while the client goes on");
    stdin.write_all(&noise(300_000)).await.unwrap();
    drop(stdin);
    assert_eq!(hears.recv().await.unwrap().len(), 300_000);
    assert_eq!(client.wait().await.unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_is_off_is_started_with_progress_on_one_line() {
    let world = World::new().await;
    world.engine.delay(Verb::Start, Duration::from_millis(600));
    // What the client says meanwhile is kept.
    let done = world.ssh(&["gateway", "nc", VM, ECHO], b"early").await;
    assert_eq!((done.status, done.stdout.as_slice()), (Some(0), b"early".as_slice()), "{}", done.stderr);
    assert_eq!(without_times(&done.stderr), "vm-0 is off, starting it… ready in N s\n");
    let again = world.ssh(&["gateway", "nc", VM, ECHO], b"").await;
    assert_eq!(again.stderr, "", "nothing is said of a VM that runs");

    let id = world.vm_id().await;
    world.engine.power_off(&id);
    let third = world.ssh(&["gateway", "nc", VM, "22"], b"").await;
    assert_eq!(without_times(&third.stderr), "vm-0 is off, starting it (about N s)… ready in N s\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_starts_the_vm_without_a_word() {
    let world = World::new().await;
    world.engine.delay(Verb::Start, Duration::from_millis(300));
    let done = world.ssh(&["-W", &format!("{VM}:22"), "gateway"], b"").await;
    assert_eq!((done.status, done.stdout.as_slice()), (Some(0), b"SSH-2.0-Fake\r\n".as_slice()));
    assert_eq!(done.stderr, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_says_why_in_a_line_of_its_own() {
    let world = World::new().await;
    let reason = "its disk is full (10 GB of 10 GB)".to_owned();
    world.engine.fail(Verb::Start, Some(EngineError::StartFailed { reason }));
    let done = world.ssh(&["gateway", "nc", VM, "22"], b"").await;
    assert_eq!(done.status, Some(69));
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(lines.first(), Some(&"vm-0 is off, starting it…"));
    assert!(
        lines.last().unwrap().starts_with("vm-0 could not start: its disk is full (10 GB of 10 GB)."),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 2);
    let done = world.ssh(&["-W", &format!("{VM}:22"), "gateway"], b"").await;
    assert_eq!(done.status, Some(255));
    assert!(
        done.stderr.contains("connect failed: vm-0 could not start: its disk is full"),
        "{}",
        done.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_a_listener_says_so() {
    let world = World::awake().await;
    let done = world.ssh(&["gateway", "nc", VM, "4321"], b"").await;
    assert_eq!(done.status, Some(69));
    assert_eq!(done.stderr, "vm-0 is running, but nothing in it listens on port 4321.\n");
    let done = world.ssh(&["-W", &format!("{VM}:4321"), "gateway"], b"").await;
    assert!(
        done.stderr.contains("connect failed: vm-0 is running, but nothing in it listens on port 4321."),
        "{}",
        done.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_goes_off_ends_its_tunnels() {
    let world = World::awake().await;
    let mut client = world.ssh.start("ssh", &["gateway", "nc", VM, "22"]);
    let stdin = client.stdin.take().unwrap();
    let mut banner = [0; 14];
    client.stdout.as_mut().unwrap().read_exact(&mut banner).await.unwrap();
    let id = world.vm_id().await;
    world.engine.power_off(&id);
    assert_eq!(client.stdout.as_mut().unwrap().read(&mut [0]).await.unwrap(), 0);
    drop(stdin);
    client.wait().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rekeying_does_not_touch_the_bytes() {
    let world = World::awake().await;
    let bytes = noise(12_000_000);
    for way in [vec!["gateway", "nc", VM, ECHO], vec!["-W", "vm-0.alice.kd.io:8080", "gateway"]] {
        let args = [&["-v", "-o", "RekeyLimit=1M"], way.as_slice()].concat();
        let done = world.ssh(&args, &bytes).await;
        assert_eq!(done.status, Some(0));
        assert!(done.stdout == bytes, "{} bytes came back", done.stdout.len());
        let rekeys = done.stderr.matches("SSH2_MSG_NEWKEYS sent").count();
        assert!(rekeys > 5, "{rekeys} key exchanges");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_at_once() {
    let world = World::awake().await;
    let begun = Instant::now();
    let clients: Vec<_> = (0..200).map(|_| world.ssh(&["gateway", "nc", VM, "22"], b"")).collect();
    let mut done = 0;
    for (n, output) in futures_all(clients).await.into_iter().enumerate() {
        assert_eq!((output.status, output.stderr.as_str()), (Some(0), ""), "client {n}");
        assert_eq!(output.stdout, b"SSH-2.0-Fake\r\n");
        done += 1;
    }
    assert_eq!(done, 200);
    eprintln!("200 clients in {:?}", begun.elapsed());
    eventually("their tunnels are gone", || world.engine.connections() == 0).await;
}

/// All of them at once.
async fn futures_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut waits = false;
        for (future, output) in &mut pending {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => waits = true,
                }
            }
        }
        if waits { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    pending.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_twenty_tunnels_and_one_that_is_not_read_stops_none() {
    let world = World::awake().await;
    world.engine.serve(9000, Service::stalls());
    let control = world.ssh.file("mux");
    let mux = format!("ControlPath={}", control.display());
    let mut master = world.ssh.start("ssh", &["-M", "-N", "-o", &mux, "gateway"]);
    eventually("the master listens", || control.exists()).await;

    let share = ["-o", mux.as_str()];
    let through = |port: &'static str| [&share[..], &["gateway", "nc", VM, port]].concat();
    let mut tunnels = Vec::new();
    for _ in 0..20 {
        let mut client = world.ssh.start("ssh", &through(ECHO));
        let (stdin, stdout) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
        tunnels.push((client, stdin, stdout));
    }
    let mut stuck = world.ssh.start("ssh", &through("9000"));
    let mut into_stuck = stuck.stdin.take().unwrap();
    let bytes = noise(1 << 20);
    let mut sent = 0;
    // Until nothing goes in any more.
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(2), into_stuck.write(&bytes)).await {
        sent += written.unwrap();
        assert!(sent < 64 << 20, "somebody takes everything");
    }
    assert!(sent > 1 << 20, "{sent} bytes went in");

    let mut slowest = Duration::ZERO;
    for round in 0..5_u8 {
        for (_, stdin, stdout) in &mut tunnels {
            let begun = Instant::now();
            stdin.write_all(&[round; 100]).await.unwrap();
            let mut back = [0; 100];
            tokio::time::timeout(Duration::from_secs(5), stdout.read_exact(&mut back))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(back, [round; 100]);
            slowest = slowest.max(begun.elapsed());
        }
    }
    eprintln!("{sent} bytes stuck; slowest echo of a neighbour {slowest:?}");
    // A neighbour in a hurry still gets its megabytes through.
    let bulk = world.ssh(&through("8080"), &noise(1_000_000)).await;
    assert_eq!((bulk.status, bulk.stdout.len()), (Some(0), 1_000_000));
    drop(into_stuck);
    stuck.start_kill().unwrap();
    for (mut client, stdin, _) in tunnels {
        drop(stdin);
        assert_eq!(client.wait().await.unwrap().code(), Some(0));
    }
    // With the stuck one gone, everything is as fast as before.
    let bulk = world.ssh(&through("8080"), &noise(20_000_000)).await;
    assert_eq!((bulk.status, bulk.stdout.len()), (Some(0), 20_000_000));
    master.start_kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_stops_only_itself() {
    let world = World::awake().await;
    world.engine.serve(9000, Service::pours(64 << 20));
    let control = world.ssh.file("mux");
    let mux = format!("ControlPath={}", control.display());
    let mut master = world.ssh.start("ssh", &["-M", "-N", "-o", &mux, "gateway"]);
    eventually("the master listens", || control.exists()).await;
    let mut stuck = world.ssh.start("ssh", &["-o", &mux, "gateway", "nc", VM, "9000"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let done = world.ssh(&["-o", &mux, "gateway", "nc", VM, ECHO], &noise(5_000_000)).await;
    assert_eq!((done.status, done.stdout.len()), (Some(0), 5_000_000));
    // A client of a master keeps its own standard output open until both sides have ended.
    drop(stuck.stdin.take());
    let mut all = Vec::new();
    let mut stdout = stuck.stdout.take().unwrap();
    stdout.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 64 << 20);
    master.start_kill().unwrap();
}
