//! Tunnels to the sshd of a VM that boots: it is answered for, in words that it keeps.

use std::time::{Duration, Instant};

use berth_engine::EngineError;
use berth_testkit::{Output, Service, Verb};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    guest::{ANSWER, Guest},
    world::{VM, World, eventually, noise},
};

/// How many seconds a client waits for an identification, and a start that takes longer. Fewer would be too few for a
/// machine that is busy with other tests.
const PATIENCE: u32 = 5;
const LONGER: Duration = Duration::from_millis(5500);
const FAKE: &[u8] = b"SSH-2.0-Fake\r\n";

#[derive(Debug, Clone, Copy)]
enum Way {
    Exec,
    Forward,
}

const WAYS: [Way; 2] = [Way::Exec, Way::Forward];

impl Way {
    /// The bytes of a tunnel to `port`, on standard input and output.
    fn tunnel(self, port: &str) -> Vec<String> {
        let (host_and_port, port) = (format!("{VM}:{port}"), port.to_owned());
        match self {
            Self::Exec => vec!["gateway".into(), "nc".into(), VM.into(), port],
            Self::Forward => vec!["-W".into(), host_and_port, "gateway".into()],
        }
    }

    /// The option with which an ssh takes this way.
    fn option(self, world: &World) -> String {
        match self {
            Self::Exec => {
                format!("ProxyCommand=ssh -F {} gateway nc %h %p", world.ssh.file("config").display())
            }
            Self::Forward => "ProxyJump=gateway".into(),
        }
    }
}

/// `ssh VM hello`, as a client that waits `patience` seconds for an identification.
async fn log_in(world: &World, way: Way, patience: u32) -> Output {
    let timeout = format!("ConnectTimeout={patience}");
    world.ssh(&["-o", &way.option(world), "-o", &timeout, VM, "hello"], b"").await
}

/// Connects once, so that the VM's identification is known, and switches the VM off.
async fn see_it_once(world: &World) {
    world.wake().await;
    let seen = world.ssh(&["gateway", "nc", VM, "22"], b"").await;
    assert_eq!(seen.status, Some(0), "{}", seen.stderr);
    world.engine.power_off(&world.vm_id().await);
}

/// The same with an sshd that can be logged in to.
async fn with_sshd(identification: &'static str) -> (World, Guest) {
    let world = World::new().await;
    let guest = Guest::new(&world.ssh);
    world.engine.serve(22, guest.sshd("", identification));
    see_it_once(&world).await;
    (world, guest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_up_after_15_s_waits_for_a_boot_of_40_s() {
    // At once, since most of it is waiting.
    tokio::join!(a_long_boot_is_waited_for(Way::Exec), a_long_boot_is_waited_for(Way::Forward));
}

async fn a_long_boot_is_waited_for(way: Way) {
    const BOOT: Duration = Duration::from_secs(40);
    const PATIENCE: u32 = 15;
    let (world, _guest) = with_sshd("SSH-2.0-OpenSSH_10.0p2 Debian-7").await;
    world.engine.delay(Verb::Start, BOOT);
    let begun = Instant::now();
    let done = log_in(&world, way, PATIENCE).await;
    assert_eq!((done.status, done.stdout.as_slice()), (Some(0), ANSWER), "{way:?}: {}", done.stderr);
    assert!(begun.elapsed() >= BOOT, "{way:?}");
    match way {
        Way::Exec => {
            assert!(
                done.stderr.starts_with("vm-0 is off, starting it (about 1 s)… ready in 4"),
                "{}",
                done.stderr
            );
        }
        Way::Forward => assert_eq!(done.stderr, ""),
    }
    // One that runs is not spoken for, and nothing is said of it.
    let done = log_in(&world, way, PATIENCE).await;
    assert_eq!((done.status, done.stdout.as_slice()), (Some(0), ANSWER), "{way:?}: {}", done.stderr);
    assert_eq!(done.stderr, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_nobody_has_seen_is_not_spoken_for() {
    for way in WAYS {
        let world = World::new().await;
        let guest = Guest::new(&world.ssh);
        world.engine.serve(22, guest.sshd("", "SSH-2.0-New"));
        world.engine.delay(Verb::Start, Duration::from_secs(3));
        let done = log_in(&world, way, 1).await;
        assert_eq!(done.status, Some(255), "{way:?}");
        assert!(done.stderr.contains("Connection timed out during banner exchange"), "{}", done.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sends_early_arrives_in_order() {
    let world = World::new().await;
    see_it_once(&world).await;
    world.engine.delay(Verb::Start, LONGER);
    let bytes = noise(1_500_000);
    for way in WAYS {
        let args = way.tunnel("22");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let begun = Instant::now();
        let mut client = world.ssh.start("ssh", &args);
        let (mut stdin, mut stdout) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
        let mut early = vec![0; FAKE.len()];
        stdout.read_exact(&mut early).await.unwrap();
        assert_eq!(early, FAKE);
        assert!(begun.elapsed() < LONGER, "{way:?}: {:?}", begun.elapsed());
        let echo = async {
            let mut back = Vec::new();
            stdout.read_to_end(&mut back).await.unwrap();
            back
        };
        let feed = async {
            stdin.write_all(&bytes).await.unwrap();
            drop(stdin);
        };
        let (back, ()) = tokio::join!(echo, feed);
        assert!(back == bytes, "{way:?}: {} bytes came back", back.len());
        assert_eq!(client.wait().await.unwrap().code(), Some(0));
        world.engine.power_off(&world.vm_id().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_ssh_is_spoken_for() {
    let world = World::new().await;
    see_it_once(&world).await;
    for port in ["80", "2222"] {
        world.engine.serve(port.parse().unwrap(), Service::greeting(b"hello"));
    }
    world.engine.delay(Verb::Start, Duration::from_millis(800));
    for (way, port) in WAYS.into_iter().zip(["80", "2222"]) {
        let begun = Instant::now();
        let args = way.tunnel(port);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut client = world.ssh.start("ssh", &args);
        let mut first = [0; 5];
        client.stdout.as_mut().unwrap().read_exact(&mut first).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(800), "{way:?}: {:?}", begun.elapsed());
        assert_eq!(&first, b"hello");
        world.engine.power_off(&world.vm_id().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_before_the_identification_are_left_out_with_it() {
    let (world, guest) = with_sshd("SSH-2.0-Talks").await;
    world.engine.serve(22, guest.sshd("Welcome.\r\nTo this VM.\n", "SSH-2.0-Talks"));
    world.engine.delay(Verb::Start, LONGER);
    for way in WAYS {
        let done = log_in(&world, way, PATIENCE).await;
        assert_eq!((done.status, done.stdout.as_slice()), (Some(0), ANSWER), "{way:?}: {}", done.stderr);
        world.engine.power_off(&world.vm_id().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_identification_ends_the_tunnel_and_the_next_try_works() {
    for way in WAYS {
        let (world, guest) = with_sshd("SSH-2.0-Old").await;
        world.engine.serve(22, guest.sshd("", "SSH-2.0-New"));
        world.engine.delay(Verb::Start, LONGER);
        let done = log_in(&world, way, PATIENCE).await;
        assert_eq!(done.status, Some(255), "{way:?}");
        let said = "vm-0 has another version of its ssh server than before. Connect again.";
        assert_eq!(done.stderr.matches(said).count(), 1, "{way:?}: {}", done.stderr);
        let again = log_in(&world, way, 20).await;
        assert_eq!((again.status, again.stderr.as_str()), (Some(0), ""), "{way:?}");
        // It is known by now, so the next boot is answered for rightly.
        world.engine.power_off(&world.vm_id().await);
        let booted = log_in(&world, way, PATIENCE).await;
        assert_eq!(
            (booted.status, booted.stdout.as_slice()),
            (Some(0), ANSWER),
            "{way:?}: {}",
            booted.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_that_fails_is_told_after_an_early_word_too() {
    for way in WAYS {
        let (world, _guest) = with_sshd("SSH-2.0-Fake").await;
        let reason = "its disk is full (10 GB of 10 GB)".to_owned();
        world.engine.fail(Verb::Start, Some(EngineError::StartFailed { reason }));
        world.engine.delay(Verb::Start, LONGER);
        let done = log_in(&world, way, PATIENCE).await;
        assert_eq!((done.status, done.stdout.as_slice()), (Some(255), b"".as_slice()), "{way:?}");
        let said = "vm-0 could not start: its disk is full (10 GB of 10 GB). Nothing was lost.";
        assert_eq!(done.stderr.matches(said).count(), 1, "{way:?}: {}", done.stderr);
    }
    let world = World::new().await;
    see_it_once(&world).await;
    world.engine.fail(Verb::Start, Some(EngineError::StartFailed { reason: "x".into() }));
    let done = world.ssh(&["gateway", "nc", VM, "22"], b"").await;
    assert_eq!(done.status, Some(69));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sshd_that_hangs_up_is_told_after_an_early_word_too() {
    for way in WAYS {
        let (world, _guest) = with_sshd("SSH-2.0-Fake").await;
        world.engine.serve(
            22,
            Service::new(|mut stream| async move {
                stream.write_all(b"Not allowed at this time\r\n").await.unwrap();
            }),
        );
        world.engine.delay(Verb::Start, LONGER);
        let done = log_in(&world, way, PATIENCE).await;
        assert_eq!(done.status, Some(255), "{way:?}");
        let said = "vm-0 ended the connection to port 22.";
        assert_eq!(done.stderr.matches(said).count(), 1, "{way:?}: {}", done.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_during_the_boot_leaves_nothing() {
    let world = World::new().await;
    see_it_once(&world).await;
    world.engine.delay(Verb::Start, Duration::from_millis(800));
    for way in WAYS {
        let args = way.tunnel("22");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let dials = world.engine.calls(Verb::Dial, None);
        let mut client = world.ssh.start("ssh", &args);
        let mut early = vec![0; FAKE.len()];
        client.stdout.as_mut().unwrap().read_exact(&mut early).await.unwrap();
        client.kill().await.unwrap();
        // The boot goes on by itself.
        world.wake().await;
        assert_eq!(world.engine.connections(), 0, "{way:?}");
        assert_eq!(world.engine.calls(Verb::Dial, None), dials, "{way:?}");
        let again = world.ssh(&args, b"").await;
        assert_eq!((again.status, again.stdout.as_slice()), (Some(0), FAKE), "{way:?}: {}", again.stderr);
        eventually("its tunnel is gone", || world.engine.connections() == 0).await;
        world.engine.power_off(&world.vm_id().await);
    }
}
