//! Tokens for the HTTP API.

use std::{collections::BTreeSet, net::IpAddr};

use berth_model::Secret;

use super::{alice, at, bob, stores_with_accounts};
use crate::{
    AuditKind, AuditQuery, LastUse, MAX_TOKENS, NewAudit, NewToken, Role, Scope, SecretHash, StoreError, Way,
};

fn hash(secret: &str) -> SecretHash {
    SecretHash::of(&Secret::new(secret.to_owned()))
}

fn new_token(secret: &str) -> NewToken {
    NewToken {
        hash: hash(secret),
        label: "ci".to_owned(),
        scopes: BTreeSet::from([Scope::KeysWrite, Scope::VmsRead]),
        expires_at: Some(at(100)),
    }
}

fn used() -> NewAudit {
    NewAudit {
        kind: AuditKind::LogIn,
        account: Some(bob()),
        actor: Some(bob()),
        way: Way::Api,
        address: Some(IpAddr::from([192, 0, 2, 1])),
        subject: "ci".to_owned(),
        detail: "token".to_owned(),
    }
}

#[tokio::test]
async fn a_token_comes_back_by_its_hash_as_it_was_made() {
    for store in stores_with_accounts().await {
        let made = store.add_token(&bob(), &new_token("one"), at(1)).await.unwrap();
        assert_eq!(store.token(hash("one")).await.unwrap(), Some(made.clone()));
        assert_eq!(store.token(hash("two")).await.unwrap(), None);
        assert_eq!((&made.account, made.role, made.made_at), (&bob(), Role::Member, at(1)));
        assert_eq!((made.scopes.clone(), made.expires_at), (new_token("one").scopes, Some(at(100))));
        let second = store.add_token(&bob(), &new_token("two"), at(1)).await.unwrap();
        assert_eq!(store.tokens(&bob()).await.unwrap(), [second, made]);
        assert_eq!(store.tokens(&alice()).await.unwrap(), []);
    }
}

#[tokio::test]
async fn the_last_use_of_a_token_is_kept() {
    for store in stores_with_accounts().await {
        let id = store.add_token(&bob(), &new_token("one"), at(1)).await.unwrap().id;
        let from = IpAddr::from([192, 0, 2, 1]);
        store.touch_token(id, from, &used(), at(2)).await.unwrap();
        assert_eq!(
            store.token(hash("one")).await.unwrap().unwrap().last_used,
            Some(LastUse { at: at(2), from })
        );
        store.remove_token(&bob(), id).await.unwrap();
        store.touch_token(id, from, &used(), at(3)).await.unwrap();
        assert_eq!(store.audit(&AuditQuery::default()).await.unwrap()[0].times, 1);
    }
}

#[tokio::test]
async fn a_token_is_removed_by_its_account_alone_and_its_id_is_not_used_again() {
    for store in stores_with_accounts().await {
        let id = store.add_token(&bob(), &new_token("one"), at(1)).await.unwrap().id;
        assert_eq!(store.remove_token(&alice(), id).await.unwrap(), None);
        assert_eq!(store.remove_token(&bob(), id).await.unwrap(), Some(("ci".to_owned(), hash("one"))));
        assert_eq!(store.remove_token(&bob(), id).await.unwrap(), None);
        assert!(store.add_token(&bob(), &new_token("one"), at(1)).await.unwrap().id > id);
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_is_refused() {
    for store in stores_with_accounts().await {
        store.add_token(&bob(), &new_token("one"), at(1)).await.unwrap();
        for new in [
            new_token("one"),
            NewToken { label: String::new(), ..new_token("two") },
            NewToken { label: "x".repeat(101), ..new_token("two") },
            NewToken { scopes: BTreeSet::new(), ..new_token("two") },
            NewToken { expires_at: Some(at(0)), ..new_token("two") },
        ] {
            let refused = store.add_token(&alice(), &new, at(1)).await;
            assert!(matches!(refused, Err(StoreError::Database(_))), "{new:?}: {refused:?}");
        }
        for number in 1..MAX_TOKENS {
            store.add_token(&bob(), &new_token(&number.to_string()), at(1)).await.unwrap();
        }
        let refused = store.add_token(&bob(), &new_token("more"), at(1)).await;
        assert!(matches!(refused, Err(StoreError::TooManyTokens { account }) if account == bob()));
    }
}

#[tokio::test]
async fn tokens_of_a_blocked_account_do_not_count_and_those_of_a_removed_one_are_gone() {
    for store in stores_with_accounts().await {
        store.add_token(&bob(), &new_token("one"), at(1)).await.unwrap();
        assert_eq!(store.set_role(&bob(), Role::Operator).await.unwrap(), [hash("one")]);
        assert_eq!(store.token(hash("one")).await.unwrap().unwrap().role, Role::Operator);
        assert_eq!(store.block_account(&bob(), at(2)).await.unwrap().cookies_and_tokens, [hash("one")]);
        assert_eq!(store.token(hash("one")).await.unwrap(), None);
        assert!(store.add_token(&bob(), &new_token("two"), at(2)).await.is_err());
        store.unblock_account(&bob()).await.unwrap();
        assert!(store.token(hash("one")).await.unwrap().is_some());
        assert_eq!(store.remove_account(&bob(), at(3)).await.unwrap().cookies_and_tokens, [hash("one")]);
        assert_eq!(store.token(hash("one")).await.unwrap(), None);
        assert_eq!(store.tokens(&bob()).await.unwrap(), []);
    }
}
