//! Roles, sessions, links, passwords, and accounts that are blocked.

use std::{net::IpAddr, time::Duration};

use berth_model::{AccountName, Secret};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::{alice, at, bob, new_key, stores, stores_with_accounts};
use crate::{
    Invitation, LinkPurpose, LoginWay, MAX_LINKS, MAX_LOGIN_SESSIONS, NewLink, NewLoginSession, Role,
    SecretHash, SessionLife, Store, StoreError, sql,
};

const HOUR: i64 = 3600;
const LIFE: SessionLife =
    SessionLife { at_most: Duration::from_secs(90 * 24 * 3600), idle: Duration::from_secs(14 * 24 * 3600) };

fn hash(secret: &str) -> SecretHash {
    SecretHash::of(&Secret::new(secret.to_owned()))
}

fn new_session(cookie: &str) -> NewLoginSession {
    NewLoginSession {
        cookie: hash(cookie),
        way: LoginWay::Password,
        address: IpAddr::from([192, 0, 2, 1]),
        user_agent: "Mozilla/5.0".to_owned(),
        life: LIFE,
    }
}

fn argon(text: &str) -> Secret<String> {
    Secret::new(format!("$argon2id$v=19${text}"))
}

fn carol() -> AccountName {
    "carol".parse().unwrap()
}

async fn begin(
    store: &Store,
    account: &AccountName,
    cookie: &str,
    at: OffsetDateTime,
) -> crate::BegunSession {
    store.add_login_session(account, &new_session(cookie), at).await.unwrap()
}

async fn add_link(store: &Store, purpose: LinkPurpose, token: &str) -> crate::LinkRow {
    let new = NewLink { token: hash(token), purpose, made_by: None, expires_at: at(HOUR) };
    store.add_link(&new, at(0)).await.unwrap()
}

fn invitation(name: Option<AccountName>, role: Role) -> LinkPurpose {
    LinkPurpose::Invitation(Invitation { name, role, note: "carol@example.com".to_owned() })
}

async fn role(store: &Store, account: &AccountName) -> Role {
    let accounts = store.accounts().await.unwrap();
    accounts.into_iter().find(|row| row.name == *account).unwrap().role
}

#[tokio::test]
async fn the_first_account_ever_is_the_operator() {
    for store in stores().await {
        for name in [bob(), alice()] {
            store.add_account(&name, at(0)).await.unwrap();
        }
        assert_eq!(
            (role(&store, &bob()).await, role(&store, &alice()).await),
            (Role::Operator, Role::Member)
        );
        store.remove_account(&bob(), at(1)).await.unwrap();
        store.add_account(&carol(), at(2)).await.unwrap();
        assert_eq!(role(&store, &carol()).await, Role::Member, "nobody inherits it");
    }
}

#[tokio::test]
async fn of_many_first_accounts_one_is_the_operator() {
    for store in stores().await {
        let mut tasks = JoinSet::new();
        for number in 0..20 {
            let (store, name) = (store.store.clone(), format!("user{number}").parse().unwrap());
            tasks.spawn(async move { store.add_account(&name, at(0)).await.unwrap() });
        }
        tasks.join_all().await;
        let accounts = store.accounts().await.unwrap();
        assert_eq!(accounts.iter().filter(|row| row.role == Role::Operator).count(), 1);
    }
}

#[tokio::test]
async fn a_session_is_found_by_its_cookie_until_it_ends() {
    for store in stores_with_accounts().await {
        let begun = begin(&store, &alice(), "one", at(1)).await;
        assert_eq!(begun.ended, []);
        assert_eq!(store.login_session(hash("one")).await.unwrap(), Some(begun.session.clone()));
        assert_eq!(store.login_session(hash("two")).await.unwrap(), None);
        assert_eq!((begun.session.account, begun.session.role), (alice(), Role::Operator));
        assert_eq!((begun.session.created_at, begun.session.seen_at), (at(1), at(1)));

        let id = begun.session.id;
        assert_eq!(store.end_login_session(&bob(), id).await.unwrap(), None, "not somebody else's");
        assert_eq!(store.end_login_session(&alice(), id).await.unwrap(), Some(hash("one")));
        assert_eq!(store.end_login_session(&alice(), id).await.unwrap(), None);
        assert_eq!(store.login_session(hash("one")).await.unwrap(), None);
        assert!(begin(&store, &alice(), "two", at(1)).await.session.id > id, "ids are not used again");
    }
}

#[tokio::test]
async fn a_cookie_is_of_one_session() {
    for store in stores_with_accounts().await {
        begin(&store, &alice(), "one", at(0)).await;
        let again = store.add_login_session(&bob(), &new_session("one"), at(0)).await;
        assert!(matches!(again, Err(StoreError::Database(_))), "{again:?}");
        assert_eq!(store.login_session(hash("one")).await.unwrap().unwrap().account, alice());
    }
}

#[tokio::test]
async fn sessions_that_are_over_or_too_many_are_cleared_away() {
    for store in stores_with_accounts().await {
        let bobs = begin(&store, &bob(), "bob", at(0)).await.session.id;
        let days = |days: i64| at(days * 24 * HOUR);
        store.touch_login_session(bobs, IpAddr::from([192, 0, 2, 9]), days(10)).await.unwrap();
        assert_eq!(begin(&store, &alice(), "a", days(20)).await.ended, []);
        assert_eq!(begin(&store, &alice(), "b", days(24)).await.ended, [hash("bob")], "14 days unused");
        store
            .touch_login_session(
                begin(&store, &bob(), "c", days(24)).await.session.id,
                [1; 4].into(),
                days(120),
            )
            .await
            .unwrap();
        let mut ended = begin(&store, &alice(), "d", days(121)).await.ended;
        ended.sort();
        let mut all = [hash("a"), hash("b"), hash("c")];
        all.sort();
        assert_eq!(ended, all, "90 days, and used to the end");

        for number in 1..MAX_LOGIN_SESSIONS {
            assert_eq!(begin(&store, &alice(), &number.to_string(), days(122)).await.ended, []);
        }
        let used = store.login_session(hash("d")).await.unwrap().unwrap().id;
        store.touch_login_session(used, [1; 4].into(), days(123)).await.unwrap();
        assert_eq!(begin(&store, &alice(), "more", days(123)).await.ended, [hash("1")]);
        let sessions = store.login_sessions(&alice()).await.unwrap();
        assert_eq!(sessions.len(), MAX_LOGIN_SESSIONS);
        assert!(sessions.is_sorted_by(|one, next| one.seen_at >= next.seen_at));
    }
}

#[tokio::test]
async fn what_a_session_did_is_written_down() {
    for store in stores_with_accounts().await {
        let id = begin(&store, &alice(), "one", at(0)).await.session.id;
        store.touch_login_session(id, IpAddr::from([198, 51, 100, 1]), at(9)).await.unwrap();
        store.touch_login_session(id, IpAddr::from([198, 51, 100, 2]), at(8)).await.unwrap();
        assert!(store.prove_login_session(&alice(), id, at(7)).await.unwrap());
        assert!(!store.prove_login_session(&bob(), id, at(8)).await.unwrap());
        let row = store.login_session(hash("one")).await.unwrap().unwrap();
        assert_eq!((row.seen_at, row.address), (at(9), IpAddr::from([198, 51, 100, 1])), "the latest counts");
        assert_eq!((row.created_at, row.proved_at), (at(0), at(7)));
    }
}

#[tokio::test]
async fn all_sessions_of_an_account_but_one_end() {
    for store in stores_with_accounts().await {
        let keep = begin(&store, &alice(), "keep", at(0)).await.session.id;
        begin(&store, &alice(), "end", at(0)).await;
        begin(&store, &bob(), "bob", at(0)).await;
        assert_eq!(store.end_login_sessions(&alice(), Some(keep)).await.unwrap(), [hash("end")]);
        assert_eq!(store.end_login_sessions(&alice(), None).await.unwrap(), [hash("keep")]);
        assert!(store.login_session(hash("bob")).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    for store in stores_with_accounts().await {
        let keep = begin(&store, &alice(), "keep", at(0)).await.session.id;
        begin(&store, &alice(), "end", at(0)).await;
        assert!(store.password(&alice()).await.unwrap().is_none());
        let ended = store.set_password(&alice(), &argon("1"), Some(keep), at(1)).await.unwrap();
        assert_eq!(ended, [hash("end")]);
        let row = store.password(&alice()).await.unwrap().unwrap();
        assert_eq!((row.hash.expose(), row.set_at), (argon("1").expose(), at(1)));
        assert!(store.password(&bob()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_link_is_used_once_before_its_time_is_over_and_for_its_purpose_only() {
    for store in stores_with_accounts().await {
        let link = add_link(&store, LinkPurpose::LogIn(bob()), "link").await;
        assert_eq!(store.link(hash("link"), at(9)).await.unwrap(), Some(link));
        let use_it = async |at| store.log_in_by_link(hash("link"), &new_session("c"), at).await.unwrap();
        let reset = store.reset_password(hash("link"), &argon("1"), &new_session("c"), at(9)).await.unwrap();
        assert!(reset.is_none());
        let accepted =
            store.accept_invitation(hash("link"), &carol(), None, &new_session("c"), at(9)).await.unwrap();
        assert!(accepted.is_none());
        assert!(use_it(at(HOUR)).await.is_none(), "too late");
        assert_eq!(store.link(hash("link"), at(HOUR)).await.unwrap(), None);
        assert_eq!(use_it(at(HOUR - 1)).await.unwrap().session.account, bob());
        assert!(use_it(at(HOUR - 1)).await.is_none(), "used up");
        assert_eq!(store.link(hash("link"), at(9)).await.unwrap(), None);
    }
}

#[tokio::test]
async fn of_many_who_use_a_link_at_once_one_does() {
    for store in stores_with_accounts().await {
        add_link(&store, LinkPurpose::LogIn(bob()), "link").await;
        let mut tasks = JoinSet::new();
        for number in 0..20 {
            let store = store.store.clone();
            tasks.spawn(async move {
                let session = new_session(&number.to_string());
                store.log_in_by_link(hash("link"), &session, at(1)).await.unwrap().is_some()
            });
        }
        assert_eq!(tasks.join_all().await.into_iter().filter(|used| *used).count(), 1);
        assert_eq!(store.login_sessions(&bob()).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_reset_ends_all_sessions_and_all_links() {
    for store in stores_with_accounts().await {
        begin(&store, &bob(), "old", at(0)).await;
        add_link(&store, LinkPurpose::Reset(bob()), "reset").await;
        add_link(&store, LinkPurpose::LogIn(bob()), "log in").await;
        add_link(&store, LinkPurpose::LogIn(alice()), "alice").await;
        let begun = store
            .reset_password(hash("reset"), &argon("1"), &new_session("new"), at(1))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((begun.session.account, begun.ended), (bob(), vec![hash("old")]));
        assert_eq!(store.password(&bob()).await.unwrap().unwrap().hash.expose(), argon("1").expose());
        assert_eq!(store.login_sessions(&bob()).await.unwrap().len(), 1);
        assert!(store.link(hash("log in"), at(1)).await.unwrap().is_none());
        assert!(store.link(hash("alice"), at(1)).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn an_account_has_so_many_links_of_a_purpose_and_the_oldest_give_way() {
    for store in stores_with_accounts().await {
        add_link(&store, LinkPurpose::Reset(bob()), "reset").await;
        for number in 0..=MAX_LINKS {
            add_link(&store, LinkPurpose::LogIn(bob()), &number.to_string()).await;
        }
        assert!(store.link(hash("0"), at(1)).await.unwrap().is_none());
        for token in ["1", "reset"] {
            assert!(store.link(hash(token), at(1)).await.unwrap().is_some(), "{token}");
        }
    }
}

#[tokio::test]
async fn an_invitation_makes_an_account() {
    for store in stores_with_accounts().await {
        let made = add_link(&store, invitation(None, Role::Operator), "any").await;
        assert_eq!(store.invitations(at(1)).await.unwrap(), [made]);
        let accept = async |token, name: &AccountName, cookie| {
            store.accept_invitation(hash(token), name, Some(&argon("1")), &new_session(cookie), at(1)).await
        };
        let taken = accept("any", &bob(), "c").await;
        assert!(matches!(taken, Err(StoreError::NameTaken { name }) if name == bob()));
        let begun = accept("any", &carol(), "c").await.unwrap().unwrap();
        assert_eq!((begun.session.account, begun.session.role), (carol(), Role::Operator));
        assert!(store.password(&carol()).await.unwrap().is_some());
        assert!(accept("any", &"dave".parse().unwrap(), "d").await.unwrap().is_none(), "used up");

        let preset = add_link(&store, invitation(Some("erin".parse().unwrap()), Role::Member), "erin").await;
        assert!(accept("erin", &"dave".parse().unwrap(), "d").await.unwrap().is_none(), "another name");
        assert_eq!(store.remove_invitation(preset.id).await.unwrap(), Some(preset.clone()));
        assert_eq!(store.remove_invitation(preset.id).await.unwrap(), None);
        assert!(accept("erin", &"erin".parse().unwrap(), "e").await.unwrap().is_none(), "taken back");
        assert_eq!(store.invitations(at(1)).await.unwrap(), []);
    }
}

#[tokio::test]
async fn other_links_are_no_invitations() {
    for store in stores_with_accounts().await {
        let link = add_link(&store, LinkPurpose::LogIn(bob()), "link").await;
        assert_eq!(store.invitations(at(1)).await.unwrap(), []);
        assert_eq!(store.remove_invitation(link.id).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_blocked_account_is_not_let_in_by_anything_until_it_is_unblocked() {
    for store in stores_with_accounts().await {
        let key = store.add_key(&bob(), &new_key(1), at(0)).await.unwrap();
        store.set_password(&bob(), &argon("1"), None, at(0)).await.unwrap();
        begin(&store, &bob(), "cookie", at(0)).await;
        add_link(&store, LinkPurpose::LogIn(bob()), "link").await;
        let made = NewLink {
            token: hash("made"),
            purpose: invitation(None, Role::Member),
            made_by: Some(bob()),
            expires_at: at(HOUR),
        };
        store.add_link(&made, at(0)).await.unwrap();

        let out = store.block_account(&bob(), at(2)).await.unwrap();
        assert_eq!((out.keys, out.cookies_and_tokens), (vec![key.fingerprint], vec![hash("cookie")]));
        store.block_account(&bob(), at(3)).await.unwrap();
        let accounts = store.accounts().await.unwrap();
        assert_eq!(accounts[1].blocked_at, Some(at(2)), "the first time counts");
        assert!(store.is_blocked(&bob()).await.unwrap() && !store.is_blocked(&alice()).await.unwrap());
        assert!(store.key_by_fingerprint(&key.fingerprint).await.unwrap().is_none());
        assert!(store.password(&bob()).await.unwrap().is_none());
        assert!(store.login_session(hash("cookie")).await.unwrap().is_none());
        for token in ["link", "made"] {
            assert!(store.link(hash(token), at(1)).await.unwrap().is_none(), "{token}");
        }
        let missing =
            |error: StoreError| matches!(error, StoreError::NoSuchAccount { name } if name == bob());
        assert!(missing(store.add_login_session(&bob(), &new_session("c"), at(3)).await.unwrap_err()));
        assert!(missing(store.set_password(&bob(), &argon("2"), None, at(3)).await.unwrap_err()));
        assert!(missing(store.add_link(&made, at(3)).await.unwrap_err()));

        assert!(store.unblock_account(&bob()).await.unwrap());
        assert!(!store.unblock_account(&bob()).await.unwrap());
        assert!(store.key_by_fingerprint(&key.fingerprint).await.unwrap().is_some());
        assert_eq!(store.password(&bob()).await.unwrap().unwrap().hash.expose(), argon("1").expose());
        assert!(store.login_session(hash("cookie")).await.unwrap().is_none(), "what ended stays ended");
    }
}

#[tokio::test]
async fn another_role_ends_the_sessions_and_what_the_operator_had_sent_out() {
    for store in stores_with_accounts().await {
        begin(&store, &alice(), "cookie", at(0)).await;
        let made = NewLink {
            token: hash("made"),
            purpose: invitation(None, Role::Operator),
            made_by: Some(alice()),
            expires_at: at(HOUR),
        };
        store.add_link(&made, at(0)).await.unwrap();
        assert_eq!(store.set_role(&alice(), Role::Operator).await.unwrap(), []);
        assert!(store.login_session(hash("cookie")).await.unwrap().is_some(), "nothing changed");
        assert_eq!(store.set_role(&alice(), Role::Member).await.unwrap(), [hash("cookie")]);
        assert_eq!(role(&store, &alice()).await, Role::Member);
        assert!(store.link(hash("made"), at(1)).await.unwrap().is_none());
        let nobody = store.set_role(&carol(), Role::Operator).await;
        assert!(matches!(nobody, Err(StoreError::NoSuchAccount { .. })));
    }
}

#[tokio::test]
async fn a_removed_account_leaves_nothing_that_lets_in() {
    for store in stores_with_accounts().await {
        begin(&store, &bob(), "cookie", at(0)).await;
        add_link(&store, LinkPurpose::LogIn(bob()), "link").await;
        store.set_password(&bob(), &argon("1"), None, at(0)).await.unwrap();
        begin(&store, &bob(), "again", at(0)).await;
        assert_eq!(store.remove_account(&bob(), at(1)).await.unwrap().cookies_and_tokens, [hash("again")]);
        assert!(store.login_session(hash("again")).await.unwrap().is_none());
        assert!(store.link(hash("link"), at(1)).await.unwrap().is_none());
        assert!(store.password(&bob()).await.unwrap().is_none());
        for (table, what) in [("passwords", "account"), ("links", "account"), ("login_sessions", "account")] {
            let sql = format!("SELECT COUNT(*) FROM {table} WHERE {what} = 'bob'");
            let left: i64 =
                sql::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(store.reader()).await.unwrap();
            assert_eq!(left, 0, "{table}");
        }
    }
}
