//! Tokens for the HTTP API.

use std::{collections::BTreeSet, time::Duration};

use berth_control::{
    Acting, ApiLogin, AuditQuery, Error, Invitation, LinkFor, Role, Scope, TokenError, WebError, WebLogin,
};
use berth_model::Secret;
use futures::FutureExt;
use proptest::prelude::*;

use crate::{
    time::{Time, settings},
    web::{ELSEWHERE, client, secret, token, words},
    world::{HOME, World, account, new_key, no_progress, vm},
};

const ALICES: &str = "vm-0.alice.koding";
const BOBS: &str = "vm-0.bob.koding";

async fn make(world: &World, login: &WebLogin, scopes: &[Scope]) -> Secret<String> {
    let scopes = scopes.iter().copied().collect();
    world.control.make_token(login, "ci", scopes, None).await.unwrap().1
}

async fn with(world: &World, token: &Secret<String>) -> Option<ApiLogin> {
    world.control.api_login(token, HOME).await.unwrap()
}

/// What somebody does with a token for these things.
async fn acting(world: &World, name: &str, scopes: &[Scope]) -> Acting {
    let token = make(world, &world.log_in_by_link(name).await.login, scopes).await;
    world.control.acting(with(world, &token).await.unwrap().actor())
}

#[tokio::test]
async fn a_token_lets_its_account_in_until_it_is_removed() {
    let (world, ..) = World::new().await;
    let bob = world.log_in_by_link("bob").await.login;
    let (info, token) =
        world.control.make_token(&bob, " ci ", BTreeSet::from([Scope::VmsRead]), None).await.unwrap();
    assert_eq!((info.label.as_str(), info.last_used.clone()), ("ci", None));
    let api = with(&world, &token).await.unwrap();
    assert_eq!((api.account(), api.role()), (&account("bob"), Role::Member));
    assert_eq!(api.scopes(), &BTreeSet::from([Scope::VmsRead]));
    assert!(api.ended().now_or_never().is_none());
    assert_eq!(world.control.tokens(&bob).await.unwrap()[0].last_used.as_ref().unwrap().from, HOME);

    // A cookie is no token, and a token no cookie.
    let cookie = world.log_in_by_link("bob").await.cookie;
    assert!(with(&world, &cookie).await.is_none());
    assert!(!world.lets_in(&token).await);
    for text in ["", "berth_", "Bearer", &format!("{}x", token.expose())] {
        assert!(with(&world, &secret(text)).await.is_none(), "{text}");
    }

    let alice = world.log_in_by_link("alice").await.login;
    assert!(matches!(world.control.remove_token(&alice, info.id).await, Err(WebError::Missing)));
    world.control.remove_token(&bob, info.id).await.unwrap();
    assert!(api.ended().now_or_never().is_some() && with(&world, &token).await.is_none());
    assert!(matches!(world.control.remove_token(&bob, info.id).await, Err(WebError::Missing)));
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_with_its_account() {
    let time = Time::stop();
    let world = World::with(settings()).await;
    for name in ["alice", "bob"] {
        world.control.add_account(&account(name)).await.unwrap();
    }
    let bob = world.log_in_by_link("bob").await.login;
    let scopes = BTreeSet::from([Scope::VmsRead]);
    let now = world.control.settings().clock.now();
    let hour = Duration::from_secs(3600);
    let (_, short) = world.control.make_token(&bob, "short", scopes.clone(), Some(now + hour)).await.unwrap();
    let long = make(&world, &bob, &[Scope::VmsRead]).await;
    let api = with(&world, &short).await.unwrap();
    tokio::time::advance(hour - Duration::from_secs(1)).await;
    assert!(with(&world, &short).await.is_some() && api.ended().now_or_never().is_none());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(with(&world, &short).await.is_none() && api.ended().now_or_never().is_some());
    assert!(matches!(world.control.make_token(&bob, "late", scopes, None).await, Err(WebError::NotFresh)));

    let api = with(&world, &long).await.unwrap();
    world.host().block_account(&account("bob")).await.unwrap();
    assert!(api.ended().now_or_never().is_some() && with(&world, &long).await.is_none());
    world.host().unblock_account(&account("bob")).await.unwrap();
    let api = with(&world, &long).await.unwrap();
    world.host().set_role(&account("bob"), Role::Operator).await.unwrap();
    assert!(api.ended().now_or_never().is_some());
    let api = with(&world, &long).await.unwrap();
    world.host().remove_account(&account("bob")).await.unwrap();
    assert!(api.ended().now_or_never().is_some() && with(&world, &long).await.is_none());
    drop(time);
}

#[tokio::test]
async fn what_no_token_can_be_is_refused() {
    let (world, ..) = World::new().await;
    let bob = world.log_in_by_link("bob").await.login;
    let long = "x".repeat(101);
    for (label, scopes, refused) in [
        ("", vec![Scope::VmsRead], TokenError::Label),
        ("  ", vec![Scope::VmsRead], TokenError::Label),
        (long.as_str(), vec![Scope::VmsRead], TokenError::Label),
        ("ci", vec![], TokenError::NoScope),
        ("ci", vec![Scope::VmsRead, Scope::OpsRead], TokenError::ForOperators),
    ] {
        let error =
            world.control.make_token(&bob, label, scopes.into_iter().collect(), None).await.unwrap_err();
        assert!(matches!(error, WebError::Token(reason) if reason == refused), "{label}: {error:?}");
    }
    let past = Some(time::OffsetDateTime::UNIX_EPOCH);
    let error =
        world.control.make_token(&bob, "ci", BTreeSet::from([Scope::VmsRead]), past).await.unwrap_err();
    assert!(matches!(error, WebError::Token(TokenError::Over)));
    for _ in 0..50 {
        make(&world, &bob, &[Scope::VmsRead]).await;
    }
    let error =
        world.control.make_token(&bob, "ci", BTreeSet::from([Scope::VmsRead]), None).await.unwrap_err();
    assert!(matches!(error, WebError::TooManyTokens), "{error:?}");
}

#[tokio::test]
async fn a_token_is_for_its_scopes_alone() {
    let (world, ..) = World::new().await;
    let (bob, own) = (account("bob"), vm(BOBS));
    let read = acting(&world, "bob", &[Scope::VmsRead]).await;
    assert_eq!(read.vms(None).await.unwrap().len(), 1);
    assert_eq!(read.find_vm(BOBS).await.unwrap(), own);
    let refused = read.stop_vm(&own).await.unwrap_err();
    assert!(matches!(refused, Error::NotInScope(Scope::VmsWrite)));
    assert_eq!(refused.to_string(), "This token may not do that: it lacks the scope vms:write.");
    assert!(matches!(read.keys(&bob).await, Err(Error::NotInScope(Scope::KeysRead))));
    assert!(matches!(read.limits(&bob).await, Err(Error::NotInScope(Scope::AccountRead))));

    let write = acting(&world, "bob", &[Scope::VmsWrite, Scope::KeysWrite]).await;
    write.start_vm(&own, no_progress()).await.unwrap();
    write.add_keys(&bob, &new_key().to_openssh(), None).await.unwrap();
    assert!(matches!(write.vms(None).await, Err(Error::NotInScope(Scope::VmsRead))));
    assert!(matches!(write.stop_vm(&vm(ALICES)).await, Err(Error::NoSuchVm(_))), "somebody else's is none");
}

#[tokio::test]
async fn an_operators_token_operates_only_where_it_is_for_that() {
    let (world, ..) = World::new().await;
    let bobs = vm(BOBS);
    let plain = acting(&world, "alice", &[Scope::VmsRead, Scope::VmsWrite, Scope::AccountRead]).await;
    assert!(matches!(plain.stop_vm(&bobs).await, Err(Error::NoSuchVm(_))));
    assert!(matches!(plain.accounts().await, Err(WebError::Missing)));
    assert_eq!(plain.vms(None).await.unwrap().len(), 1, "one's own");

    let read = acting(&world, "alice", &[Scope::OpsRead]).await;
    assert_eq!((read.vms(None).await.unwrap().len(), read.accounts().await.unwrap().len()), (2, 2));
    assert!(matches!(read.stop_vm(&bobs).await, Err(Error::NoSuchVm(_))));
    assert!(matches!(read.block_account(&account("bob")).await, Err(WebError::Missing)));

    let write = acting(&world, "alice", &[Scope::OpsWrite]).await;
    write.stop_vm(&bobs).await.unwrap();
    write.set_role(&account("bob"), Role::Operator).await.unwrap();
    assert!(matches!(write.audit(&AuditQuery::default()).await, Err(WebError::Missing)));

    // One who is no operator any more has no operator's token.
    let token = make(&world, &world.log_in_by_link("bob").await.login, &[Scope::OpsRead]).await;
    world.host().set_role(&account("bob"), Role::Member).await.unwrap();
    let bob = world.control.acting(with(&world, &token).await.unwrap().actor());
    assert!(matches!(bob.accounts().await, Err(WebError::Missing)));
}

#[tokio::test]
async fn a_token_is_not_turned_into_a_session() {
    let (world, ..) = World::new().await;
    let all = Scope::ALL;
    let alice = acting(&world, "alice", all).await;
    for what in [LinkFor::LogIn, LinkFor::Reset] {
        let refused = alice.make_link(&account("alice"), what).await;
        assert!(matches!(refused, Err(WebError::Yourself)), "{what:?}");
    }
    let members: Vec<_> =
        all.iter().copied().filter(|scope| !matches!(scope, Scope::OpsRead | Scope::OpsWrite)).collect();
    let bob = acting(&world, "bob", &members).await;
    assert!(bob.make_link(&account("bob"), LinkFor::LogIn).await.is_err());
    let invitation = Invitation { name: None, role: Role::Member, note: String::new() };
    let link = alice.invite(invitation).await.unwrap().1;
    assert!(world.control.look_at_link(&token(&link), client(ELSEWHERE)).await.is_ok());
}

#[tokio::test]
async fn what_is_done_with_a_token_is_in_the_trail_as_such() {
    let (world, ..) = World::new().await;
    let bob = acting(&world, "bob", &[Scope::VmsWrite]).await;
    bob.stop_vm(&vm(BOBS)).await.unwrap();
    let trail = world.trail().await;
    let last: Vec<_> = trail.iter().rev().take(3).rev().map(String::as_str).collect();
    assert_eq!(
        last,
        [
            "token_added bob by bob/web ci vms:write",
            "log_in bob by bob/api ci token",
            "vm_stopped bob by bob/api vm-0.bob.koding"
        ]
    );
    let lines = world.host().audit(&AuditQuery::default()).await.unwrap();
    assert!(lines.iter().all(|line| !words(line).contains("berth_")), "nothing of the token itself");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A scope taken away never adds access.
    #[test]
    fn fewer_scopes_never_do_more(mask in 0..128u8, without in 0..7usize, operator in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (world, ..) = World::new().await;
            let name = if operator { "alice" } else { "bob" };
            let chosen = |mask: u8| -> Vec<Scope> {
                let chosen = Scope::ALL.iter().enumerate().filter(|(index, _)| mask & (1 << index) != 0);
                chosen.map(|(_, scope)| *scope).collect()
            };
            let allowed = async |mask: u8| -> Vec<bool> {
                let scopes = chosen(mask);
                let login = world.log_in_by_link(name).await.login;
                let Ok((_, token)) = world.control.make_token(&login, "ci", scopes.into_iter().collect(), None).await
                else { return vec![false; 10] };
                let by = world.control.acting(with(&world, &token).await.unwrap().actor());
                let mut allowed = vec![];
                for (of, its) in [("alice", ALICES), ("bob", BOBS)] {
                    allowed.push(by.vms(Some(&account(of))).await.is_ok());
                    allowed.push(by.stop_vm(&vm(its)).await.is_ok());
                    allowed.push(by.keys(&account(of)).await.is_ok());
                    allowed.push(by.limits(&account(of)).await.is_ok());
                }
                allowed.push(by.accounts().await.is_ok());
                allowed.push(by.unblock_account(&account("bob")).await.is_ok());
                allowed
            };
            let (more, fewer) = (allowed(mask).await, allowed(mask & !(1 << without)).await);
            // A token for operators cannot be made by a member: then there is nothing to compare.
            if more.iter().any(|allowed| *allowed) {
                for (fewer, more) in fewer.iter().zip(&more) {
                    assert!(!*fewer || *more);
                }
            }
        });
    }
}
