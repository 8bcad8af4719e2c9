//! Who may see what a port serves.

use super::{alice, at, bob, new_vm, stores_with_accounts};
use crate::{MAX_PORTS, PortAccess, PortRow, SiteRow};

#[tokio::test]
async fn what_is_decided_for_a_port_holds_until_it_is_taken_back() {
    for store in stores_with_accounts().await {
        let vm = store.add_vm(&new_vm(alice(), "a"), at(0)).await.unwrap();
        let other = store.add_vm(&new_vm(bob(), "b"), at(0)).await.unwrap();
        let site = async |port| store.site(&vm.name, port).await.unwrap().unwrap().access;
        assert_eq!((site(80).await, site(3000).await), (None, None));
        assert!(store.set_port(vm.id, 3000, Some(PortAccess::Team), at(1)).await.unwrap());
        assert!(store.set_port(vm.id, 80, Some(PortAccess::Owner), at(2)).await.unwrap());
        assert!(store.set_port(vm.id, 3000, Some(PortAccess::Public), at(3)).await.unwrap());
        assert_eq!((site(80).await, site(3000).await), (Some(PortAccess::Owner), Some(PortAccess::Public)));
        let row = |port, access, set_at| PortRow { port, access, set_at };
        assert_eq!(
            store.ports(vm.id).await.unwrap(),
            [row(80, PortAccess::Owner, at(2)), row(3000, PortAccess::Public, at(3))]
        );
        assert_eq!(store.ports(other.id).await.unwrap(), []);
        assert_eq!(store.site(&other.name, 80).await.unwrap(), Some(SiteRow { vm: other.id, access: None }));
        assert!(store.set_port(vm.id, 80, None, at(4)).await.unwrap());
        assert!(store.set_port(vm.id, 80, None, at(4)).await.unwrap());
        assert_eq!((site(80).await, site(3000).await), (None, Some(PortAccess::Public)));
    }
}

#[tokio::test]
async fn a_vm_has_so_many_decisions_and_only_for_ports_that_have_a_site() {
    for store in stores_with_accounts().await {
        let vm = store.add_vm(&new_vm(alice(), "a"), at(0)).await.unwrap();
        for port in 0..u16::try_from(MAX_PORTS).unwrap() {
            assert!(store.set_port(vm.id, 3000 + port, Some(PortAccess::Team), at(1)).await.unwrap());
        }
        assert!(!store.set_port(vm.id, 8080, Some(PortAccess::Team), at(1)).await.unwrap());
        assert!(
            store.set_port(vm.id, 3000, Some(PortAccess::Public), at(1)).await.unwrap(),
            "one that it has"
        );
        assert_eq!(store.ports(vm.id).await.unwrap().len(), MAX_PORTS);
        assert!(store.set_port(vm.id, 3000, None, at(1)).await.unwrap());
        for port in [0, 22, 81, 1023] {
            store.set_port(vm.id, port, Some(PortAccess::Public), at(1)).await.unwrap_err();
        }
        assert_eq!(store.ports(vm.id).await.unwrap().len(), MAX_PORTS - 1);
    }
}

#[tokio::test]
async fn what_is_removed_or_blocked_has_no_site() {
    for store in stores_with_accounts().await {
        let vm = store.add_vm(&new_vm(alice(), "a"), at(0)).await.unwrap();
        store.block_account(&alice(), at(1)).await.unwrap();
        assert_eq!(store.site(&vm.name, 80).await.unwrap(), None);
        store.unblock_account(&alice()).await.unwrap();
        assert!(store.site(&vm.name, 80).await.unwrap().is_some());
        store.begin_removing(vm.id, at(2)).await.unwrap();
        assert_eq!(store.site(&vm.name, 80).await.unwrap(), None);
        assert!(!store.set_port(vm.id, 80, Some(PortAccess::Team), at(3)).await.unwrap());
        store.finish_removing(vm.id, at(3)).await.unwrap();
        let next = store.add_vm(&new_vm(alice(), "c"), at(4)).await.unwrap();
        assert_eq!(store.site(&next.name, 80).await.unwrap(), Some(SiteRow { vm: next.id, access: None }));
        let his = store.add_vm(&new_vm(bob(), "b"), at(0)).await.unwrap();
        store.remove_account(&bob(), at(5)).await.unwrap();
        assert_eq!(store.site(&his.name, 80).await.unwrap(), None);
    }
}
