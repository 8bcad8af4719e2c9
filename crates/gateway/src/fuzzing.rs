//! What fuzzers do with what ssh clients say before and beside their keys. Every function panics where something does
//! not hold.

use berth_model::{AccountName, Domains};

use crate::{
    nc_words,
    text::quoted,
    way::{Way, way},
};

pub use crate::lobby::fuzzing::{lobby_keys, lobby_lines};

/// A command of an exec request, as the way into a tunnel: the host and the port that it names. What a shell would make of
/// an accepted one is for the caller to compare.
///
/// # Panics
/// If a refusal says back what a terminal acts on, or a target is not in the command.
#[must_use]
pub fn nc_words(command: &[u8]) -> Option<(String, u32)> {
    match nc_words::parse(command) {
        Ok(target) => {
            assert!(nc_words::is_nc(command), "a tunnel that does not begin as one");
            assert!(!target.host.is_empty() && !target.host.chars().any(char::is_control));
            Some((target.host, target.port))
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.len() <= 200 && !said.chars().any(char::is_control), "{said:?}");
            None
        }
    }
}

/// A user name of a log-in.
///
/// # Panics
/// If a name that has no owner in it leads to a VM of somebody else, or one with a VM's look leads to this host.
pub fn user_names(user: &str) {
    let domains = Domains::new("koding.com", "kd.io", "koding".parse().expect("a name")).expect("domains");
    let alice: AccountName = "alice".parse().expect("a name");
    let lower = user.to_ascii_lowercase();
    match way(user, &alice, &domains) {
        Way::Direct(host) => {
            assert!(domains.is_of_vms(&host), "{host} is not below the VMs' domain");
            if let Some(vm) = domains.resolve(&host) {
                let own = vm.owner == alice && vm.team == *domains.team();
                assert!(user.contains('.') || own || vm.is_of_team(), "{user} leads to {vm}");
                assert!(domains.names_of(&vm).contains(&host), "{host} is no name of {vm}");
            }
        }
        Way::Here => assert!(!lower.starts_with("vm-") && !lower.starts_with("shared-"), "{user}"),
    }
    let said = quoted(user);
    assert!(said.len() <= 63 && said.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{said:?}");
}
