//! Recordings: who is told, who may look, and that both are written down.

use axum::http::StatusCode;
use berth_control::{Actor, RecordingState};
use tokio::time::timeout;

use crate::{
    terminal::{SOON, Terminals},
    world::World,
};

const NOTICE: &str =
    "This session is recorded: all that appears on the screen, but not the keys that are pressed.";

#[tokio::test]
async fn what_appears_in_a_terminal_is_for_operators_to_download() {
    let folder = tempfile::tempdir().unwrap();
    let terminals = Terminals::of(World::recording(folder.path()).await).await;
    let (mut alice, mut bob) =
        (terminals.world.logged_in("alice").await, terminals.world.logged_in("bob").await);
    assert!(alice.get("/vms/vm-0/terminal").await.body.contains(NOTICE));
    let mut page = terminals.opened(&alice).await;
    // A character that comes in two pieces, and one that is none.
    page.write(b"sm\xc3").await;
    page.shown(3).await;
    page.write(b"\xb8r \xff").await;
    page.shown(4).await;
    page.write(b"exit").await;
    page.until("exit").await;

    let host = terminals.world.control.acting(Actor::host());
    let recording = timeout(SOON, async {
        loop {
            let found = host.recordings().await.unwrap();
            if found.on && found.all.len() == 1 && found.all[0].state == RecordingState::Complete {
                return found.all[0].clone();
            }
        }
    })
    .await
    .unwrap();
    let path = format!("/ops/recordings/{}", recording.name);
    assert_eq!(
        (recording.account.as_str(), recording.vm.to_string().as_str()),
        ("alice", "vm-0.alice.koding")
    );
    let list = alice.get("/ops/recordings").await;
    assert!(list.body.contains(&format!("href=\"{path}\" download")), "{}", list.body);
    assert!(alice.get("/ops/recordings?q=nobody").await.body.contains("There is none that this is true of."));

    let file = alice.get(&path).await;
    assert_eq!(file.headers["content-disposition"], format!("attachment; filename=\"{}\"", recording.name));
    let mut lines = file.body.lines();
    let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!((&header["version"], &header["width"]), (&2.into(), &80.into()));
    let events: Vec<(f64, String, String)> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown: String = events.iter().filter(|event| event.1 == "o").map(|event| event.2.as_str()).collect();
    assert_eq!(shown, "smør \u{fffd}");
    assert!(events.iter().all(|event| event.1 != "i"), "no keys");

    // For nobody else, who learn nothing of what there is.
    for path in [path.as_str(), "/ops/recordings", "/ops/recordings/../../berth.db"] {
        assert_eq!(bob.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(bob.post(&format!("{path}/remove"), &[]).await.status, StatusCode::NOT_FOUND);
    for wrong in ["x", "..%2F..%2Fberth.db", "%00", &recording.name.replace("alice", "bob")] {
        let status = alice.get(&format!("/ops/recordings/{wrong}")).await.status;
        assert_eq!(status, StatusCode::NOT_FOUND, "{wrong}");
    }

    alice.get("/ops/recordings").await;
    assert_eq!(alice.post(&format!("{path}/remove"), &[]).await.location(), "/ops/recordings");
    assert_eq!(alice.get(&path).await.status, StatusCode::NOT_FOUND);
    let trail = alice.get("/account/activity").await.body;
    for what in ["session recorded", "recording opened", "recording removed"] {
        assert!(trail.contains(&format!("{what}: vm-0.alice.koding ({}", recording.name)), "{what}: {trail}");
    }
}

#[tokio::test]
async fn where_nothing_is_recorded_nothing_is_said() {
    let terminals = Terminals::new().await;
    let mut alice = terminals.world.logged_in("alice").await;
    assert!(!alice.get("/vms/vm-0/terminal").await.body.contains("recorded"));
    assert!(alice.get("/ops/recordings").await.body.contains("No session is recorded now."));
}
