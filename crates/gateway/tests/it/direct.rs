//! Clients that log in under the name of a VM. The VM's sshd is one in memory.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use berth_testkit::{FakeEngine, Output, Service, Sshd, Verb};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Child,
    time::timeout,
};

use russh::ChannelMsg;

use crate::{
    protocol::log_in,
    world::{World, account, eventually},
};

const SOON: Duration = Duration::from_secs(20);

/// The world with an sshd in alice's VM, which runs.
struct Inside {
    world: World,
    sshd: Sshd,
}

/// An sshd that lets in whom the guest does.
pub(crate) async fn sshd_of(world: &World) -> Sshd {
    let id = world.vm_id().await;
    let host_key = world.engine.guest(&id).unwrap().host_key;
    let guest: FakeEngine = world.engine.clone();
    let sshd = Sshd::new(host_key.expose(), move || guest.authorized_keys(&id).unwrap_or_default());
    serve(world, &sshd);
    sshd
}

fn serve(world: &World, sshd: &Sshd) {
    let sshd = sshd.clone();
    world.engine.serve(
        22,
        Service::new(move |stream| {
            let sshd = sshd.clone();
            async move { sshd.serve(stream).await }
        }),
    );
}

impl Inside {
    async fn new() -> Self {
        let world = World::awake().await;
        let sshd = sshd_of(&world).await;
        Self { world, sshd }
    }

    /// `ssh -l vm-0 … gateway …`
    async fn ssh(&self, args: &[&str], stdin: &[u8]) -> Output {
        self.world.ssh(&[&["-l", "vm-0"], args].concat(), stdin).await
    }

    fn start(&self, args: &[&str]) -> Child {
        self.world.ssh.start("ssh", &[&["-l", "vm-0"], args].concat())
    }

    fn saw(&self, what: &str) -> bool {
        self.sshd.seen().iter().any(|seen| seen == what)
    }

    /// How many bytes a flood has got rid of when it stands still, since everything that it can go into is full.
    async fn flooded(&self) -> usize {
        let (mut before, mut still) = (0, 0);
        // More than the queue of its channel in the gateway holds, and no more for a second.
        while still < 4 || before < 1 << 20 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let now = self.sshd.flooded();
            still = if now == before { still + 1 } else { 0 };
            before = now;
        }
        before
    }

    /// A ControlMaster without a session, and the option with which others share it.
    async fn master(&self, args: &[&str]) -> (Child, String) {
        let control = self.world.ssh.file("direct-mux");
        let mux = format!("ControlPath={}", control.display());
        let master = self.start(&[&["-M", "-N", "-o", &mux], args, &["gateway"]].concat());
        eventually("the master listens", || control.exists()).await;
        (master, mux)
    }
}

async fn say(child: &mut Child, words: &[u8]) {
    child.stdin.as_mut().unwrap().write_all(words).await.unwrap();
}

async fn hear(child: &mut Child, bytes: usize) -> Vec<u8> {
    let mut heard = vec![0; bytes];
    timeout(SOON, child.stdout.as_mut().unwrap().read_exact(&mut heard)).await.unwrap().unwrap();
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_vm_leads_into_it() {
    let inside = Inside::new().await;
    for name in ["vm-0", "VM-0", "vm-0.alice", "vm-0.Alice.koding", "alice.kd.io", "vm-0.alice.koding.KD.io"]
    {
        let done = inside.world.ssh(&["-l", name, "gateway", "some command"], b"hello").await;
        assert_eq!(
            (done.status, done.stdout.as_slice(), done.stderr.as_str()),
            (Some(0), &b"hello"[..], ""),
            "{name}"
        );
    }
    assert!(inside.saw("log-in alice") && inside.saw("exec some command") && inside.saw("typed 5"));
    let trail = {
        let host = inside.world.control.acting(berth_control::Actor::host());
        host.activity(&account("alice"), None).await.unwrap()
    };
    assert!(trail.iter().any(|line| format!("{:?}", line.kind) == "SshOpened"), "{trail:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_no_vm_or_anothers_leads_nowhere_and_says_so() {
    let inside = Inside::new().await;
    for (name, host) in [
        ("vm-1", "vm-1.alice.kd.io"),
        ("vm-00", "vm-00.alice.kd.io"),
        ("vm-0.bob", "vm-0.bob.kd.io"),
        ("vm-0.nobody.koding", "vm-0.nobody.koding.kd.io"),
        ("shared-0", "shared-0.koding.kd.io"),
    ] {
        let done = inside.world.ssh(&["-l", name, "gateway", "id"], b"").await;
        assert_eq!(done.status, Some(68), "{name}");
        assert_eq!(done.stderr, format!("There is no VM {host} that you can enter. Yours: vm-0.\n"));
    }
    let done = inside.world.ssh(&["-l", "vm-0.bob", "-W", "localhost:7", "gateway"], b"").await;
    assert!(done.stderr.contains("There is no VM vm-0.bob.kd.io that you can enter."), "{}", done.stderr);
    assert_eq!(inside.sshd.seen(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_a_session_goes_across() {
    let inside = Inside::new().await;
    for (typed, status, out, err) in [
        (&b"exit"[..], Some(7), &b""[..], ""),
        (b"kill", Some(255), b"", ""),
        (b"warn", Some(0), b"", "careful"),
        (b"what is typed", Some(0), b"what is typed", ""),
    ] {
        let done = inside.ssh(&["gateway", "run"], typed).await;
        assert_eq!((done.status, done.stdout.as_slice()), (status, out), "{done:?}");
        assert!(done.stderr.ends_with(err), "{done:?}");
    }
    let done = inside.ssh(&["-tt", "-o", "SetEnv=LANG=tlh", "gateway"], b"x").await;
    assert_eq!(done.status, Some(0), "{done:?}");
    let done = inside.ssh(&["-s", "gateway", "sftp"], b"packet").await;
    assert_eq!((done.status, done.stdout.as_slice()), (Some(0), &b"packet"[..]));
    let refused = inside.ssh(&["-s", "gateway", "another"], b"").await;
    assert_eq!(refused.status, Some(255));
    assert!(refused.stderr.contains("subsystem request failed on channel 0"), "{}", refused.stderr);
    for seen in ["env LANG=tlh", "shell", "subsystem sftp"] {
        assert!(inside.saw(seen), "{seen}: {:?}", inside.sshd.seen());
    }
    assert!(inside.sshd.seen().iter().any(|seen| seen.starts_with("pty ")));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_lead_on_from_the_vm() {
    let inside = Inside::new().await;
    // No more than the fake's network holds: russh writes or reads, so two of them can wait for each other. A real sshd
    // does both, and e2e has the megabytes.
    let bytes = vec![7; 50_000];
    let done = inside.ssh(&["-W", "far.example:7", "gateway"], &bytes).await;
    assert!(done.stdout == bytes, "{} bytes, {}", done.stdout.len(), done.stderr);
    assert!(inside.saw("to far.example:7"));
    let done = inside.ssh(&["-W", "localhost:8", "gateway"], b"").await;
    assert!(done.stderr.contains("what it should lead to does not answer"), "{}", done.stderr);

    let local = inside.world.ssh.file("local.sock");
    let forward = format!("{}:/echo", local.display());
    let mut client = inside.start(&["-N", "-L", &forward, "gateway"]);
    eventually("ssh listens", || local.exists()).await;
    let mut stream = tokio::net::UnixStream::connect(&local).await.unwrap();
    stream.write_all(b"through").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut echo = Vec::new();
    timeout(SOON, stream.read_to_end(&mut echo)).await.unwrap().unwrap();
    assert_eq!(echo, b"through");
    client.start_kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vm_opens_what_was_asked_for_and_nothing_else() {
    let inside = Inside::new().await;
    for word in [&b"agent"[..], b"x11", b"port 8000", b"socket /s"] {
        let done = inside.ssh(&["gateway", "run"], word).await;
        assert_eq!(done.stdout, b"refused", "{}", String::from_utf8_lossy(word));
    }
    // Whoever answers on the laptop.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut ping = [0; 4];
            stream.read_exact(&mut ping).await.unwrap();
            stream.write_all(b"pong").await.unwrap();
        }
    };
    let asking = async {
        for (remote, word) in [("localhost:8000", "port 8000"), ("/s", "socket /s")] {
            let forward = format!("{remote}:127.0.0.1:{port}");
            let done = inside.ssh(&["-R", &forward, "gateway", "run"], word.as_bytes()).await;
            assert_eq!(done.stdout, b"pong", "{word}: {}", done.stderr);
            let done = inside.ssh(&["-R", &forward, "gateway", "run"], b"port 8001").await;
            assert_eq!(done.stdout, b"refused", "another port");
        }
        let chosen =
            inside.ssh(&["-R", &format!("0:127.0.0.1:{port}"), "gateway", "run"], b"port 4444").await;
        assert_eq!(chosen.stdout, b"pong");
        assert!(chosen.stderr.contains("Allocated port 4444"), "{}", chosen.stderr);
        let refused =
            ["-o", "ExitOnForwardFailure=yes", "-R", &format!("23:127.0.0.1:{port}"), "gateway", "run"];
        assert_eq!(inside.ssh(&refused, b"").await.status, Some(255));
    };
    tokio::select! {
        () = asking => {}
        () = answering => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_vm_does_not_listen_on_takes_no_place() {
    let inside = Inside::new().await;
    // As many as there are places, and the VM refuses each.
    let refused: Vec<String> = (1..=64).map(|n| format!("23:127.0.0.1:{n}")).collect();
    let mut args: Vec<&str> = refused.iter().flat_map(|forward| ["-R", forward]).collect();
    args.extend(["-R", "8000:127.0.0.1:9"]);
    let (mut master, mux) = inside.master(&args).await;
    eventually("the VM listens", || inside.saw("listen localhost:8000")).await;
    let asks = async |verb: &str, forward: &str| {
        let args = ["-o", &mux, "-O", verb, "-R", forward, "gateway"];
        inside.world.ssh.run("ssh", &args, b"").await.status
    };
    for n in 1..=63 {
        assert_eq!(asks("forward", &format!("{}:127.0.0.1:9", 8000 + n)).await, Some(0), "{n}");
    }
    assert_eq!(asks("forward", "9000:127.0.0.1:9").await, Some(255), "the VM listens on 64");
    assert!(!inside.saw("listen localhost:9000"));
    for n in 0..3 {
        let (one, another) = (format!("{}:127.0.0.1:9", 8001 + n), format!("{}:127.0.0.1:9", 9001 + n));
        assert_eq!(asks("cancel", &one).await, Some(0), "{n}");
        eventually("it ends", || inside.saw(&format!("no longer localhost:{}", 8001 + n))).await;
        assert_eq!(asks("forward", &another).await, Some(0), "{n}");
    }
    assert_eq!(asks("forward", "9000:127.0.0.1:9").await, Some(255), "it is 64 again");
    master.start_kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_comes_up_is_waited_for_with_a_line() {
    let inside = Inside::new().await;
    let id = inside.world.vm_id().await;
    inside.world.engine.power_off(&id);
    inside.world.engine.delay(Verb::Start, Duration::from_millis(600));
    let done = inside.ssh(&["gateway", "run"], b"typed early").await;
    assert_eq!((done.status, done.stdout.as_slice()), (Some(0), &b"typed early"[..]), "{}", done.stderr);
    assert!(done.stderr.starts_with("vm-0 is off, starting it"), "{}", done.stderr);
    assert!(done.stderr.contains("… ready in ") && done.stderr.ends_with(" s\n"), "{}", done.stderr);
    let done = inside.ssh(&["gateway", "run"], b"again").await;
    assert_eq!(done.stderr, "", "nothing is said of a VM that runs");

    inside.world.control.sleep_vm(&"vm-0.alice.koding".parse().unwrap()).await.unwrap();
    let done = inside.ssh(&["-s", "gateway", "another"], b"").await;
    assert_eq!(done.status, Some(69), "{}", done.stderr);
    assert!(done.stderr.ends_with("The sshd in vm-0 refused this subsystem.\n"), "{:?}", done.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_does_not_come_up_or_is_another_says_why() {
    let inside = Inside::new().await;
    let id = inside.world.vm_id().await;
    // Another host key.
    let strange = inside.world.ssh.new_key("strange_host", &["-t", "ed25519"]).await;
    assert!(!strange.is_empty());
    let key = std::fs::read_to_string(inside.world.ssh.file("strange_host")).unwrap();
    let stranger = Sshd::new(&key, String::new);
    let serving = stranger.clone();
    inside.world.engine.serve(
        22,
        Service::new(move |stream| {
            let sshd = serving.clone();
            async move { sshd.serve(stream).await }
        }),
    );
    let done = inside.ssh(&["gateway", "run"], b"").await;
    assert_eq!(done.status, Some(69), "{}", done.stderr);
    assert!(done.stderr.starts_with("What answers in this VM has another ssh host key"), "{}", done.stderr);
    assert_eq!(stranger.seen(), [""; 0]);

    inside.world.engine.power_off(&id);
    let reason = "its disk is full".to_owned();
    inside.world.engine.fail(Verb::Start, Some(berth_engine::EngineError::StartFailed { reason }));
    let done = inside.ssh(&["gateway", "run"], b"").await;
    assert_eq!(done.status, Some(69), "{}", done.stderr);
    // Alone where the start has failed before there was anything to wait for, else on a line of its own.
    let mut lines = done.stderr.lines();
    assert!(lines.any(|line| line.starts_with("vm-0 could not start: its disk is full.")), "{}", done.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_stops_nobody_else() {
    let inside = Inside::new().await;
    let (mut master, mux) = inside.master(&[]).await;
    let shared = ["-o", &mux, "-o", "ControlMaster=no", "gateway", "run"];
    let mut slow = inside.start(&shared);
    say(&mut slow, b"flood").await;
    hear(&mut slow, 1).await;
    let before = inside.flooded().await;
    assert!(before < 16 << 20, "{before} bytes were taken for a reader that reads none");
    for n in 0..3 {
        let begun = Instant::now();
        let done = inside.world.ssh.run("ssh", &shared, b"neighbour").await;
        assert_eq!(
            (done.status, done.stdout.as_slice()),
            (Some(0), &b"neighbour"[..]),
            "{n}: {}",
            done.stderr
        );
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    // Streams neither.
    let mut stream = inside.start(&["-o", &mux, "-o", "ControlMaster=no", "-W", "localhost:7", "gateway"]);
    say(&mut stream, b"quick").await;
    assert_eq!(hear(&mut stream, 5).await, b"quick");
    assert_eq!(inside.sshd.flooded(), before);
    master.start_kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_lines_are_shared_it_is_not_with_a_reader_that_stops() {
    let inside = Inside::new().await;
    let (mut master, mux) = inside.master(&[]).await;
    let shared = ["-o", &mux, "-o", "ControlMaster=no", "gateway", "run"];
    let mut slow = inside.start(&shared);
    say(&mut slow, b"flood").await;
    hear(&mut slow, 1).await;
    // One on each of the other lines, and twice as many as there are lines after that.
    let mut sessions = Vec::new();
    for n in 0..17 {
        if n == 5 {
            inside.flooded().await;
        }
        let mut session = inside.start(&shared);
        let word = format!("{n:04}");
        say(&mut session, word.as_bytes()).await;
        assert_eq!(hear(&mut session, 4).await, word.as_bytes());
        sessions.push(session);
    }
    assert_eq!(inside.world.engine.connections(), 6);
    master.kill().await.unwrap();
}

/// Twice as many sessions as there are lines, and one is not read any more.
#[tokio::test(flavor = "multi_thread")]
async fn who_shares_a_line_with_a_reader_that_stops_is_heard_all_the_same() {
    let inside = Inside::new().await;
    let (mut master, mux) = inside.master(&[]).await;
    let shared = ["-o", &mux, "-o", "ControlMaster=no", "gateway", "run"];
    let mut sessions = Vec::new();
    for _ in 0..12 {
        let mut session = inside.start(&shared);
        say(&mut session, b"here").await;
        assert_eq!(hear(&mut session, 4).await, b"here");
        sessions.push(session);
    }
    assert_eq!(inside.world.engine.connections(), 6);
    let mut slow = sessions.remove(0);
    say(&mut slow, b"flood").await;
    hear(&mut slow, 1).await;
    let sshd = inside.sshd.clone();
    // What ssh takes without being read, and what may wait for it in the gateway.
    eventually("what it does not read trickles", || sshd.flooded() > 4 << 20).await;
    for n in 0..3 {
        for session in &mut sessions {
            let word = format!("{n:04}");
            say(session, word.as_bytes()).await;
            assert_eq!(hear(session, 4).await, word.as_bytes());
        }
    }
    // And it has lost nothing.
    let bytes = inside.sshd.flooded();
    assert!(hear(&mut slow, bytes - 1).await.iter().all(|byte| *byte == b'y'));
    master.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_stops_reading_stops_nobody_else() {
    let inside = Inside::new().await;
    let (mut master, mux) = inside.master(&[]).await;
    let shared = ["-o", &mux, "-o", "ControlMaster=no"];
    let mut stuck = inside.start(&[&shared[..], &["gateway", "run"]].concat());
    say(&mut stuck, b"stuck").await;
    eventually("it runs", || inside.saw("exec run")).await;
    let mut stdin = stuck.stdin.take().unwrap();
    let bytes = vec![0; 1 << 20];
    while timeout(Duration::from_millis(500), stdin.write(&bytes)).await.is_ok() {}
    for args in [&["-W", "localhost:7", "gateway"][..], &["gateway", "run"]] {
        let done = inside.ssh(&[&shared[..], args].concat(), b"neighbour").await;
        assert_eq!(done.stdout, b"neighbour", "{}", done.stderr);
    }
    stuck.start_kill().unwrap();
    master.start_kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_share_a_few_connections_into_the_vm() {
    let inside = Inside::new().await;
    let (mut master, mux) = inside.master(&[]).await;
    let shared = ["-o", &mux, "-o", "ControlMaster=no", "gateway", "run"];
    let mut sessions = Vec::new();
    for n in 0..20 {
        let mut session = inside.start(&shared);
        let word = format!("{n:04}");
        say(&mut session, word.as_bytes()).await;
        assert_eq!(hear(&mut session, 4).await, word.as_bytes());
        sessions.push(session);
    }
    assert_eq!(inside.world.engine.connections(), 6);
    for mut session in sessions {
        say(&mut session, b"exit").await;
        assert_eq!(timeout(SOON, session.wait()).await.unwrap().unwrap().code(), Some(7));
    }
    master.kill().await.unwrap();
    eventually("nothing is left in the VM", || inside.world.engine.connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_ends_a_session_within_a_second() {
    let inside = Inside::new().await;
    let mut typed = inside.start(&["gateway", "run"]);
    let mut flooded = inside.start(&["gateway", "run"]);
    for (session, word) in [(&mut typed, &b"here"[..]), (&mut flooded, b"flood")] {
        say(session, word).await;
        hear(session, 4).await;
    }
    let key = inside.world.control.keys(&account("alice")).await.unwrap().remove(0);
    let begun = Instant::now();
    inside.world.control.remove_key(&account("alice"), &key.id).await.unwrap();
    let ended = timeout(Duration::from_secs(1), typed.wait_with_output()).await.unwrap().unwrap();
    eprintln!("out {:?} after the removal began", begun.elapsed());
    assert_eq!(ended.status.code(), Some(255));
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(told.contains("The key of this connection was removed or has expired."), "{told}");
    eventually("the VM is let go", || inside.world.engine.connections() == 0).await;
    flooded.start_kill().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_ends_the_connection_ends_the_client() {
    let inside = Inside::new().await;
    for word in [&b"vanish"[..], b"off"] {
        let mut session = inside.start(&["gateway", "run"]);
        say(&mut session, b"here").await;
        hear(&mut session, 4).await;
        // Held, so that its end does not come first.
        let mut stdin = session.stdin.take().unwrap();
        if word == b"off" {
            let id = inside.world.vm_id().await;
            inside.world.engine.power_off(&id);
        } else {
            stdin.write_all(word).await.unwrap();
        }
        let ended = timeout(SOON, session.wait_with_output()).await.unwrap().unwrap();
        assert_eq!(ended.status.code(), Some(255), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    // A client that waits for forwards alone hears of it, too.
    inside.world.wake().await;
    let mut forwards = inside.start(&["-N", "-R", "8000:127.0.0.1:9", "gateway"]);
    eventually("the VM listens", || inside.saw("listen localhost:8000")).await;
    let id = inside.world.vm_id().await;
    inside.world.engine.power_off(&id);
    let ended = timeout(SOON, forwards.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(255));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_signals_of_a_terminal_arrive() {
    let inside = Inside::new().await;
    let mut command = inside.world.ssh.command("ssh", &["-l", "vm-0", "-tt", "gateway"]);
    let mut session = command.stderr(Stdio::null()).spawn().unwrap();
    say(&mut session, b"echo").await;
    assert_eq!(hear(&mut session, 4).await, b"echo");
    session.start_kill().unwrap();
    assert!(inside.saw("shell"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_next_finds_a_connection_that_waits() {
    let inside = Inside::new().await;
    let id = inside.world.vm_id().await;
    let waits = |log_ins: usize| {
        let inside = &inside;
        move || {
            let seen = inside.sshd.seen();
            let of_clients = inside.world.control.connections("", 9).1;
            (of_clients, inside.world.engine.connections()) == (0, 1)
                && seen.iter().filter(|seen| *seen == "log-in alice").count() >= log_ins
        }
    };
    let run = async |what: &str| {
        let done = inside.ssh(&["gateway", what], b"exit").await;
        assert_eq!((done.status, done.stderr.as_str()), (Some(7), ""), "{what}: {done:?}");
    };
    run("one").await;
    eventually("a connection waits, and is nobody's", waits(2)).await;
    // Nobody comes in by another one.
    inside.world.engine.serve(22, Service::refuses());
    run("two").await;
    assert!(inside.saw("exec two"));

    serve(&inside.world, &inside.sshd);
    run("three").await;
    eventually("another one waits", waits(4)).await;
    inside.world.engine.reboot(&id);
    // Another one may have been made in the guest that is there now.
    let log_ins = || inside.sshd.seen().iter().filter(|seen| *seen == "log-in alice").count();
    eventually("it has ended with the guest", || inside.world.engine.connections() == 0 || log_ins() > 4)
        .await;
    run("four").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_waits_goes_with_the_key() {
    let inside = Inside::new().await;
    let done = inside.ssh(&["gateway", "one"], b"exit").await;
    assert_eq!(done.status, Some(7), "{done:?}");
    let open = || (inside.world.control.connections("", 9).1, inside.world.engine.connections());
    eventually("a connection waits", || open() == (0, 1)).await;
    let key = &inside.world.control.keys(&account("alice")).await.unwrap()[0];
    inside.world.control.remove_key(&account("alice"), &key.fingerprint.to_string()).await.unwrap();
    eventually("it has ended", || open() == (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_fails_before_anything_was_asked_is_told_to_who_asks() {
    let inside = Inside::new().await;
    inside.world.engine.power_off(&inside.world.vm_id().await);
    let reason = "its disk is full".to_owned();
    inside.world.engine.fail(Verb::Start, Some(berth_engine::EngineError::StartFailed { reason }));
    let client = log_in(&inside.world, "vm-0").await;
    let mut channel = client.channel_open_session().await.unwrap();
    let mut told = String::new();
    // What is waited for is told at once. The reason waits for whoever wants something to run.
    while let Ok(message) = timeout(Duration::from_millis(500), channel.wait()).await {
        let Some(ChannelMsg::ExtendedData { data, .. }) = message else {
            panic!("{message:?} after {told:?}")
        };
        told.push_str(std::str::from_utf8(&data).unwrap());
    }
    assert!(!told.contains("could not start"), "{told}");
    channel.exec(true, "run").await.unwrap();
    let mut status = None;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Failure => panic!("it is refused after {told:?}"),
            ChannelMsg::ExtendedData { data, .. } => told.push_str(std::str::from_utf8(&data).unwrap()),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    assert_eq!(status, Some(69), "{told}");
    assert!(told.contains("vm-0 could not start: its disk is full."), "{told}");
}
