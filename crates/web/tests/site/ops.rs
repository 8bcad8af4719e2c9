//! The operators' pages, and the team's.

use axum::http::StatusCode;
use berth_control::{Actor, OwnLimits, Scope};
use berth_engine::EngineError;
use berth_testkit::Verb;
use serde_json::json;

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
    let login = world.control.log_in(&added.key, None, [192, 0, 2, 9].into()).await.unwrap();
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

#[tokio::test]
async fn what_is_the_teams_is_made_and_trusted_on_a_page() {
    let (world, mut alice) = World::new().await.operated().await;
    let mut bob = world.logged_in("bob").await;
    assert_eq!(bob.get("/ops/team").await.status, StatusCode::NOT_FOUND);
    alice.get("/ops/team").await;
    assert_eq!(alice.post("/ops/team/vms", &[]).await.status, StatusCode::SEE_OTHER);
    let ca = key("office");
    let added = alice.post("/ops/team/cas", &[("key", &ca), ("label", "")]).await;
    assert_eq!((added.status, added.location()), (StatusCode::SEE_OTHER, "/ops/team#cas"));
    let page = alice.get("/ops/team").await.body;
    assert!(page.contains("shared-0.koding") && page.contains("<bdi>office</bdi>"), "{page}");
    for (key, words) in [
        ("nonsense", "nonsense"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----", "private key"),
    ] {
        let refused = alice.post("/ops/team/cas", &[("key", key), ("label", "x")]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains(words) || refused.body.contains("key"), "{}", refused.body);
        assert!(!refused.body.contains("BEGIN OPENSSH"), "it is not shown again");
    }
    for krl in ["%%%", "AAAA", ""] {
        let refused = alice.post("/ops/team/krl", &[("krl", krl)]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{krl}");
        assert!(refused.body.contains("That is no key revocation list."), "{}", refused.body);
    }
    // An empty list, as ssh-keygen -k makes it of nothing.
    const EMPTY: &str = "U1NIS1JMCgAAAAABAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(alice.post("/ops/team/krl", &[("krl", EMPTY)]).await.status, StatusCode::SEE_OTHER);

    let program = world.program("alice", &[Scope::OpsRead, Scope::OpsWrite]).await;
    let (_, told) = program.get("/api/v1/team-cas").await;
    assert_eq!((&told["cas"][0]["label"], &told["krl"]["keys"]), (&json!("office"), &json!(0)), "{told}");
    let fingerprint = told["cas"][0]["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(program.put("/api/v1/team-krl", json!({ "krl": "AAAA" })).await.0, 422);
    assert_eq!(program.put("/api/v1/team-krl", json!({ "krl": EMPTY })).await.0, 200);
    let (status, told) = program.post("/api/v1/team-cas", json!({ "key": key("x") })).await;
    assert_eq!((status, told["cas"].as_array().unwrap().len()), (200, 2));
    let path = format!("/api/v1/team-cas/{}", fingerprint.replace('/', "%2F").replace('+', "%2B"));
    assert_eq!(program.delete(&path).await.0, 204);
    assert_eq!(program.delete(&path).await.0, 404);
    let left = alice.get("/ops/team").await.body;
    assert!(!left.contains("<bdi>office</bdi>") && left.contains("<bdi>x</bdi>"), "{left}");
}
