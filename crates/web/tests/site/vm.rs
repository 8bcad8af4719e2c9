//! A VM's label, its drawings, and how it is brought back from its disk.

use std::time::Duration;

use axum::http::StatusCode;
use berth_engine::EngineError;
use berth_model::VmName;
use berth_testkit::Verb;

use crate::world::World;

fn alices() -> VmName {
    "vm-0.alice.koding".parse().unwrap()
}

#[tokio::test]
async fn a_label_is_shown_and_the_address_stays() {
    let world = World::new().await;
    let (mut alice, mut bob) = (world.logged_in("alice").await, world.logged_in("bob").await);
    let set = alice.post("/vms/vm-0/label", &[("label", " Zo\u{eb}\u{2019}s <shop> ")]).await;
    assert_eq!((set.status, set.location()), (StatusCode::SEE_OTHER, "/vms/vm-0"), "{}", set.body);
    for path in ["/", "/vms/vm-0"] {
        let page = alice.get(path).await.body;
        assert!(page.contains("<bdi>Zo\u{eb}\u{2019}s &#60;shop&#62;</bdi>"), "{page}");
        assert!(page.contains("ssh vm-0.alice.koding.kd.io"), "{page}");
    }
    for wrong in ["\u{202e}gpj.exe", "a\u{1b}[31mb", &"x".repeat(41)] {
        let refused = alice.post("/vms/vm-0/label", &[("label", wrong)]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong:?}");
        assert!(refused.body.contains("id=\"label-wrong\""), "{}", refused.body);
        assert!(!refused.body.contains('\u{202e}') && !refused.body.contains('\u{1b}'));
    }
    assert_eq!(bob.post("/vms/vm-0.alice.koding/label", &[("label", "mine")]).await.status, 404);
    alice.post("/vms/vm-0/label", &[("label", "  ")]).await;
    assert!(!alice.get("/").await.body.contains("<bdi>"));
}

#[tokio::test]
async fn what_it_used_is_drawn_with_words_beside_it() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    assert!(alice.get("/vms/vm-0").await.body.contains("Nothing is known yet"));
    world.control.start_vm(&alices(), tokio::sync::mpsc::channel(1).0).await.unwrap();
    let samples = async || world.control.history(&alices()).unwrap().len();
    while samples().await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let page = alice.get("/vms/vm-0").await.body;
    assert!(
        page.contains("<strong>Memory</strong>") && page.contains("aria-label=\"Memory over the last hour: "),
        "{page}"
    );
    assert!(page.contains("<title>") && !page.contains("style="), "{page}");
}

#[tokio::test]
async fn one_that_cannot_be_woken_is_booted_only_when_a_person_says_so() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    let (progress, name) = (|| tokio::sync::mpsc::channel(1).0, alices());
    world.control.start_vm(&name, progress()).await.unwrap();
    world.control.sleep_vm(&name).await.unwrap();
    // One that only sleeps is not booted, whatever is asked: its memory would be lost for nothing.
    assert_eq!(alice.get("/vms/vm-0/boot").await.location(), "/vms/vm-0");
    assert_eq!(alice.post("/vms/vm-0/boot", &[]).await.location(), "/vms/vm-0");
    assert_eq!(world.engine.calls(Verb::ForgetSleep, None), 0);
    assert!(!alice.get("/vms/vm-0").await.body.contains("from its disk"));

    let reason = "its saved memory is cut short".to_owned();
    world.engine.fail(Verb::Start, Some(EngineError::WakeFailed { reason }));
    let refused = alice.post("/vms/vm-0/power", &[("to", "on"), ("back", "/vms/vm-0")]).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.body);
    assert!(refused.body.contains("its saved memory is cut short"), "{}", refused.body);
    let page = alice.get("/vms/vm-0").await.body;
    assert!(page.contains("href=\"/vms/vm-0/boot\"") && !page.contains("berth admin"), "{page}");
    let asked = alice.get("/vms/vm-0/boot").await.body;
    assert!(asked.contains("gives up its memory for good: the programs that ran in it"), "{asked}");
    assert_eq!(world.engine.calls(Verb::ForgetSleep, None), 0, "looking does nothing");

    world.engine.fail(Verb::Start, None);
    assert_eq!(alice.post("/vms/vm-0/boot", &[]).await.location(), "/vms/vm-0");
    assert_eq!(world.engine.calls(Verb::ForgetSleep, None), 1);
    let mut bob = world.logged_in("bob").await;
    assert_eq!(bob.get("/vms/vm-0.alice.koding/boot").await.status, StatusCode::NOT_FOUND);
    assert_eq!(bob.post("/vms/vm-0.alice.koding/boot", &[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn how_long_a_start_takes_is_told_from_the_last_one() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    assert!(alice.get("/vms/vm-0").await.body.contains("A boot takes some seconds."));
    world.engine.delay(Verb::Start, Duration::from_millis(150));
    let progress = || tokio::sync::mpsc::channel(1).0;
    world.control.start_vm(&alices(), progress()).await.unwrap();
    world.control.sleep_vm(&alices()).await.unwrap();
    assert!(
        alice.get("/vms/vm-0").await.body.contains("That takes a moment, and its programs are as they were.")
    );
    world.control.start_vm(&alices(), progress()).await.unwrap();
    world.control.sleep_vm(&alices()).await.unwrap();
    assert!(alice.get("/vms/vm-0").await.body.contains("That takes about 0."));
    world.control.stop_vm(&alices()).await.unwrap();
    assert!(alice.get("/").await.body.contains("A boot takes about 0."));
}
