//! Terminals that are watched together: who may, what both sides are told, and how it ends.

use axum::http::StatusCode;
use berth_control::{AWAY, Actor};
use berth_testkit::Verb;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    routes::keeps_to_the_policy,
    terminal::{Page, SOON, Terminals},
    world::{Browser, account},
};

impl Terminals {
    /// A page of alice's first terminal, which is shared, and the path of the link.
    async fn shared(&self, alice: &Browser, typing: bool) -> (Page, String) {
        let mut page = self.opened(alice).await;
        page.say(json!({ "is": "share", "typing": typing })).await;
        let shared = page.until("shared").await;
        assert_eq!((&shared["typing"], &shared["watchers"]), (&json!(typing), &json!([])));
        let link = shared["link"].as_str().unwrap().strip_prefix("https://koding.com").unwrap().to_owned();
        (page, link)
    }

    /// A page by the link, before its first word.
    async fn by_link(&self, browser: &Browser, link: &str) -> Page {
        let request = self.request(browser, &format!("{link}/open"), &["https://koding.com"]);
        let mut page = Page(self.ask(request).await.unwrap());
        page.begin(false).await;
        page
    }

    /// One that shows it.
    async fn watching(&self, browser: &Browser, link: &str) -> Page {
        let mut page = self.by_link(browser, link).await;
        page.until("open").await;
        page
    }

    fn typed(&self) -> usize {
        self.sshd.seen().iter().filter(|seen| seen.starts_with("typed")).count()
    }
}

impl Page {
    /// What is told of who watches, once they are so many.
    async fn until_watched_by(&mut self, is: &str, names: &[&str]) -> Value {
        loop {
            let told = self.until(is).await;
            let watchers = told["watchers"].as_array().unwrap();
            if watchers.iter().map(|one| one["name"].as_str().unwrap()).eq(names.iter().copied()) {
                return told;
            }
        }
    }

    /// The last word.
    async fn over(&mut self) -> String {
        let word = self.until("over").await;
        assert!(self.is_over().await);
        word["why"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn from_the_link_to_its_end_both_see_each_other() {
    let terminals = Terminals::new().await;
    let mut alice = terminals.world.logged_in("alice").await;
    let mut bob = terminals.world.logged_in("bob").await;
    let (mut hers, link) = terminals.shared(&alice, false).await;
    let shown = bob.get(&link).await;
    assert_eq!(shown.status, StatusCode::OK);
    assert!(shown.body.contains("alice lets you watch this terminal. While you do"), "{}", shown.body);
    keeps_to_the_policy(&shown.body, "/watch");

    let mut his = terminals.by_link(&bob, &link).await;
    let watching = his.until("watching").await;
    let watchers = json!([{ "name": "bob", "typed": 0 }]);
    assert_eq!(
        watching,
        json!({ "is": "watching", "by": "alice", "typing": false, "columns": 80, "rows": 24, "watchers": watchers })
    );
    his.until("open").await;
    let attached = |seen: &String| seen.contains("attach-session -f ignore-size -t =1");
    assert!(terminals.sshd.seen().iter().any(attached));
    hers.until_watched_by("shared", &["bob"]).await;

    // Read-only: it does not get into the VM.
    his.write(b"rm -rf").await;
    assert_eq!(his.until("taken").await["bytes"], 6);
    assert_eq!(terminals.typed(), 0);

    // From now on it does, and alice sees by whom.
    hers.say(json!({ "is": "share", "typing": true })).await;
    while his.until("watching").await["typing"] != true {}
    his.write(b"ls -l").await;
    while hers.until("shared").await["watchers"][0]["typed"] != 1 {}
    assert_eq!(his.shown(5).await, b"ls -l");
    assert_eq!(terminals.typed(), 1);

    // Hers is the size, and his page is told.
    hers.say(json!({ "is": "size", "columns": 132, "rows": 50 })).await;
    while his.until("watching").await["columns"] != 132 {}

    // And no longer.
    hers.say(json!({ "is": "share", "typing": false })).await;
    while his.until("watching").await["typing"] != false {}
    his.write(b"exit").await;
    his.until("taken").await;
    assert_eq!(terminals.typed(), 1);

    hers.say(json!({ "is": "unshare" })).await;
    assert_eq!(his.over().await, "alice does not share this terminal any more.");
    assert_eq!(hers.until("unshared").await["why"], Value::Null);
    assert_eq!(bob.get(&link).await.status, StatusCode::NOT_FOUND);
    let refused = terminals.by_link(&bob, &link).await.until("failed").await;
    assert_eq!(refused["why"], "This link does not work any more.");

    // All of it is in both trails.
    terminals.world.control.close().await;
    for (browser, lines) in [
        (&mut alice, &["terminal shared", "terminal unshared", "terminal watched", "terminal left"][..]),
        (&mut bob, &["terminal watched", "terminal left"]),
    ] {
        let trail = browser.get("/account/activity").await.body;
        for line in lines {
            assert!(trail.contains(&format!("{line}: vm-0.alice.koding (terminal 1")), "{line}: {trail}");
        }
    }
    let trail = alice.get("/account/activity").await.body;
    for what in ["terminal 1, typing", "terminal 1, read-only", "terminal 1: ended by its owner"] {
        assert!(trail.contains(what), "{what}: {trail}");
    }
}

#[tokio::test]
async fn a_link_is_for_who_is_logged_in_and_for_pages_of_this_site() {
    let terminals = Terminals::new().await;
    let (alice, bob) = (terminals.world.logged_in("alice").await, terminals.world.logged_in("bob").await);
    let (_hers, link) = terminals.shared(&alice, true).await;
    assert_eq!(link.strip_prefix("/watch/").unwrap().len(), 43);
    let mut nobody = terminals.world.browser();
    assert_eq!(nobody.get(&link).await.location(), format!("/log-in?to={}", link.replace('/', "%2F")));
    let open = format!("{link}/open");
    for (browser, origin, status) in
        [(&nobody, "https://koding.com", 303), (&bob, "https://evil.example", 403), (&bob, "null", 403)]
    {
        match terminals.ask(terminals.request(browser, &open, &[origin])).await {
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), status),
            other => panic!("{origin}: {other:?}"),
        }
    }
    for wrong in ["/watch/x", "/watch/%00", &link[..link.len() - 1], &"/watch/0".repeat(6)] {
        assert_eq!(bob.clone().get(wrong).await.status, StatusCode::NOT_FOUND, "{wrong}");
    }
}

#[tokio::test]
async fn the_end_of_either_log_in_is_its_end() {
    let terminals = Terminals::new().await;
    let mut alice = terminals.world.logged_in("alice").await;
    let bob = terminals.world.logged_in("bob").await;
    let host = terminals.world.control.acting(Actor::host());
    let (mut hers, link) = terminals.shared(&alice, true).await;
    let mut his = terminals.watching(&bob, &link).await;
    hers.until_watched_by("shared", &["bob"]).await;
    host.block_account(&account("bob")).await.unwrap();
    his.until("logged_out").await;
    assert!(his.is_over().await);
    hers.until_watched_by("shared", &[]).await;

    host.unblock_account(&account("bob")).await.unwrap();
    let bob = terminals.world.logged_in("bob").await;
    let mut his = terminals.watching(&bob, &link).await;
    alice.post("/log-out", &[]).await;
    assert_eq!(his.over().await, "alice is not logged in any more.");
}

#[tokio::test]
async fn who_watches_sees_nothing_while_the_owners_page_is_gone_and_not_for_long() {
    let terminals = Terminals::new().await;
    let (alice, bob) = (terminals.world.logged_in("alice").await, terminals.world.logged_in("bob").await);
    let (hers, link) = terminals.shared(&alice, true).await;
    let mut his = terminals.watching(&bob, &link).await;
    drop(hers);
    assert_eq!(his.until("away").await["by"], "alice");
    // The same shell in another page of hers.
    let mut hers = terminals.opened(&alice).await;
    hers.until_watched_by("shared", &["bob"]).await;
    his.until("open").await;
    drop(hers);
    his.until("away").await;
    terminals.world.later(AWAY).await;
    let mut bob = bob;
    timeout(SOON, async { while bob.get(&link).await.status != StatusCode::NOT_FOUND {} }).await.unwrap();
    // What was shared is not shared again by itself.
    let mut hers = terminals.opened(&alice).await;
    hers.until("list").await;
    assert_eq!(bob.get(&link).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_end_of_the_shell_is_its_end() {
    let terminals = Terminals::new().await;
    let (alice, bob) = (terminals.world.logged_in("alice").await, terminals.world.logged_in("bob").await);
    let (mut hers, link) = terminals.shared(&alice, false).await;
    let mut his = terminals.watching(&bob, &link).await;
    hers.write(b"exit").await;
    hers.until("exit").await;
    assert_eq!(his.over().await, "The shell has ended.");
}

#[tokio::test]
async fn what_cannot_be_shared_is_told() {
    let terminals = Terminals::new().await;
    let alice = terminals.world.logged_in("alice").await;
    // The VM lists 1 and 3: this one is in no tmux.
    let mut page = terminals.open(&alice, "?n=2").await;
    page.begin(false).await;
    page.until("open").await;
    page.say(json!({ "is": "share", "typing": false })).await;
    let why = page.until("unshared").await["why"].as_str().unwrap().to_owned();
    assert!(why.starts_with("This terminal cannot be shared: the VM has no tmux"), "{why}");
}

#[tokio::test]
async fn a_guest_of_the_vm_shows_nobody_what_is_in_it() {
    const TERMINAL: &str = "/vms/vm-0.alice.koding/terminal";
    let terminals = Terminals::new().await;
    let (mut alice, mut bob) =
        (terminals.world.logged_in("alice").await, terminals.world.logged_in("bob").await);
    alice.post("/vms/vm-0/people", &[("account", "bob"), ("sudo", "no"), ("days", "")]).await;
    bob.post("/shared/accept", &[("vm", "vm-0.alice.koding")]).await;
    assert!(alice.get("/vms/vm-0/terminal").await.body.contains("id=\"share\""));
    assert!(!bob.get(TERMINAL).await.body.contains("id=\"share\""));
    let request = terminals.request(&bob, &format!("{TERMINAL}/open"), &["https://koding.com"]);
    let mut his = Page(terminals.ask(request).await.unwrap());
    his.begin(false).await;
    his.until("list").await;
    his.say(json!({ "is": "share", "typing": true })).await;
    assert_eq!(his.until("unshared").await["why"], "Only the owner of a VM can share a terminal in it.");
    // What alice shares is her own terminal of that number, not his.
    let (_hers, link) = terminals.shared(&alice, false).await;
    let bob = terminals.world.logged_in("bob").await;
    terminals.watching(&bob, &link).await;
    let logins = terminals.sshd.seen().iter().filter(|seen| *seen == "log-in alice").count();
    assert_eq!(logins, 2, "hers, and one as her for who watches");
}

#[tokio::test]
async fn so_many_watch_one_terminal_and_no_more() {
    let terminals = Terminals::new().await;
    let (alice, bob) = (terminals.world.logged_in("alice").await, terminals.world.logged_in("bob").await);
    let (_hers, link) = terminals.shared(&alice, false).await;
    let mut pages = Vec::new();
    for _ in 0..8 {
        pages.push(terminals.watching(&bob, &link).await);
    }
    let refused = terminals.by_link(&bob, &link).await.until("failed").await;
    assert_eq!((refused["again"].as_bool(), refused["why"].as_str().unwrap().len() > 20), (Some(true), true));
    drop(pages.pop());
    pages[0].until_watched_by("watching", &["bob"; 7]).await;
    terminals.watching(&bob, &link).await;
}

#[tokio::test]
async fn a_watcher_that_draws_nothing_holds_up_nobody_and_goes_at_once() {
    let terminals = Terminals::new().await;
    let (alice, bob) = (terminals.world.logged_in("alice").await, terminals.world.logged_in("bob").await);
    let (mut hers, link) = terminals.shared(&alice, true).await;
    let mut his = terminals.watching(&bob, &link).await;
    his.write(b"flood").await;
    his.until("taken").await;
    let mut shown = 0;
    while shown < 256 * 1024 {
        if let Some(Message::Binary(data)) = his.next().await {
            shown += data.len();
        }
    }
    hers.write(b"still here").await;
    assert_eq!(hers.shown(10).await, b"still here");
    hers.say(json!({ "is": "unshare" })).await;
    his.over().await;
}

#[tokio::test]
async fn watching_wakes_nothing() {
    let terminals = Terminals::new().await;
    let (alice, bob) = (terminals.world.logged_in("alice").await, terminals.world.logged_in("bob").await);
    let (hers, link) = terminals.shared(&alice, false).await;
    let control = &terminals.world.control;
    let vm = control.vms(Some(&account("alice"))).await.unwrap().remove(0).name;
    control.sleep_vm(&vm).await.unwrap();
    let starts = terminals.engine.calls(Verb::Start, None);
    let mut his = terminals.by_link(&bob, &link).await;
    his.until("watching").await;
    assert_eq!(terminals.engine.calls(Verb::Start, None), starts, "it sleeps on");
    control.start_vm(&vm, tokio::sync::mpsc::channel(1).0).await.unwrap();
    his.until("open").await;
    drop(hers);
}
