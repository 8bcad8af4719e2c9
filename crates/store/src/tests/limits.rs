//! What an account may have, and what is noted of a VM.

use super::{alice, at, bob, new_vm, stores_with_accounts};
use crate::{Limit, Limits, NewVm, Noted, OwnLimits, StoreError};

const GIB: u64 = 1 << 30;

fn limited(limits: Limits) -> NewVm {
    NewVm { limits, ..new_vm(alice(), "a") }
}

#[tokio::test]
async fn each_limit_is_reached_and_says_so() {
    let cases = [
        (Limits { vms: 2, ..Limits::NONE }, Limit::Vms, "alice has 2 VMs, and may have 2 VMs."),
        (Limits { cpus: 5, ..Limits::NONE }, Limit::Cpus, "alice has 4 CPUs, and may have 5 CPUs."),
        (
            Limits { memory: 2 * GIB + 1, ..Limits::NONE },
            Limit::Memory,
            "alice has 2 GiB of memory, and may have 2 GiB of memory.",
        ),
        (
            Limits { disk: 25 * GIB, ..Limits::NONE },
            Limit::Disk,
            "alice has 20 GiB of disk, and may have 25 GiB of disk.",
        ),
    ];
    for store in stores_with_accounts().await {
        let mut ids = vec![];
        for _ in 0..2 {
            ids.push(store.add_vm(&new_vm(alice(), "a"), at(0)).await.unwrap().id);
        }
        for (limits, which, words) in cases {
            let refused = store.add_vm(&limited(limits), at(0)).await.unwrap_err();
            assert!(matches!(&refused, StoreError::OverLimit { what, .. } if *what == which), "{refused:?}");
            assert!(refused.to_string().starts_with(words), "{refused}");
        }
        assert_eq!(store.vms(Some(&alice())).await.unwrap().len(), 2, "nothing is left of what was refused");
        store.add_vm(&NewVm { owner: bob(), ..limited(cases[0].0) }, at(0)).await.unwrap();

        store.begin_removing(ids[0], at(1)).await.unwrap();
        assert!(store.add_vm(&limited(cases[0].0), at(0)).await.is_err(), "it still has its disk");
        store.finish_removing(ids[0], at(1)).await.unwrap();
        store.add_vm(&limited(cases[0].0), at(0)).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_set_for_one_account_comes_before_what_holds_for_all() {
    for store in stores_with_accounts().await {
        let none = Limits { vms: 0, ..Limits::NONE };
        assert_eq!(store.limits(&alice()).await.unwrap(), OwnLimits::default());
        assert!(store.add_vm(&limited(none), at(0)).await.is_err());
        let one = OwnLimits { vms: Some(1), ..OwnLimits::default() };
        store.set_limits(&alice(), one).await.unwrap();
        assert_eq!(store.limits(&alice()).await.unwrap(), one);
        store.add_vm(&limited(none), at(0)).await.unwrap();
        assert!(store.add_vm(&limited(Limits::NONE), at(0)).await.is_err());
        let nobody = "nobody-here".parse().unwrap();
        assert!(matches!(store.set_limits(&nobody, one).await, Err(StoreError::NoSuchAccount { .. })));
        assert!(matches!(store.limits(&nobody).await, Err(StoreError::NoSuchAccount { .. })));
    }
}

#[tokio::test]
async fn two_at_the_same_time_do_not_pass_a_limit_together() {
    for store in stores_with_accounts().await {
        let limits = Limits { vms: 1, ..Limits::NONE };
        let (first, second) = (limited(limits), limited(limits));
        let (first, second) = tokio::join!(store.add_vm(&first, at(0)), store.add_vm(&second, at(0)));
        assert_eq!(usize::from(first.is_ok()) + usize::from(second.is_ok()), 1);
    }
}

#[tokio::test]
async fn what_is_noted_of_a_vm_comes_back() {
    for store in stores_with_accounts().await {
        let vm = store.add_vm(&new_vm(alice(), "a"), at(0)).await.unwrap();
        assert_eq!((vm.always_on, vm.turned_off, vm.snoozed_until), (false, false, None));
        assert_eq!((&vm.used, &vm.slept, &vm.identification), (&None, &None, &None));
        let noted = |seconds, what: &str| Noted { at: at(seconds), what: what.to_owned() };
        store.set_always_on(vm.id, true).await.unwrap();
        store.set_turned_off(vm.id, true).await.unwrap();
        store.set_snoozed(vm.id, Some(at(60))).await.unwrap();
        store.set_used(vm.id, &noted(5, "ssh")).await.unwrap();
        store.set_used(vm.id, &noted(4, "too late")).await.unwrap();
        store.set_slept(vm.id, &noted(9, "nobody")).await.unwrap();
        store.set_identification(vm.id, "SSH-2.0-OpenSSH_10.0p2").await.unwrap();
        let row = store.vm(&vm.name).await.unwrap().unwrap();
        assert!(row.always_on && row.turned_off);
        assert_eq!(row.snoozed_until, Some(at(60)));
        assert_eq!(row.used, Some(noted(5, "ssh")), "an earlier use does not replace a later one");
        assert_eq!(row.slept, Some(noted(9, "nobody")));
        assert_eq!(row.identification.as_deref(), Some("SSH-2.0-OpenSSH_10.0p2"));
        assert!(store.set_identification(vm.id, "HTTP/1.1 400").await.is_err());
        assert!(store.set_used(vm.id, &noted(9, "")).await.is_err());
        store.set_snoozed(vm.id, None).await.unwrap();
        store.set_always_on(vm.id, false).await.unwrap();
        let row = store.vm(&vm.name).await.unwrap().unwrap();
        assert_eq!((row.always_on, row.snoozed_until), (false, None));
    }
}
