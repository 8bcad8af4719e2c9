//! Large bodies and WebSockets: streamed, held back where somebody does not take them, and ended with what allowed them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use berth_control::{Actor, PortAccess};
use berth_testkit::Service;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    sites::{HOST, alices, running},
    sites_hostile::listening,
};

const LARGE: usize = 50 << 20;
/// What the system's own buffers for one connection may hold on its two sides, and little more.
const IN_FLIGHT: usize = 12 << 20;

async fn small_client(address: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.set_send_buffer_size(64 << 10).unwrap();
    socket.connect(address).await.unwrap()
}

async fn head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Waits until the count does not grow any more, and gives it.
async fn stalled(count: &AtomicUsize) -> usize {
    let mut last = usize::MAX;
    loop {
        sleep(Duration::from_millis(300)).await;
        let now = count.load(Ordering::Relaxed);
        if now == last && now > 0 {
            return now;
        }
        last = now;
    }
}

#[tokio::test]
async fn a_download_waits_for_its_reader() {
    let (world, _) = running().await;
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    world.engine.serve(
        80,
        Service::new(move |mut stream| {
            let written = Arc::clone(&counted);
            async move {
                head(&mut stream).await;
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                for number in 0..LARGE / 4096 {
                    if stream.write_all(&[number as u8; 4096]).await.is_err() {
                        return;
                    }
                    written.fetch_add(4096, Ordering::Relaxed);
                }
            }
        }),
    );
    let (address, _server) = listening(&world).await;
    let mut client = small_client(address).await;
    client.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    assert!(head(&mut client).await.contains(&format!("content-length: {LARGE}\r\n")));
    let held = stalled(&written).await;
    assert!(held < IN_FLIGHT, "{held} bytes were taken from the VM for a reader that does not read");
    let (mut buffer, mut expected) = ([0; 4096], 0_u8);
    for _ in 0..LARGE / 4096 {
        client.read_exact(&mut buffer).await.unwrap();
        assert_eq!(buffer, [expected; 4096]);
        expected = expected.wrapping_add(1);
    }
}

#[tokio::test]
async fn an_upload_waits_for_its_reader() {
    let (world, _) = running().await;
    let go_on = Arc::new(Notify::new());
    let reads = Arc::clone(&go_on);
    world.engine.serve(
        80,
        Service::new(move |mut stream| {
            let reads = Arc::clone(&reads);
            async move {
                let head = head(&mut stream).await;
                assert!(head.contains(&format!("content-length: {LARGE}\r\n")), "{head}");
                reads.notified().await;
                let (mut left, mut buffer) = (LARGE, vec![0; 64 << 10]);
                while left > 0 {
                    let count = stream.read(&mut buffer).await.unwrap();
                    assert!(count > 0 && buffer[..count].iter().all(|byte| *byte == 0x5a));
                    left -= count;
                }
                stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\ndone").await.unwrap();
            }
        }),
    );
    let (address, _server) = listening(&world).await;
    let (mut reader, mut writer) = small_client(address).await.into_split();
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let upload = TaskTracker::new().spawn(async move {
        let head = format!("PUT / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {LARGE}\r\n\r\n");
        writer.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..LARGE / 4096 {
            writer.write_all(&[0x5a; 4096]).await.unwrap();
            counted.fetch_add(4096, Ordering::Relaxed);
        }
        writer
    });
    let held = stalled(&sent).await;
    assert!(held < IN_FLIGHT, "{held} bytes were taken for a VM that does not read");
    go_on.notify_one();
    let _writer = upload.await.unwrap();
    assert!(head(&mut reader).await.starts_with("HTTP/1.1 201 Created\r\n"));
    let mut body = [0; 4];
    reader.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"done");
}

/// Agrees to a WebSocket and sends back what comes.
fn echo() -> Service {
    Service::new(|mut stream| async move {
        let asked = head(&mut stream).await;
        assert!(
            asked.contains("connection: upgrade\r\n") && asked.contains("upgrade: websocket\r\n"),
            "{asked}"
        );
        assert!(asked.contains("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "{asked}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nfirst";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut from, mut to) = tokio::io::split(stream);
        let _ended = tokio::io::copy(&mut from, &mut to).await;
        let _ended = to.shutdown().await;
    })
}

async fn open_socket(address: std::net::SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let agreed = head(&mut client).await;
    assert!(agreed.starts_with("HTTP/1.1 101 "), "{agreed}");
    assert!(agreed.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{agreed}");
    assert!(
        agreed.contains("upgrade: websocket\r\n") && agreed.contains("connection: upgrade\r\n"),
        "{agreed}"
    );
    let mut first = [0; 5];
    client.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"first");
    client
}

#[tokio::test]
async fn a_websocket_goes_both_ways_and_ends_on_either_side() {
    let (world, _) = running().await;
    world.engine.serve(80, echo());
    let (address, server) = listening(&world).await;
    let mut client = open_socket(address).await;
    for message in [&b"\x81\x05hello"[..], &[0; 100_000]] {
        let (mut read, mut write) = client.split();
        let mut back = vec![0; message.len()];
        let (sent, got) = tokio::join!(write.write_all(message), read.read_exact(&mut back));
        sent.unwrap();
        got.unwrap();
        assert_eq!(back, message);
    }
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "the VM's end came through");

    let mut other = open_socket(address).await;
    world.stop.cancel();
    timeout(Duration::from_secs(5), server).await.expect("it does not wait for WebSockets").unwrap();
    assert!(matches!(other.read(&mut [0]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn what_is_open_ends_when_it_is_decided_anew_who_may() {
    let (world, _) = running().await;
    world.engine.serve(80, echo());
    let (address, _server) = listening(&world).await;
    let mut client = open_socket(address).await;
    world.control.acting(Actor::host()).set_port(&alices(), 80, Some(PortAccess::Owner)).await.unwrap();
    let ended = timeout(Duration::from_secs(5), client.read(&mut [0])).await.expect("it ends");
    assert!(matches!(ended, Ok(0) | Err(_)));
}

#[tokio::test]
async fn what_a_visitor_leaves_is_left_in_the_vm_too() {
    let (world, _) = running().await;
    let before = world.engine.connections();
    world.engine.serve(
        80,
        Service::new(|mut stream| async move {
            head(&mut stream).await;
            let _taken =
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await;
            // Whatever else, until the other side has gone.
            let _gone = stream.read(&mut [0]).await;
        }),
    );
    let (address, _server) = listening(&world).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    head(&mut client).await;
    assert_eq!(world.engine.connections(), before + 1);
    drop(client);
    timeout(Duration::from_secs(5), async {
        while world.engine.connections() > before {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the connection into the VM ends");
}
