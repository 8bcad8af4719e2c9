//! The admin socket, spoken to by something else than berth.

use std::{
    io::{Read, Write},
    net::Shutdown,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::world::{Server, World};

/// Sends bytes and the end of them, and gives back everything that comes.
fn say(server: &Server<'_>, bytes: &[u8]) -> String {
    let mut stream = server.admin_socket();
    // A server that has refused already may not read the rest.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn failure(answer: &str) -> (String, String) {
    assert_eq!(answer.lines().count(), 1, "{answer:?}");
    let value: Value = serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    let text = |name: &str| value["failed"][name].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    (text("kind"), text("message"))
}

#[test]
fn nonsense_is_refused_in_words() {
    let world = World::new();
    let server = world.serve();
    for (bytes, says) in [
        (&b"\n"[..], "This is not a request."),
        (b"hello\n", "This is not a request."),
        (b"\xff\xfe\n", "This is not a request."),
        (b"{}\n", "This is not a request."),
        (b"", "The request ends early."),
        (br#"{"version":3,"request":{"do":"account_list"}}"#, "The request ends early."),
        (
            b"{\"version\":3,\"request\":{\"do\":\"account_list\",\"x\":1}}\n",
            "The server does not know this request",
        ),
        (b"{\"version\":3,\"request\":{\"do\":\"burn\"}}\n", "The server does not know this request"),
        (b"{\"version\":4,\"request\":{\"do\":\"burn\"}}\n", "of different versions (4 and 3"),
        (b"{\"version\":3,\"request\":{\"do\":\"account_add\",\"name\":\"../x\"}}\n", "2 to 32 characters"),
        (b"{\"version\":3,\"request\":{\"do\":\"vm_show\",\"vm\":\"\\u0000\"}}\n", "There is no VM"),
    ] {
        let answer = say(&server, bytes);
        let (_, message) = failure(&answer);
        assert!(message.contains(says), "{}: {message}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(world.run("admin account list").status, 0, "the server serves on");
}

#[test]
fn depth_and_length_have_an_end() {
    let world = World::new();
    let server = world.serve();
    let deep = [vec![b'['; 200_000], b"\n".to_vec()].concat();
    assert_eq!(failure(&say(&server, &deep)).1, "This is not a request.");
    let long = vec![b'x'; 4 << 20];
    assert_eq!(failure(&say(&server, &long)).1, "The request is too long.");
    assert_eq!(world.run("admin account list").status, 0, "the server serves on");
}

#[test]
fn clients_that_say_nothing_do_not_stop_others_or_the_server() {
    let world = World::new();
    let server = world.serve();
    let silent: Vec<_> = (0..32).map(|_| server.admin_socket()).collect();
    let started = Instant::now();
    assert_eq!(world.run("admin account list").status, 0);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let (status, took) = server.terminate();
    assert_eq!(status, 0);
    assert!(took < Duration::from_secs(4), "{took:?}");
    drop(silent);
}

#[test]
fn a_server_that_is_full_says_so_at_once() {
    let world = World::new();
    let server = world.serve();
    let silent: Vec<_> = (0..96).map(|_| server.admin_socket()).collect();
    let started = Instant::now();
    let told = world.run("admin account list").refused();
    assert!(told.starts_with("The server has too many requests at once."), "{told}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    drop(silent);
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.run("admin account list").status != 0 {
        assert!(Instant::now() < deadline, "the places are not free again");
    }
}

#[test]
fn a_client_that_goes_does_not_undo_what_it_asked_for() {
    let world = World::new();
    let server = world.serve();
    let mut stream = server.admin_socket();
    stream.write_all(b"{\"version\":3,\"request\":{\"do\":\"account_add\",\"name\":\"alice\"}}\n").unwrap();
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !world.run("admin account list").stdout.starts_with("alice\t") {
        assert!(Instant::now() < deadline, "the account was not added");
    }
}
