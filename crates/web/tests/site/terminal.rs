//! The terminal: who may open one, and what it bounds. The VM's sshd is one in memory.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::{Request, StatusCode};
use berth_testkit::{FakeEngine, Service, Sshd};
use berth_web::serve;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};
use tokio_util::task::TaskTracker;

use crate::world::{Browser, World, account};

pub(crate) const SOON: Duration = Duration::from_secs(20);
/// What the server may have sent beyond what was drawn: one packet of the VM's.
const SHOWN: usize = 256 * 1024 + 32 * 1024;

pub(crate) struct Terminals {
    pub(crate) world: World,
    pub(crate) engine: FakeEngine,
    address: std::net::SocketAddr,
    pub(crate) sshd: Sshd,
}

impl Terminals {
    /// The world's site on a socket, and an sshd in alice's VM, which is off.
    pub(crate) async fn new() -> Self {
        Self::of(World::new().await).await
    }

    /// The same of a world with alice and bob in it.
    pub(crate) async fn of(world: World) -> Self {
        let (world, _) = world.operated().await;
        let engine = world.engine.clone();
        let vm = world.control.vms(Some(&account("alice"))).await.unwrap().remove(0).name;
        let (id, host_key) = world.insides(&vm).await;
        let guest = engine.clone();
        let sshd = Sshd::new(&host_key, move || {
            let Some(guest) = guest.guest(&id) else { return String::new() };
            guest.others.iter().fold(guest.authorized_keys, |all, other| all + &other.authorized_keys)
        });
        let serving = sshd.clone();
        engine.serve(
            22,
            Service::new(move |stream| {
                let sshd = serving.clone();
                async move { sshd.serve(stream).await }
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        TaskTracker::new().spawn(serve(
            listener,
            world.router.clone(),
            world.control.entrance(),
            world.stop.clone(),
        ));
        Self { world, engine, address, sshd }
    }

    pub(crate) fn request(&self, browser: &Browser, path: &str, origins: &[&str]) -> Request<()> {
        let mut request = format!("ws://koding.com{path}").into_client_request().unwrap();
        let cookies: Vec<_> = browser.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        request.headers_mut().insert("cookie", cookies.join("; ").parse().unwrap());
        for origin in origins {
            request.headers_mut().append("origin", origin.parse().unwrap());
        }
        request
    }

    pub(crate) async fn ask(&self, request: Request<()>) -> Result<WebSocketStream<TcpStream>, Error> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        client_async(request, stream).await.map(|(socket, _)| socket)
    }

    pub(crate) async fn open(&self, browser: &Browser, query: &str) -> Page {
        let path = format!("/vms/vm-0/terminal/open{query}");
        Page(self.ask(self.request(browser, &path, &["https://koding.com"])).await.unwrap())
    }

    /// With a shell that runs.
    pub(crate) async fn opened(&self, browser: &Browser) -> Page {
        let mut page = self.open(browser, "").await;
        page.begin(false).await;
        page.until("open").await;
        page
    }
}

pub(crate) struct Page(pub(crate) WebSocketStream<TcpStream>);

impl Page {
    pub(crate) async fn say(&mut self, word: Value) {
        self.0.send(Message::text(word.to_string())).await.unwrap();
    }

    pub(crate) async fn begin(&mut self, again: bool) {
        self.say(json!({ "is": "open", "columns": 80, "rows": 24, "again": again })).await;
    }

    pub(crate) async fn write(&mut self, data: &[u8]) {
        self.0.send(Message::Binary(Bytes::copy_from_slice(data))).await.unwrap();
    }

    /// The next message that is no ping; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            match timeout(SOON, self.0.next()).await.expect("something comes soon")? {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(message) => return Some(message),
            }
        }
    }

    /// What is said next of this, whatever comes before it.
    pub(crate) async fn until(&mut self, is: &str) -> Value {
        loop {
            let message = self.next().await.unwrap_or_else(|| panic!("ended before {is}"));
            if let Message::Text(text) = message {
                let word: Value = serde_json::from_str(&text).unwrap();
                if word["is"] == is {
                    return word;
                }
            }
        }
    }

    /// So many bytes that are shown, or more.
    pub(crate) async fn shown(&mut self, at_least: usize) -> Vec<u8> {
        let mut shown = Vec::new();
        while shown.len() < at_least {
            if let Some(Message::Binary(data)) = self.next().await {
                shown.extend_from_slice(&data);
            }
        }
        shown
    }

    pub(crate) async fn is_over(&mut self) -> bool {
        while let Some(message) = self.next().await {
            if let Message::Text(_) = message {
                continue;
            }
        }
        true
    }
}

#[tokio::test]
async fn a_terminal_from_the_first_word_to_the_last() {
    let terminals = Terminals::new().await;
    let alice = terminals.world.logged_in("alice").await;
    let mut page = terminals.open(&alice, "?n=3").await;
    page.begin(false).await;
    assert_eq!(page.until("progress").await["words"], "vm-0 is off, starting it…");
    assert_eq!(page.until("open").await, json!({ "is": "open", "vm": "vm-0", "number": 3 }));
    assert_eq!(page.until("list").await["open"], json!([1, 3]));
    page.write("smørrebrød".as_bytes()).await;
    page.say(json!({ "is": "size", "columns": 100, "rows": 30 })).await;
    assert_eq!(page.until("taken").await["bytes"], 12);
    page.write(b"exit").await;
    assert_eq!(page.until("exit").await["status"], 7);
    assert!(page.is_over().await);

    let seen = terminals.sshd.seen();
    for what in ["log-in alice", "pty xterm-256color 80x24", "typed 12", "size 100x30"] {
        assert!(seen.iter().any(|one| one == what), "{what}: {seen:?}");
    }
    assert!(seen.iter().any(|one| one.starts_with("exec exec sh -c '") && one.ends_with("berth-terminal 3")));
    let mut alice = alice;
    let trail = alice.get("/account/activity").await.body;
    assert!(trail.contains("terminal opened: vm-0.alice.koding"), "{trail}");
}

#[tokio::test]
async fn only_pages_of_this_site_open_one() {
    let terminals = Terminals::new().await;
    let alice = terminals.world.logged_in("alice").await;
    for origins in [
        &["https://evil.example"][..],
        &["null"],
        &[],
        &["http://vm-0.alice.koding.kd.io"],
        &["https://koding.com.evil.example"],
        &["https://koding.com", "https://evil.example"],
    ] {
        let request = terminals.request(&alice, "/vms/vm-0/terminal/open", origins);
        match terminals.ask(request).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{origins:?}"),
            other => panic!("{origins:?}: {other:?}"),
        }
    }
    let own = terminals.request(&alice, "/vms/vm-0/terminal/open", &["https://koding.com"]);
    let nobody = terminals.world.browser();
    let request = terminals.request(&nobody, "/vms/vm-0/terminal/open", &["https://koding.com"]);
    assert!(matches!(terminals.ask(request).await, Err(Error::Http(answer)) if answer.status() == 303));
    assert!(terminals.ask(own).await.is_ok());
    assert_eq!(terminals.sshd.seen(), [""; 0], "nothing has begun");
}

#[tokio::test]
async fn somebody_elses_vm_is_one_that_is_not_there() {
    let terminals = Terminals::new().await;
    // alice is the operator, and still.
    let alice = terminals.world.logged_in("alice").await;
    for vm in ["vm-0.bob.koding", "vm-7", "vm-0.bob"] {
        let path = format!("/vms/{vm}/terminal/open");
        let request = terminals.request(&alice, &path, &["https://koding.com"]);
        match terminals.ask(request).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{vm}"),
            other => panic!("{vm}: {other:?}"),
        }
        assert_eq!(alice.clone().get(&format!("/vms/{vm}/terminal")).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn the_end_of_the_log_in_is_the_end_of_the_terminal() {
    let terminals = Terminals::new().await;
    let mut alice = terminals.world.logged_in("alice").await;
    let mut page = terminals.opened(&alice).await;
    alice.post("/log-out", &[]).await;
    page.until("logged_out").await;
    assert!(page.is_over().await);
}

#[tokio::test]
async fn a_guest_has_a_terminal_as_themselves_until_the_vm_is_taken_back() {
    const OPEN: &str = "/vms/vm-0.alice.koding/terminal/open";
    let terminals = Terminals::new().await;
    let (mut alice, mut bob) =
        (terminals.world.logged_in("alice").await, terminals.world.logged_in("bob").await);
    alice.post("/vms/vm-0/people", &[("account", "bob"), ("sudo", "no"), ("days", "")]).await;
    let refused = terminals.ask(terminals.request(&bob, OPEN, &["https://koding.com"])).await;
    assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == StatusCode::NOT_FOUND));
    assert!(!bob.get("/").await.body.contains("alice.koding/terminal"), "not before it is accepted");
    bob.post("/shared/accept", &[("vm", "vm-0.alice.koding")]).await;
    assert!(bob.get("/").await.body.contains("href=\"/vms/vm-0.alice.koding/terminal\""));
    let shown = bob.get("/vms/vm-0.alice.koding/terminal").await;
    assert!(shown.body.contains("data-path=\"/vms/vm-0.alice.koding/terminal\""), "{}", shown.body);
    assert_eq!(bob.get("/vms/vm-0.alice.koding").await.status, StatusCode::NOT_FOUND);

    let mut page = Page(terminals.ask(terminals.request(&bob, OPEN, &["https://koding.com"])).await.unwrap());
    page.begin(false).await;
    assert_eq!(page.until("open").await["vm"], "vm-0.alice.koding");
    page.write(b"here").await;
    page.until("taken").await;
    let seen = terminals.sshd.seen();
    assert!(seen.iter().any(|one| one == "log-in bob") && seen.iter().all(|one| one != "log-in alice"));
    let trail = alice.get("/account/activity").await.body;
    assert!(trail.contains("terminal opened: vm-0.alice.koding"), "{trail}");

    alice.post("/vms/vm-0/people/remove", &[("account", "bob")]).await;
    let failed = page.until("failed").await;
    assert_eq!(failed["why"], "vm-0.alice.koding is not shared with you any more.");
    assert!(page.is_over().await);
    let refused = terminals.ask(terminals.request(&bob, OPEN, &["https://koding.com"])).await;
    assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == StatusCode::NOT_FOUND));
    assert_eq!(bob.get("/vms/vm-0.alice.koding/terminal").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_page_that_draws_nothing_holds_the_program_up() {
    let terminals = Terminals::new().await;
    let alice = terminals.world.logged_in("alice").await;
    let mut page = terminals.opened(&alice).await;
    page.write(b"flood").await;
    page.until("taken").await;
    let mut shown = 0;
    while let Ok(Some(Ok(message))) = timeout(Duration::from_millis(500), page.0.next()).await {
        if let Message::Binary(data) = message {
            shown += data.len();
        }
    }
    assert!((256 * 1024 - 1..SHOWN).contains(&shown), "{shown} bytes were sent to a page that draws none");
    let held = terminals.sshd.flooded();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(terminals.sshd.flooded(), held, "the program waits");

    // What is typed meanwhile is taken, and what is drawn brings more.
    page.write(b"x").await;
    page.say(json!({ "is": "drawn", "bytes": shown })).await;
    assert!(page.shown(200 * 1024).await.iter().all(|byte| *byte == b'y'));
    assert!(terminals.sshd.flooded() > held);
}

#[tokio::test]
async fn a_page_that_breaks_the_bounds_is_cut_off() {
    let terminals = Terminals::new().await;
    let alice = terminals.world.logged_in("alice").await;
    // More than was shown.
    let mut page = terminals.opened(&alice).await;
    page.say(json!({ "is": "drawn", "bytes": 1 })).await;
    assert!(page.is_over().await);
    // More than may be on its way into a program that does not read.
    let mut page = terminals.opened(&alice).await;
    page.write(b"stuck").await;
    let wall = Arc::new(Mutex::new(0));
    for _ in 0..2000 {
        if page.0.send(Message::Binary(Bytes::from(vec![b'a'; 8 * 1024]))).await.is_err() {
            break;
        }
        *wall.lock().unwrap() += 8 * 1024;
    }
    assert!(page.is_over().await);
    // A message too large.
    let mut page = terminals.opened(&alice).await;
    let _cut = page.0.send(Message::Binary(Bytes::from(vec![b'a'; 64 * 1024]))).await;
    assert!(page.is_over().await);
    // A first word that is none.
    let mut page = terminals.open(&alice, "").await;
    page.write(b"ls").await;
    assert!(page.is_over().await);
}

#[tokio::test]
async fn a_page_that_comes_back_by_itself_wakes_nothing() {
    let terminals = Terminals::new().await;
    let alice = terminals.world.logged_in("alice").await;
    let mut page = terminals.open(&alice, "").await;
    page.begin(true).await;
    assert_eq!(page.until("waiting").await["why"], "vm-0 is off.");
    assert_eq!(terminals.engine.calls(berth_testkit::Verb::Start, None), 0);
    page.say(json!({ "is": "wake" })).await;
    page.until("open").await;
    // And where it runs, there is nothing to wait for.
    let mut other = terminals.open(&alice, "?n=2").await;
    other.begin(true).await;
    other.until("open").await;
}

#[tokio::test]
async fn what_ends_without_a_shells_exit_is_told_apart() {
    let terminals = Terminals::new().await;
    let alice = terminals.world.logged_in("alice").await;
    let mut page = terminals.opened(&alice).await;
    page.write(b"vanish").await;
    page.until("lost").await;
    let mut page = terminals.opened(&alice).await;
    terminals.world.stop.cancel();
    page.until("restarting").await;
}

#[tokio::test]
async fn an_account_has_so_many_terminals_and_no_more() {
    let terminals = Terminals::new().await;
    let alice = terminals.world.logged_in("alice").await;
    let mut pages = Vec::new();
    for n in 1..=16 {
        let mut page = terminals.open(&alice, &format!("?n={n}")).await;
        page.begin(false).await;
        page.until("open").await;
        pages.push(page);
    }
    let mut more = terminals.open(&alice, "?n=17").await;
    more.begin(false).await;
    let failed = more.until("failed").await;
    assert!(failed["why"].as_str().unwrap().starts_with("You have 16 terminals open"), "{failed}");
    drop(pages.pop());
    timeout(SOON, async {
        loop {
            let mut more = terminals.open(&alice, "?n=17").await;
            more.begin(false).await;
            loop {
                match more.next().await {
                    Some(Message::Text(text)) if text.contains("\"open\"") => return,
                    Some(_) => {}
                    None => break,
                }
            }
        }
    })
    .await
    .expect("a place is given back");
}

#[tokio::test]
async fn the_page_keeps_no_vm_awake_and_loads_what_no_other_does() {
    let terminals = Terminals::new().await;
    let mut alice = terminals.world.logged_in("alice").await;
    let page = alice.get("/vms/vm-0/terminal?n=2").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("data-number=\"2\"") && page.body.contains("/assets/xterm."));
    assert!(!page.body.contains("hx-sse:connect"), "an open terminal is no open site");
    for wrong in ["?n=0", "?n=100", "?n=x", "?n=%3Cscript%3E"] {
        let page = alice.get(&format!("/vms/vm-0/terminal{wrong}")).await;
        assert!(page.body.contains("data-number=\"1\""), "{wrong}");
    }
    let vm = alice.get("/vms/vm-0").await.body;
    assert!(vm.contains("href=\"/vms/vm-0/terminal\"") && !vm.contains("/assets/xterm."));
    assert_eq!(alice.get("/vms/vm-0/terminal/open").await.status, StatusCode::FORBIDDEN);
}
