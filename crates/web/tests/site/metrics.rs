//! The numbers for the operator's monitoring: who may see them, and what they say.

use std::net::IpAddr;

use axum::{body::Body, http::StatusCode};
use berth_control::Scope;
use berth_web::Peer;

use crate::world::{Answer, World, account};

async fn asked(world: &World, from: &str, headers: &[(&str, &str)]) -> Answer {
    let mut browser = world.browser();
    let mut request = browser.request("GET", "/metrics").extension(Peer(from.parse::<IpAddr>().unwrap()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    browser.ask(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn it_takes_a_token_for_that_or_the_operators_word() {
    let closed = World::new().await;
    let token = |token: String| format!("Bearer {token}");
    let (good, bad) = (
        token(closed.token("alice", &[Scope::OpsRead]).await),
        token(closed.token("alice", &[Scope::VmsRead]).await),
    );
    assert_eq!(asked(&closed, "127.0.0.1", &[]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(asked(&closed, "192.0.2.1", &[("authorization", &bad)]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(asked(&closed, "192.0.2.1", &[("authorization", &good)]).await.status, StatusCode::OK);
    let mut alice = closed.logged_in("alice").await;
    assert_eq!(alice.get("/metrics").await.status, StatusCode::UNAUTHORIZED, "a cookie does not count");

    let open = World::with_metrics_on_loopback().await;
    for (from, headers, status) in [
        ("127.0.0.1", &[][..], StatusCode::OK),
        ("::1", &[], StatusCode::OK),
        ("192.0.2.1", &[], StatusCode::UNAUTHORIZED),
        ("0.0.0.0", &[], StatusCode::UNAUTHORIZED),
        ("127.0.0.1", &[("x-forwarded-for", "192.0.2.1")], StatusCode::UNAUTHORIZED),
        ("127.0.0.1", &[("forwarded", "for=192.0.2.1")], StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(asked(&open, from, headers).await.status, status, "{from} {headers:?}");
    }
}

#[tokio::test]
async fn it_counts_and_names_nobody() {
    let world = World::with_metrics_on_loopback().await;
    let mut alice = world.logged_in("alice").await;
    let vm = world.control.vms(Some(&account("alice"))).await.unwrap().remove(0).name;
    let start = || world.control.start_vm(&vm, tokio::sync::mpsc::channel(1).0);
    start().await.unwrap();
    world.control.sleep_vm(&vm).await.unwrap();
    start().await.unwrap();
    alice.get("/vms/vm-0").await;
    alice.get("/secret/path").await;
    let strange = alice.request("PROPFIND", "/vms/vm-0").body(Body::empty()).unwrap();
    alice.ask(strange).await;
    let answer = asked(&world, "127.0.0.1", &[]).await;
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = answer.body;
    for line in [
        "berth_vms{state=\"running\"} 1",
        "berth_vms{state=\"off\"} 1",
        "berth_vm_sleeps_total 1",
        "berth_vm_start_seconds_count{kind=\"wake\"} 1",
        "berth_vm_queue 0",
        "berth_vm_connections 0",
        "berth_log_ins_total{way=\"web\",result=\"ok\"} 1",
        "berth_http_requests_total{method=\"GET\",route=\"/vms/{vm}\",status=\"200\"} 1",
        "berth_http_requests_total{method=\"any\",route=\"none\",status=\"404\"} 1",
        "berth_http_requests_total{method=\"any\",route=\"none\",status=\"405\"} 1",
        "berth_vm_memory_taken_bytes 1073741824",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().parse::<u64>().unwrap()
    };
    let (open, limit) = (value("berth_open_files "), value("berth_open_files_limit "));
    assert!(open > 2 && open <= limit, "{open} of {limit}");
    assert!(text.contains("berth_build_info{version=\"") && text.ends_with("# EOF\n"));
    for name in ["alice", "bob", "vm-0", "secret", "PROPFIND", "127.0.0.1"] {
        assert!(!text.contains(name), "{name} is in\n{text}");
    }
}
