use super::*;

/// An instance as Incus 6.0 tells of it, shortened to what is read.
fn told(status_code: u16, config: &[(&str, &str)]) -> Instance {
    let mut all = serde_json::json!({ VM: "00112233445566ff", MADE: "1" });
    for (key, value) in config {
        all[*key] = serde_json::json!(value);
    }
    serde_json::from_value(serde_json::json!({
        "architecture": "x86_64", "config": all, "devices": {}, "ephemeral": false, "profiles": ["default"],
        "stateful": false, "expanded_config": {}, "name": "berth-00112233445566ff", "status": "Running",
        "status_code": status_code, "location": "n2", "type": "container", "project": "default", "backups": null,
        "state": {
            "status": "Running", "status_code": status_code, "disk": {},
            "memory": { "usage": 58_257_408, "usage_peak": 63_614_976, "total": 268_435_456 },
            "network": {
                "lo": { "addresses": [{ "family": "inet", "address": "127.0.0.1", "netmask": "8", "scope": "local" }] },
                "eth0": { "addresses": [
                    { "family": "inet6", "address": "fe80::1266:6aff:fefa:398c", "netmask": "64", "scope": "link" },
                    { "family": "inet6", "address": "fd00::7", "netmask": "64", "scope": "global" },
                    { "family": "inet", "address": "10.77.0.246", "netmask": "24", "scope": "global" },
                ] },
            },
            "pid": 97, "processes": 9, "cpu": { "usage": 538_961_689, "allocated_time": 2_000_000_000u64 },
            "started_at": "2026-11-23T13:37:04.344876874Z", "os_info": null
        },
        "snapshots": null
    }))
    .unwrap()
}

const BOOT: &str = "97 2026-11-23T13:37:04.344876874Z";

/// A virtual machine that is off has no state of a machine, and `null` for its network cards.
fn vm_off(stateful: bool) -> Instance {
    serde_json::from_value(serde_json::json!({
        "config": { VM: "00112233445566ff", MADE: "1", ENDED: "up", "volatile.last_state.power": "STOPPED" },
        "stateful": stateful, "status": "Stopped", "status_code": 102, "location": "n1", "type": "virtual-machine",
        "state": { "status": "Stopped", "status_code": 102, "disk": {}, "memory": {}, "network": null, "pid": 0,
            "processes": 0, "cpu": { "usage": 0 }, "started_at": "0001-01-01T00:00:00Z" }
    }))
    .unwrap()
}

#[test]
fn names_are_those_of_vms() {
    let vm: VmId = "00112233445566ff".parse().unwrap();
    assert_eq!(name(&vm), "berth-00112233445566ff");
    assert_eq!(vm_of(&name(&vm)), Some(vm));
    assert_eq!(vm_of(&name_anew(&vm)), Some(vm));
    for other in ["web", "berth-", "berth-0011", "berth-00112233445566ff-old", "x-berth-00112233445566ff"] {
        assert_eq!(vm_of(other), None, "{other}");
    }
}

#[test]
fn an_instance_is_a_vm_when_it_was_made_whole_for_it() {
    let vm: VmId = "00112233445566ff".parse().unwrap();
    assert!(told(103, &[]).is_whole(&vm));
    assert!(!told(103, &[(MADE, "")]).is_whole(&vm), "what an interrupted making left");
    assert!(!told(103, &[]).is_whole(&VmId::random()), "another one's");
}

#[test]
fn one_that_runs_is_ready_in_the_boot_that_was_provisioned() {
    let seen = |config, doing| told(103, config).observed(doing, false);
    assert_eq!(seen(&[(READY, BOOT)], None), Ok(Observed::Running));
    assert_eq!(seen(&[], None), Ok(Observed::Booting));
    assert_eq!(seen(&[(READY, "96 2026-11-23T13:30:00Z")], None), Ok(Observed::Booting), "it rebooted");
    assert_eq!(seen(&[(READY, BOOT)], Some(Doing::Stopping)), Ok(Observed::Stopping));
    assert_eq!(seen(&[], Some(Doing::Waking)), Ok(Observed::Waking));
}

#[test]
fn how_one_came_to_be_off_is_told() {
    let seen = |config: &[(&str, &str)]| told(102, config).observed(None, false).unwrap();
    let off = |ended| Observed::Off { ended };
    assert_eq!(seen(&[]), off(None));
    assert_eq!(seen(&[(ENDED, STOPPED)]), off(Some(Ending::Stopped)));
    assert_eq!(seen(&[(ENDED, KILLED)]), off(Some(Ending::Killed)));
    assert_eq!(seen(&[(ENDED, UP), ("volatile.last_state.power", "STOPPED")]), off(Some(Ending::PoweredOff)));
    let reason = "the machine that it ran on went down".to_owned();
    assert_eq!(
        seen(&[(ENDED, UP), ("volatile.last_state.power", "RUNNING")]),
        off(Some(Ending::Failed { reason }))
    );
    let reason = "its sshd does not answer".to_owned();
    assert_eq!(seen(&[(ENDED, &failed(&reason))]), off(Some(Ending::Failed { reason })));
    assert_eq!(told(102, &[]).observed(Some(Doing::Booting), false), Ok(Observed::Booting));
}

#[test]
fn sleeping_is_standing_still_or_memory_on_a_disk() {
    for called in [false, true] {
        assert_eq!(told(110, &[(READY, BOOT)]).observed(None, called), Ok(Observed::Asleep { called }));
        assert_eq!(vm_off(true).observed(None, called), Ok(Observed::Asleep { called }));
    }
    assert_eq!(vm_off(false).observed(None, false), Ok(Observed::Off { ended: Some(Ending::PoweredOff) }));
    assert!(vm_off(true).is_asleep() && !vm_off(true).is_off() && vm_off(false).is_off());
}

#[test]
fn a_status_that_says_nothing_is_no_state() {
    let error: Instance =
        serde_json::from_value(serde_json::json!({ "status": "Error", "status_code": 112 })).unwrap();
    assert_eq!(error.observed(None, false), Err("Error".to_owned()));
}

#[test]
fn it_is_reached_by_an_address_of_the_cluster() {
    assert_eq!(told(103, &[]).address(), Some("10.77.0.246".parse().unwrap()));
    assert_eq!(vm_off(false).address(), None);
}

#[test]
fn usage_is_what_its_machine_counts() {
    let usage = told(103, &[]).usage();
    assert_eq!((usage.cpu.as_millis(), usage.memory), (538, 58_257_408));
    assert_eq!(vm_off(false).usage(), Usage::default());
}
