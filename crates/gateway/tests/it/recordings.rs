//! Sessions that are recorded, with the OpenSSH of this machine. The VM's sshd is one in memory, which echoes.

use std::{fs, path::Path};

use berth_control::{Actor, AuditKind, AuditQuery, RecordingInfo, RecordingState};

use crate::{
    direct::sshd_of,
    world::{World, noise},
};

const NOTICE: &str =
    "This session is recorded: all that appears on the screen, but not the keys that are pressed.";

async fn recording(folder: &Path) -> World {
    let world = World::recording(folder).await;
    world.wake().await;
    sshd_of(&world).await;
    world
}

/// All recordings, once none is under way.
async fn all(world: &World, count: usize) -> Vec<RecordingInfo> {
    let host = world.control.acting(Actor::host());
    for _ in 0..1000 {
        let found = host.recordings().await.unwrap().all;
        if found.len() == count && found.iter().all(|one| one.state != RecordingState::UnderWay) {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("there are not {count} recordings");
}

/// What the trail says of this sort, once it says something.
async fn told(world: &World, kind: AuditKind) -> Vec<String> {
    let host = world.control.acting(Actor::host());
    for _ in 0..1000 {
        let query = AuditQuery { kind: Some(kind), ..AuditQuery::default() };
        let lines = host.audit(&query).await.unwrap();
        if !lines.is_empty() {
            return lines.into_iter().map(|line| line.detail).collect();
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("nothing is told of {kind}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_a_terminal_is_recorded_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let world = recording(folder.path()).await;
    let done = world.ssh(&["-l", "vm-0", "-tt", "gateway"], "smørrebrød".as_bytes()).await;
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains(NOTICE), "{}", done.stderr);
    assert!(!String::from_utf8_lossy(&done.stdout).contains("recorded"), "what is piped is the VM's");
    let [one] = all(&world, 1).await.try_into().unwrap();
    assert_eq!((one.account.as_str(), one.state), ("alice", RecordingState::Complete));
    assert!(one.name.contains("_vm-0.alice.koding_direct_"), "{}", one.name);
    let text = fs::read_to_string(folder.path().join(&one.name)).unwrap();
    assert!(text.contains("smørrebrød"), "{text}");
    assert_eq!(told(&world, AuditKind::SessionRecorded).await, [one.name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_terminal_is_not_recorded_and_the_lobby_tells_what_is() {
    let folder = tempfile::tempdir().unwrap();
    let world = recording(folder.path()).await;
    let done = world.ssh(&["-l", "vm-0", "gateway", "some command"], b"hello").await;
    assert_eq!((done.stdout.as_slice(), done.stderr.as_str()), (&b"hello"[..], ""));
    let lobby = world.ssh(&["-tt", "gateway"], b"exit\r").await;
    let said = String::from_utf8_lossy(&lobby.stdout).into_owned();
    assert!(said.contains("Sessions with a terminal that this gateway carries are recorded"), "{said}");
    assert_eq!(all(&world, 0).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_of_any_bytes_gets_through_whole_and_the_recording_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let world = recording(folder.path()).await;
    // No more than the fake sshd takes before it is read.
    let noise = noise(48 << 10);
    let done = world.ssh(&["-l", "vm-0", "-tt", "-e", "none", "gateway"], &noise).await;
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    assert!(done.stdout == noise, "every byte, as it was");
    let [one] = all(&world, 1).await.try_into().unwrap();
    assert_eq!(one.state, RecordingState::Incomplete);
    assert!(one.bytes <= 64 << 10);
    let text = fs::read_to_string(folder.path().join(&one.name)).unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    let why = format!("{}: it is as large as one may be", one.name);
    assert_eq!(told(&world, AuditKind::RecordingIncomplete).await, [why]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_breaks_no_session() {
    let folder = tempfile::tempdir().unwrap();
    let within = folder.path().join("recordings");
    let world = recording(&within).await;
    fs::remove_dir(&within).unwrap();
    let done = world.ssh(&["-l", "vm-0", "-tt", "gateway"], b"hello").await;
    assert_eq!((done.status, done.stdout.as_slice()), (Some(0), &b"hello"[..]), "{}", done.stderr);
    let [why] = told(&world, AuditKind::RecordingIncomplete).await.try_into().unwrap();
    assert!(why.contains(".cast: No such file or directory"), "{why}");
}
