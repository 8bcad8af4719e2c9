//! What members and operators do on the pages.

use axum::http::StatusCode;
use berth_control::{Actor, LinkFor};

use crate::world::{PASSWORD, World, account, key};

#[tokio::test]
async fn the_first_page_has_this_installations_lines() {
    let world = World::new().await;
    let page = world.browser().get("/").await.body;
    let lines = "Host *.kd.io\n  User alice\n  ProxyCommand ssh %r@ssh.koding.com nc %h %p</code>";
    assert!(page.contains(lines), "{page}");
    assert!(
        page.contains("ssh vm-0.alice.koding.kd.io") && page.contains("SHA256:abc&#60;&#38;&#62;"),
        "{page}"
    );
    assert!(!page.contains("make up"), "{page}");
}

#[tokio::test]
async fn a_member_is_given_lines_with_which_ssh_asks_nothing() {
    let world = World::new().await;
    let page = world.logged_in("alice").await.get("/help").await.body;
    let trust = world.control.host_trust(&["ssh.koding.com".to_owned()]).remove(0);
    assert!(trust.starts_with("@cert-authority ssh.koding.com,*.kd.io ssh-ed25519 "), "{trust}");
    let command = format!("KnownHostsCommand /usr/bin/env printf &#34;{trust}\\n&#34;\n");
    assert!(page.contains(&command), "{page}");
    assert!(
        page.contains("ProxyCommand C:\\Windows\\System32\\OpenSSH\\ssh.exe %r@ssh.koding.com nc %h %p\n"),
        "{page}"
    );
    assert!(page.contains(&format!("<code>{trust}</code>")), "for Windows' known_hosts: {page}");
}

#[tokio::test]
async fn from_an_invitation_to_a_vm() {
    let world = World::new().await;
    let (link, mut carol) = (world.invitation(None).await, world.browser());
    assert!(carol.get(&link).await.body.contains("Name of your account"));

    let bad = carol.post(&link, &[("name", "Root!"), ("password", PASSWORD)]).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bad.body.contains("value=\"Root!\"") && bad.body.contains("aria-invalid"), "{}", bad.body);
    let taken = carol.post(&link, &[("name", "bob"), ("password", PASSWORD)]).await;
    assert!(taken.body.contains("The name bob is taken"), "{}", taken.body);
    let short = carol.post(&link, &[("name", "carol"), ("password", "short")]).await;
    assert!(short.body.contains("at least 12 characters"), "{}", short.body);

    let made = carol.post(&link, &[("name", "carol"), ("password", PASSWORD)]).await;
    assert_eq!((made.status, made.location()), (StatusCode::SEE_OTHER, "/account/keys"), "{}", made.body);
    assert!(carol.get("/account/keys").await.body.contains("No key yet"));
    assert!(carol.get("/").await.body.contains("You have no VM yet"));
    assert_eq!(carol.post("/vms", &[]).await.location(), "/");
    assert!(carol.get("/").await.body.contains("ssh vm-0.carol.koding.kd.io"));
}

#[tokio::test]
async fn a_key_with_line_breaks_is_added_and_removed() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    let mut broken = key("desk");
    broken.insert_str(40, "\r\n");
    let added = alice.post("/account/keys", &[("key", &broken), ("label", "my desk")]).await;
    assert_eq!(added.status, StatusCode::OK, "{}", added.body);
    assert!(added.body.contains("my desk is added and counts from now on."), "{}", added.body);

    let bad = alice.post("/account/keys", &[("key", "ssh-ed25519 AAAAC3Nz me"), ("label", "x")]).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bad.body.contains("ssh-ed25519 AAAAC3Nz me</textarea>"), "it stays to be mended: {}", bad.body);

    let keys = world.control.keys(&account("alice")).await.unwrap();
    let key = keys.iter().find(|key| key.label == "my desk").unwrap();
    let path = format!("/account/keys/{}/rename", key.id);
    assert!(alice.get(&path).await.body.contains("value=\"my desk\""));
    assert_eq!(alice.post(&path, &[("label", " the\u{1b}[2J <b>desk ")]).await.location(), "/account/keys");
    let page = alice.get("/account/keys").await.body;
    assert!(page.contains("the[2J &#60;b&#62;desk</h2>"), "{page}");
    assert_eq!(alice.post(&path, &[("label", "my desk")]).await.location(), "/account/keys");
    let path = format!("/account/keys/{}/remove", key.id);
    assert!(alice.get(&path).await.body.contains("Remove the key my desk?"));
    assert_eq!(alice.post(&path, &[]).await.location(), "/account/keys");
    assert_eq!(world.control.keys(&account("alice")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_vm_is_switched_from_the_list_and_from_its_page() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    let switch = |on: bool| format!("role=\"switch\" aria-checked=\"{on}\"");
    assert!(alice.get("/").await.body.contains(&switch(false)));
    assert_eq!(alice.post("/vms/vm-0/power", &[("to", "on"), ("back", "/")]).await.location(), "/");
    let page = alice.get("/").await.body;
    assert!(page.contains(&switch(true)) && page.contains("Sleep now"), "{page}");

    let slept = alice.post("/vms/vm-0/power", &[("to", "sleep"), ("back", "/vms/vm-0")]).await;
    assert_eq!(slept.location(), "/vms/vm-0");
    let page = alice.get("/vms/vm-0").await.body;
    assert!(
        page.contains(">asleep</span>") && page.contains(&switch(true)) && page.contains("Wake now"),
        "{page}"
    );

    alice.post("/vms/vm-0/always-on", &[("to", "on")]).await;
    let refused = alice.post("/vms/vm-0/power", &[("to", "sleep"), ("back", "/vms/vm-0")]).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.body.contains("vm-0 is always-on, so it does not sleep."), "{}", refused.body);
    let refused = alice.post("/vms/vm-0/power", &[("to", "sleep"), ("back", "/")]).await;
    assert!(refused.body.contains("<h1>Your environments</h1>"), "where the person looked: {}", refused.body);
}

#[tokio::test]
async fn a_vm_is_kept_awake_for_hours_or_until_a_moment() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    alice.post("/vms/vm-0/power", &[("to", "on")]).await;
    assert_eq!(alice.post("/vms/vm-0/snooze", &[("to", "4")]).await.status, StatusCode::SEE_OTHER);
    let info = world.control.vms(Some(&account("alice"))).await.unwrap().remove(0);
    let left = info.snoozed_until.unwrap() - time::OffsetDateTime::now_utc();
    assert!((left - time::Duration::hours(4)).abs() < time::Duration::minutes(1), "{left}");
    assert!(alice.get("/vms/vm-0").await.body.contains("Let it sleep again"));

    let far = alice.post("/vms/vm-0/snooze", &[("until", "2999-01-01T00:00"), ("zone", "60")]).await;
    assert_eq!(far.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        far.body.contains("for a week at most") && far.body.contains("value=\"2999-01-01T00:00\""),
        "{}",
        far.body
    );
}

#[tokio::test]
async fn a_vm_is_removed_by_its_name_alone() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    assert!(alice.get("/vms/vm-0").await.body.contains("<dialog"));
    assert!(alice.get("/vms/vm-0/remove").await.body.contains("data-close autofocus>Keep it</a>"));
    for wrong in ["", "vm-1", "VM-0"] {
        let refused = alice.post("/vms/vm-0/remove", &[("name", wrong)]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        assert!(refused.body.contains("nothing was removed"), "{}", refused.body);
    }
    assert_eq!(alice.post("/vms/vm-0/remove", &[("name", " vm-0 ")]).await.location(), "/");
    assert!(alice.get("/").await.body.contains("You have no VM yet"));
}

#[tokio::test]
async fn a_vm_is_rebuilt_or_erased_by_its_name_alone_and_the_two_are_told_apart() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    alice.post("/vms/vm-0/power", &[("to", "on")]).await;
    let page = alice.get("/vms/vm-0").await.body;
    let (rebuild, erase) = (page.find("Rebuild vm-0, keep its home…"), page.find("Erase vm-0, home too…"));
    let danger = page.find("danger-zone");
    assert!(rebuild < danger && danger < erase, "the one is not among what is lost for good: {page}");
    let ids: Vec<_> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let all = ids.iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(all.len(), ids.len(), "each id is one thing: {ids:?}");
    for (path, safe, says) in [
        ("/vms/vm-0/rebuild", ">Leave it as it is</a>", "everything below /home, and its name"),
        ("/vms/vm-0/erase", ">Keep everything</a>", "<strong>its home too</strong>"),
    ] {
        let page = alice.get(path).await.body;
        assert!(page.contains(says) && page.contains(safe), "{page}");
        for wrong in ["", "vm-1", "VM-0"] {
            let refused = alice.post(path, &[("name", wrong)]).await;
            assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
            assert!(refused.body.contains("nothing was done"), "{}", refused.body);
        }
    }
    let rebuilt = || async { world.control.vms(Some(&account("alice"))).await.unwrap().remove(0).rebuilt };
    assert_eq!(rebuilt().await, None);
    let done = alice.post("/vms/vm-0/rebuild", &[("name", " vm-0 ")]).await;
    assert_eq!(done.location(), "/vms/vm-0", "{}", done.body);
    let first = rebuilt().await;
    assert!(first.is_some());
    assert_eq!(alice.post("/vms/vm-0/erase", &[("name", "vm-0")]).await.location(), "/vms/vm-0");
    assert_ne!(rebuilt().await, first);
    let trail = alice.get("/account/activity").await.body;
    assert!(trail.contains("its home is kept") && trail.contains("its home is erased"), "{trail}");
}

#[tokio::test]
async fn a_disk_is_made_larger() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    assert!(alice.get("/vms/vm-0").await.body.contains("It has 10 GB now."));
    for (size, says) in [
        ("", "Give a whole number of gigabytes"),
        ("many", "Give a whole number of gigabytes"),
        ("5", "has a disk of 10 GB, and a disk only grows"),
        ("900000000", "The host has 1024 GB of disk left"),
    ] {
        let refused = alice.post("/vms/vm-0/resize", &[("size", size)]).await;
        assert!(refused.status.is_client_error() || refused.status.is_server_error(), "{size}");
        assert!(refused.body.contains(says), "{size}: {}", refused.body);
        assert!(refused.body.contains(&format!("value=\"{size}\"")), "it stays to be mended");
    }
    assert_eq!(alice.post("/vms/vm-0/resize", &[("size", "20 GB")]).await.location(), "/vms/vm-0");
    assert!(alice.get("/vms/vm-0").await.body.contains("20 GB of disk"));
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    let set = alice.post("/account/password", &[("password", PASSWORD)]).await;
    assert_eq!(set.location(), "/account?changed#password", "{}", set.body);

    let new = "three other boats";
    let wrong = alice.post("/account/password", &[("old", "nonsense"), ("password", new)]).await;
    assert!(wrong.body.contains("That is not the password that you have now."), "{}", wrong.body);
    let short = alice.post("/account/password", &[("old", PASSWORD), ("password", "short")]).await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        alice.post("/account/password", &[("old", PASSWORD), ("password", new)]).await.status,
        StatusCode::SEE_OTHER
    );

    let mut other = world.browser();
    other.get("/log-in").await;
    let refused = other.post("/log-in", &[("name", "alice"), ("password", PASSWORD)]).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(
        refused.body.contains("do not belong together") && refused.body.contains("value=\"alice\""),
        "{}",
        refused.body
    );
    let nobody = other.post("/log-in", &[("name", "nobody"), ("password", PASSWORD)]).await;
    assert!(nobody.body.contains("do not belong together"), "{}", nobody.body);
}

#[tokio::test]
async fn a_reset_link_ends_the_other_log_ins() {
    let world = World::new().await;
    let mut old = world.logged_in("alice").await;
    let (link, mut new) = (world.link("alice", LinkFor::Reset).await, world.browser());
    assert!(new.get(&link).await.body.contains("Choose a new password for alice"));
    assert!(
        new.post(&link, &[("password", "alice")]).await.body.contains("at least 12"),
        "the link is still good"
    );
    assert_eq!(new.post(&link, &[("password", PASSWORD)]).await.location(), "/");
    assert_eq!(old.get("/account").await.status, StatusCode::SEE_OTHER);
    assert_eq!(new.get("/account").await.status, StatusCode::OK);
}

#[tokio::test]
async fn log_ins_are_listed_and_ended() {
    let world = World::new().await;
    let (mut here, mut there) = (world.logged_in("alice").await, world.logged_in("alice").await);
    let page = here.get("/account/sessions").await.body;
    assert!(page.contains("this one") && page.contains("End all others"), "{page}");
    assert_eq!(here.post("/account/sessions/end-others", &[]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(there.get("/account").await.status, StatusCode::SEE_OTHER);
    assert!(!here.get("/account/sessions").await.body.contains("End all others"));

    here.post("/log-out", &[]).await;
    assert!(!here.cookies.contains_key("__Host-berth"));
    assert!(here.get("/").await.body.contains("A Linux machine of your own"));
}

#[tokio::test]
async fn a_token_is_shown_once() {
    let world = World::new().await;
    let mut bob = world.logged_in("bob").await;
    let page = bob.get("/account/tokens").await.body;
    assert!(!page.contains("ops:read"), "{page}");
    let none = bob.post("/account/tokens", &[("name", "x")]).await;
    assert!(none.body.contains("Choose what the token is for."), "{}", none.body);
    let ops = bob.post("/account/tokens", &[("name", "x"), ("scope", "ops:read")]).await;
    assert_eq!(ops.status, StatusCode::UNPROCESSABLE_ENTITY);
    let made =
        bob.post("/account/tokens", &[("name", "nightly"), ("scope", "vms:read"), ("days", "30")]).await;
    assert!(made.body.contains("<code>berth_"), "{}", made.body);
    let page = bob.get("/account/tokens").await.body;
    assert!(
        page.contains("nightly") && page.contains("vms:read") && !page.contains("<code>berth_"),
        "{page}"
    );
    let (_, rest) = page.split_once("action=\"/account/tokens/").unwrap();
    let path = format!("/account/tokens/{}", rest.split('"').next().unwrap());
    assert_eq!(bob.post(&path, &[]).await.status, StatusCode::SEE_OTHER);
    assert!(!bob.get("/account/tokens").await.body.contains("nightly"));
}

#[tokio::test]
async fn what_was_done_is_in_the_activity() {
    let world = World::new().await;
    let mut alice = world.logged_in("alice").await;
    alice.post("/account/keys", &[("key", &key("desk"))]).await;
    let page = alice.get("/account/activity").await.body;
    assert!(page.contains("key added: SHA256:") && page.contains("log in (link)"), "{page}");
    assert!(!page.contains("nobody known"), "{page}");
    let mut stranger = world.browser();
    stranger.get("/log-in").await;
    stranger.post("/log-in", &[("name", "alice"), ("password", "a wrong one")]).await;
    let page = alice.get("/account/activity").await.body;
    assert!(page.contains("log in refused") && page.contains("nobody known"), "{page}");
}

#[tokio::test]
async fn operators_invite_block_and_let_in_again() {
    let world = World::new().await;
    let host = world.control.acting(Actor::host());
    host.set_role(&account("alice"), berth_control::Role::Operator).await.unwrap();
    let (mut alice, mut bob) = (world.logged_in("alice").await, world.logged_in("bob").await);

    let invited = alice.post("/ops/invitations", &[("note", "dave@example.com"), ("name", "dave")]).await;
    assert!(invited.body.contains("https://koding.com/link/"), "{}", invited.body);
    let page = alice.get("/ops").await.body;
    assert!(page.contains("dave@example.com") && !page.contains("https://koding.com/link/"), "{page}");
    let bad = alice.post("/ops/invitations", &[("name", "no such name")]).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);

    assert_eq!(
        alice.post("/ops/accounts/bob/block", &[("to", "block")]).await.location(),
        "/ops/accounts/bob"
    );
    assert_eq!(bob.get("/account").await.status, StatusCode::SEE_OTHER);
    assert!(alice.get("/ops/accounts/bob").await.body.contains("Unblock bob"));
    alice.post("/ops/accounts/bob/block", &[("to", "unblock")]).await;
    let link = alice.post("/ops/accounts/bob/link", &[("to", "reset")]).await;
    assert!(link.body.contains("they choose a new password"), "{}", link.body);

    let own = alice.post("/ops/accounts/alice/block", &[("to", "block")]).await;
    assert_eq!(own.status, StatusCode::FORBIDDEN);
    assert!(own.body.contains("You cannot do that to your own account."), "{}", own.body);
    assert_eq!(alice.get("/ops/accounts/nobody").await.status, StatusCode::NOT_FOUND);

    let trail = alice.get("/ops/audit?q=bob").await.body;
    assert!(trail.contains("account blocked") && trail.contains("account unblocked"), "{trail}");
    assert!(alice.get("/ops/vms?q=bob").await.body.contains("vm-0.bob.koding"));
}
