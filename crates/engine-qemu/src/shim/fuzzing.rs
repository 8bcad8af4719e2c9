//! What fuzzers do with all that a guest, and a QEMU that a guest has taken over, can say to its shim. Every function
//! panics where something does not hold.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::net::UnixStream as Plain,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    runtime::Runtime,
};
use tokio_util::task::TaskTracker;

use super::{
    agent::{Agent, AgentError},
    qmp::{Qmp, QmpError},
    wall::{Translator, Wall},
};
use crate::{console, protocol};

/// More than this at once does not fit a socket that nobody reads yet.
const MAX_SAID: usize = 64 << 10;

/// Time stands still but where everybody waits, so that no limit takes as long as it says.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread")
}

thread_local! {
    static RUNTIME: Runtime = runtime();
}

/// QEMU's end of the control channel says this, from its greeting on, and hears nothing.
///
/// # Panics
/// If a conversation with it does not end, or gives more than was said.
pub fn qmp(data: &[u8]) {
    let data = data.get(..MAX_SAID).unwrap_or(data);
    let (ours, mut theirs) = Plain::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).expect("a socket that does not block");
    theirs.write_all(data).expect("room for what is said");
    theirs.shutdown(std::net::Shutdown::Write).expect("an end");
    let lines = data.split(|byte| *byte == b'\n').count();
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let ours = UnixStream::from_std(ours).expect("a socket of the runtime");
            let tasks = TaskTracker::new();
            let (qmp, mut events) = match Qmp::open(ours, &tasks).await {
                Ok(opened) => opened,
                Err(QmpError::TimedOut) => panic!("a QEMU that has hung up is waited for"),
                Err(_) => return,
            };
            let status = qmp.execute("query-status", &json!({})).await;
            assert!(!matches!(status, Err(QmpError::TimedOut)), "a QEMU that has hung up is waited for");
            let mut seen = 0;
            while events.recv().await.is_some() {
                seen += 1;
            }
            assert!(seen <= lines, "{seen} events in {lines} lines");
            let said = qmp.version.to_string();
            assert!(said.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'), "{said}");
        });
    });
}

/// The guest's end of the agent's line says this: up to the first byte 0 before it answers that it is there, and the rest as
/// the answers to a script.
///
/// # Panics
/// If what it says is taken for more than it is: a script that was done without that being said, or text for the log that
/// is long or not plain.
pub fn agent(data: &[u8]) {
    let data = data.get(..MAX_SAID).unwrap_or(data);
    let split = data.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (before, after) = data.split_at(split);
    let after = after.strip_prefix(&[0]).unwrap_or(after);
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
            let mut agent = Agent::new(ours);
            // The guest's end is over when ours is.
            let asked = async move { agent.run("true", Duration::from_secs(60)).await };
            let (result, ()) = tokio::join!(asked, guest(theirs, before, after));
            match result {
                Ok(printed) => {
                    assert!(after.windows(8).any(|word| word == b"exitcode"), "nobody said that it was done");
                    assert!(printed.len() <= 3 * MAX_SAID);
                }
                Err(error @ (AgentError::Script { .. } | AgentError::Refused(_))) => {
                    let said = error.to_string();
                    assert!(said.chars().count() <= 2 * 2000 + 100, "{} characters", said.chars().count());
                    assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
                }
                Err(_) => {}
            }
        });
    });
}

/// Answers the question whether anybody is there rightly, after `before`, says `after`, and hangs up.
async fn guest(line: UnixStream, before: &[u8], after: &[u8]) {
    let mut line = BufReader::new(line);
    let mut asked = Vec::new();
    if line.read_until(b'\n', &mut asked).await.is_err() {
        return;
    }
    let start = asked.iter().position(|byte| *byte == b'{').unwrap_or_default();
    let asked: Value = serde_json::from_slice(asked.get(start..).unwrap_or_default()).unwrap_or_default();
    let id = asked.pointer("/arguments/id").cloned().unwrap_or_default();
    let answer = format!("{}\n", json!({ "return": id }));
    let said = [before, b"\xff", answer.as_bytes(), after].concat();
    // Whoever has heard enough hangs up.
    let _heard = line.write_all(&said).await;
    let _ended = line.shutdown().await;
    let mut rest = Vec::new();
    let _rest = line.read_until(0, &mut rest).await;
}

/// What a guest prints on its console, as an operator is shown it.
///
/// # Panics
/// If a terminal would do more with it than show it, or it is longer than what was printed.
pub fn console(data: &[u8]) {
    let shown = console::plain(data);
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    // What is no UTF-8 is shown as a character of three bytes.
    assert!(shown.len() <= 3 * data.len() && shown.len() <= console::SHOWN);
    assert_eq!(console::plain(shown.as_bytes()), shown, "what is plain stays so");
}

/// What the engine and a shim say to each other, if either is not what it should be.
///
/// # Panics
/// If what was understood is not understood the same once more.
pub fn shim_lines(data: &[u8]) {
    both::<protocol::Request>(data);
    both::<protocol::Reply>(data);
}

fn both<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) {
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let Ok(message) = protocol::receive::<T, _>(&mut BufReader::new(data)).await else { return };
            let mut line = Vec::new();
            let text = format!("{message:?}");
            protocol::send(&mut line, message).await.expect("what was read can be written");
            let again = protocol::receive::<T, _>(&mut BufReader::new(line.as_slice()))
                .await
                .expect("and read again");
            assert_eq!(format!("{again:?}"), text);
        });
    });
}

/// A frame of a guest that wants out; the first byte chooses what stands outside.
///
/// # Panics
/// If it passes and its destination, as it stands in the frame, is the host's or nobody's.
pub fn way_out(data: &[u8]) {
    let Some((first, frame)) = data.split_first() else { return };
    let network = [100, 64, 77];
    let translator = if first & 1 == 0 { Translator::Passt } else { Translator::UserNetwork { network } };
    let wall = Wall::knowing(translator, FIB_TRIE, IF_INET6);
    if !wall.passes(frame) {
        return;
    }
    let at = |from: usize, to: usize| frame.get(from..to).unwrap_or_default();
    match at(12, 14) {
        [8, 6] => {}
        [8, 0] => {
            let to = Ipv4Addr::from(<[u8; 4]>::try_from(at(30, 34)).expect("a whole header"));
            if to.is_broadcast() || to.octets().starts_with(&network) && first & 1 == 1 {
                // The translator's own services: UDP or TCP, and never a later fragment.
                assert!(
                    matches!(at(23, 24), [6 | 17])
                        && u16::from_be_bytes([0, *at(21, 22).first().unwrap_or(&1)]) == 0
                );
                return;
            }
            let host =
                [Ipv4Addr::new(203, 0, 113, 2), Ipv4Addr::new(203, 0, 113, 255), Ipv4Addr::new(10, 9, 8, 7)];
            assert!(
                !to.is_loopback() && !to.is_link_local() && !to.is_multicast() && !to.is_unspecified(),
                "{to}"
            );
            assert!(!host.contains(&to), "{to} is the host");
            assert!(to.octets().first().is_some_and(|high| (1..224).contains(high)), "{to}");
        }
        [0x86, 0xdd] => {
            let to = Ipv6Addr::from(<[u8; 16]>::try_from(at(38, 54)).expect("a whole header"));
            if to.is_multicast() || to.is_unicast_link_local() {
                assert!(matches!(at(20, 21), [58 | 17]), "{to} by {:?}", at(20, 21));
                return;
            }
            assert!(!to.is_loopback() && !to.is_unspecified(), "{to}");
            assert!(!matches!(IpAddr::V6(to).to_canonical(), IpAddr::V4(_)), "{to} is an address of IPv4");
            assert_ne!(to, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2), "the host");
        }
        other => panic!("a frame of type {other:x?}"),
    }
}

/// A host as the kernel tells of it: 203.0.113.2/24 and 10.9.8.7, fd00::2.
const FIB_TRIE: &str = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.9.8.7\n        /32 host LOCAL\n     |-- 127.0.0.0\n        \
    /8 host LOCAL\n     |-- 203.0.113.2\n        /32 host LOCAL\n     |-- 203.0.113.255\n        /32 link BROADCAST\n";
const IF_INET6: &str =
    "fd000000000000000000000000000002 02 40 00 80 eth0\n00000000000000000000000000000001 01 80 10 80 lo\n";
