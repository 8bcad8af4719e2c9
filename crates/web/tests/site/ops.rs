//! The operators' pages, and the team's.

use axum::http::StatusCode;
use berth_control::{Actor, OwnLimits};
use berth_engine::EngineError;
use berth_testkit::Verb;

use crate::world::{World, account, key};

#[tokio::test]
async fn long_lists_come_a_page_at_a_time() {
    let (world, mut alice) = World::new().await.operated().await;
    for number in 0..120 {
        let name = account(&format!("member-{number:03}"));
        world.control.add_account(&name).await.unwrap();
        world.control.add_vm(&name).await.unwrap();
    }
    for (path, mark) in [
        ("/ops", "<td><a href=\"/ops/accounts/"),
        ("/ops/vms", "<span class=\"nowrap\">vm-0."),
        ("/team", "<td data-label=\"VMs\">"),
    ] {
        let (mut next, mut seen, mut pages) = (path.to_owned(), 0, 0);
        loop {
            let page = alice.get(&next).await;
            assert_eq!(page.status, StatusCode::OK, "{next}");
            seen += page.body.matches(mark).count();
            pages += 1;
            assert_eq!(page.body.contains("First page"), pages > 1, "{next}");
            let Some((before, _)) = page.body.split_once("\" rel=\"next\">Next page") else { break };
            next = before.rsplit_once("href=\"").unwrap().1.replace("&#38;", "&");
            assert!(next.starts_with(path), "{next}");
        }
        assert_eq!((seen, pages), (122, 3), "{path}");
    }
    for (path, there, not) in [
        ("/ops?q=member-00", "member-009", "member-010"),
        ("/ops/vms?q=member-11", "vm-0.member-119.koding", "vm-0.member-000.koding"),
        ("/ops/vms?state=off&q=bob", "vm-0.bob.koding", "vm-0.alice.koding"),
        ("/ops/vms?state=running", "There is none.", "vm-0.bob.koding"),
        ("/team?q=BOB", "vm-0.bob.koding.kd.io", "alice.koding.kd.io"),
        ("/ops/vms?after=nonsense&state=nonsense&q=bob", "vm-0.bob.koding", "First page of"),
    ] {
        let page = alice.get(path).await.body;
        assert!(page.contains(there) && !page.contains(not), "{path}: {page}");
    }
}

#[tokio::test]
async fn every_member_sees_the_team_but_not_who_is_blocked() {
    let world = World::new().await;
    let mut bob = world.logged_in("bob").await;
    assert!(bob.get("/team").await.body.contains("vm-0.alice.koding.kd.io"));
    world.control.acting(Actor::host()).block_account(&account("alice")).await.unwrap();
    assert!(!bob.get("/team").await.body.contains("alice"));
}

#[tokio::test]
async fn who_is_connected_is_shown() {
    let (world, mut alice) = World::new().await.operated().await;
    assert!(alice.get("/ops/connections").await.body.contains("Nobody."));
    let line = key("desk");
    world.control.add_keys(&account("bob"), &line, None).await.unwrap();
    let added = berth_model::parse_pasted(&line).unwrap().remove(0).unwrap();
    let login = world.control.log_in(&added.key, [192, 0, 2, 9].into()).await.unwrap();
    let entry = world.control.enter(&login, "bob.kd.io", 22).await.unwrap();
    let stream = world.control.connect(&entry, tokio::sync::mpsc::channel(1).0).await.unwrap();
    let page = alice.get("/ops/connections?q=192.0.2.9").await.body;
    for words in ["<td>bob</td>", "192.0.2.9", "vm-0.bob.koding", ">22<"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(alice.get("/ops/connections?q=carol").await.body.contains("Nobody that this is true of."));
    drop(stream);
    assert!(alice.get("/ops/connections").await.body.contains("Nobody."));
}

#[tokio::test]
async fn health_says_what_is_wrong_and_what_to_do() {
    let (world, mut alice) = World::new().await.operated().await;
    let page = alice.get("/ops/health").await.body;
    assert!(page.contains("Yes: nothing needs you.") && page.contains("an engine in memory"), "{page}");
    let reason = "its <disk> is full".to_owned();
    world.engine.fail(Verb::Start, Some(EngineError::StartFailed { reason }));
    alice.post("/vms/vm-0/power", &[("to", "on")]).await;
    let page = alice.get("/ops/health").await.body;
    assert!(
        page.contains("1 VM failed or could not be woken.") && page.contains("its &#60;disk&#62; is full"),
        "{page}"
    );
}

#[tokio::test]
async fn limits_are_set_for_one_account() {
    let (world, mut alice) = World::new().await.operated().await;
    let path = "/ops/accounts/bob/limits";
    let wrong = alice.post(path, &[("vms", "many"), ("memory", "2")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        wrong.body.contains("value=\"many\"") && wrong.body.contains("That is no number."),
        "{}",
        wrong.body
    );
    let set = alice.post(path, &[("vms", "7"), ("cpus", ""), ("memory", "1,5"), ("disk", "")]).await;
    assert_eq!((set.status, set.location()), (StatusCode::SEE_OTHER, "/ops/accounts/bob"));
    let (own, _) = world.control.limits(&account("bob")).await.unwrap();
    assert_eq!(own, OwnLimits { vms: Some(7), memory: Some(3 << 29), ..OwnLimits::default() });
    assert!(alice.get("/ops/accounts/bob").await.body.contains("value=\"1.5\""));
    assert_eq!(alice.post("/ops/accounts/nobody/limits", &[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_trail_is_searched_by_sort_too() {
    let (_world, mut alice) = World::new().await.operated().await;
    alice.post("/vms/vm-0/label", &[("label", "shop")]).await;
    let page = alice.get("/ops/audit?kind=vm_titled").await.body;
    assert!(page.contains("VM titled: vm-0.alice.koding (shop)") && !page.contains("<td>log in"), "{page}");
}
