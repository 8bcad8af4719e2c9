//! The connection loop over loopback.

use berth_web::serve;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::world::World;

async fn listening(world: &World) -> (TcpStream, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = TaskTracker::new().spawn(serve(
        listener,
        world.router.clone(),
        world.control.entrance(),
        world.stop.clone(),
    ));
    (TcpStream::connect(address).await.unwrap(), world.stop.clone(), server)
}

async fn read_until(client: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    while !answer.ends_with(end) {
        let read = client.read_buf(&mut answer).await.unwrap();
        assert!(read > 0, "ended before the answer: {}", String::from_utf8_lossy(&answer));
    }
    answer
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_the_server() {
    let world = World::empty("http://localhost").await;
    let (mut client, stop, server) = listening(&world).await;
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = read_until(&mut client, b"ok\n").await;
    stop.cancel();
    server.await.unwrap();
    assert_eq!(client.read_buf(&mut answer).await.unwrap(), 0);
}

#[tokio::test]
async fn stopping_ends_live_streams() {
    let world = World::new().await;
    let alice = world.logged_in("alice").await;
    let (mut client, stop, server) = listening(&world).await;
    let (name, value) = alice.cookies.iter().find(|(name, _)| !name.ends_with("form")).unwrap();
    let request = format!("GET /live HTTP/1.1\r\nHost: koding.com\r\nCookie: {name}={value}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = read_until(&mut client, b": beat\n\n\r\n").await;
    stop.cancel();
    client.read_to_end(&mut answer).await.unwrap();
    server.await.unwrap();
}

#[tokio::test]
async fn a_header_without_end_is_cut_off() {
    let world = World::empty("http://localhost").await;
    let (mut client, stop, server) = listening(&world).await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ").await.unwrap();
    // The server may close before all of this is written.
    let _ = client.write_all(&[b'a'; 64 * 1024]).await;
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    stop.cancel();
    server.await.unwrap();
}

/// What a proxy in front might read as two requests where this server reads one, or the other way round.
#[tokio::test]
async fn requests_that_can_be_read_in_two_ways_are_refused() {
    for header in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4, 5",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "X: a\r\n folded",
        "X : a",
        "Content-Length: +4",
    ] {
        let world = World::empty("http://localhost").await;
        let (mut client, stop, server) = listening(&world).await;
        let request = format!(
            "POST /log-in HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n{header}\r\n\r\n0\r\n\r\nGET /healthz \
             HTTP/1.1\r\nHost: localhost\r\n\r\n"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        stop.cancel();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        // Refused, or read in one way with the connection closed after it; never a second answer.
        assert!(!answer.contains("ok\n") && answer.matches("HTTP/1.1 ").count() <= 1, "{header}: {answer}");
        server.await.unwrap();
    }
}
