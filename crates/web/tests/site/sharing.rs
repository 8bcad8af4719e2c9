//! VMs that are shared, on the pages and by the API.

use axum::http::StatusCode;
use berth_control::Scope;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_vm_is_shared_accepted_and_taken_back() {
    let world = World::new().await;
    let (mut alice, mut bob) = (world.logged_in("alice").await, world.logged_in("bob").await);
    assert!(!bob.get("/").await.body.contains("Shared with you"));
    let shared =
        alice.post("/vms/vm-0/people", &[("account", " Bob "), ("sudo", "yes"), ("days", "7")]).await;
    assert_eq!((shared.status, shared.location()), (StatusCode::SEE_OTHER, "/vms/vm-0#people"));
    let page = alice.get("/vms/vm-0").await.body;
    assert!(page.contains("<strong>bob</strong>") && page.contains("has not accepted yet"), "{page}");

    let page = bob.get("/").await.body;
    assert!(page.contains("Shared with you") && page.contains("vm-0.alice.koding"), "{page}");
    assert!(page.contains("alice asks whether you want to be let into this VM with sudo"), "{page}");
    assert!(!page.contains("ssh bob@vm-0.alice"), "no way in before it is accepted");
    let accepted = bob.post("/shared/accept", &[("vm", "vm-0.alice.koding")]).await;
    assert_eq!((accepted.status, accepted.location()), (StatusCode::SEE_OTHER, "/#shared"));
    assert!(bob.get("/").await.body.contains("ssh bob@vm-0.alice.koding.kd.io"));
    assert!(alice.get("/vms/vm-0").await.body.contains("with sudo"));
    assert_eq!(bob.get("/vms/vm-0.alice.koding").await.status, StatusCode::NOT_FOUND, "the page is alice's");

    let taken = alice.post("/vms/vm-0/people/remove", &[("account", "bob")]).await;
    assert_eq!((taken.status, taken.location()), (StatusCode::SEE_OTHER, "/vms/vm-0#people"));
    assert!(!bob.get("/").await.body.contains("Shared with you"));
    let again = alice.post("/vms/vm-0/people/remove", &[("account", "bob")]).await;
    assert_eq!(again.status, StatusCode::SEE_OTHER, "they may have left in the same moment");
}

#[tokio::test]
async fn what_is_wrong_is_said_where_it_was_typed() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    for (name, words) in [
        ("nobody-here", "There is nobody called nobody-here here."),
        ("alice", "vm-0 is yours already."),
        ("<b>", "2 to 32 characters"),
        ("", "2 to 32 characters"),
    ] {
        let refused =
            alice.post("/vms/vm-0/people", &[("account", name), ("sudo", "no"), ("days", "")]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
        assert!(refused.body.contains(words) && !refused.body.contains("<b>"), "{name}: {}", refused.body);
    }
}

#[tokio::test]
async fn what_is_not_shared_is_not_there() {
    let world = World::new().await;
    let mut bob = world.logged_in("bob").await;
    for path in ["/shared/accept", "/shared/leave"] {
        for vm in ["vm-0.alice.koding", "vm-7.nobody.koding", "", "nonsense"] {
            assert_eq!(bob.post(path, &[("vm", vm)]).await.status, StatusCode::NOT_FOUND, "{path} {vm}");
        }
    }
    for path in ["/vms/vm-0.alice.koding/people", "/vms/vm-0.alice.koding/people/remove"] {
        assert_eq!(bob.post(path, &[("account", "bob")]).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn the_same_by_the_api() {
    let world = World::new().await;
    let scopes = [Scope::VmsRead, Scope::VmsWrite];
    let (alice, bob) = (world.program("alice", &scopes).await, world.program("bob", &scopes).await);
    let path = "/api/v1/vms/vm-0/shares/bob";
    let (status, share) = alice.put(path, json!({"sudo": true, "until": "2099-01-01T00:00:00Z"})).await;
    assert_eq!(
        (status, &share["account"], &share["accepted"]),
        (200, &json!("bob"), &json!(null)),
        "{share}"
    );
    assert_eq!(alice.put(path, json!({"until": "2001-01-01T00:00:00Z"})).await.0, 422);
    assert_eq!(alice.put("/api/v1/vms/vm-0/shares/nobody-here", json!({})).await.0, 404);
    assert_eq!(alice.put("/api/v1/vms/vm-0/shares/alice", json!({})).await.0, 422);
    assert_eq!(bob.put("/api/v1/vms/vm-0.alice.koding/shares/bob", json!({})).await.0, 404);
    let (_, shared) = bob.get("/api/v1/shared-vms").await;
    assert_eq!(shared["items"][0]["vm"], "vm-0.alice.koding", "{shared}");
    let (status, share) = bob.put("/api/v1/shared-vms/vm-0.alice.koding", json!({"accepted": true})).await;
    assert!(
        status == 200 && share["accepted"].is_string() && share["until"] == "2099-01-01T00:00:00Z",
        "{share}"
    );
    let (_, shares) = alice.get("/api/v1/vms/vm-0/shares").await;
    assert_eq!((&shares["items"][0]["account"], &shares["items"][0]["sudo"]), (&json!("bob"), &json!(true)));
    assert_eq!(bob.delete("/api/v1/shared-vms/vm-0.alice.koding").await.0, 204);
    assert_eq!(bob.delete("/api/v1/shared-vms/vm-0.alice.koding").await.0, 404);
    assert_eq!(alice.delete(path).await.0, 404, "it is not shared any more");
    let reader = world.program("alice", &[Scope::VmsRead]).await;
    assert_eq!(reader.put(path, json!({})).await.0, 403);
}

#[tokio::test]
async fn what_is_the_teams_is_every_members() {
    let (world, mut alice) = World::new().await.operated().await;
    let mut bob = world.logged_in("bob").await;
    assert!(!bob.get("/").await.body.contains("Your team"));
    let (operator, member) = (
        world.program("alice", &[Scope::OpsWrite]).await,
        world.program("bob", &[Scope::VmsRead, Scope::VmsWrite]).await,
    );
    assert_eq!(member.post("/api/v1/team-vms", json!({})).await.0, 403);
    let (status, made) = operator.post("/api/v1/team-vms", json!({})).await;
    assert_eq!((status, &made["host"]), (201, &json!("shared-0.koding.kd.io")), "{made}");
    let (_, listed) = member.get("/api/v1/team-vms").await;
    assert_eq!(listed["items"][0]["label"], "shared-0", "{listed}");
    assert_eq!(member.get("/api/v1/vms/shared-0").await.1["name"], "shared-0.koding");
    assert_eq!(member.post("/api/v1/vms/shared-0/stop", json!({})).await.0, 404);
    assert_eq!(member.get("/api/v1/vms").await.1["items"].as_array().unwrap().len(), 1);

    let page = bob.get("/").await.body;
    assert!(page.contains("ssh bob@shared-0.koding.kd.io"), "{page}");
    assert!(page.contains("href=\"/vms/shared-0/terminal\""), "{page}");
    assert_eq!(bob.get("/vms/shared-0/terminal").await.status, StatusCode::OK);
    assert_eq!(
        bob.get("/vms/shared-0").await.status,
        StatusCode::NOT_FOUND,
        "its settings are the operators'"
    );
    let page = alice.get("/ops/vms").await.body;
    assert!(page.contains("shared-0.koding") && page.contains("the team"), "{page}");
    assert!(!alice.get("/ops/accounts").await.body.contains("/ops/accounts/shared"));
    assert_eq!(alice.get("/ops/accounts/shared").await.status, StatusCode::NOT_FOUND);
}
