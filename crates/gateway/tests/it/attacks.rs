//! What somebody tries who wants in and may not, or wants to disturb. docs/security.md lists all attacks and their tests.

use std::time::Duration;

use berth_control::{ConnectError, EntryError};
use berth_testkit::Service;
use russh::{
    ChannelOpenFailure, Error,
    keys::{Algorithm, PrivateKey, load_secret_key},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

use crate::{
    protocol::log_in,
    raw::{
        CHANNEL_OPEN, CHANNEL_REQUEST, DEBUG, ECDH_INIT, ECDH_REPLY, EXT_INFO, GLOBAL_REQUEST, IGNORE,
        KEXINIT, NEWKEYS, Raw, SERVICE_REQUEST, Try, UNIMPLEMENTED, USERAUTH_FAILURE, USERAUTH_INFO_RESPONSE,
        USERAUTH_REQUEST, USERAUTH_SUCCESS, kexinit, string,
    },
    told::log_is_plain,
    world::{VM, World, account, eventually},
};

const PROHIBITED: ChannelOpenFailure = ChannelOpenFailure::AdministrativelyProhibited;
const STRICT: &str = "curve25519-sha256,kex-strict-c-v00@openssh.com";

/// A point of the curve that nobody has the key of.
fn point() -> Vec<u8> {
    let mut base = [0; 32];
    base[0] = 9;
    [&[ECDH_INIT][..], &string(base)].concat()
}

fn open_session() -> Vec<u8> {
    let numbers = [0, 1 << 20, 1 << 15].map(u32::to_be_bytes).concat();
    [&[CHANNEL_OPEN][..], &string("session"), &numbers].concat()
}

/// Packets that mean nothing, or not here.
fn injected() -> Vec<Vec<u8>> {
    vec![
        [&[IGNORE][..], &string("x")].concat(),
        [&[DEBUG, 0][..], &string("x"), &string("")].concat(),
        vec![UNIMPLEMENTED, 0, 0, 0, 0],
        [&[EXT_INFO, 0, 0, 0, 1][..], &string("no-flow-control"), &string("p")].concat(),
    ]
}

/// What is sent to log in to a session.
type Tried<'a> = &'a dyn Fn(&[u8]) -> Vec<Vec<u8>>;

/// Whether the gateway lets somebody in who does nothing wrong.
async fn serves(world: &World) {
    let done = world.ssh(&["gateway", "nc", VM, "22"], b"").await;
    assert_eq!((done.status, done.stdout.as_slice()), (Some(0), &b"SSH-2.0-Fake\r\n"[..]), "{}", done.stderr);
}

fn key_of(world: &World, name: &str) -> PrivateKey {
    load_secret_key(world.ssh.file(name), None).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn terrapin_finds_no_packet_that_could_be_left_out() {
    let world = World::awake().await;
    // All positions before the keys are new: a prefix that is cut later has to be filled first (CVE-2023-48795).
    for injected in injected() {
        for at in 0..3 {
            let mut raw = Raw::connect(&world).await;
            for (n, packet) in [kexinit(STRICT, "none"), point(), vec![]].into_iter().enumerate() {
                if n == at {
                    raw.send(&injected).await;
                }
                if !packet.is_empty() {
                    raw.send(&packet).await;
                }
            }
            raw.send(&[NEWKEYS]).await;
            let answers: &[u8] = if at < 2 { &[KEXINIT] } else { &[KEXINIT, ECDH_REPLY, NEWKEYS] };
            assert_eq!(raw.rest().await, answers, "{injected:?} at {at}: it hangs up");
        }
    }
    // And the gateway says that it is strict.
    let list = Raw::connect(&world).await.next().await.unwrap();
    assert!(String::from_utf8_lossy(&list).contains("kex-strict-s-v00@openssh.com"));
    serves(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_before_the_keys_are_exchanged() {
    let world = World::awake().await;
    let known = key_of(&world, "id");
    let log_in = Try { user: "alice", service: "ssh-connection", algorithm: "ssh-ed25519", shown: &known };
    for (name, packet) in [
        ("a service", [&[SERVICE_REQUEST][..], &string("ssh-userauth")].concat()),
        ("a log-in", log_in.signed(&known, &log_in.to_be_signed(b""))),
        ("a success", vec![USERAUTH_SUCCESS]),
        ("a global request", [&[GLOBAL_REQUEST][..], &string("tcpip-forward"), &[1]].concat()),
        ("a channel", open_session()),
    ] {
        for after_the_lists in [false, true] {
            let mut raw = Raw::connect(&world).await;
            if after_the_lists {
                raw.send(&kexinit("curve25519-sha256", "none")).await;
            }
            raw.send(&packet).await;
            assert_eq!(raw.rest().await, [KEXINIT], "{name}: it hangs up");
        }
    }
    serves(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_that_is_left_out_has_not_happened() {
    let world = World::awake().await;
    let forward = [&[GLOBAL_REQUEST][..], &string("tcpip-forward"), &[1], &string(""), &[0; 4]].concat();
    let exec = [&[CHANNEL_REQUEST, 0, 0, 0, 0][..], &string("exec"), &[1], &string("vms")].concat();
    let answer = [USERAUTH_INFO_RESPONSE, 0, 0, 0, 0].to_vec();
    for (name, packets) in [
        ("a channel at once", vec![open_session(), exec.clone()]),
        ("a client that says that it is in", vec![vec![USERAUTH_SUCCESS], open_session(), exec.clone()]),
        ("an answer that nobody has asked for", vec![answer, open_session(), exec]),
        ("a forward", vec![forward]),
    ] {
        for with_service in [false, true] {
            let mut raw =
                if with_service { Raw::at_the_log_in(&world).await } else { Raw::sealed(&world).await };
            for packet in &packets {
                raw.send(packet).await;
            }
            if !with_service {
                raw.send(&[&[SERVICE_REQUEST][..], &string("ssh-userauth")].concat()).await;
            }
            let none = [string("alice"), string("ssh-connection"), string("none")].concat();
            raw.send(&[&[USERAUTH_REQUEST][..], &none].concat()).await;
            // It is asked who it is as if nothing had been said, or has been hung up on.
            let answer = raw.answer().await;
            assert!(matches!(answer, Some(USERAUTH_FAILURE) | None), "{name}: {answer:?}");
        }
    }
    serves(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_counts_for_what_it_is_over_and_nothing_else() {
    let world = World::awake().await;
    let (known, strange) =
        (key_of(&world, "id"), PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap());
    let right = Try { user: "alice", service: "ssh-connection", algorithm: "ssh-ed25519", shown: &known };
    let with = |user: &'static str, service: &'static str, shown| Try { user, service, shown, ..right };
    let lets_in = async |request: Tried<'_>| {
        let mut raw = Raw::at_the_log_in(&world).await;
        let mut answers = vec![];
        for packet in request(&raw.session.clone()) {
            raw.send(&packet).await;
            answers.push(raw.answer().await);
        }
        answers.contains(&Some(USERAUTH_SUCCESS))
    };
    assert!(
        lets_in(&|session| vec![right.signed(&known, &right.to_be_signed(session))]).await,
        "the right one"
    );

    let other_session = {
        let raw = Raw::sealed(&world).await;
        raw.session.clone()
    };
    let bob = with("bob", "ssh-connection", &known);
    let other_service = with("alice", "ssh-userauth", &known);
    let of_stranger = with("alice", "ssh-connection", &strange);
    let wrong: [(&str, Tried<'_>); 9] = [
        ("a key that is known, signed by another", &|session| {
            vec![right.signed(&strange, &right.to_be_signed(session))]
        }),
        ("a key that is offered, and another that is signed with", &|session| {
            vec![right.request(false), of_stranger.signed(&strange, &of_stranger.to_be_signed(session))]
        }),
        ("the same the other way round", &|session| {
            vec![right.request(false), right.signed(&strange, &of_stranger.to_be_signed(session))]
        }),
        ("a signature of another connection", &|_| {
            vec![right.signed(&known, &right.to_be_signed(&other_session))]
        }),
        ("one for another user", &|session| vec![bob.signed(&known, &right.to_be_signed(session))]),
        ("one for another service", &|session| {
            vec![right.signed(&known, &other_service.to_be_signed(session))]
        }),
        ("a service that there is none of", &|session| {
            vec![other_service.signed(&known, &other_service.to_be_signed(session))]
        }),
        ("a key alone that is said to be signed", &|_| vec![right.request(true)]),
        ("an empty signature", &|_| vec![[right.request(true), string("")].concat()]),
    ];
    for (name, request) in wrong {
        assert!(!lets_in(request).await, "{name}");
    }
    serves(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_a_member_cannot_be_asked() {
    let world = World::awake().await;
    let strange = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let mut heard = vec![];
    for user in ["alice", "nobody-here", "root", "vm-0", "vm-0.bob", "", "\u{1b}[2J", &"x".repeat(3000)] {
        let mut raw = Raw::at_the_log_in(&world).await;
        let mut answers = vec![];
        let none = [string(user), string("ssh-connection"), string("none")].concat();
        let ask = Try { user, service: "ssh-connection", algorithm: "ssh-ed25519", shown: &strange };
        let interactive =
            [string(user), string("ssh-connection"), string("keyboard-interactive"), string(""), string("")];
        for packet in [
            [&[USERAUTH_REQUEST][..], &none].concat(),
            ask.request(false),
            ask.signed(&strange, &ask.to_be_signed(&raw.session)),
            [&[USERAUTH_REQUEST][..], &interactive.concat()].concat(),
        ] {
            raw.send(&packet).await;
            loop {
                let answer = raw.next().await.unwrap();
                if answer[0] >= USERAUTH_REQUEST {
                    answers.push(answer);
                    break;
                }
            }
        }
        heard.push(answers);
    }
    // To the byte; and in the same time, because nobody looks at the name before the key is proven.
    assert!(heard.windows(2).all(|pair| pair[0] == pair[1]), "{heard:?}");
    assert_eq!(heard[0].iter().map(|answer| answer[0]).collect::<Vec<_>>(), [51, 51, 51, 60]);
    assert!(log_is_plain());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_decompressed() {
    let world = World::awake().await;
    let list = Raw::connect(&world).await.next().await.unwrap();
    assert!(!String::from_utf8_lossy(&list).contains("zlib"));
    for compression in ["zlib", "zlib@openssh.com"] {
        let mut raw = Raw::connect(&world).await;
        raw.send(&kexinit("curve25519-sha256", compression)).await;
        raw.send(&point()).await;
        assert_eq!(raw.rest().await, [KEXINIT], "{compression}");
    }
    let done = world.ssh(&["-C", "gateway", "nc", VM, "22"], b"").await;
    assert_eq!(done.status, Some(0), "who asks for it gets in without");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_in_no_spelling_lead_anywhere() {
    let world = World::awake().await;
    let client = log_in(&world, "alice").await;
    let long = format!("{VM}.{}", "a".repeat(70_000));
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "::",
        "::1",
        "[::1]",
        "::ffff:127.0.0.1",
        "[::ffff:7f00:1]",
        "::127.0.0.1",
        "fe80::1%lo",
        "169.254.169.254",
        "169.254.77.2",
        "[fd00:ec2::254]",
        "localhost",
        "localhost.",
        "localhost.localdomain",
        "metadata.google.internal",
        "gateway",
        "ssh.koding.com",
        "koding.com",
        "",
        ".",
        "*",
        "vm-0.alice.koding.kd.io.",
        "vm-0.alice.koding.kd.io..",
        ".vm-0.alice.koding.kd.io",
        "vm-0..alice.koding.kd.io",
        " vm-0.alice.koding.kd.io",
        "vm-0.alice.koding.kd.io ",
        "vm-0.alice.koding.kd.io\n",
        "vm-0.alice.koding.kd.io\0",
        "vm-0.alice.koding.kd.io\0.example.com",
        "vm-0.alice.koding.kd.io:22",
        "vm-0.alice.koding.kd.io/",
        "vm-0.alice.koding.kd.io@127.0.0.1",
        "alice@vm-0.alice.koding.kd.io",
        "http://vm-0.alice.koding.kd.io",
        "vm-0.alice.koding.kd.io.example.com",
        "vm-0.alice.koding.kd.io%2e",
        "vm-00.alice.koding.kd.io",
        "vm-+0.alice.koding.kd.io",
        "vm--0.alice.koding.kd.io",
        "vm-4294967296.alice.koding.kd.io",
        "vm-18446744073709551616.alice.koding.kd.io",
        // Letters that look alike, wide ones, other dots, ones that become others in lower case, and punycode.
        "vm-0.\u{430}lice.koding.kd.io",
        "vm-0.alice.\u{212a}oding.kd.io",
        "vm-0.al\u{131}ce.koding.kd.io",
        "ｖｍ-0.alice.koding.kd.io",
        "vm-0。alice。koding。kd。io",
        "vm-\u{660}.alice.koding.kd.io",
        "vm-0.ali\u{ad}ce.koding.kd.io",
        "vm-0.xn--lice-53d.koding.kd.io",
        &long,
    ] {
        let opened = client.channel_open_direct_tcpip(host, 22, "127.0.0.1", 0).await;
        assert!(matches!(opened, Err(Error::ChannelOpenFailure(PROHIBITED))), "{host:?}: {opened:?}");
    }
    for port in [0, 21, 23, 1023, 65_536, 65_558, 65_616, 131_094, 0x0001_0016, u32::MAX, 4_294_901_782] {
        let opened = client.channel_open_direct_tcpip(VM, port, "127.0.0.1", 0).await;
        assert!(matches!(opened, Err(Error::ChannelOpenFailure(PROHIBITED))), "{port}: {opened:?}");
    }
    for port in
        ["65558", "4294967318", "18446744073709551638", "022 ", "+22", "0x16", "22.0", "٢٢", "22,80", ""]
    {
        let done = world.ssh(&["gateway", &format!("nc {VM} '{port}'")], b"").await;
        assert!(matches!(done.status, Some(64 | 77)), "{port:?}: {done:?}");
    }
    assert_eq!(world.engine.connections(), 0);
    // It is the name that counts, and not its case.
    client.channel_open_direct_tcpip("VM-0.Alice.KODING.kd.io", 22, "127.0.0.1", 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_means_another_vm_meanwhile_leads_to_neither() {
    let world = World::awake().await;
    let key = key_of(&world, "id");
    let key = berth_model::PublicKey::from_ssh_key(key.public_key()).unwrap();
    let login = world.control.log_in(&key, None, [127, 0, 0, 1].into()).await.unwrap();
    let entry = world.control.enter(&login, VM, 22).await.unwrap();
    let name = "vm-0.alice.koding".parse().unwrap();
    world.control.remove_vm(&name).await.unwrap();
    let (progress, _nobody) = mpsc::channel(1);
    let connected = world.control.connect(&entry, progress.clone()).await;
    assert!(matches!(connected, Err(ConnectError::Removed { .. })), "{:?}", connected.err());
    // What is made now is not what was asked for.
    world.control.add_vm(&account("alice")).await.unwrap();
    let connected = world.control.connect(&entry, progress).await;
    assert!(connected.is_err(), "a proof is for the VM that it was given for");
    assert_eq!(world.engine.connections(), 0);
    let entered = world.control.enter(&login, "vm-0.bob.koding.kd.io", 22).await;
    assert!(matches!(entered, Err(EntryError::NoSuchVm { .. })));
}

/// An sshd that says this, and then whatever it likes.
fn says(words: &'static [u8], then: Then) -> Service {
    Service::new(move |mut stream| async move {
        if stream.write_all(words).await.is_err() {
            return;
        }
        match then {
            Then::Ends => {}
            Then::Waits => while stream.read(&mut [0; 4096]).await.is_ok_and(|bytes| bytes > 0) {},
            Then::Goes => while stream.write_all(words).await.is_ok() {},
        }
    })
}

#[derive(Clone, Copy)]
enum Then {
    Ends,
    Waits,
    Goes,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sshd_in_a_vm_that_speaks_nonsense_is_said_to() {
    // A list of algorithms of no length, one that is cut, a disconnect with an escape, packets that are too large.
    let huge = b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    let empty = b"SSH-2.0-x\r\n\0\0\0\x0c\x0a\x14\0\0\0\0\0\0\0\0\0\0";
    let zero = b"SSH-2.0-x\r\n\0\0\0\0\0\0\0\0";
    let padded = b"SSH-2.0-x\r\n\0\0\0\x0c\xff\x14\0\0\0\0\0\0\0\0\0\0";
    let escape = b"SSH-2.0-x\r\n\0\0\0\x1c\x07\x01\0\0\0\x02\0\0\0\x07\x1b[2J\x1b]0\0\0\0\0\0\0\0\0\0\0\0";
    let mut trying = JoinSet::new();
    // At once, since those that say nothing more are waited for.
    for (name, sshd) in [
        ("nothing, and ends", says(b"", Then::Ends)),
        ("http", says(b"HTTP/1.1 400 Bad Request\r\n\r\n", Then::Ends)),
        ("a line with escapes", says(b"SSH-2.0-\x1b[2J\x1b]0;owned\x07\r\n", Then::Waits)),
        ("lines without end", says(b"nonsense\r\n", Then::Goes)),
        ("a line without end", says(&[b'x'; 4096], Then::Goes)),
        ("old", says(b"SSH-1.5-x\r\n", Then::Waits)),
        ("a packet of 4 GB", says(huge, Then::Waits)),
        ("a list of nothing", says(empty, Then::Waits)),
        ("an empty packet", says(zero, Then::Waits)),
        ("more padding than packet", says(padded, Then::Waits)),
        ("an escape in a disconnect", says(escape, Then::Waits)),
        ("random bytes", says(&[0xa5; 4096], Then::Goes)),
    ] {
        trying.spawn(async move {
            let world = World::awake().await;
            world.engine.serve(22, sshd);
            let done = world.ssh(&["-l", "vm-0", "gateway", "true"], b"").await;
            assert_eq!(done.status, Some(69), "{name}: {done:?}");
            let told = done.stderr.trim_end();
            assert!(!told.is_empty(), "{name}");
            assert!(!told.chars().any(|c| c.is_control() && c != '\n' && c != '\r'), "{name}: {told:?}");
            eventually("the VM is let go", || world.engine.connections() == 0).await;
            world.engine.serve(22, Service::greeting(b"SSH-2.0-Fake\r\n"));
            serves(&world).await;
        });
    }
    while let Some(tried) = trying.join_next().await {
        tried.unwrap();
    }
    assert!(log_is_plain());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_say_cannot_act_on_a_terminal_that_shows_the_log() {
    let world = World::awake().await;
    let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\n2026 ERROR forged";
    // As what a client is, whom it names, what it asks for, and what it speaks.
    let mut stream = TcpStream::connect(world.gateway).await.unwrap();
    stream.write_all(format!("SSH-2.0-{hostile}\r\n").as_bytes()).await.unwrap();
    let _ = stream.read_to_end(&mut vec![]).await;
    let mut raw = Raw::connect(&world).await;
    raw.send(&kexinit(hostile, "none")).await;
    raw.rest().await;
    let strange = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let ask = Try { user: hostile, service: hostile, algorithm: hostile, shown: &strange };
    let mut raw = Raw::at_the_log_in(&world).await;
    raw.send(&ask.signed(&strange, b"")).await;
    let _ = raw.answer().await;
    let client = log_in(&world, "alice").await;
    let refused = client.channel_open_direct_tcpip(hostile, 22, hostile, 0).await;
    assert!(matches!(refused, Err(Error::ChannelOpenFailure(PROHIBITED))), "{refused:?}");
    let mut session = client.channel_open_session().await.unwrap();
    session.exec(true, format!("nc '{hostile}' 22")).await.unwrap();
    let mut said = vec![];
    while let Some(message) = session.wait().await {
        if let russh::ChannelMsg::ExtendedData { data, .. } | russh::ChannelMsg::Data { data } = message {
            said.extend_from_slice(&data);
        }
    }
    assert!(!said.contains(&0x1b) && !said.contains(&7), "{:?}", String::from_utf8_lossy(&said));
    assert!(log_is_plain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_one_connection_leaves_all_others() {
    let world = World::awake().await;
    let mut stays =
        log_in(&world, "alice").await.channel_open_direct_tcpip(VM, 8080, "127.0.0.1", 0).await.unwrap();
    let neighbour = log_in(&world, "alice").await;
    // Where the engine is asked for a connection, in the task of the channel.
    world.engine.serve(9000, Service::new(|_| -> std::future::Ready<()> { panic!("as the test wants") }));
    let opened = tokio::time::timeout(
        Duration::from_secs(5),
        neighbour.channel_open_direct_tcpip(VM, 9000, "127.0.0.1", 0),
    );
    assert!(!matches!(opened.await, Ok(Ok(_))));
    stays.data(&b"still here"[..]).await.unwrap();
    let Some(russh::ChannelMsg::Data { data }) = stays.wait().await else { panic!("no echo") };
    assert_eq!(data.as_ref(), b"still here");
    neighbour.channel_open_direct_tcpip(VM, 8080, "127.0.0.1", 0).await.unwrap();
    serves(&world).await;
}
