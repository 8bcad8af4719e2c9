//! Keys: one account a key, and what is kept of it.

use std::net::IpAddr;

use tokio::task::JoinSet;

use super::{alice, at, bob, new_key, public_key, stores, stores_with_accounts};
use crate::{AuditEntry, AuditKind, AuditQuery, LastUse, MAX_KEYS, NewAudit, NewKey, StoreError, Way};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_key_comes_back_as_it_was_given() {
    for store in stores_with_accounts().await {
        let new = NewKey {
            key: public_key(1),
            options: r#"from="10.0.0.0/8,!10.1.2.3",expiry-time="20300102030405Z""#.parse().unwrap(),
            comment: "alice@laptop, 'ärger'; --".to_owned(),
            label: Some("laptop".to_owned()),
        };
        let added = store.add_key(&alice(), &new, at(1)).await.unwrap();
        assert_eq!(added.account, alice());
        assert_eq!(added.key, new.key);
        assert_eq!(added.fingerprint, new.key.fingerprint());
        assert_eq!(added.options, new.options);
        assert!(added.options.expires.is_some());
        assert_eq!(added.comment, new.comment);
        assert_eq!(added.label, new.label);
        assert_eq!(added.added_at, at(1));
        assert_eq!(added.last_used, None);
        assert_eq!(store.keys(&alice()).await.unwrap(), std::slice::from_ref(&added));
        assert_eq!(store.key_by_fingerprint(&added.fingerprint).await.unwrap(), Some(added));
    }
}

#[tokio::test]
async fn an_empty_label_is_none() {
    for store in stores_with_accounts().await {
        let new = NewKey { label: Some(String::new()), ..new_key(1) };
        assert_eq!(store.add_key(&alice(), &new, at(1)).await.unwrap().label, None);
    }
}

#[tokio::test]
async fn keys_are_listed_by_account_in_the_order_of_their_adding() {
    for store in stores_with_accounts().await {
        for (account, number) in [(alice(), 3), (bob(), 2), (alice(), 1)] {
            store.add_key(&account, &new_key(number), at(0)).await.unwrap();
        }
        let keys: Vec<_> = store.keys(&alice()).await.unwrap().into_iter().map(|row| row.key).collect();
        assert_eq!(keys, [public_key(3), public_key(1)]);
    }
}

#[tokio::test]
async fn a_key_is_on_one_account() {
    for store in stores_with_accounts().await {
        store.add_key(&alice(), &new_key(1), at(1)).await.unwrap();
        // Another comment, label and option do not make another key.
        let same = NewKey {
            comment: "elsewhere".to_owned(),
            label: Some("elsewhere".to_owned()),
            options: r#"from="10.0.0.1""#.parse().unwrap(),
            ..new_key(1)
        };
        let again = store.add_key(&alice(), &same, at(2)).await;
        assert!(matches!(again, Err(StoreError::SameAccountHasKey { account }) if account == alice()));
        let other = store.add_key(&bob(), &same, at(2)).await.unwrap_err();
        assert!(matches!(other, StoreError::AnotherAccountHasKey));
        assert!(!other.to_string().contains("alice"), "whose it is, is nobody's business");
        let rows = store.keys(&alice()).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].comment, "");
        assert_eq!(store.keys(&bob()).await.unwrap(), []);
    }
}

#[tokio::test]
async fn of_two_accounts_that_add_a_key_at_once_one_gets_it() {
    for store in stores_with_accounts().await {
        for number in 0..10 {
            let mut tasks = JoinSet::new();
            for account in [alice(), bob()] {
                let store = store.store.clone();
                tasks.spawn(async move { store.add_key(&account, &new_key(number), at(0)).await });
            }
            let (won, lost): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
            assert_eq!(won.len(), 1);
            assert!(matches!(lost[..], [Err(StoreError::AnotherAccountHasKey)]), "{lost:?}");
        }
    }
}

#[tokio::test]
async fn a_key_needs_an_account() {
    for store in stores().await {
        let refused = store.add_key(&alice(), &new_key(1), at(0)).await;
        assert!(matches!(refused, Err(StoreError::NoSuchAccount { name }) if name == alice()));
    }
}

#[tokio::test]
async fn an_account_has_so_many_keys_and_no_more_even_at_once() {
    for store in stores_with_accounts().await {
        let most = u8::try_from(MAX_KEYS).unwrap();
        for number in 0..most - 2 {
            store.add_key(&alice(), &new_key(number), at(0)).await.unwrap();
        }
        let mut tasks = JoinSet::new();
        for number in most..most + 6 {
            let store = store.store.clone();
            tasks.spawn(async move { store.add_key(&alice(), &new_key(number), at(0)).await });
        }
        let (added, refused): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!(added.len(), 2);
        assert!(
            refused.iter().all(|result| matches!(result, Err(StoreError::TooManyKeys { .. }))),
            "{refused:?}"
        );
        assert_eq!(store.keys(&alice()).await.unwrap().len(), MAX_KEYS);

        let again = store.add_key(&alice(), &new_key(0), at(0)).await;
        assert!(matches!(again, Err(StoreError::SameAccountHasKey { .. })), "the better reason comes first");
        store.add_key(&bob(), &new_key(200), at(0)).await.unwrap();
        let first = store.keys(&alice()).await.unwrap().remove(0);
        store.remove_key(first.id).await.unwrap();
        store.add_key(&alice(), &new_key(201), at(0)).await.unwrap();
    }
}

#[tokio::test]
async fn a_removed_key_is_gone_and_may_be_added_anywhere_under_a_new_id() {
    for store in stores_with_accounts().await {
        let added = store.add_key(&alice(), &new_key(1), at(1)).await.unwrap();
        assert_eq!(store.remove_key(added.id).await.unwrap(), Some(added.clone()));
        assert_eq!(store.remove_key(added.id).await.unwrap(), None);
        assert_eq!(store.key_by_fingerprint(&added.fingerprint).await.unwrap(), None);
        let again = store.add_key(&bob(), &new_key(1), at(2)).await.unwrap();
        assert_ne!(again.id, added.id, "who noted the old id must not remove the new key");
        assert!(again.id > added.id);
    }
}

#[tokio::test]
async fn the_last_log_in_is_kept() {
    let log_in = NewAudit {
        kind: AuditKind::LogIn,
        account: Some(alice()),
        actor: Some(alice()),
        way: Way::Ssh,
        address: Some(address("192.0.2.7")),
        subject: String::new(),
        detail: String::new(),
    };
    for store in stores_with_accounts().await {
        let key = store.add_key(&alice(), &new_key(1), at(1)).await.unwrap();
        let other = store.add_key(&alice(), &new_key(2), at(1)).await.unwrap();
        let use_of_it = |seconds, from| AuditEntry {
            key: Some(key.id),
            began: Some(at(seconds)),
            ..NewAudit { address: Some(address(from)), ..log_in.clone() }.into()
        };
        store.add_audits(&[use_of_it(2, "192.0.2.7"), use_of_it(3, "2001:db8::7")], at(4)).await.unwrap();
        let used = store.key_by_fingerprint(&key.fingerprint).await.unwrap().unwrap();
        assert_eq!(used.last_used, Some(LastUse { at: at(3), from: address("2001:db8::7") }));
        assert_eq!(used.id, key.id);
        assert_eq!(store.key_by_fingerprint(&other.fingerprint).await.unwrap().unwrap().last_used, None);
        store.remove_key(key.id).await.unwrap();
        store.add_audits(&[use_of_it(5, "192.0.2.7")], at(6)).await.unwrap();
        let lines = store.audit(&AuditQuery::default()).await.unwrap();
        assert_eq!(
            lines.iter().map(|line| line.times).sum::<u64>(),
            3,
            "also with a key that was removed at once"
        );
    }
}
