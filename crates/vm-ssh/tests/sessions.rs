//! Sessions with an sshd in the same process.
#![cfg(test)]

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use berth_testkit::Sshd;
use berth_vm_ssh::{Connection, Credentials, Error, Event, Input, Message, Origin, Output, Request, Size};
use bytes::Bytes;
use russh::keys::{
    PrivateKey,
    ssh_key::{
        Algorithm, LineEnding,
        certificate::{Builder, CertType},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    time::timeout,
};
use tokio_util::task::TaskTracker;

const SOON: Duration = Duration::from_secs(20);

fn new_key() -> PrivateKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap()
}

fn text(key: &PrivateKey) -> String {
    key.to_openssh(LineEnding::LF).unwrap().to_string()
}

struct World {
    sshd: Sshd,
    host: PrivateKey,
    authority: PrivateKey,
    serving: TaskTracker,
}

impl World {
    fn new() -> Self {
        let (host, authority) = (new_key(), new_key());
        let line = format!(
            "cert-authority,principals=\"vm.alice\" {}",
            authority.public_key().to_openssh().unwrap()
        );
        let sshd = Sshd::new(&text(&host), move || line.clone());
        Self { sshd, host, authority, serving: TaskTracker::new() }
    }

    /// A stream to the sshd, and how many bytes were read from it.
    fn dial(&self) -> Counted {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let sshd = self.sshd.clone();
        self.serving.spawn(async move { sshd.serve(far).await });
        Counted { stream: near, read: Arc::default() }
    }

    fn credentials(&self, principal: &str, host: &PrivateKey) -> Credentials {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let key = new_key();
        let public = key.public_key().key_data().clone();
        let mut new = Builder::new_with_random_nonce(&mut rand::rng(), public, now - 60, now + 60).unwrap();
        new.cert_type(CertType::User).unwrap().valid_principal(principal).unwrap();
        let certificate = new.sign(&self.authority).unwrap().to_openssh().unwrap();
        let host = host.public_key().to_openssh().unwrap();
        Credentials::new("alice", &text(&key), &certificate, &host).unwrap()
    }

    async fn connect(&self) -> Connection {
        Connection::open(self.dial(), self.credentials("vm.alice", &self.host)).await.unwrap()
    }
}

struct Counted {
    stream: DuplexStream,
    read: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.read.fetch_add(buf.filled().len() - before, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn shell(connection: &Connection) -> (Input, Output) {
    let mut channel = connection.session().await.unwrap();
    channel.set_env("COLORTERM", "truecolor").await.unwrap();
    channel.pty("xterm-256color", Size::new(80, 24)).await.unwrap();
    channel.exec("run this").await.unwrap()
}

async fn next(output: &mut Output) -> Option<Event> {
    timeout(SOON, output.next()).await.expect("something comes soon")
}

#[tokio::test]
async fn a_session_from_log_in_to_exit() {
    let world = World::new();
    let connection = world.connect().await;
    let (input, mut output) = shell(&connection).await;
    input.data(Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(next(&mut output).await, Some(Event::Data(Bytes::from_static(b"hello"))));
    input.resize(Size::new(132, 50)).await.unwrap();
    input.data(Bytes::from_static(b"exit")).await.unwrap();
    assert_eq!(next(&mut output).await, Some(Event::Exit(7)));
    assert_eq!(next(&mut output).await, None);
    assert_eq!(
        world.sshd.seen(),
        [
            "log-in alice",
            "permits ",
            "env COLORTERM=truecolor",
            "pty xterm-256color 80x24",
            "exec run this",
            "typed 5",
            "size 132x50"
        ]
    );
}

#[tokio::test]
async fn a_host_with_another_key_is_not_logged_in_to() {
    let world = World::new();
    let credentials = world.credentials("vm.alice", &new_key());
    let refused = Connection::open(world.dial(), credentials).await;
    assert!(matches!(refused, Err(Error::HostKey)), "{:?}", refused.err());
    assert_eq!(world.sshd.seen(), [""; 0]);
}

#[tokio::test]
async fn a_certificate_for_another_vm_lets_nobody_in() {
    let world = World::new();
    let refused = Connection::open(world.dial(), world.credentials("other.alice", &world.host)).await;
    assert!(matches!(refused, Err(Error::Refused)), "{:?}", refused.err());
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_says_nothing_is_given_up() {
    let world = World::new();
    let (near, _far) = tokio::io::duplex(1024);
    let refused = Connection::open(near, world.credentials("vm.alice", &world.host)).await;
    assert!(matches!(refused, Err(Error::Silent)), "{:?}", refused.err());
}

#[tokio::test]
async fn a_reader_that_stops_holds_the_program_up_and_nothing_grows() {
    const BOUND: usize = 400 * 1024;
    let world = World::new();
    let stream = world.dial();
    let read = stream.read.clone();
    let connection = Connection::open(stream, world.credentials("vm.alice", &world.host)).await.unwrap();
    let (input, mut output) = shell(&connection).await;
    input.data(Bytes::from_static(b"flood")).await.unwrap();
    let mut before = usize::MAX;
    while before != read.load(Ordering::Relaxed) {
        before = read.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!((1..BOUND).contains(&before), "{before} bytes were taken for a reader that reads none");
    // And goes on when it is read.
    let mut got = 0;
    while got < 4 * BOUND {
        match next(&mut output).await {
            Some(Event::Data(data)) => got += data.len(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_connection_ends_when_it_is_dropped_whatever_the_vm_does() {
    let world = World::new();
    let connection = world.connect().await;
    let (input, output) = shell(&connection).await;
    input.data(Bytes::from_static(b"flood")).await.unwrap();
    drop((connection, input, output));
    world.serving.close();
    timeout(SOON, world.serving.wait()).await.expect("the sshd sees the end");
}

#[tokio::test]
async fn an_end_without_an_exit_is_no_exit() {
    let world = World::new();
    let connection = world.connect().await;
    let (input, mut output) = shell(&connection).await;
    input.data(Bytes::from_static(b"vanish")).await.unwrap();
    assert_eq!(next(&mut output).await, None);
    assert!(connection.session().await.is_err());
}

#[tokio::test]
async fn a_vm_opens_no_channel_to_who_has_a_session_of_its_own() {
    let world = World::new();
    let connection = world.connect().await;
    let (input, mut output) = shell(&connection).await;
    for word in ["agent", "x11", "port 80", "socket /s"] {
        input.data(Bytes::from_static(word.as_bytes())).await.unwrap();
        assert_eq!(next(&mut output).await, Some(Event::Data(Bytes::from_static(b"refused"))), "{word}");
    }
}

#[tokio::test]
async fn what_a_vm_opens_to_a_client_waits_to_be_looked_at() {
    let world = World::new();
    let opened = Connection::open_for_client(world.dial(), world.credentials("vm.alice", &world.host));
    let (connection, mut arrivals) = opened.await.unwrap();
    let (to_vm, mut from_vm) = connection.carried_session().await.unwrap();
    to_vm.ask(Request::Shell).await.unwrap();
    assert_eq!(timeout(SOON, from_vm.next()).await.unwrap(), Some(Message::Granted(true)));
    for (word, origin) in [
        ("agent", Origin::Agent),
        ("x11", Origin::X11 { originator: "127.0.0.1".into(), originator_port: 6010 }),
        ("socket /s", Origin::Socket { path: "/s".into() }),
    ] {
        to_vm.data(Bytes::from_static(word.as_bytes())).await.unwrap();
        let arrival = timeout(SOON, arrivals.recv()).await.unwrap().unwrap();
        assert_eq!(*arrival.origin(), origin);
        // Nobody wants it.
        drop(arrival);
        let said = timeout(SOON, from_vm.next()).await.unwrap();
        assert_eq!(said, Some(Message::Data(Bytes::from_static(b"refused"))), "{word}");
    }
    assert!(!connection.is_over());
    to_vm.data(Bytes::from_static(b"vanish")).await.unwrap();
    assert_eq!(timeout(SOON, from_vm.next()).await.unwrap(), None);
    assert!(timeout(SOON, arrivals.recv()).await.unwrap().is_none(), "it ends with the connection");
    assert!(connection.is_over());
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    assert!(matches!(Credentials::new("alice", "", "", ""), Err(Error::Credentials)));
}
