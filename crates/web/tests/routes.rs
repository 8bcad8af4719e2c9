//! Every route, in process, and the connection loop over loopback.
#![cfg(test)]

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode},
};
use berth_model::Domains;
use berth_web::{Site, router, serve};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

fn site(ssh_port: u16) -> Router {
    let domains = Domains::new("koding.com", "kd.io", "koding".parse().unwrap()).unwrap();
    router(&Site { domains, ssh_port, gateway_fingerprint: "SHA256:abc<&>".into() }).unwrap()
}

async fn ask(router: Router, request: Request<Body>) -> (Response<()>, String) {
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap())
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "koding.com").body(Body::empty()).unwrap()
}

#[tokio::test]
async fn every_route_answers_with_its_type_and_the_headers() {
    for (path, status, kind) in [
        ("/", StatusCode::OK, "text/html; charset=utf-8"),
        ("/account/keys", StatusCode::OK, "text/html; charset=utf-8"),
        ("/healthz", StatusCode::OK, "text/plain; charset=utf-8"),
        ("/assets/berth.css", StatusCode::OK, "text/css; charset=utf-8"),
        ("/assets/copy.js", StatusCode::OK, "text/javascript; charset=utf-8"),
        ("/assets/icon.svg", StatusCode::OK, "image/svg+xml"),
        ("/vms/vm-0", StatusCode::NOT_FOUND, "text/html; charset=utf-8"),
        ("/assets/../Cargo.toml", StatusCode::NOT_FOUND, "text/html; charset=utf-8"),
    ] {
        let (response, body) = ask(site(22), get(path)).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["content-type"], kind, "{path}");
        assert!(!body.is_empty(), "{path}");
        guarded(&response, path);
    }
}

fn guarded(response: &Response<()>, what: &str) {
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{what}: {policy}");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{what}");
    assert_eq!(response.headers()["referrer-policy"], "no-referrer", "{what}");
    assert_eq!(response.headers()["x-frame-options"], "DENY", "{what}");
}

#[tokio::test]
async fn the_start_page_has_this_installations_lines() {
    let (_, body) = ask(site(22), get("/")).await;
    let lines = "Host *.kd.io\n  User alice\n  ProxyCommand ssh %r@ssh.koding.com nc %h %p</code>";
    assert!(body.contains(lines), "{body}");
    assert!(body.contains("ssh vm-0.alice.koding.kd.io"), "{body}");
    assert!(body.contains("SHA256:abc&#60;&#38;&#62;"), "{body}");
    assert!(!body.contains("make up"), "{body}");

    let (_, body) = ask(site(2222), get("/")).await;
    assert!(body.contains("ProxyCommand ssh -p 2222 %r@ssh.koding.com nc %h %p"), "{body}");
}

#[tokio::test]
async fn pages_keep_to_their_own_policy() {
    for path in ["/", "/account/keys", "/nothing"] {
        let (_, body) = ask(site(22), get(path)).await;
        assert!(!body.contains("style=") && !body.contains("<style") && !body.contains("onclick"), "{path}");
        assert_eq!(body.matches("<script").count(), body.matches("<script src=\"/assets/").count(), "{path}");
        assert_eq!(body.matches("<h1>").count(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_misdirected() {
    for path in ["/", "/healthz", "/nothing"] {
        let request = Request::get(path).header("host", "evil.example").body(Body::empty()).unwrap();
        let (response, body) = ask(site(22), request).await;
        assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST, "{path}");
        assert!(body.contains("There is no site of this name here."), "{body}");
        guarded(&response, path);
    }
    let request =
        Request::get("http://evil.example/").header("host", "koding.com").body(Body::empty()).unwrap();
    assert_eq!(ask(site(22), request).await.0.status(), StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn no_host_two_hosts_and_nonsense_are_bad_requests() {
    let none = Request::get("/").body(Body::empty()).unwrap();
    let two = Request::get("/")
        .header("host", "koding.com")
        .header("host", "koding.com")
        .body(Body::empty())
        .unwrap();
    let nonsense = Request::get("/").header("host", "a b/c").body(Body::empty()).unwrap();
    for request in [none, two, nonsense] {
        let (response, _) = ask(site(22), request).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        guarded(&response, "bad request");
    }
}

#[tokio::test]
async fn nothing_here_can_be_written_to() {
    for path in ["/", "/account/keys", "/healthz"] {
        let request = Request::post(path).header("host", "koding.com").body(Body::empty()).unwrap();
        let (response, body) = ask(site(22), request).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert!(body.contains("can only be read"), "{body}");
        guarded(&response, path);
    }
}

async fn listening() -> (TcpStream, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = tokio_util::task::TaskTracker::new().spawn(serve(listener, site(22), stop.clone()));
    (TcpStream::connect(address).await.unwrap(), stop, server)
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_the_server() {
    let (mut client, stop, server) = listening().await;
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        assert!(client.read_buf(&mut answer).await.unwrap() > 0, "ended before the answer");
    }
    stop.cancel();
    server.await.unwrap();
    assert_eq!(client.read_buf(&mut answer).await.unwrap(), 0);
}

#[tokio::test]
async fn a_header_without_end_is_cut_off() {
    let (mut client, stop, server) = listening().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ").await.unwrap();
    // The server may close before all of this is written.
    let _ = client.write_all(&[b'a'; 64 * 1024]).await;
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    stop.cancel();
    server.await.unwrap();
}
