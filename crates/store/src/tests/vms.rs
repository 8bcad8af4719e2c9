//! VMs: their numbers, their host keys and their removal.

use std::{collections::BTreeSet, time::Duration};

use berth_model::{VmId, VmName, VmNumber};
use tokio::task::JoinSet;

use super::{alice, at, bob, koding, new_vm, stores, stores_with_accounts};
use crate::{NewVm, Store, StoreError};

fn name(number: u32) -> VmName {
    VmName { number: VmNumber(number), owner: alice(), team: koding() }
}

async fn add(store: &Store, host_key: &str) -> (VmId, u32) {
    let row = store.add_vm(&new_vm(alice(), host_key), at(0)).await.unwrap();
    (row.id, row.name.number.0)
}

async fn remove(store: &Store, id: VmId) {
    store.begin_removing(id, at(8)).await.unwrap().unwrap();
    assert!(store.finish_removing(id, at(9)).await.unwrap());
}

#[tokio::test]
async fn a_vm_comes_back_as_it_was_given() {
    for store in stores_with_accounts().await {
        let new = new_vm(alice(), "key");
        let added = store.add_vm(&new, at(1)).await.unwrap();
        for row in [added, store.vm(&name(0)).await.unwrap().unwrap()] {
            assert_eq!(row.id, new.id);
            assert_eq!(row.name, name(0));
            assert_eq!((row.cpus, row.memory, row.disk), (new.cpus, new.memory, new.disk));
            assert_eq!(row.host_key.expose(), "key");
            assert_eq!(row.created_at, at(1));
            assert_eq!((row.removing_at, row.last_boot, row.generation), (None, None, 0));
            assert!(!format!("{row:?}").contains("key\""), "the host key is a secret");
        }
    }
}

#[tokio::test]
async fn numbers_count_from_0_for_each_owner_and_the_lowest_free_one_is_next() {
    for store in stores_with_accounts().await {
        let mut ids = vec![];
        for expected in 0..4 {
            let (id, number) = add(&store, "a").await;
            assert_eq!(number, expected);
            ids.push(id);
        }
        let bobs = store.add_vm(&new_vm(bob(), "b"), at(0)).await.unwrap();
        assert_eq!(bobs.name.number, VmNumber::FIRST);
        remove(&store, ids[1]).await;
        remove(&store, ids[0]).await;
        assert_eq!(add(&store, "a").await.1, 0);
        assert_eq!(add(&store, "a").await.1, 1);
        assert_eq!(add(&store, "a").await.1, 4);
    }
}

#[tokio::test]
async fn a_number_is_not_free_before_the_removal_is_finished() {
    for store in stores_with_accounts().await {
        let (id, _) = add(&store, "a").await;
        store.begin_removing(id, at(1)).await.unwrap();
        assert_eq!(add(&store, "a").await.1, 1);
        store.finish_removing(id, at(2)).await.unwrap();
        assert_eq!(add(&store, "a").await.1, 0);
    }
}

#[tokio::test]
async fn of_many_added_at_once_each_has_its_own_number() {
    for store in stores_with_accounts().await {
        let mut tasks = JoinSet::new();
        for _ in 0..20 {
            let store = store.store.clone();
            tasks.spawn(async move { add(&store, "a").await.1 });
        }
        let numbers: BTreeSet<u32> = tasks.join_all().await.into_iter().collect();
        assert_eq!(numbers, (0..20).collect());
    }
}

#[tokio::test]
async fn a_name_keeps_its_host_key() {
    for store in stores_with_accounts().await {
        let (first, _) = add(&store, "first").await;
        let (second, _) = add(&store, "second").await;
        remove(&store, first).await;
        let (first_again, _) = add(&store, "unused").await;
        remove(&store, first_again).await;
        remove(&store, second).await;
        for host_key in ["unused", "unused", "third"] {
            add(&store, host_key).await;
        }
        let rows = store.vms(Some(&alice())).await.unwrap();
        let keys: Vec<_> = rows.iter().map(|row| row.host_key.expose().as_str()).collect();
        assert_eq!(keys, ["first", "second", "third"]);
        let bobs = store.add_vm(&new_vm(bob(), "bob's"), at(3)).await.unwrap();
        assert_eq!(bobs.host_key.expose(), "bob's", "another owner's vm-0 is another name");
    }
}

#[tokio::test]
async fn removal_is_written_down_twice_and_each_once() {
    for store in stores_with_accounts().await {
        let (id, _) = add(&store, "a").await;
        assert!(!store.finish_removing(id, at(1)).await.unwrap(), "nobody asked for it yet");
        assert!(store.vm(&name(0)).await.unwrap().is_some());

        let first = store.begin_removing(id, at(2)).await.unwrap().unwrap();
        assert_eq!((first.id, first.removing_at, first.generation), (id, Some(at(2)), 1));
        let again = store.begin_removing(id, at(3)).await.unwrap().unwrap();
        assert_eq!(again.removing_at, Some(at(2)));
        let live = store.vms(None).await.unwrap();
        assert_eq!(live.iter().map(|vm| vm.removing_at).collect::<Vec<_>>(), [Some(at(2))]);

        assert!(store.finish_removing(id, at(4)).await.unwrap());
        assert!(!store.finish_removing(id, at(5)).await.unwrap());
        assert!(store.begin_removing(id, at(6)).await.unwrap().is_none());
        assert!(store.vm(&name(0)).await.unwrap().is_none());
        assert!(store.vms(None).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn vms_are_listed_in_the_order_of_their_names() {
    for store in stores_with_accounts().await {
        for owner in [bob(), alice(), bob()] {
            store.add_vm(&new_vm(owner, "a"), at(0)).await.unwrap();
        }
        let names = |rows: Vec<crate::VmRow>| rows.iter().map(|vm| vm.name.to_string()).collect::<Vec<_>>();
        assert_eq!(
            names(store.vms(None).await.unwrap()),
            ["vm-0.alice.koding", "vm-0.bob.koding", "vm-1.bob.koding"]
        );
        assert_eq!(names(store.vms(Some(&bob())).await.unwrap()), ["vm-0.bob.koding", "vm-1.bob.koding"]);
    }
}

#[tokio::test]
async fn what_it_is_called_and_how_long_a_wake_took_is_kept() {
    for store in stores_with_accounts().await {
        let (id, _) = add(&store, "a").await;
        let (other, _) = add(&store, "a").await;
        let title = "web shop".parse().unwrap();
        store.set_title(id, Some(&title)).await.unwrap();
        store.set_last_wake(id, Duration::from_millis(183)).await.unwrap();
        let row = store.vm(&name(0)).await.unwrap().unwrap();
        assert_eq!((row.title, row.last_wake), (Some(title), Some(Duration::from_millis(183))));
        store.set_title(id, None).await.unwrap();
        assert_eq!(store.vm(&name(0)).await.unwrap().unwrap().title, None);

        let found = store.vms_by_id(&[other, VmId::random()]).await.unwrap();
        assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), [other]);
        assert_eq!(store.vm_names(&[&bob(), &alice()]).await.unwrap(), [name(0), name(1)]);
        assert!(store.vm_names(&[&bob()]).await.unwrap().is_empty());
        store.begin_removing(other, at(7)).await.unwrap();
        assert_eq!(store.vm_names(&[&alice()]).await.unwrap(), [name(0)]);
        remove(&store, other).await;
        assert!(store.vms_by_id(&[other]).await.unwrap().is_empty());
        assert!(store.vms_by_id(&[]).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_last_boot_is_kept_to_the_millisecond() {
    for store in stores_with_accounts().await {
        let (id, _) = add(&store, "a").await;
        store.set_last_boot(id, Duration::from_secs(9)).await.unwrap();
        store.set_last_boot(id, Duration::from_micros(7_654_321)).await.unwrap();
        let row = store.vm(&name(0)).await.unwrap().unwrap();
        assert_eq!(row.last_boot, Some(Duration::from_millis(7_654)));
        assert_eq!(row.generation, 2);
        remove(&store, id).await;
        store.set_last_boot(id, Duration::from_secs(1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_vm_needs_an_account_and_a_team() {
    for store in stores().await {
        let nobodys = store.add_vm(&new_vm(alice(), "a"), at(0)).await;
        assert!(matches!(nobodys, Err(StoreError::NoSuchAccount { name }) if name == alice()));
        store.add_account(&alice(), at(0)).await.unwrap();
        store.add_account(&bob(), at(0)).await.unwrap();
        // An account's name is no team.
        for team in ["elsewhere", "bob"] {
            let new = NewVm { team: team.parse().unwrap(), ..new_vm(alice(), "a") };
            let refused = store.add_vm(&new, at(0)).await;
            assert!(matches!(refused, Err(StoreError::NoSuchTeam { name }) if name.as_str() == team));
        }
        assert!(store.vms(None).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_id_is_used_once_and_a_size_is_not_0() {
    for store in stores_with_accounts().await {
        let new = new_vm(alice(), "a");
        store.add_vm(&new, at(0)).await.unwrap();
        let impossible = [
            new,
            NewVm { cpus: 0, ..new_vm(alice(), "a") },
            NewVm { memory: 0, ..new_vm(alice(), "a") },
            NewVm { disk: 0, ..new_vm(alice(), "a") },
        ];
        for new in impossible {
            let refused = store.add_vm(&new, at(0)).await;
            assert!(matches!(refused, Err(StoreError::Database(_))), "{new:?}: {refused:?}");
        }
        assert_eq!(store.vms(None).await.unwrap().len(), 1);
    }
}
