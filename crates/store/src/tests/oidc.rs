//! Accounts elsewhere.

use std::{net::IpAddr, time::Duration};

use berth_model::Secret;

use super::{alice, at, bob, stores_with_accounts};
use crate::{
    LastUse, LoginWay, MAX_OIDC_IDENTITIES, NewLoginSession, OidcIdentity, SecretHash, SessionLife,
    StoreError,
};

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn identity(subject: &str) -> OidcIdentity {
    OidcIdentity {
        issuer: "https://id.example".to_owned(),
        subject: subject.to_owned(),
        label: "b@example.com".to_owned(),
    }
}

fn session(cookie: &str) -> NewLoginSession {
    NewLoginSession {
        cookie: SecretHash::of(&Secret::new(cookie.to_owned())),
        way: LoginWay::Oidc,
        address: FROM,
        user_agent: String::new(),
        life: SessionLife { at_most: Duration::from_secs(3600), idle: Duration::from_secs(3600) },
    }
}

#[tokio::test]
async fn an_account_elsewhere_lets_in_to_one_account_until_it_is_removed() {
    for store in stores_with_accounts().await {
        let log_in = async |subject: &str, cookie: &str| {
            store.log_in_by_oidc(&identity(subject), &session(cookie), at(2)).await.unwrap()
        };
        assert!(log_in("one", "a").await.is_none());
        let added = store.add_oidc(&bob(), &identity("one"), at(1)).await.unwrap().unwrap();
        assert_eq!((&added.identity, added.last_used), (&identity("one"), None));
        for account in [alice(), bob()] {
            assert_eq!(store.add_oidc(&account, &identity("one"), at(1)).await.unwrap(), None);
        }
        assert_eq!(log_in("one", "a").await.unwrap().session.account, bob());
        let elsewhere = OidcIdentity { issuer: "https://other.example".to_owned(), ..identity("one") };
        assert!(store.log_in_by_oidc(&elsewhere, &session("b"), at(2)).await.unwrap().is_none());
        let known = store.oidc_identities(&bob()).await.unwrap();
        assert_eq!(known[0].last_used, Some(LastUse { at: at(2), from: FROM }));
        assert_eq!(store.remove_oidc(&alice(), added.id).await.unwrap(), None);
        assert_eq!(store.remove_oidc(&bob(), added.id).await.unwrap().unwrap().identity, identity("one"));
        assert!(log_in("one", "b").await.is_none());
    }
}

#[tokio::test]
async fn an_account_has_so_many_and_none_lets_in_when_it_is_blocked_or_gone() {
    for store in stores_with_accounts().await {
        for number in 0..MAX_OIDC_IDENTITIES {
            store.add_oidc(&bob(), &identity(&number.to_string()), at(1)).await.unwrap().unwrap();
        }
        let refused = store.add_oidc(&bob(), &identity("more"), at(1)).await;
        assert!(matches!(refused, Err(StoreError::TooManyOidcIdentities { account }) if account == bob()));
        store.block_account(&bob(), at(2)).await.unwrap();
        assert!(store.log_in_by_oidc(&identity("0"), &session("c"), at(2)).await.unwrap().is_none());
        store.unblock_account(&bob()).await.unwrap();
        assert!(store.log_in_by_oidc(&identity("0"), &session("c"), at(2)).await.unwrap().is_some());
        store.remove_account(&bob(), at(3)).await.unwrap();
        assert_eq!(store.oidc_identities(&bob()).await.unwrap(), []);
    }
}
