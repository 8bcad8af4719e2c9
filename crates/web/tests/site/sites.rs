//! Sites of VMs: who gets to see them, by which way they become known, and what is said in place of a page.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use berth_control::{Actor, PortAccess};
use berth_engine::EngineError;
use berth_model::VmName;
use berth_testkit::{Service, Verb};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tower::ServiceExt;

use crate::world::{Browser, World, account};

pub(crate) const HOST: &str = "vm-0.alice.koding.kd.io";
const DEV: &str = "vm-0--3000.alice.koding.kd.io";
const HTML: (&str, &str) = ("accept", "text/html,*/*;q=0.8");
const PASS: &str = "__Host-berth-pass";

pub(crate) fn alices() -> VmName {
    "vm-0.alice.koding".parse().unwrap()
}

/// What came to a VM.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<u8>>>);

impl Seen {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Answers every connection with `answer` when a header has come, and keeps what comes.
    pub(crate) fn answering(&self, answer: &'static str) -> Service {
        let seen = self.clone();
        Service::new(move |mut stream| {
            let seen = seen.clone();
            async move {
                let (mut here, mut buffer) = (Vec::new(), [0; 4096]);
                let mut answered = false;
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    here.extend_from_slice(&buffer[..count]);
                    seen.0.lock().unwrap().extend_from_slice(&buffer[..count]);
                    if !answered && here.windows(4).any(|end| end == b"\r\n\r\n") {
                        answered = true;
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                }
            }
        })
    }
}

pub(crate) const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello";

/// alice's VM runs, and says hello on ports 80 and 3000.
pub(crate) async fn running() -> (World, Seen) {
    let world = World::new().await;
    let seen = Seen::default();
    for port in [80, 3000] {
        world.engine.serve(port, seen.answering(HELLO));
    }
    world.control.start_vm(&alices(), mpsc::channel(1).0).await.unwrap();
    (world, seen)
}

pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Page {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) async fn ask(
    world: &World,
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Page {
    let mut request = Request::builder().method(method).uri(path).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = world.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Page { status: parts.status, headers: parts.headers, body }
}

async fn get(world: &World, host: &str, path: &str, headers: &[(&str, &str)]) -> Page {
    ask(world, "GET", host, path, headers).await
}

/// The path of the ticket that a member's browser is sent to a VM's host with; empty where it gets none.
async fn ticket(browser: &mut Browser, to: &str) -> String {
    let to: String = form_urlencoded::byte_serialize(to.as_bytes()).collect();
    let page = browser.get(&format!("/enter?to={to}")).await;
    let refresh = page.headers.get("refresh").map_or("", |refresh| refresh.to_str().unwrap());
    assert_eq!(page.status == StatusCode::OK, !refresh.is_empty(), "{}", page.body);
    refresh.find("/.berth/").map_or(String::new(), |at| refresh[at..].to_owned())
}

/// Takes a ticket to a host and gives the cookie that comes of it.
async fn pass(world: &World, browser: &mut Browser, host: &str) -> String {
    let path = ticket(browser, &format!("https://{host}/")).await;
    let page = get(world, host, &path, &[HTML]).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.body);
    page.header("set-cookie").split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_vm_shows_its_page_to_everybody() {
    let (world, seen) = running().await;
    for host in
        [HOST, "vm-0.alice.kd.io", "alice.koding.kd.io", "ALICE.kd.io", "vm-0.alice.koding.kd.io:8080"]
    {
        let page = get(&world, host, "/a/b?c=d", &[HTML]).await;
        assert_eq!((page.status, page.body.as_str()), (StatusCode::OK, "hello"), "{host}");
        assert!(!page.headers.contains_key("content-security-policy"), "what a VM says is its own");
    }
    let seen = seen.text();
    assert!(seen.starts_with("GET /a/b?c=d HTTP/1.1\r\n"), "{seen}");
    let expected = [
        "host: vm-0.alice.koding.kd.io\r\n",
        "x-forwarded-host: vm-0.alice.koding.kd.io\r\n",
        "x-forwarded-for: 0.0.0.0\r\n",
        "x-forwarded-proto: https\r\n",
        "connection: close\r\n",
    ];
    for line in expected {
        assert!(seen.contains(line), "{line} {seen}");
    }
    assert!(world.control.why(&alices()).await.unwrap().contains("a visitor used its port 80"));
}

#[tokio::test]
async fn who_sees_which_port() {
    let (world, _) = running().await;
    let (mut alice, mut bob) = (world.logged_in("alice").await, world.logged_in("bob").await);
    let acting = world.control.acting(Actor::host());
    for (host, port) in [(HOST, 80), (DEV, 3000)] {
        // While everybody may, both get a pass for the host.
        acting.set_port(&alices(), port, Some(PortAccess::Public)).await.unwrap();
        let (hers, his) = (pass(&world, &mut alice, host).await, pass(&world, &mut bob, host).await);
        for (access, nobody, owner, other) in [
            (PortAccess::Public, 200, 200, 200),
            (PortAccess::Team, 404, 200, 200),
            (PortAccess::Owner, 404, 200, 404),
        ] {
            acting.set_port(&alices(), port, Some(access)).await.unwrap();
            let status =
                async |cookie: &str| get(&world, host, "/", &[("cookie", cookie)]).await.status.as_u16();
            assert_eq!(
                [status("").await, status(&hers).await, status(&his).await],
                [nobody, owner, other],
                "{port} {access}"
            );
        }
    }
}

#[tokio::test]
async fn whom_a_site_does_not_know_is_sent_to_log_in_and_comes_back() {
    let (world, seen) = running().await;
    let page = get(&world, DEV, "/app?x=1&y=2", &[HTML, ("sec-fetch-mode", "navigate")]).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
    let to = page.header("location").strip_prefix("https://koding.com").unwrap().to_owned();
    assert!(to.starts_with("/enter?to=https%3A%2F%2Fvm-0--3000.alice.koding.kd.io%2Fapp%3Fx"), "{to}");
    let anybody = world.browser().get(&to).await;
    assert!(anybody.location().starts_with("/log-in?to=%2Fenter"), "{}", anybody.location());

    let mut alice = world.logged_in("alice").await;
    let door = alice.get(&to).await;
    assert_eq!(door.status, StatusCode::OK);
    let refresh = door.headers["refresh"].to_str().unwrap();
    let path = refresh.strip_prefix("0;url=https://vm-0--3000.alice.koding.kd.io").unwrap();
    let entered = get(&world, DEV, path, &[HTML]).await;
    assert_eq!((entered.status, entered.header("location")), (StatusCode::SEE_OTHER, "/app?x=1&y=2"));
    let cookie = entered.header("set-cookie");
    assert!(cookie.starts_with("__Host-berth-pass="), "{cookie}");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure", "; Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.to_ascii_lowercase().contains("domain"), "{cookie}");
    assert_eq!(entered.header("referrer-policy"), "no-referrer");
    assert_eq!(seen.text(), "", "nothing of that went to the VM");

    let cookie = format!("theirs=1; {}", cookie.split(';').next().unwrap());
    let page = get(&world, DEV, "/app", &[HTML, ("cookie", &cookie)]).await;
    assert_eq!((page.status, page.body.as_str()), (StatusCode::OK, "hello"));
    assert!(seen.text().contains("cookie: theirs=1\r\n") && !seen.text().contains(PASS), "{}", seen.text());
    assert!(world.control.why(&alices()).await.unwrap().contains("alice used its port 3000"));

    alice.post("/log-out", &[]).await;
    let page = get(&world, DEV, "/app", &[HTML, ("cookie", &cookie)]).await;
    assert_eq!(page.status, StatusCode::SEE_OTHER, "the pass is dead with the session");
}

#[tokio::test]
async fn a_ticket_is_good_once_and_on_its_own_host() {
    let (world, _) = running().await;
    let mut alice = world.logged_in("alice").await;
    let path = ticket(&mut alice, &format!("https://{DEV}/x")).await;
    for host in [HOST, "vm-0--3001.alice.koding.kd.io", "vm-0.bob.koding.kd.io", "vm-0--3000.alice.kd.io"] {
        let page = get(&world, host, &path, &[HTML]).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{host}");
        assert!(!page.headers.contains_key("set-cookie"), "{host}");
    }
    let entered = get(&world, DEV, &path, &[HTML]).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER);
    let again = get(&world, DEV, &path, &[HTML]).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN);
    assert!(again.body.contains("it was done before") && !again.headers.contains_key("set-cookie"));
    // Who is known goes on, as somebody does who went back in the browser.
    let cookie = entered.header("set-cookie").split(';').next().unwrap();
    let known = get(&world, DEV, &path, &[HTML, ("cookie", cookie)]).await;
    assert_eq!((known.status, known.header("location")), (StatusCode::SEE_OTHER, "/x"));
    for path in ["/.berth/", "/.berth/enter/x", "/.berth/assets/nothing.css"] {
        assert_eq!(get(&world, HOST, path, &[]).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn nobody_is_sent_to_another_site_and_nobody_gets_a_ticket_for_what_they_may_not_see() {
    let (world, _) = running().await;
    let mut bob = world.logged_in("bob").await;
    for to in [
        "https://evil.example/",
        "https://koding.com/",
        "//vm-0.bob.koding.kd.io/",
        "/vms",
        "http://vm-0.bob.koding.kd.io/",
        "https://vm-0.bob.koding.kd.io:8443/",
        "https://evil@vm-0.bob.koding.kd.io/",
        "https://vm-0.bob.koding.kd.io.evil.example/",
        "https://kd.io/",
        "javascript://vm-0.bob.koding.kd.io/",
        "https://vm-7.bob.koding.kd.io/",
        "https://vm-0--3000.alice.koding.kd.io/",
        "https://vm-0--3000.vm-7.koding.kd.io/",
        "",
    ] {
        assert_eq!(ticket(&mut bob, to).await, "", "{to}");
    }
    let path = ticket(&mut bob, "https://vm-0.bob.koding.kd.io//evil.example/").await;
    let entered = get(&world, "vm-0.bob.koding.kd.io", &path, &[HTML]).await;
    assert_eq!((entered.status, entered.header("location")), (StatusCode::SEE_OTHER, "/"));
    let own = "https://VM-0--8080.bob.koding.kd.io/%22?a=%0d%0a";
    assert!(ticket(&mut bob, own).await.contains("to=%2F%2522%3Fa%3D%250d%250a"));
}

#[tokio::test]
async fn the_page_of_another_vm_cannot_use_a_pass() {
    let (world, _) = running().await;
    let mut alice = world.logged_in("alice").await;
    let cookie = pass(&world, &mut alice, DEV).await;
    let own = format!("https://{DEV}");
    let status = async |method: &str, headers: &[(&str, &str)]| {
        let headers: Vec<_> = headers.iter().copied().chain([("cookie", cookie.as_str())]).collect();
        ask(&world, method, DEV, "/", &headers).await.status.as_u16()
    };
    assert_eq!(status("POST", &[("origin", &own), ("sec-fetch-site", "same-origin")]).await, 200);
    assert_eq!(status("GET", &[("sec-fetch-site", "same-origin")]).await, 200);
    assert_eq!(status("GET", &[("sec-fetch-site", "none")]).await, 200);
    let window = [HTML, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    assert_eq!(
        status("GET", &[&window[..], &[("sec-fetch-site", "cross-site")]].concat()).await,
        200,
        "a link"
    );
    for headers in [
        &[("sec-fetch-site", "same-site")][..],
        &[("sec-fetch-site", "cross-site")],
        &[("origin", "https://vm-0.bob.koding.kd.io")],
        &[("origin", "null")],
        &[
            HTML,
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "iframe"),
        ],
    ] {
        assert_eq!(status("GET", headers).await, 404, "{headers:?}");
        assert_eq!(status("POST", headers).await, 404, "{headers:?}");
    }
    assert_eq!(
        status("POST", &[&window[..], &[("sec-fetch-site", "same-site")]].concat()).await,
        404,
        "a form"
    );
}

fn is_notice(page: &Page, status: StatusCode, words: &str) {
    assert_eq!(page.status, status, "{}", page.body);
    assert!(page.body.contains(&format!("<h1>{words}</h1>")), "{words}: {}", page.body);
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.body.contains("<script") && !page.headers.contains_key("set-cookie"));
    assert_eq!(
        (page.header("cache-control"), page.header("x-content-type-options")),
        ("no-store", "nosniff")
    );
}

#[tokio::test]
async fn what_is_unknown_off_failed_or_silent_is_said() {
    let (world, seen) = running().await;
    let unknown = [
        "kd.io",
        "www.kd.io",
        "vm-7.alice.kd.io",
        "carol.kd.io",
        "vm-0--22.alice.kd.io",
        "x.vm-0.alice.koding.kd.io",
    ];
    for host in unknown {
        let page = get(&world, host, "/", &[HTML]).await;
        is_notice(&page, StatusCode::NOT_FOUND, "There is no site of this name here.");
    }
    world.control.acting(Actor::host()).set_port(&alices(), 8080, Some(PortAccess::Public)).await.unwrap();
    let page = get(&world, "vm-0--8080.alice.kd.io", "/", &[HTML]).await;
    is_notice(&page, StatusCode::BAD_GATEWAY, "Nothing listens on port 8080 of vm-0.alice.");

    world.engine.serve(80, seen.answering("this is not HTTP\r\n\r\n"));
    let page = get(&world, HOST, "/", &[HTML]).await;
    is_notice(
        &page,
        StatusCode::BAD_GATEWAY,
        "What listens on port 80 of vm-0.alice gave no answer that is HTTP.",
    );

    world.control.stop_vm(&alices()).await.unwrap();
    let page = get(&world, HOST, "/", &[HTML]).await;
    is_notice(&page, StatusCode::SERVICE_UNAVAILABLE, "vm-0.alice is off.");
    assert!(page.body.contains("href=\"https://koding.com/vms/vm-0.alice.koding\""), "{}", page.body);
    assert_eq!(world.logged_in("alice").await.get("/vms/vm-0.alice.koding").await.status, StatusCode::OK);
    let data = get(&world, HOST, "/", &[("accept", "application/json")]).await;
    assert!(data.body.starts_with("{\"error\":{") && data.header("content-type") == "application/json");
    let line = get(&world, HOST, "/", &[("accept", "*/*")]).await;
    assert!(line.body.starts_with("vm-0.alice is off. ") && line.body.lines().count() == 1, "{}", line.body);

    world.control.start_vm(&alices(), mpsc::channel(1).0).await.unwrap();
    world.control.sleep_vm(&alices()).await.unwrap();
    world.engine.fail(Verb::Start, Some(EngineError::WakeFailed { reason: "a secret of the host".into() }));
    let page = get(&world, HOST, "/", &[HTML]).await;
    is_notice(&page, StatusCode::SERVICE_UNAVAILABLE, "vm-0.alice could not be woken.");
    assert!(!page.body.contains("a secret of the host"), "{}", page.body);
    for method in ["TRACE", "CONNECT"] {
        assert_eq!(
            ask(&world, method, HOST, "/", &[]).await.status,
            StatusCode::METHOD_NOT_ALLOWED,
            "{method}"
        );
    }
}

#[tokio::test]
async fn where_nothing_listens_the_owner_is_told_what_does() {
    let (world, _) = running().await;
    let closed = "vm-0--8080.alice.koding.kd.io";
    world.control.acting(Actor::host()).set_port(&alices(), 8080, Some(PortAccess::Public)).await.unwrap();
    let (mut alice, mut bob) = (world.logged_in("alice").await, world.logged_in("bob").await);
    let (hers, his) = (pass(&world, &mut alice, closed).await, pass(&world, &mut bob, closed).await);
    let what = "Nothing listens on port 8080 of vm-0.alice.";

    let page = get(&world, closed, "/", &[HTML]).await;
    is_notice(&page, StatusCode::BAD_GATEWAY, what);
    let entrance = "href=\"https://koding.com/enter?to=https%3A%2F%2Fvm-0--8080.alice.koding.kd.io%2F\">See what listens";
    assert!(page.body.contains(entrance) && !page.body.contains("3000"), "{}", page.body);

    let page = get(&world, closed, "/", &[HTML, ("cookie", &his)]).await;
    is_notice(&page, StatusCode::BAD_GATEWAY, what);
    assert!(!page.body.contains("3000") && !page.body.contains("enter?to"), "{}", page.body);

    let page = get(&world, closed, "/", &[HTML, ("cookie", &hers)]).await;
    is_notice(&page, StatusCode::BAD_GATEWAY, what);
    assert!(page.body.contains("What listens in it: ports 80 and 3000."), "{}", page.body);
    world.engine.fail(Verb::Listeners, Some(EngineError::TimedOut));
    let page = get(&world, closed, "/", &[HTML, ("cookie", &hers)]).await;
    is_notice(&page, StatusCode::BAD_GATEWAY, what);
    assert!(page.body.contains("start your program"), "{}", page.body);
}

#[tokio::test]
async fn what_a_notice_needs_is_on_the_same_host() {
    let (world, _) = running().await;
    let page = get(&world, "www.kd.io", "/", &[HTML]).await;
    for link in page.body.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(link.starts_with("/.berth/assets/"), "{link}");
        let file = get(&world, "www.kd.io", link, &[]).await;
        assert_eq!(file.status, StatusCode::OK, "{link}");
        assert!(!file.headers.contains_key("set-cookie"));
    }
}

#[tokio::test]
async fn a_window_shows_that_a_vm_wakes_and_others_are_held() {
    let (world, _) = running().await;
    world.control.sleep_vm(&alices()).await.unwrap();
    let page = get(&world, HOST, "/", &[HTML]).await;
    assert_eq!((page.status, page.body.as_str()), (StatusCode::OK, "hello"), "a quick wake is not seen");

    world.control.sleep_vm(&alices()).await.unwrap();
    world.engine.delay(Verb::Start, Duration::from_secs(2));
    let begun = Instant::now();
    let page = get(&world, HOST, "/", &[HTML]).await;
    is_notice(&page, StatusCode::SERVICE_UNAVAILABLE, "Waking vm-0.alice…");
    assert_eq!((page.header("refresh"), page.header("retry-after")), ("1", "1"));
    assert!((700..2000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    let page = get(&world, HOST, "/", &[]).await;
    assert_eq!((page.status, page.body.as_str()), (StatusCode::OK, "hello"), "who is no window is held");
    assert!(begun.elapsed() >= Duration::from_secs(2));
    world.control.sleep_vm(&alices()).await.unwrap();
    let image = [HTML, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
    assert_eq!(get(&world, HOST, "/", &image).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_blocked_account_has_no_sites() {
    let (world, _) = running().await;
    let vm: VmName = "vm-0.bob.koding".parse().unwrap();
    world.control.start_vm(&vm, mpsc::channel(1).0).await.unwrap();
    let host = "vm-0.bob.koding.kd.io";
    assert_eq!(get(&world, host, "/", &[]).await.status, StatusCode::OK);
    world.control.acting(Actor::host()).block_account(&account("bob")).await.unwrap();
    let page = get(&world, host, "/", &[HTML]).await;
    is_notice(&page, StatusCode::NOT_FOUND, "There is no site of this name here.");
    let unknown = get(&world, "vm-7.bob.koding.kd.io", "/", &[HTML]).await;
    assert_eq!(page.body, unknown.body);
    while world.control.acting(Actor::host()).vms(Some(&account("bob"))).await.unwrap()[0].status.to_string()
        != "asleep"
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let starts = world.engine.calls(Verb::Start, None);
    get(&world, host, "/", &[]).await;
    assert_eq!(world.engine.calls(Verb::Start, None), starts, "nobody wakes it");
}

#[tokio::test]
async fn cookies_of_a_vm_stay_on_its_host() {
    let (world, seen) = running().await;
    world.engine.serve(
        80,
        seen.answering(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: own=1; Path=/\r\nSet-Cookie: up=1; \
             Domain=kd.io\r\nSet-Cookie: __Host-berth=x; Secure; Path=/\r\nSet-Cookie: app=1; domain=koding.com\r\n\r\n",
        ),
    );
    let page = get(&world, HOST, "/", &[("cookie", "__Host-berth=secret; a=b")]).await;
    let set: Vec<_> = page.headers.get_all("set-cookie").iter().collect();
    assert_eq!(set, ["own=1; Path=/"]);
    assert!(!seen.text().contains("secret") && seen.text().contains("cookie: a=b\r\n"), "{}", seen.text());
}

#[tokio::test]
async fn ports_are_shared_on_the_vms_page() {
    let (world, _) = running().await;
    let mut alice = world.logged_in("alice").await;
    let page = alice.get("/vms/vm-0").await.body;
    assert!(page.contains("Port 80") && page.contains("https://vm-0.alice.koding.kd.io/"), "{page}");
    let shared = alice.post("/vms/vm-0/ports", &[("port", " 3000 "), ("access", "team")]).await;
    assert_eq!((shared.status, shared.location()), (StatusCode::SEE_OTHER, "/vms/vm-0#ports"));
    let page = alice.get("/vms/vm-0").await.body;
    assert!(page.contains("https://vm-0--3000.alice.koding.kd.io/"), "{page}");
    assert!(page.contains("everybody with an account here"));
    for (port, access, words) in [
        ("22", "public", "cannot be seen on the web"),
        ("<b>", "public", "A port is a number"),
        ("3000", "world", "Choose who may see it."),
    ] {
        let refused = alice.post("/vms/vm-0/ports", &[("port", port), ("access", access)]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{port} {access}");
        assert!(refused.body.contains(words) && !refused.body.contains("<b>"), "{port}: {}", refused.body);
    }
    alice.post("/vms/vm-0/ports", &[("port", "3000"), ("access", "")]).await;
    assert!(!alice.get("/vms/vm-0").await.body.contains("vm-0--3000"));
    let mut bob = world.logged_in("bob").await;
    let refused = bob.post("/vms/vm-0.alice.koding/ports", &[("port", "80"), ("access", "owner")]).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
}
