//! Which way in a client takes. The key says who it is; the user name chooses where to go, and nothing else does.
//!
//! | user name | way |
//! |---|---|
//! | `vm-N` | one's own VM in the default team |
//! | `vm-N.<user>`, `vm-N.<user>.<team>` | that VM |
//! | `shared-N`, `shared-N.<team>` | that VM of the default team, or of a team |
//! | a host name below the VMs' domain | that VM |
//! | anything else | none: tunnels, and what this host says itself |
//!
//! In any case of letters, and exact: a name that looks like a VM's and is none is a VM that there is not. No account's
//! name can look like one.

use berth_model::{AccountName, Domains};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// Into the VM of this host name, which nobody has looked up.
    Direct(String),
    /// To this host itself.
    Here,
}

/// The way of a client of `account` that logs in as `user`.
pub(crate) fn way(user: &str, account: &AccountName, domains: &Domains) -> Way {
    let name = user.to_ascii_lowercase();
    let below = domains.vm_domain();
    if domains.is_of_vms(&name) {
        return Way::Direct(name);
    }
    let alone = !name.contains('.');
    if name.starts_with("vm-") {
        let owner = if alone { format!(".{account}") } else { String::new() };
        Way::Direct(format!("{name}{owner}.{below}"))
    } else if name.starts_with("shared-") {
        let team = if alone { format!(".{}", domains.team()) } else { String::new() };
        Way::Direct(format!("{name}{team}.{below}"))
    } else {
        Way::Here
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn domains() -> Domains {
        Domains::new("koding.com", "kd.io", "koding".parse().expect("a name")).expect("domains")
    }

    fn of(user: &str) -> Way {
        way(user, &"alice".parse().expect("a name"), &domains())
    }

    #[test]
    fn names_of_vms_lead_there() {
        for (user, host) in [
            ("vm-0", "vm-0.alice.kd.io"),
            ("VM-12", "vm-12.alice.kd.io"),
            ("vm-0.bob", "vm-0.bob.kd.io"),
            ("vm-0.Bob.Team", "vm-0.bob.team.kd.io"),
            ("vm-0.bob.team.kd.io", "vm-0.bob.team.kd.io"),
            ("bob.KD.io", "bob.kd.io"),
            ("shared-3", "shared-3.koding.kd.io"),
            ("shared-3.team", "shared-3.team.kd.io"),
        ] {
            assert_eq!(of(user), Way::Direct(host.to_owned()), "{user}");
        }
        for user in
            ["", "alice", "bob", "root", "vm", "vm0", "git", "alice.bob", "kd.io.evil", "xvm-0", "sharedx"]
        {
            assert_eq!(of(user), Way::Here, "{user}");
        }
    }

    #[test]
    fn what_looks_like_a_vm_and_is_none_leads_to_none() {
        for user in [
            "vm-",
            "vm-x",
            "vm-00",
            "vm-0.",
            "vm-0..",
            "vm-0.bob.team.more",
            "vm-0 ",
            "vm-0@x",
            "kd.io",
            ".kd.io",
        ] {
            let Way::Direct(host) = of(user) else { panic!("{user} leads here") };
            assert_eq!(domains().resolve(&host), None, "{user}");
        }
    }

    proptest! {
        #[test]
        fn a_label_alone_never_leads_to_anothers(user in "[a-zA-Z0-9-]{1,40}") {
            if let Way::Direct(host) = of(&user)
                && let Some(vm) = domains().resolve(&host)
            {
                prop_assert_eq!(vm.owner.as_str(), "alice");
            }
        }
    }
}
