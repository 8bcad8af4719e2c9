//! Connections into a VM that serve more than one request, and those that must not.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use berth_control::{Actor, PortAccess};
use berth_testkit::Service;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    sites::{HOST, alices, running},
    sites_hostile::listening,
    world::World,
};

/// Has port 80 answer `most` requests on each connection, and end it then; gives how many connections there were.
fn answering(world: &World, most: usize) -> Arc<AtomicUsize> {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    world.engine.serve(
        80,
        Service::new(move |mut stream| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                for _ in 0..most {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    // Some servers tell how long an answer is, others where it ends.
                    let answer = match head.starts_with(b"GET /chunked") {
                        true => {
                            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
                        }
                        false => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                    };
                    let _gone = stream.write_all(answer.as_bytes()).await;
                }
            }
        }),
    );
    connections
}

/// Asks on an open connection, and gives the status.
async fn ask(client: &mut TcpStream, line: &str) -> String {
    let request = format!("{line} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let whole = |answer: &[u8]| {
        let text = String::from_utf8_lossy(answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().unwrap())
        });
        length.map_or_else(|| body.ends_with("0\r\n\r\n"), |length| body.len() >= length)
    };
    while !whole(&answer) {
        assert!(client.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()[9..12].to_owned()
}

#[tokio::test]
async fn requests_that_read_follow_each_other_on_the_visitors_own_connection() {
    let (world, _) = running().await;
    let connections = answering(&world, usize::MAX);
    let (address, _server) = listening(&world).await;
    let mut one = TcpStream::connect(address).await.unwrap();
    for path in ["GET /", "GET /chunked", "GET /", "GET /"] {
        assert_eq!(ask(&mut one, path).await, "200");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    let mut other = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut other, "GET /").await, "200");
    assert_eq!(connections.load(Ordering::Relaxed), 2, "another visitor's is another one");
    assert_eq!(ask(&mut one, "POST /").await, "200");
    assert_eq!(connections.load(Ordering::Relaxed), 3, "what changes something has one of its own");
}

#[tokio::test]
async fn one_that_the_vm_ends_is_replaced_without_a_word() {
    let (world, _) = running().await;
    let connections = answering(&world, 2);
    let (address, _server) = listening(&world).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    for _ in 0..5 {
        assert_eq!(ask(&mut client, "GET /").await, "200");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn what_is_decided_counts_for_one_that_waits() {
    let (world, _) = running().await;
    let connections = answering(&world, usize::MAX);
    let (address, _server) = listening(&world).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut client, "GET /").await, "200");
    let host = world.control.acting(Actor::host());
    host.set_port(&alices(), 80, Some(PortAccess::Owner)).await.unwrap();
    assert_eq!(ask(&mut client, "GET /").await, "404");
    host.set_port(&alices(), 80, None).await.unwrap();
    assert_eq!(ask(&mut client, "GET /").await, "200");
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}
