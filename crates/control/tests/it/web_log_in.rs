//! Logging in on the website, and being logged in.

use std::time::Duration;

use berth_control::{Actor, LinkFor, LoginWay, PasswordError, Role, WebError, WebLogin};
use futures::FutureExt;

use crate::{
    time::{Time, settings},
    web::{ELSEWHERE, PASSWORD, client, secret, strangers_cookie},
    world::{HOME, World, account},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn world() -> World {
    let (world, ..) = World::new().await;
    for name in ["alice", "bob"] {
        world.has_password(name).await;
    }
    world
}

fn is_ended(login: &WebLogin) -> bool {
    login.ended().now_or_never().is_some()
}

#[tokio::test]
async fn a_name_and_its_password_let_in_and_whatever_is_wrong_is_told_alike() {
    let world = world().await;
    let new = world.try_password(" Alice ", PASSWORD).await.unwrap();
    assert_eq!((new.login.account(), new.login.role()), (&account("alice"), Role::Operator));
    assert_eq!(world.try_password("bob", PASSWORD).await.unwrap().login.role(), Role::Member);
    assert!(world.lets_in(&new.cookie).await);

    world.control.add_account(&account("dave")).await.unwrap();
    world.host().block_account(&account("bob")).await.unwrap();
    let mut told = vec![];
    for (name, password) in [
        ("alice", "a lemon, two goats"),
        ("carol", PASSWORD),
        ("dave", PASSWORD),
        ("bob", PASSWORD),
        ("", ""),
    ] {
        let refused = world.try_password(name, password).await.unwrap_err();
        assert!(matches!(refused, WebError::Refused), "{name}: {refused:?}");
        told.push(refused.to_string());
    }
    told.dedup();
    assert_eq!(told.len(), 1);
}

#[tokio::test]
async fn unknown_and_wrong_take_the_same_time() {
    let world = world().await;
    let took = async |name: &str, from: std::net::IpAddr| {
        let began = std::time::Instant::now();
        let refused = world.control.log_in_by_password(name, &secret("wrong, as it is"), client(from)).await;
        assert!(matches!(refused, Err(WebError::Refused)));
        began.elapsed().as_secs_f64()
    };
    let (mut known, mut unknown) = (f64::MAX, f64::MAX);
    // The least of several, and of more where they differ: what else this machine does only adds to it.
    for network in 0..40 {
        known = known.min(took("alice", [10, 0, network, 1].into()).await);
        unknown = unknown.min(took("carol", [10, 1, network, 1].into()).await);
        if (0.67..1.5).contains(&(known / unknown)) {
            return;
        }
    }
    panic!("{known} s and {unknown} s");
}

#[tokio::test]
async fn every_log_in_has_a_cookie_of_its_own_and_no_other_text_is_one() {
    let world = world().await;
    let mut cookies = vec![];
    for _ in 0..3 {
        cookies.push(world.try_password("alice", PASSWORD).await.unwrap().cookie.expose().clone());
        cookies.push(world.log_in_by_link("alice").await.cookie.expose().clone());
    }
    for cookie in &cookies {
        assert!(cookie.len() == 43 && cookie.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{cookie}");
    }
    cookies.sort();
    cookies.dedup();
    assert_eq!(cookies.len(), 6);
    let (most, last) = cookies[0].split_at(42);
    let near = format!("{most}{}", if last == "x" { "y" } else { "x" });
    for text in ["", "x", &near, "%", &"é".repeat(43), &"x".repeat(10_000)] {
        assert!(!world.lets_in(&secret(text)).await);
    }
    assert!(!world.lets_in(&strangers_cookie()).await);
}

#[tokio::test]
async fn a_cookie_from_before_the_log_in_is_worth_nothing_after_it() {
    let world = world().await;
    // What somebody has put into a victim's browser, and waits for.
    let planted = strangers_cookie();
    let own = world.try_password("bob", PASSWORD).await.unwrap();
    for cookie in [planted, own.cookie.clone()] {
        let before = world.control.web_login(&cookie, HOME).await.unwrap();
        let new = world.try_password("alice", PASSWORD).await.unwrap();
        assert_ne!(new.cookie.expose(), cookie.expose());
        let after = world.control.web_login(&cookie, HOME).await.unwrap();
        assert_eq!(before.map(|login| login.account().clone()), after.map(|login| login.account().clone()));
    }
}

#[tokio::test]
async fn sessions_are_listed_and_ended_by_their_account_alone() {
    let world = world().await;
    let here = world.try_password("alice", PASSWORD).await.unwrap();
    let there =
        world.control.log_in_by_password("alice", &secret(PASSWORD), client(ELSEWHERE)).await.unwrap();
    let bobs = world.try_password("bob", PASSWORD).await.unwrap();

    let sessions = world.control.web_sessions(&here.login).await.unwrap();
    let seen: Vec<_> = sessions.iter().map(|info| (info.address, info.way, info.current)).collect();
    assert_eq!(seen, [(ELSEWHERE, LoginWay::Password, false), (HOME, LoginWay::Password, true)]);

    let refused = world.control.end_session(&here.login, bobs.login.session()).await;
    assert!(matches!(refused, Err(WebError::Missing)), "{refused:?}");
    assert!(world.lets_in(&bobs.cookie).await);
    world.control.end_session(&here.login, there.login.session()).await.unwrap();
    assert!(is_ended(&there.login) && !world.lets_in(&there.cookie).await);
    assert!(!is_ended(&here.login) && !is_ended(&bobs.login));
    assert!(matches!(
        world.control.end_session(&here.login, there.login.session()).await,
        Err(WebError::Missing)
    ));
}

#[tokio::test]
async fn a_session_that_is_ended_anywhere_ends_at_once_wherever_it_is_used() {
    let world = world().await;
    let here = world.try_password("alice", PASSWORD).await.unwrap();
    let mut others = vec![];
    for _ in 0..3 {
        others.push(world.try_password("alice", PASSWORD).await.unwrap());
    }
    // Each is in use by a page of its own, which was let in by the cookie.
    let mut pages = vec![];
    for other in &others {
        pages.push(world.control.web_login(&other.cookie, HOME).await.unwrap().unwrap());
    }
    world.control.log_out(&others[0].login).await.unwrap();
    assert!(is_ended(&pages[0]) && !is_ended(&pages[1]));
    assert_eq!(world.control.end_other_sessions(&here.login).await.unwrap(), 2);
    for page in &pages {
        assert!(is_ended(page));
    }
    assert!(!is_ended(&here.login) && world.lets_in(&here.cookie).await);
    for other in &others {
        assert!(!world.lets_in(&other.cookie).await);
    }
}

#[tokio::test]
async fn whatever_ends_an_account_or_its_role_ends_its_sessions() {
    let mut world = world().await;
    for ending in ["role", "block", "remove"] {
        let new = world.try_password("bob", PASSWORD).await.unwrap();
        let (host, bob) = (world.host(), account("bob"));
        match ending {
            "role" => host.set_role(&bob, Role::Operator).await.unwrap(),
            "block" => {
                host.block_account(&bob).await.unwrap();
                assert!(is_ended(&new.login) && !world.lets_in(&new.cookie).await);
                host.unblock_account(&bob).await.unwrap();
            }
            _ => host.remove_account(&bob).await.unwrap(),
        }
        assert!(is_ended(&new.login), "{ending}");
        assert!(!world.lets_in(&new.cookie).await, "{ending}");
    }
    // A restart of the server ends nobody's session.
    let alice = world.try_password("alice", PASSWORD).await.unwrap();
    world.restart().await;
    assert!(world.lets_in(&alice.cookie).await);
}

#[tokio::test]
async fn a_session_ends_when_it_is_not_used_and_after_90_days() {
    let time = Time::stop();
    let world = World::with(settings()).await;
    world.control.add_account(&account("alice")).await.unwrap();
    let (used, unused) = (world.log_in_by_link("alice").await, world.log_in_by_link("alice").await);
    let pass = async |time: Duration| tokio::time::advance(time).await;
    for _ in 0..13 {
        pass(DAY).await;
        assert!(world.lets_in(&used.cookie).await);
    }
    assert!(!is_ended(&unused.login));
    pass(DAY).await;
    assert!(is_ended(&unused.login) && !world.lets_in(&unused.cookie).await);
    assert_eq!(world.control.web_sessions(&used.login).await.unwrap().len(), 1, "what is over is not shown");
    for _ in 14..89 {
        pass(DAY).await;
        assert!(world.lets_in(&used.cookie).await);
    }
    let page = world.control.web_login(&used.cookie, HOME).await.unwrap().unwrap();
    pass(DAY).await;
    assert!(is_ended(&page) && !world.lets_in(&used.cookie).await);
    drop(time);
}

#[tokio::test]
async fn when_it_was_last_seen_is_written_down_once_a_minute() {
    let time = Time::stop();
    let world = World::with(settings()).await;
    world.control.add_account(&account("alice")).await.unwrap();
    let new = world.log_in_by_link("alice").await;
    let seen = async || world.control.web_sessions(&new.login).await.unwrap()[0].clone();
    let first = seen().await;
    tokio::time::advance(Duration::from_secs(59)).await;
    world.control.web_login(&new.cookie, ELSEWHERE).await.unwrap();
    assert_eq!(seen().await, first);
    tokio::time::advance(Duration::from_secs(2)).await;
    world.control.web_login(&new.cookie, ELSEWHERE).await.unwrap();
    assert_eq!(
        (seen().await.address, seen().await.seen - first.seen),
        (ELSEWHERE, time::Duration::seconds(61))
    );
    drop(time);
}

#[tokio::test]
async fn a_form_of_another_session_is_known_as_such() {
    let world = world().await;
    let (one, other) = (
        world.try_password("alice", PASSWORD).await.unwrap(),
        world.try_password("alice", PASSWORD).await.unwrap(),
    );
    let token = one.login.csrf();
    let next_page = world.control.web_login(&one.cookie, HOME).await.unwrap().unwrap();
    assert!(one.login.csrf_matches(&token) && next_page.csrf_matches(&token));
    assert!(!other.login.csrf_matches(&token));
    assert_ne!(one.login.csrf(), token, "another one for each page");
    for text in
        ["", "x", "AAAA", &token.replace(|_: char| true, "A"), token.get(1..).unwrap(), &format!("{token}A")]
    {
        assert!(!one.login.csrf_matches(text), "{text}");
    }
    assert!(!token.contains(one.cookie.expose().as_str()));
    assert!(!format!("{one:?}").contains(one.cookie.expose().as_str()), "a cookie is a secret");
}

#[tokio::test]
async fn what_is_dangerous_wants_a_fresh_proof() {
    let time = Time::stop();
    let world = World::with(settings()).await;
    world.control.add_account(&account("alice")).await.unwrap();
    world.has_password("alice").await;
    let new = world.try_password("alice", PASSWORD).await.unwrap();
    assert!(new.login.is_fresh());
    tokio::time::advance(Duration::from_secs(30 * 60)).await;
    let stale = world.control.web_login(&new.cookie, HOME).await.unwrap().unwrap();
    assert!(!stale.is_fresh());
    let refused = world.control.set_password(&stale, &secret("another lemon, 3 boats")).await;
    assert!(matches!(refused, Err(WebError::NotFresh)));
    let refused = world.control.prove(&stale, &secret("a lemon, two goats"), client(HOME)).await;
    assert!(matches!(refused, Err(WebError::Refused)));
    assert!(!world.control.web_login(&new.cookie, HOME).await.unwrap().unwrap().is_fresh());

    let fresh = world.control.prove(&stale, &secret(PASSWORD), client(HOME)).await.unwrap();
    assert!(
        fresh.is_fresh() && world.control.web_login(&new.cookie, HOME).await.unwrap().unwrap().is_fresh()
    );
    world.control.set_password(&fresh, &secret("another lemon, 3 boats")).await.unwrap();
    drop(time);
}

#[tokio::test]
async fn a_new_password_counts_at_once_and_ends_the_other_sessions() {
    let world = world().await;
    let (here, there) = (
        world.try_password("alice", PASSWORD).await.unwrap(),
        world.try_password("alice", PASSWORD).await.unwrap(),
    );
    for (text, refused) in [
        ("short", PasswordError::TooShort),
        ("alice-alice-alice", PasswordError::Name),
        ("password12345", PasswordError::Common),
    ] {
        let error = world.control.set_password(&here.login, &secret(text)).await.unwrap_err();
        assert!(matches!(error, WebError::Password(reason) if reason == refused), "{text}: {error:?}");
    }
    assert!(!is_ended(&there.login));
    world.control.set_password(&here.login, &secret("another lemon, 3 boats")).await.unwrap();
    assert!(is_ended(&there.login) && !is_ended(&here.login));
    assert!(world.try_password("alice", PASSWORD).await.is_err());
    assert!(world.try_password("alice", "another lemon, 3 boats").await.is_ok());
    assert!(world.control.identities(&here.login).await.unwrap().password_set.is_some());
}

#[tokio::test]
async fn who_guesses_waits_and_the_owner_elsewhere_does_not() {
    let world = world().await;
    for _ in 0..5 {
        assert!(matches!(world.try_password("alice", "a guess at it").await, Err(WebError::Refused)));
    }
    let refused = world.try_password("alice", PASSWORD).await.unwrap_err();
    assert!(matches!(refused, WebError::TooManyTries { .. }), "{refused:?}");
    assert!(refused.to_string().starts_with("Too many tries went wrong from where you are. Try again in "));
    // A name that nobody has is told the same.
    for _ in 0..5 {
        assert!(matches!(world.try_password("carol", "a guess at it").await, Err(WebError::Refused)));
    }
    assert!(matches!(world.try_password("carol", "x").await, Err(WebError::TooManyTries { .. })));
    world.control.log_in_by_password("alice", &secret(PASSWORD), client(ELSEWHERE)).await.unwrap();
    world.try_password("bob", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn many_at_once_are_bounded_and_each_is_answered() {
    let world = world().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..60_u8 {
        let control = world.control.clone();
        tasks.spawn(async move {
            let from = [10, 0, number, 1].into();
            control.log_in_by_password("alice", &secret("a guess at it"), client(from)).await.unwrap_err()
        });
    }
    let answers = tasks.join_all().await;
    let busy = answers.iter().filter(|error| matches!(error, WebError::Busy)).count();
    let refused = answers.iter().filter(|error| matches!(error, WebError::Refused)).count();
    assert!(busy > 0 && refused >= 34 && busy + refused == 60, "{busy} busy, {refused} refused");
    world.try_password("alice", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn over_ssh_somebody_gets_a_link_to_their_own_account_only() {
    let (world, alices, bobs) = World::new().await;
    let (alice, bob) = (world.log_in(&alices).await, world.log_in(&bobs).await);
    let as_operator = world.control.acting(alice.actor()).accounts().await;
    assert!(matches!(as_operator, Err(WebError::Missing)), "not with the key alone");
    let link = world.control.acting(bob.actor()).make_link(&account("bob"), LinkFor::LogIn).await.unwrap();
    let new = world.control.log_in_by_link(&crate::web::token(&link), client(HOME)).await.unwrap();
    assert_eq!((new.login.account(), new.login.way()), (&account("bob"), LoginWay::Link));
    for (login, name, what) in
        [(&bob, "alice", LinkFor::LogIn), (&bob, "bob", LinkFor::Reset), (&alice, "bob", LinkFor::LogIn)]
    {
        let refused = world.control.acting(login.actor()).make_link(&account(name), what).await;
        assert!(refused.is_err(), "{name} {what:?}");
    }
    let nobody = world.control.acting(Actor::host()).make_link(&account("carol"), LinkFor::LogIn).await;
    assert!(nobody.is_err());
}
