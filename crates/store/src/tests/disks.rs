//! A VM's disk: it grows within the limits, and is replaced.

use super::{alice, at, bob, new_vm, stores_with_accounts};
use crate::{Limit, Limits, Noted, OwnLimits, Rebuild, StoreError};

const GIB: u64 = 1 << 30;

#[tokio::test]
async fn a_disk_grows_and_never_shrinks() {
    for store in stores_with_accounts().await {
        let vm = store.add_vm(&new_vm(alice(), "a"), at(0)).await.unwrap();
        let disk = async || store.vm(&vm.name).await.unwrap().unwrap().disk;
        assert!(store.grow_disk(vm.id, &alice(), 12 * GIB, Limits::NONE).await.unwrap());
        assert_eq!(disk().await, 12 * GIB);
        assert!(store.grow_disk(vm.id, &alice(), 12 * GIB, Limits::NONE).await.unwrap(), "what it has");
        assert!(!store.grow_disk(vm.id, &alice(), 12 * GIB - 1, Limits::NONE).await.unwrap());
        assert!(!store.grow_disk(vm.id, &bob(), 20 * GIB, Limits::NONE).await.unwrap(), "somebody else's");
        assert_eq!(disk().await, 12 * GIB);
        store.begin_removing(vm.id, at(1)).await.unwrap();
        assert!(!store.grow_disk(vm.id, &alice(), 20 * GIB, Limits::NONE).await.unwrap());
    }
}

#[tokio::test]
async fn a_disk_grows_within_what_the_account_may_have() {
    for store in stores_with_accounts().await {
        let vm = store.add_vm(&new_vm(alice(), "a"), at(0)).await.unwrap();
        store.add_vm(&new_vm(alice(), "b"), at(0)).await.unwrap();
        let all = Limits { disk: 25 * GIB, ..Limits::NONE };
        let refused = store.grow_disk(vm.id, &alice(), 16 * GIB, all).await.unwrap_err();
        assert!(matches!(refused, StoreError::OverLimit { what: Limit::Disk, .. }), "{refused:?}");
        let words = "alice has 20 GiB of disk, and may have 25 GiB of disk.";
        assert!(refused.to_string().starts_with(words), "{refused}");
        assert!(store.grow_disk(vm.id, &alice(), 15 * GIB, all).await.unwrap(), "up to the limit");

        let own = OwnLimits { disk: Some(GIB), ..OwnLimits::default() };
        store.set_limits(&alice(), own).await.unwrap();
        assert!(store.grow_disk(vm.id, &alice(), 15 * GIB, all).await.unwrap(), "what it has stays");
        assert!(store.grow_disk(vm.id, &alice(), 15 * GIB + 1, all).await.is_err());
        assert_eq!(store.vm(&vm.name).await.unwrap().unwrap().disk, 15 * GIB);
    }
}

#[tokio::test]
async fn a_rebuild_is_written_down_once_and_ends_one_way_or_the_other() {
    for store in stores_with_accounts().await {
        let vm = store.add_vm(&new_vm(alice(), "a"), at(0)).await.unwrap();
        let row = async || store.vm(&vm.name).await.unwrap().unwrap();
        let noted = Noted { at: at(1), what: "nobody".to_owned() };
        store.set_slept(vm.id, &noted).await.unwrap();
        store.set_used(vm.id, &noted).await.unwrap();
        store.set_identification(vm.id, "SSH-2.0-x").await.unwrap();
        store.end_rebuilding(vm.id, Some(at(2))).await.unwrap();
        assert_eq!(row().await.rebuilt_at, None, "nobody asked for it");

        assert!(store.begin_rebuilding(vm.id, Rebuild::KeepHome).await.unwrap());
        assert!(!store.begin_rebuilding(vm.id, Rebuild::DiscardHome).await.unwrap(), "one at a time");
        assert_eq!(row().await.rebuilding, Some(Rebuild::KeepHome));
        store.end_rebuilding(vm.id, None).await.unwrap();
        assert_eq!((row().await.rebuilding, row().await.rebuilt_at), (None, None));
        assert_eq!(row().await.slept.as_ref(), Some(&noted), "it is as it was");

        assert!(store.begin_rebuilding(vm.id, Rebuild::DiscardHome).await.unwrap());
        store.end_rebuilding(vm.id, Some(at(9))).await.unwrap();
        let row = row().await;
        assert_eq!((row.rebuilding, row.rebuilt_at), (None, Some(at(9))));
        assert_eq!((row.slept, row.identification), (None, None), "its guest is another one");
        assert_eq!(row.used, Some(noted), "but it has had a disk");

        store.begin_removing(vm.id, at(10)).await.unwrap();
        assert!(!store.begin_rebuilding(vm.id, Rebuild::KeepHome).await.unwrap());
    }
}
