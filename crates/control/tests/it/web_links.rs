//! Links that work once.

use std::time::Duration;

use berth_control::{Error, Invitation, LinkFor, LinkPurpose, LoginWay, PasswordError, Role, WebError};
use berth_model::Secret;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    time::{Time, settings},
    web::{PASSWORD, client, secret, strangers_cookie, token},
    world::{HOME, World, account},
};

async fn world() -> World {
    World::new().await.0
}

fn is_gone<T: std::fmt::Debug>(result: &Result<T, WebError>) -> bool {
    matches!(result, Err(WebError::LinkGone))
}

async fn accept(
    world: &World,
    link: &Secret<String>,
    name: &str,
) -> Result<berth_control::NewSession, WebError> {
    world.control.accept_invitation(link, name, Some(&secret(PASSWORD)), client(HOME)).await
}

#[tokio::test]
async fn a_link_can_be_looked_at_often_and_used_once() {
    let world = world().await;
    let link = world.link("bob", LinkFor::LogIn).await;
    for _ in 0..20 {
        let info = world.control.look_at_link(&link, client(HOME)).await.unwrap();
        assert_eq!((info.purpose, info.made_by), (LinkPurpose::LogIn(account("bob")), None));
    }
    let new = world.control.log_in_by_link(&link, client(HOME)).await.unwrap();
    assert_eq!((new.login.account(), new.login.way()), (&account("bob"), LoginWay::Link));
    assert!(is_gone(&world.control.log_in_by_link(&link, client(HOME)).await));
    assert!(is_gone(&world.control.look_at_link(&link, client(HOME)).await));
    assert!(world.lets_in(&new.cookie).await);
}

#[tokio::test]
async fn of_two_who_use_a_link_at_the_same_time_one_gets_in() {
    let world = world().await;
    for what in [LinkFor::LogIn, LinkFor::Reset] {
        let link = world.link("bob", what).await;
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (control, link) = (world.control.clone(), link.clone());
            tasks.spawn(async move {
                match what {
                    LinkFor::LogIn => control.log_in_by_link(&link, client(HOME)).await,
                    LinkFor::Reset => control.reset_password(&link, &secret(PASSWORD), client(HOME)).await,
                }
            });
        }
        let (won, lost): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "{what:?}");
        assert!(lost.iter().all(is_gone), "{lost:?}");
    }
}

#[tokio::test]
async fn links_end_in_their_time() {
    let time = Time::stop();
    let world = World::with(settings()).await;
    world.control.add_account(&account("alice")).await.unwrap();
    for (what, life) in [(LinkFor::LogIn, 10 * 60), (LinkFor::Reset, 24 * 3600)] {
        let link = world.link("alice", what).await;
        tokio::time::advance(Duration::from_secs(life - 1)).await;
        assert!(world.control.look_at_link(&link, client(HOME)).await.is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(is_gone(&world.control.look_at_link(&link, client(HOME)).await), "{what:?}");
        let used = match what {
            LinkFor::LogIn => world.control.log_in_by_link(&link, client(HOME)).await,
            LinkFor::Reset => world.control.reset_password(&link, &secret(PASSWORD), client(HOME)).await,
        };
        assert!(is_gone(&used));
    }
    let link = world.invitation(None, Role::Member).await;
    tokio::time::advance(Duration::from_secs(7 * 24 * 3600)).await;
    assert!(is_gone(&accept(&world, &link, "carol").await));
    assert!(world.host().invitations().await.unwrap().is_empty());
    drop(time);
}

#[tokio::test]
async fn a_link_is_good_for_its_purpose_only() {
    let world = world().await;
    let log_in = world.link("bob", LinkFor::LogIn).await;
    let reset = world.link("bob", LinkFor::Reset).await;
    let invitation = world.invitation(None, Role::Member).await;
    let control = &world.control;
    for link in [&reset, &invitation] {
        assert!(is_gone(&control.log_in_by_link(link, client(HOME)).await));
    }
    for link in [&log_in, &invitation] {
        assert!(is_gone(&control.reset_password(link, &secret(PASSWORD), client(HOME)).await));
    }
    for link in [&log_in, &reset] {
        assert!(is_gone(&accept(&world, link, "carol").await));
    }
    for link in [&log_in, &reset, &invitation] {
        assert!(control.look_at_link(link, client(HOME)).await.is_ok(), "it is still good");
    }
}

#[tokio::test]
async fn a_link_that_never_was_is_like_one_that_was_used_and_guessing_has_an_end() {
    let world = world().await;
    for text in ["", "x", &"é".repeat(43), "../../etc"] {
        assert!(is_gone(&world.control.look_at_link(&secret(text), client(HOME)).await));
    }
    for _ in 4..30 {
        assert!(is_gone(&world.control.log_in_by_link(&strangers_cookie(), client(HOME)).await));
    }
    let refused = world.control.look_at_link(&strangers_cookie(), client(HOME)).await;
    assert!(matches!(refused, Err(WebError::TooManyTries { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_reset_ends_all_sessions_and_sets_the_password() {
    let world = world().await;
    world.has_password("bob").await;
    let (one, two) = (world.try_password("bob", PASSWORD).await.unwrap(), world.log_in_by_link("bob").await);
    let (log_in, link) = (world.link("bob", LinkFor::LogIn).await, world.link("bob", LinkFor::Reset).await);
    let weak = world.control.reset_password(&link, &secret("bobbobbobbob"), client(HOME)).await;
    assert!(matches!(weak, Err(WebError::Password(PasswordError::Name))), "{weak:?}");
    assert!(world.lets_in(&one.cookie).await);

    let new =
        world.control.reset_password(&link, &secret("another lemon, 3 boats"), client(HOME)).await.unwrap();
    for old in [&one, &two] {
        timeout(Duration::from_secs(1), old.login.ended()).await.unwrap();
        assert!(!world.lets_in(&old.cookie).await);
    }
    assert!(world.lets_in(&new.cookie).await && new.login.account() == &account("bob"));
    assert!(is_gone(&world.control.log_in_by_link(&log_in, client(HOME)).await), "its other links end too");
    assert!(world.try_password("bob", PASSWORD).await.is_err());
    assert!(world.try_password("bob", "another lemon, 3 boats").await.is_ok());
}

#[tokio::test]
async fn an_invitation_makes_an_account_of_a_name_that_is_free() {
    let world = world().await;
    let link = world.invitation(None, Role::Member).await;
    let LinkPurpose::Invitation(Invitation { name: None, role: Role::Member, note }) =
        world.control.look_at_link(&link, client(HOME)).await.unwrap().purpose
    else {
        panic!("it is an invitation to choose a name");
    };
    assert_eq!(note, "carol@example.com");
    for (name, refused) in
        [("bob", true), ("koding", true), ("Ärger", true), ("root", true), (" Carol", false)]
    {
        let result = accept(&world, &link, name).await;
        assert_eq!(result.is_err(), refused, "{name}: {result:?}");
        if name == "bob" {
            assert!(matches!(result, Err(WebError::Other(Error::NameTaken(_)))));
        }
    }
    assert!(is_gone(&accept(&world, &link, "dave").await));
    let new = world.try_password("carol", PASSWORD).await.unwrap();
    assert_eq!((new.login.role(), new.login.way()), (Role::Member, LoginWay::Password));
    assert!(world.control.keys(&account("carol")).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_invitation_may_set_the_name_and_the_role() {
    let world = world().await;
    let link = world.invitation(Some("carol"), Role::Operator).await;
    let weak =
        world.control.accept_invitation(&link, "", Some(&secret("carol-carol-carol")), client(HOME)).await;
    assert!(matches!(weak, Err(WebError::Password(PasswordError::Name))));
    let new = world.control.accept_invitation(&link, "dave", None, client(HOME)).await.unwrap();
    assert_eq!(
        (new.login.account(), new.login.role()),
        (&account("carol"), Role::Operator),
        "what is set counts"
    );
    assert_eq!(world.control.identities(&new.login).await.unwrap().password_set, None);
    let invitation = Invitation { name: Some(account("bob")), role: Role::Member, note: String::new() };
    let taken = world.host().invite(invitation).await;
    assert!(matches!(taken, Err(WebError::Other(Error::NameTaken(_)))), "{taken:?}");
}

#[tokio::test]
async fn who_is_first_by_invitation_is_the_operator() {
    let world = World::empty().await;
    let link = world.invitation(None, Role::Member).await;
    assert_eq!(accept(&world, &link, "carol").await.unwrap().login.role(), Role::Operator);
}

#[tokio::test]
async fn invitations_are_listed_and_taken_back() {
    let world = world().await;
    let operator = world.log_in_by_link("alice").await.login;
    let by = world.by(&operator);
    let invitation = Invitation { name: None, role: Role::Member, note: "for <b>carol</b>".to_owned() };
    let (info, link) = by.invite(invitation.clone()).await.unwrap();
    assert_eq!((&info.invitation, &info.made_by), (&invitation, &Some(account("alice"))));
    assert_eq!(by.invitations().await.unwrap(), std::slice::from_ref(&info));
    by.remove_invitation(info.id).await.unwrap();
    assert!(matches!(by.remove_invitation(info.id).await, Err(WebError::Missing)));
    assert!(is_gone(&accept(&world, &token(&link), "carol").await));

    let (_, link) = by.invite(invitation).await.unwrap();
    world.host().block_account(&account("alice")).await.unwrap();
    assert!(
        is_gone(&accept(&world, &token(&link), "carol").await),
        "what a blocked operator sent out is void"
    );
}
