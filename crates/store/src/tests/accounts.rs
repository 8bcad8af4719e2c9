//! Accounts, their names and their removal.

use tokio::task::JoinSet;

use super::{alice, at, bob, new_key, new_vm, stores, stores_with_accounts};
use crate::{AccountsQuery, StoreError};

#[tokio::test]
async fn an_account_is_there_once_added() {
    for store in stores().await {
        assert!(!store.account_exists(&alice()).await.unwrap());
        store.add_account(&alice(), at(1)).await.unwrap();
        assert!(store.account_exists(&alice()).await.unwrap());
        assert!(!store.account_exists(&bob()).await.unwrap());
    }
}

#[tokio::test]
async fn a_name_is_taken_once() {
    for store in stores().await {
        store.add_account(&alice(), at(0)).await.unwrap();
        let again = store.add_account(&alice(), at(1)).await;
        assert!(matches!(again, Err(StoreError::NameTaken { name }) if name == alice()));
        let team = store.add_account(&"koding".parse().unwrap(), at(1)).await;
        assert!(matches!(team, Err(StoreError::NameTaken { .. })), "accounts and teams share one namespace");
        assert_eq!(store.accounts().await.unwrap().len(), 1);
        for (name, taken) in [("alice", true), ("koding", true), ("bob", false)] {
            assert_eq!(store.name_is_taken(&name.parse().unwrap()).await.unwrap(), taken, "{name}");
        }
    }
}

#[tokio::test]
async fn of_many_who_want_a_name_at_once_one_gets_it() {
    for store in stores().await {
        let mut tasks = JoinSet::new();
        for _ in 0..20 {
            let store = store.store.clone();
            tasks.spawn(async move { store.add_account(&alice(), at(0)).await });
        }
        let results = tasks.join_all().await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert!(
            results.iter().all(|result| matches!(result, Ok(()) | Err(StoreError::NameTaken { .. }))),
            "{results:?}"
        );
    }
}

#[tokio::test]
async fn accounts_are_listed_with_what_they_have() {
    for store in stores().await {
        store.add_account(&bob(), at(1)).await.unwrap();
        store.add_account(&alice(), at(2)).await.unwrap();
        store.add_key(&bob(), &new_key(1), at(3)).await.unwrap();
        store.add_key(&bob(), &new_key(2), at(3)).await.unwrap();
        let removing = store.add_vm(&new_vm(bob(), "a"), at(3)).await.unwrap();
        let removed = store.add_vm(&new_vm(bob(), "b"), at(3)).await.unwrap();
        store.begin_removing(removing.id, at(4)).await.unwrap();
        store.begin_removing(removed.id, at(4)).await.unwrap();
        store.finish_removing(removed.id, at(5)).await.unwrap();

        let seen: Vec<_> = store
            .accounts()
            .await
            .unwrap()
            .into_iter()
            .map(|row| (row.name, row.created_at, row.keys, row.vms))
            .collect();
        assert_eq!(seen, [(alice(), at(2), 0, 0), (bob(), at(1), 2, 1)]);
    }
}

#[tokio::test]
async fn removing_an_account_takes_its_keys_and_marks_its_vms() {
    for store in stores_with_accounts().await {
        let first = store.add_key(&alice(), &new_key(1), at(1)).await.unwrap();
        let second = store.add_key(&alice(), &new_key(2), at(1)).await.unwrap();
        let kept = store.add_key(&bob(), &new_key(3), at(1)).await.unwrap();
        let vm = store.add_vm(&new_vm(alice(), "a"), at(1)).await.unwrap();
        let gone = store.add_vm(&new_vm(alice(), "b"), at(1)).await.unwrap();
        store.begin_removing(gone.id, at(2)).await.unwrap();
        store.finish_removing(gone.id, at(2)).await.unwrap();
        let bobs = store.add_vm(&new_vm(bob(), "c"), at(1)).await.unwrap();

        let removed = store.remove_account(&alice(), at(3)).await.unwrap();
        assert_eq!(removed.keys, [first.clone(), second]);
        let marked: Vec<_> = removed.vms.iter().map(|vm| (vm.id, vm.removing_at)).collect();
        assert_eq!(marked, [(vm.id, Some(at(3)))]);

        assert!(!store.account_exists(&alice()).await.unwrap());
        assert_eq!(store.accounts().await.unwrap().len(), 1);
        assert_eq!(store.keys(&alice()).await.unwrap(), []);
        assert_eq!(store.key_by_fingerprint(&first.fingerprint).await.unwrap(), None);
        assert_eq!(store.keys(&bob()).await.unwrap(), [kept]);
        let live: Vec<_> = store.vms(None).await.unwrap().iter().map(|vm| (vm.id, vm.removing_at)).collect();
        assert_eq!(live, [(vm.id, Some(at(3))), (bobs.id, None)], "until it is finished, a restart finds it");
    }
}

#[tokio::test]
async fn a_removal_under_way_keeps_its_time_when_the_account_goes() {
    for store in stores_with_accounts().await {
        let vm = store.add_vm(&new_vm(alice(), "a"), at(1)).await.unwrap();
        store.begin_removing(vm.id, at(2)).await.unwrap();
        let removed = store.remove_account(&alice(), at(3)).await.unwrap();
        assert_eq!(removed.vms[0].removing_at, Some(at(2)));
    }
}

#[tokio::test]
async fn a_removed_account_can_be_given_nothing_and_its_name_stays_taken() {
    for store in stores_with_accounts().await {
        store.remove_account(&alice(), at(1)).await.unwrap();
        let missing =
            |error: &StoreError| matches!(error, StoreError::NoSuchAccount { name } if *name == alice());
        assert!(missing(&store.remove_account(&alice(), at(2)).await.unwrap_err()));
        assert!(missing(&store.add_key(&alice(), &new_key(1), at(2)).await.unwrap_err()));
        assert!(missing(&store.add_vm(&new_vm(alice(), "a"), at(2)).await.unwrap_err()));
        let again = store.add_account(&alice(), at(2)).await;
        assert!(matches!(again, Err(StoreError::NameTaken { .. })));
        assert_eq!(store.vms(None).await.unwrap().len(), 0);
    }
}

#[tokio::test]
async fn what_is_added_while_the_account_is_removed_is_removed_or_refused() {
    for store in stores_with_accounts().await {
        let mut adding = JoinSet::new();
        for number in 0..20 {
            let store = store.store.clone();
            adding.spawn(async move {
                let key = store.add_key(&alice(), &new_key(number), at(1)).await.map(|_| ());
                let vm = store.add_vm(&new_vm(alice(), "a"), at(1)).await.map(|_| ());
                [key, vm]
            });
        }
        tokio::task::yield_now().await;
        let removed = store.remove_account(&alice(), at(2)).await.unwrap();
        let results: Vec<_> = adding.join_all().await.into_iter().flatten().collect();
        assert!(
            results.iter().all(|result| matches!(result, Ok(()) | Err(StoreError::NoSuchAccount { .. }))),
            "{results:?}"
        );
        let added = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(added, removed.keys.len() + removed.vms.len());
        assert_eq!(store.keys(&alice()).await.unwrap(), []);
        assert!(store.vms(Some(&alice())).await.unwrap().iter().all(|vm| vm.removing_at.is_some()));
    }
}

#[tokio::test]
async fn accounts_are_read_a_page_at_a_time() {
    for store in stores_with_accounts().await {
        for name in ["carol", "dave", "carla"] {
            store.add_account(&name.parse().unwrap(), at(1)).await.unwrap();
        }
        let names = async |query: AccountsQuery| -> Vec<String> {
            let rows = store.accounts_page(&query).await.unwrap();
            rows.into_iter().map(|row| row.name.to_string()).collect()
        };
        let page = AccountsQuery { most: 2, ..AccountsQuery::default() };
        assert_eq!(names(page.clone()).await, ["alice", "bob"]);
        assert_eq!(names(AccountsQuery { after: Some(bob()), ..page.clone() }).await, ["carla", "carol"]);
        assert_eq!(names(AccountsQuery { text: "AR".into(), ..page.clone() }).await, ["carla", "carol"]);
        assert!(names(AccountsQuery { text: "_".into(), ..page.clone() }).await.is_empty());
        store.block_account(&alice(), at(2)).await.unwrap();
        assert_eq!(names(AccountsQuery { blocked: Some(true), ..page.clone() }).await, ["alice"]);
        assert_eq!(names(AccountsQuery { blocked: Some(false), ..page }).await, ["bob", "carla"]);
        assert!(store.account(&alice()).await.unwrap().unwrap().blocked_at.is_some());
        assert_eq!(store.account(&"zoe".parse().unwrap()).await.unwrap(), None);
        assert_eq!(store.count_accounts().await.unwrap(), 5);
        assert!(store.size().await.unwrap() > 4096);
    }
}
