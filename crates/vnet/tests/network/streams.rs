//! Streams into a guest that behaves.

use std::time::Duration;

use crate::guest::{App, Guest, Listener, Record, V4, V6, is_pattern, pattern};
use berth_vnet::{DialError, Network};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::JoinSet,
};
use tokio_util::task::TaskTracker;

const LONG: Duration = Duration::from_secs(20);

fn boot(listeners: &[Listener]) -> (Network, Guest) {
    let network = Network::spawn(&TaskTracker::new());
    let (host, qemu) = UnixStream::pair().unwrap();
    network.attach(host);
    (network, Guest::boot(qemu, listeners))
}

async fn read_pattern(stream: &mut (impl AsyncReadExt + Unpin), length: usize) {
    let mut buffer = vec![0; 128 << 10];
    let mut received = 0;
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        if count == 0 {
            break;
        }
        assert!(is_pattern(received, &buffer[..count]), "wrong byte after {received}");
        received += count;
    }
    assert_eq!(received, length);
}

async fn write_pattern(stream: &mut (impl AsyncWriteExt + Unpin), length: usize) {
    let mut sent = 0;
    while sent < length {
        let data = pattern(sent, length - sent);
        stream.write_all(data).await.unwrap();
        sent += data.len();
    }
}

#[tokio::test]
async fn an_echo_comes_back() {
    let (network, _guest) = boot(&[Listener::new(7, App::Echo)]);
    let mut stream = network.dial(7, LONG).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
}

#[tokio::test]
async fn the_guest_gets_its_address_and_no_way_out() {
    let (_network, guest) = boot(&[]);
    let lease = guest.leased().await;
    assert_eq!(lease.address.to_string(), "169.254.77.2/30");
    assert!(!lease.router);
    assert_eq!(lease.name_servers, 0);
}

#[tokio::test]
async fn a_program_on_one_family_only_is_reached() {
    let (network, guest) = boot(&[Listener::new(4, App::Echo).at(V4), Listener::new(6, App::Echo).at(V6)]);
    guest.leased().await;
    for port in [4, 6] {
        let mut stream = network.dial(port, LONG).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    }
}

#[tokio::test]
async fn a_port_that_nothing_listens_on_refuses_at_once() {
    let (network, guest) = boot(&[]);
    guest.leased().await;
    let start = std::time::Instant::now();
    assert_eq!(network.dial(81, LONG).await.unwrap_err(), DialError::Refused);
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    assert_eq!(network.dial(0, LONG).await.unwrap_err(), DialError::Refused);
}

#[tokio::test]
async fn fifty_megabytes_each_way_at_once() {
    const LENGTH: usize = 50 << 20;
    let (network, guest) = boot(&[Listener::new(9, App::Pattern(LENGTH))]);
    let (mut reader, mut writer) = tokio::io::split(network.dial(9, LONG).await.unwrap());
    tokio::join!(read_pattern(&mut reader, LENGTH), async {
        write_pattern(&mut writer, LENGTH).await;
        writer.shutdown().await.unwrap();
    });
    let records = guest.until(|records| records.first().is_some_and(|record| record.finished)).await;
    assert_eq!(records[0].received, LENGTH);
    assert!(!records[0].corrupt && !records[0].reset);
}

#[tokio::test]
async fn after_our_end_theirs_still_comes() {
    let (network, _guest) = boot(&[Listener::new(7, App::Echo)]);
    let mut stream = network.dial(7, LONG).await.unwrap();
    write_pattern(&mut stream, 700_000).await;
    stream.shutdown().await.unwrap();
    stream.shutdown().await.unwrap();
    read_pattern(&mut stream, 700_000).await;
    let error = stream.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn after_their_end_ours_still_goes() {
    let (network, guest) = boot(&[Listener::new(9, App::Pattern(10))]);
    let mut stream = network.dial(9, LONG).await.unwrap();
    read_pattern(&mut stream, 10).await;
    write_pattern(&mut stream, 3_000_000).await;
    stream.shutdown().await.unwrap();
    let records = guest.until(|records| records.first().is_some_and(|record| record.finished)).await;
    assert_eq!(records[0], Record { received: 3_000_000, finished: true, ..Default::default() });
}

#[tokio::test]
async fn an_end_behind_a_full_buffer_is_not_hidden() {
    const LENGTH: usize = 3_000_000;
    let (network, _guest) = boot(&[Listener::new(9, App::Pattern(LENGTH))]);
    let mut stream = network.dial(9, LONG).await.unwrap();
    stream.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    read_pattern(&mut stream, LENGTH).await;
}

#[tokio::test]
async fn two_hundred_streams_at_once() {
    let echo = Listener { backlog: 256, buffer: 16 << 10, ..Listener::new(7, App::Echo) };
    let (network, _guest) = boot(&[echo]);
    let mut streams = JoinSet::new();
    for number in 0..200_u32 {
        let network = network.clone();
        streams.spawn(async move {
            let mut stream = network.dial(7, LONG).await.unwrap();
            for round in 0..20 {
                stream.write_u32(number * 1000 + round).await.unwrap();
                assert_eq!(stream.read_u32().await.unwrap(), number * 1000 + round);
            }
        });
    }
    assert_eq!(streams.join_all().await.len(), 200);
}

#[tokio::test]
async fn a_slow_reader_and_a_deaf_guest_do_not_stop_their_neighbours() {
    let (network, _guest) = boot(&[
        Listener::new(9, App::Pattern(20 << 20)),
        Listener::new(10, App::Deaf),
        Listener::new(7, App::Echo),
    ]);
    let _unread = network.dial(9, LONG).await.unwrap();
    let mut unheard = network.dial(10, LONG).await.unwrap();
    let stuck = tokio::time::timeout(Duration::from_millis(500), write_pattern(&mut unheard, 5 << 20)).await;
    assert!(stuck.is_err(), "a guest that does not read stops its own writer");
    let mut busy = network.dial(9, LONG).await.unwrap();
    let mut echo = network.dial(7, LONG).await.unwrap();
    let bulk = async {
        busy.shutdown().await.unwrap();
        read_pattern(&mut busy, 20 << 20).await;
    };
    let talk = async {
        for number in 0..200 {
            echo.write_u32(number).await.unwrap();
            assert_eq!(echo.read_u32().await.unwrap(), number);
        }
    };
    tokio::time::timeout(LONG, async { tokio::join!(bulk, talk) }).await.unwrap();
}

#[tokio::test]
async fn many_writers_leave_room_for_a_talker() {
    let (network, _guest) =
        boot(&[Listener { backlog: 20, ..Listener::new(9, App::Pattern(0)) }, Listener::new(7, App::Echo)]);
    let mut writers = JoinSet::new();
    for _ in 0..16 {
        let mut stream = network.dial(9, LONG).await.unwrap();
        writers.spawn(async move {
            loop {
                stream.write_all(&[0; 65536]).await.unwrap();
            }
        });
    }
    let mut echo = network.dial(7, LONG).await.unwrap();
    let talk = async {
        for number in 0..100 {
            echo.write_u32(number).await.unwrap();
            assert_eq!(echo.read_u32().await.unwrap(), number);
        }
    };
    tokio::time::timeout(LONG, talk).await.unwrap();
}
