//! Passkeys.

use std::{net::IpAddr, time::Duration};

use berth_model::Secret;

use super::{alice, at, bob, stores_with_accounts};
use crate::{
    LastUse, LoginWay, MAX_PASSKEYS, NewLoginSession, NewPasskey, PasskeyId, PasskeyUse, SecretHash,
    SessionLife, StoreError,
};

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn new_passkey(credential: &str, sign_count: u32) -> NewPasskey {
    NewPasskey {
        label: "phone".to_owned(),
        credential: credential.to_owned(),
        user_handle: "aGFuZGxl".to_owned(),
        algorithm: -7,
        public_key: "a2V5".to_owned(),
        sign_count,
    }
}

fn session(cookie: &str) -> NewLoginSession {
    NewLoginSession {
        cookie: SecretHash::of(&Secret::new(cookie.to_owned())),
        way: LoginWay::Passkey,
        address: FROM,
        user_agent: String::new(),
        life: SessionLife { at_most: Duration::from_secs(3600), idle: Duration::from_secs(3600) },
    }
}

fn used(id: PasskeyId, sign_count: u32) -> PasskeyUse {
    PasskeyUse { id, sign_count, from: FROM }
}

#[tokio::test]
async fn a_passkey_comes_back_by_its_credential_and_is_on_one_account() {
    for store in stores_with_accounts().await {
        let added = store.add_passkey(&bob(), &new_passkey("one", 7), at(1)).await.unwrap().unwrap();
        assert_eq!((&added.account, &added.passkey, added.added_at), (&bob(), &new_passkey("one", 7), at(1)));
        assert_eq!(store.passkey("one").await.unwrap(), Some(added.clone()));
        assert_eq!(store.passkey("two").await.unwrap(), None);
        assert_eq!(store.passkeys(&bob()).await.unwrap(), std::slice::from_ref(&added));
        for account in [alice(), bob()] {
            assert_eq!(store.add_passkey(&account, &new_passkey("one", 0), at(1)).await.unwrap(), None);
        }
        assert!(!store.rename_passkey(&alice(), added.id, "mine").await.unwrap());
        assert!(store.rename_passkey(&bob(), added.id, "key ring").await.unwrap());
        assert_eq!(store.remove_passkey(&alice(), added.id).await.unwrap(), None);
        assert_eq!(store.remove_passkey(&bob(), added.id).await.unwrap().unwrap().passkey.label, "key ring");
        assert_eq!(store.remove_passkey(&bob(), added.id).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_count_that_does_not_grow_is_a_copys() {
    for store in stores_with_accounts().await {
        let id = store.add_passkey(&bob(), &new_passkey("one", 7), at(1)).await.unwrap().unwrap().id;
        let log_in = async |count: u32, cookie: &str| {
            store.log_in_by_passkey(used(id, count), &session(cookie), at(2)).await.unwrap()
        };
        for count in [7, 6, 0] {
            assert!(log_in(count, "a").await.is_none(), "{count}");
        }
        assert_eq!(store.passkey("one").await.unwrap().unwrap().last_used, None);
        let begun = log_in(8, "a").await.unwrap().session;
        assert_eq!((begun.account, begun.way), (bob(), LoginWay::Passkey));
        assert!(log_in(8, "b").await.is_none());
        let row = store.passkey("one").await.unwrap().unwrap();
        assert_eq!((row.passkey.sign_count, row.last_used), (8, Some(LastUse { at: at(2), from: FROM })));

        let never = store.add_passkey(&bob(), &new_passkey("two", 0), at(1)).await.unwrap().unwrap().id;
        for cookie in ["c", "d"] {
            let begun = store.log_in_by_passkey(used(never, 0), &session(cookie), at(2)).await.unwrap();
            assert!(begun.is_some(), "one that does not count");
        }
    }
}

#[tokio::test]
async fn a_session_is_proved_by_a_passkey_of_its_own_account() {
    for store in stores_with_accounts().await {
        let hers = store.add_passkey(&alice(), &new_passkey("alice", 1), at(1)).await.unwrap().unwrap().id;
        let his = store.add_passkey(&bob(), &new_passkey("bob", 1), at(1)).await.unwrap().unwrap().id;
        let session = store.add_login_session(&bob(), &session("bob"), at(1)).await.unwrap().session.id;
        assert!(!store.prove_by_passkey(used(hers, 2), session, at(5)).await.unwrap());
        assert!(!store.prove_by_passkey(used(his, 1), session, at(5)).await.unwrap());
        assert_eq!(store.login_sessions(&bob()).await.unwrap()[0].proved_at, at(1));
        assert!(store.prove_by_passkey(used(his, 2), session, at(5)).await.unwrap());
        assert_eq!(store.login_sessions(&bob()).await.unwrap()[0].proved_at, at(5));
        assert!(store.prove_by_passkey(used(hers, 2), session, at(6)).await.is_ok_and(|proved| !proved));
    }
}

#[tokio::test]
async fn an_account_has_so_many_passkeys_and_none_when_it_is_blocked_or_gone() {
    for store in stores_with_accounts().await {
        for number in 0..MAX_PASSKEYS {
            store.add_passkey(&bob(), &new_passkey(&number.to_string(), 0), at(1)).await.unwrap().unwrap();
        }
        let refused = store.add_passkey(&bob(), &new_passkey("more", 0), at(1)).await;
        assert!(matches!(refused, Err(StoreError::TooManyPasskeys { account }) if account == bob()));
        let id = store.passkey("0").await.unwrap().unwrap().id;
        store.block_account(&bob(), at(2)).await.unwrap();
        assert!(store.passkey("0").await.unwrap().is_none());
        assert!(store.log_in_by_passkey(used(id, 1), &session("c"), at(2)).await.unwrap().is_none());
        store.unblock_account(&bob()).await.unwrap();
        assert_eq!(store.passkey("0").await.unwrap().unwrap().passkey.sign_count, 0, "nothing was done");
        store.remove_account(&bob(), at(3)).await.unwrap();
        assert_eq!(store.passkeys(&bob()).await.unwrap(), []);
    }
}
