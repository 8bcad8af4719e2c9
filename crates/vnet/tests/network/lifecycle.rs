//! Guests that come and go, and guests that do not behave.

use std::{io, time::Duration};

use crate::guest::{App, Guest, Listener, Record, is_pattern, pattern};
use berth_vnet::{DialError, Network};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_util::task::TaskTracker;

const LONG: Duration = Duration::from_secs(20);

fn boot(listeners: &[Listener]) -> (Network, Guest) {
    let network = Network::spawn(&TaskTracker::new());
    let guest = boot_on(&network, listeners);
    (network, guest)
}

fn boot_on(network: &Network, listeners: &[Listener]) -> Guest {
    let (host, qemu) = UnixStream::pair().unwrap();
    network.attach(host);
    Guest::boot(qemu, listeners)
}

#[tokio::test]
async fn without_a_guest_dialling_fails_at_once() {
    let network = Network::spawn(&TaskTracker::new());
    assert_eq!(network.dial(22, LONG).await.unwrap_err(), DialError::Detached);
}

#[tokio::test]
async fn a_guest_that_does_not_answer_is_given_up_at_the_deadline() {
    let network = Network::spawn(&TaskTracker::new());
    let (host, _qemu) = UnixStream::pair().unwrap();
    network.attach(host);
    let error = network.dial(22, Duration::from_millis(700)).await.unwrap_err();
    assert_eq!(error, DialError::TimedOut);
}

#[tokio::test]
async fn a_guest_that_boots_while_it_is_dialled_is_reached() {
    let network = Network::spawn(&TaskTracker::new());
    let (host, qemu) = UnixStream::pair().unwrap();
    network.attach(host);
    let late = async {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        Guest::boot(qemu, &[Listener::new(7, App::Echo)])
    };
    let (stream, _guest) = tokio::join!(network.dial(7, LONG), late);
    let mut stream = stream.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn a_guest_that_dies_resets_its_streams_after_what_it_had_sent() {
    let (network, guest) = boot(&[Listener::new(7, App::Echo)]);
    let mut stream = network.dial(7, LONG).await.unwrap();
    stream.write_all(&pattern(0, 1000)[..1000]).await.unwrap();
    guest.until(|records| records.first().is_some_and(|record| record.received == 1000)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let waiting = network.dial(7, LONG).await.unwrap();
    guest.power_off().await;

    let mut received = Vec::new();
    let error = stream.read_to_end(&mut received).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(received.len() == 1000 && is_pattern(0, &received));
    assert_eq!(stream.write(b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let (mut reader, _writer) = tokio::io::split(waiting);
    assert_eq!(reader.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(network.dial(7, LONG).await.unwrap_err(), DialError::Detached);
}

#[tokio::test]
async fn a_guest_that_dies_while_it_is_dialled_says_so() {
    let network = Network::spawn(&TaskTracker::new());
    let (host, qemu) = UnixStream::pair().unwrap();
    network.attach(host);
    let dies = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(qemu);
    };
    let (result, ()) = tokio::join!(network.dial(7, LONG), dies);
    assert_eq!(result.unwrap_err(), DialError::Detached);
}

#[tokio::test]
async fn a_newer_guest_replaces_the_older() {
    let (network, _old) = boot(&[Listener::new(7, App::Echo)]);
    let mut stale = network.dial(7, LONG).await.unwrap();
    let _new = boot_on(&network, &[Listener::new(8, App::Echo)]);
    let mut stream = network.dial(8, LONG).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    assert_eq!(stale.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn dropped_streams_free_their_sockets() {
    let (network, guest) = boot(&[Listener { buffer: 8192, ..Listener::new(7, App::Echo) }]);
    for _ in 0..1500 {
        let mut stream = network.dial(7, LONG).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    }
    let records = guest.until(|records| records.iter().all(|record| record.reset)).await;
    assert_eq!(records.len(), 1500);
}

#[tokio::test]
async fn what_was_written_and_finished_survives_the_drop() {
    const LENGTH: usize = 900_000;
    let (network, guest) = boot(&[Listener { buffer: 16 << 10, ..Listener::new(9, App::Pattern(0)) }]);
    let mut stream = network.dial(9, LONG).await.unwrap();
    let mut sent = 0;
    while sent < LENGTH {
        sent += stream.write(pattern(sent, LENGTH - sent)).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    drop(stream);
    drop(network);
    let records = guest.until(|records| records.first().is_some_and(|record| record.finished)).await;
    assert_eq!(records[0], Record { received: LENGTH, finished: true, ..Default::default() });
}

#[tokio::test]
async fn the_task_ends_with_the_last_handle() {
    let tracker = TaskTracker::new();
    let network = Network::spawn(&tracker);
    let _guest = boot_on(&network, &[Listener::new(7, App::Echo)]);
    let stream = network.clone().dial(7, LONG).await.unwrap();
    tracker.close();
    drop(network);
    assert!(tokio::time::timeout(Duration::from_millis(100), tracker.wait()).await.is_err());
    drop(stream);
    tokio::time::timeout(LONG, tracker.wait()).await.unwrap();
}

#[tokio::test]
async fn a_length_that_cannot_be_ends_the_connection_and_nothing_else() {
    let network = Network::spawn(&TaskTracker::new());
    let (host, mut qemu) = UnixStream::pair().unwrap();
    network.attach(host);
    qemu.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(LONG, qemu.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(network.dial(7, LONG).await.unwrap_err(), DialError::Detached);

    let _guest = boot_on(&network, &[Listener::new(7, App::Echo)]);
    network.dial(7, LONG).await.unwrap();
}

/// The shim has one thread for everything.
#[tokio::test]
async fn a_guest_that_floods_leaves_time_for_others() {
    let network = Network::spawn(&TaskTracker::new());
    let (host, qemu) = UnixStream::pair().unwrap();
    network.attach(host);
    let qemu = qemu.into_std().unwrap();
    qemu.set_nonblocking(false).unwrap();
    let reader = qemu.try_clone().unwrap();
    let (flood, answers) = (SYN_FLOOD.repeat(1000), std::thread::spawn(move || count_bytes(reader)));
    let flooder = std::thread::spawn(move || {
        let mut qemu = qemu;
        while io::Write::write_all(&mut qemu, &flood).is_ok() {}
    });
    let start = std::time::Instant::now();
    let mut turns = 0;
    while start.elapsed() < Duration::from_secs(1) {
        tokio::task::yield_now().await;
        turns += 1;
    }
    assert!(turns > 100, "another task ran {turns} times in a second");
    drop(network);
    tokio::task::spawn_blocking(|| flooder.join().unwrap()).await.unwrap();
    let answered = tokio::task::spawn_blocking(|| answers.join().unwrap()).await.unwrap();
    assert!(answered > 100_000, "every SYN is refused, {answered} bytes of it");
}

fn count_bytes(mut reader: std::os::unix::net::UnixStream) -> usize {
    let mut buffer = [0; 65536];
    let mut total = 0;
    while let Ok(count @ 1..) = io::Read::read(&mut reader, &mut buffer) {
        total += count;
    }
    total
}

/// A SYN from the guest to port 22 of the host, with its length.
const SYN_FLOOD: &[u8] = &[
    0, 0, 0, 54, // length
    0x02, 0x62, 0x74, 0x68, 0, 1, 0x02, 0x62, 0x74, 0x68, 0, 2, 0x08, 0x00, // Ethernet
    0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0x8c, 0xd0, 169, 254, 77, 2, 169, 254, 77, 1, // IPv4
    0x04, 0, 0, 22, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x10, 0, 0xad, 0xcb, 0, 0, // TCP
];

#[tokio::test]
async fn a_connection_from_the_guest_is_refused() {
    let network = Network::spawn(&TaskTracker::new());
    let (host, mut qemu) = UnixStream::pair().unwrap();
    network.attach(host);
    qemu.write_all(SYN_FLOOD).await.unwrap();
    let mut answer = [0; 4 + 54];
    qemu.read_exact(&mut answer).await.unwrap();
    let (ports, flags) = (&answer[4 + 34..4 + 38], answer[4 + 14 + 20 + 13]);
    assert_eq!(ports, [0, 22, 4, 0]);
    assert_eq!(flags, 0x14, "RST and ACK");
}
