//! VMs that are shared.

use berth_model::{AccountName, VmId};

use super::{alice, at, bob, new_vm, stores_with_accounts};
use crate::{EntryShare, MAX_SHARES, NewShare, Store, StoreError};

fn with(account: AccountName, vm: VmId) -> NewShare {
    NewShare { vm, account, sudo: false, accept_by: at(100), ends_at: None }
}

async fn vm_of_alice(store: &Store) -> VmId {
    store.add_vm(&new_vm(alice(), "a"), at(0)).await.unwrap().id
}

async fn guests(store: &Store, vm: VmId, seconds: i64) -> Vec<AccountName> {
    store.guests_of(vm, at(seconds)).await.unwrap().into_iter().map(|row| row.account).collect()
}

#[tokio::test]
async fn who_is_asked_is_no_guest_before_they_accept() {
    for store in stores_with_accounts().await {
        let vm = vm_of_alice(&store).await;
        let asked = store.share(&with(bob(), vm), at(1)).await.unwrap();
        assert_eq!((asked.accepted_at, asked.made_at, asked.uid), (None, at(1), 70001));
        assert_eq!(guests(&store, vm, 2).await, []);
        assert_eq!(store.shares_with(&bob(), at(2)).await.unwrap(), std::slice::from_ref(&asked));
        assert_eq!(store.shares_of(vm, at(2)).await.unwrap(), [asked]);
        assert_eq!(store.accept_share(vm, &alice(), at(3)).await.unwrap(), None, "nobody has asked her");
        let accepted = store.accept_share(vm, &bob(), at(3)).await.unwrap().unwrap();
        assert_eq!(accepted.accepted_at, Some(at(3)));
        assert_eq!(store.accept_share(vm, &bob(), at(4)).await.unwrap(), Some(accepted.clone()), "once");
        assert_eq!(guests(&store, vm, 1000).await, [bob()], "for as long as nobody takes it back");
        assert_eq!(store.remove_share(vm, &bob()).await.unwrap(), Some(accepted));
        assert_eq!(store.remove_share(vm, &bob()).await.unwrap(), None);
        assert_eq!(guests(&store, vm, 5).await, []);
    }
}

#[tokio::test]
async fn a_week_is_over_and_so_is_a_share_that_ends() {
    for store in stores_with_accounts().await {
        let vm = vm_of_alice(&store).await;
        store.share(&with(bob(), vm), at(1)).await.unwrap();
        assert_eq!(store.accept_share(vm, &bob(), at(100)).await.unwrap(), None, "too late");
        assert_eq!(store.shares_with(&bob(), at(100)).await.unwrap(), []);
        assert_eq!(store.end_shares(at(99)).await.unwrap(), []);
        assert_eq!(store.end_shares(at(100)).await.unwrap().len(), 1);

        let until = NewShare { ends_at: Some(at(300)), accept_by: at(290), ..with(bob(), vm) };
        store.share(&until, at(200)).await.unwrap();
        store.accept_share(vm, &bob(), at(201)).await.unwrap().unwrap();
        assert_eq!(guests(&store, vm, 299).await, [bob()]);
        assert_eq!(guests(&store, vm, 300).await, []);
        assert_eq!(store.shares_of(vm, at(300)).await.unwrap(), []);
        let ended = store.end_shares(at(300)).await.unwrap();
        assert_eq!((ended.len(), ended[0].accepted_at), (1, Some(at(201))));
        assert_eq!(store.end_shares(at(301)).await.unwrap(), []);
        store.share(&with(bob(), vm), at(50)).await.unwrap();
        assert_eq!(
            guests(&store, vm, 51).await,
            [],
            "what has ended was accepted, and not what is asked now"
        );
    }
}

#[tokio::test]
async fn what_is_asked_again_changes_and_stays_accepted() {
    for store in stores_with_accounts().await {
        let vm = vm_of_alice(&store).await;
        let first = store.share(&with(bob(), vm), at(1)).await.unwrap();
        store.accept_share(vm, &bob(), at(2)).await.unwrap().unwrap();
        let more = NewShare { sudo: true, accept_by: at(900), ends_at: Some(at(500)), ..with(bob(), vm) };
        let row = store.share(&more, at(3)).await.unwrap();
        assert_eq!((row.sudo, row.ends_at, row.accepted_at), (true, Some(at(500)), Some(at(2))));
        assert_eq!((row.made_at, row.uid), (first.made_at, first.uid));
        assert_eq!(store.shares_of(vm, at(4)).await.unwrap(), [row]);
    }
}

#[tokio::test]
async fn so_many_and_no_more() {
    for store in stores_with_accounts().await {
        let vm = vm_of_alice(&store).await;
        for n in 0..MAX_SHARES {
            let name: AccountName = format!("guest{n}").parse().unwrap();
            store.add_account(&name, at(0)).await.unwrap();
            store.share(&with(name, vm), at(1)).await.unwrap();
        }
        let refused = store.share(&with(bob(), vm), at(1)).await.unwrap_err();
        assert!(matches!(refused, StoreError::TooManyShares), "{refused}");
        store.share(&with("guest0".parse().unwrap(), vm), at(2)).await.unwrap();
        // Those who were asked too long ago make room.
        store.share(&NewShare { accept_by: at(300), ..with(bob(), vm) }, at(200)).await.unwrap();
        assert_eq!(store.shares_of(vm, at(200)).await.unwrap().len(), 1);
        let uids: std::collections::BTreeSet<u32> =
            store.shares_of(vm, at(2)).await.unwrap().iter().map(|row| row.uid).collect();
        assert_eq!(uids.into_iter().collect::<Vec<_>>(), [70001 + u32::try_from(MAX_SHARES).unwrap()]);
    }
}

#[tokio::test]
async fn blocked_and_removed_are_neither_asked_nor_guests() {
    for store in stores_with_accounts().await {
        let vm = vm_of_alice(&store).await;
        store.share(&with(bob(), vm), at(1)).await.unwrap();
        store.accept_share(vm, &bob(), at(2)).await.unwrap().unwrap();
        store.block_account(&bob(), at(3)).await.unwrap();
        assert_eq!(guests(&store, vm, 4).await, []);
        assert_eq!(store.shares_of(vm, at(4)).await.unwrap().len(), 1, "their owner still sees it");
        let refused = store.share(&with(bob(), vm), at(4)).await.unwrap_err();
        assert!(matches!(refused, StoreError::NoSuchAccount { .. }), "{refused}");
        store.unblock_account(&bob()).await.unwrap();
        assert_eq!(guests(&store, vm, 5).await, [bob()]);
        store.block_account(&alice(), at(6)).await.unwrap();
        assert_eq!(store.shares_with(&bob(), at(7)).await.unwrap(), []);
        store.unblock_account(&alice()).await.unwrap();
        let removed = store.remove_account(&bob(), at(8)).await.unwrap();
        assert_eq!(removed.shared.iter().map(ToString::to_string).collect::<Vec<_>>(), ["vm-0.alice.koding"]);
        assert_eq!(store.shares_of(vm, at(9)).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_vm_that_is_being_removed_is_shared_with_nobody() {
    for store in stores_with_accounts().await {
        let vm = vm_of_alice(&store).await;
        store.share(&with(bob(), vm), at(1)).await.unwrap();
        store.accept_share(vm, &bob(), at(2)).await.unwrap().unwrap();
        store.begin_removing(vm, at(3)).await.unwrap();
        assert_eq!(store.shares_with(&bob(), at(4)).await.unwrap(), []);
        let refused = store.share(&with(bob(), vm), at(4)).await.unwrap_err();
        assert!(matches!(refused, StoreError::NoSuchVm), "{refused}");
        store.finish_removing(vm, at(5)).await.unwrap();
        let next = vm_of_alice(&store).await;
        assert_eq!(guests(&store, next, 6).await, [], "the next one of that name is another");
    }
}

#[tokio::test]
async fn members_of_the_team_have_ids_and_the_teams_vms_have_no_account() {
    for store in stores_with_accounts().await {
        let seen = async || {
            let rows = store.members().await.unwrap();
            rows.into_iter().map(|row| (row.name.to_string(), row.uid, row.role)).collect::<Vec<_>>()
        };
        let alices = ("alice".to_owned(), 70001, crate::Role::Operator);
        assert_eq!(seen().await, [alices.clone(), ("bob".to_owned(), 70002, crate::Role::Member)]);
        store.block_account(&bob(), at(1)).await.unwrap();
        assert_eq!(seen().await, std::slice::from_ref(&alices));
        store.remove_account(&bob(), at(1)).await.unwrap();
        assert_eq!(seen().await, [alices]);

        let teams = AccountName::of_teams();
        let vm = store.add_vm(&new_vm(teams.clone(), "one"), at(1)).await.unwrap();
        assert_eq!(vm.name.to_string(), "shared-0.koding");
        assert_eq!(store.vm(&vm.name).await.unwrap().unwrap().id, vm.id);
        assert_eq!(store.vms(Some(&teams)).await.unwrap().len(), 1);
        assert_eq!(store.vms(None).await.unwrap().len(), 1);
        let accounts = store.accounts().await.unwrap();
        assert_eq!(accounts.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["alice"]);
        assert_eq!((store.count_accounts().await.unwrap(), store.account(&teams).await.unwrap()), (1, None));
    }
}

#[tokio::test]
async fn what_somebody_may_ask_for_is_found_at_once() {
    for store in stores_with_accounts().await {
        let everybody = AccountName::of_teams();
        let of = |seconds: i64| {
            let (store, everybody) = (store.clone(), everybody.clone());
            async move {
                let rows = store.entries(&bob(), &everybody, at(seconds)).await.unwrap();
                rows.into_iter().map(|row| (row.vm, row.share)).collect::<Vec<_>>()
            }
        };
        let hers = vm_of_alice(&store).await;
        let of_team = store.add_vm(&new_vm(everybody.clone(), "t"), at(0)).await.unwrap().id;
        let own = store.add_vm(&new_vm(bob(), "b"), at(0)).await.unwrap().id;
        let gone = store.add_vm(&new_vm(bob(), "c"), at(0)).await.unwrap().id;
        store.begin_removing(gone, at(1)).await.unwrap();
        assert_eq!(of(1).await, [(own, None), (of_team, None)]);

        let asked = NewShare { ends_at: Some(at(50)), ..with(bob(), hers) };
        store.share(&asked, at(1)).await.unwrap();
        let share = |accepted| Some(EntryShare { accepted, sudo: false, ends_at: Some(at(50)) });
        assert_eq!(of(2).await, [(own, None), (hers, share(false)), (of_team, None)]);
        store.accept_share(hers, &bob(), at(3)).await.unwrap();
        assert_eq!(of(4).await, [(own, None), (hers, share(true)), (of_team, None)]);
        assert_eq!(of(50).await, [(own, None), (of_team, None)], "it is over");
        store.block_account(&alice(), at(5)).await.unwrap();
        assert_eq!(of(6).await, [(own, None), (of_team, None)], "its owner is blocked");
    }
}
