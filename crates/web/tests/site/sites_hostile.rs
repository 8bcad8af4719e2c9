//! Requests that two servers could read in two ways, sent as raw bytes: nothing of them gets to a VM, or one request that
//! can be read in one way only.

use std::{net::SocketAddr, time::Duration};

use berth_web::serve;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{
    sites::{HOST, Seen, running},
    world::World,
};

pub(crate) async fn listening(world: &World) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (
        address,
        TaskTracker::new().spawn(serve(
            listener,
            world.router.clone(),
            world.control.entrance(),
            world.stop.clone(),
        )),
    )
}

/// Sends bytes and gives all that comes back until the server closes, or says nothing for a while.
async fn raw(address: SocketAddr, bytes: &str) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    let _cut_off = client.write_all(bytes.as_bytes()).await;
    let mut answer = Vec::new();
    while let Ok(Ok(1..)) = timeout(Duration::from_secs(1), client.read_buf(&mut answer)).await {}
    String::from_utf8_lossy(&answer).into_owned()
}

async fn refused(what: &str, bytes: &str) {
    let (world, seen) = running().await;
    let (address, _server) = listening(&world).await;
    let answer = raw(address, bytes).await;
    assert_eq!(seen.text(), "", "{what}: it got to the VM");
    assert!(answer.starts_with("HTTP/1.1 4"), "{what}: {answer}");
    assert!(!answer.contains("hello") && answer.matches("HTTP/1.1 ").count() == 1, "{what}: {answer}");
    world.stop.cancel();
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_before_the_vm_sees_it() {
    let smuggled = format!("GET /smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    for header in [
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4, 5",
        "Content-Length: +4",
        "Content-Length: 4 4",
        "Content-Length: -1",
        "Content-Length: 0x4",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:\u{b}chunked",
        "X: a\r\n folded",
        "X: a\r\n\tContent-Length: 5",
        "X : a",
        "Content-Length : 4",
        "X: a\rb",
        "X: a\0b",
        "\u{7f}X: a",
    ] {
        let bytes = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n{header}\r\n\r\n0\r\n\r\n{smuggled}");
        refused(&format!("{header:?}"), &bytes).await;
    }
}

#[tokio::test]
async fn hosts_that_differ_are_refused_before_the_vm_sees_them() {
    for head in [
        format!("GET http://vm-0.bob.koding.kd.io/ HTTP/1.1\r\nHost: {HOST}"),
        format!("GET http://koding.com/ HTTP/1.1\r\nHost: {HOST}"),
        format!("GET http://{HOST}:99/ HTTP/1.1\r\nHost: {HOST}"),
        format!("GET http://{HOST}/ HTTP/1.1\r\nHost: koding.com"),
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nHost: vm-0.bob.koding.kd.io"),
        format!("GET / HTTP/1.1\r\nHost: {HOST}, koding.com"),
        format!("GET / HTTP/1.1\r\nHost: x@{HOST}"),
        format!("GET / HTTP/1.1\r\nHost: {HOST}."),
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nHost : x"),
        format!("GET /a b HTTP/1.1\r\nHost: {HOST}"),
        format!("GET {HOST} HTTP/1.1\r\nHost: {HOST}"),
        "GET / HTTP/1.1".to_owned(),
    ] {
        refused(&head, &format!("{head}\r\n\r\n")).await;
    }
    let (world, seen) = running().await;
    let (address, _server) = listening(&world).await;
    let same =
        raw(address, &format!("GET http://{HOST}/x HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"))
            .await;
    assert!(
        same.ends_with("hello") && seen.text().starts_with("GET /x HTTP/1.1\r\n"),
        "{same} {}",
        seen.text()
    );
}

#[tokio::test]
async fn chunks_that_are_none_are_refused_before_the_vm_sees_them() {
    for chunks in [
        "x\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nabc",
        "3 3\r\nabc\r\n0\r\n\r\n",
        "3;\rx\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
    ] {
        let bytes = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        refused(&format!("{chunks:?}"), &bytes).await;
    }
}

/// Both lengths: the chunks count, the connection ends with that request (RFC 9112, 6.1), and what the VM gets has one
/// length alone.
#[tokio::test]
async fn of_two_lengths_the_vm_sees_one_and_no_second_request() {
    for both in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 50",
    ] {
        let (world, seen) = running().await;
        let (address, _server) = listening(&world).await;
        let bytes = format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\n{both}\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
        );
        let answer = raw(address, &bytes).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        let seen = seen.text();
        assert_eq!(seen.matches(" HTTP/1.1\r\n").count(), 1, "{seen}");
        assert!(!seen.contains("smuggled") && !seen.contains("content-length"), "{seen}");
        assert!(
            seen.contains("transfer-encoding: chunked\r\n") && seen.ends_with("3\r\nabc\r\n0\r\n\r\n"),
            "{seen}"
        );
    }
}

#[tokio::test]
async fn requests_on_one_connection_reach_the_vm_on_one_each() {
    let (world, seen) = running().await;
    let (address, _server) = listening(&world).await;
    let bytes = format!(
        "POST /one HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 3\r\n\r\nabcGET /two HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET /healthz \
         HTTP/1.1\r\nHost: koding.com\r\nConnection: close\r\n\r\n"
    );
    let answer = raw(address, &bytes).await;
    assert_eq!(answer.matches("hello").count(), 2, "{answer}");
    assert!(answer.ends_with("ok\n"), "each request is judged by its own host: {answer}");
    assert!(
        seen.text().contains("content-length: 3\r\n") && !seen.text().contains("healthz"),
        "{}",
        seen.text()
    );
}

#[tokio::test]
async fn what_a_vm_answers_cannot_pass_for_two_answers() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\n\r\nevil",
        "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
    ] {
        let (world, _) = running().await;
        world.engine.serve(80, Seen::default().answering(answer));
        let (address, _server) = listening(&world).await;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET /healthz HTTP/1.1\r\nHost: koding.com\r\nConnection: close\r\n\r\n"
        );
        let got = raw(address, &request).await;
        assert!(!got.contains("evil"), "{answer:?}: {got}");
        assert!(got.ends_with("ok\n"), "{answer:?}: the next request is answered as ever: {got}");
    }
}
