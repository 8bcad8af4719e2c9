//! `config` and `known-hosts`: what a member's ssh has to be told.

use berth_model::{
    VmName,
    ssh_config::{Known, SshConfig, WINDOWS_SSH, known_hosts_name},
};
use serde_json::json;

use super::answer::Answer;
use crate::ssh::Seat;

/// The lines by which ssh knows the gateway and the VMs.
pub(super) fn trust(seat: &Seat) -> Vec<String> {
    seat.control.host_trust(&[known_hosts_name(&seat.settings.host, seat.settings.port)])
}

pub(super) fn known_hosts(seat: &Seat, as_json: bool) -> Answer {
    let lines = trust(seat);
    Answer::done(lines.join("\n") + "\n", &json!({ "known_hosts": lines }), as_json)
}

/// A block that works when it is appended to a `~/.ssh/config`; for a client that cannot have the known hosts in it, with
/// a word about where they come from.
pub(super) fn config(seat: &Seat, as_json: bool) -> Answer {
    let (account, settings) = (seat.login.account().as_str(), &seat.settings);
    let lines = trust(seat);
    let whole = seat.program.takes_known_hosts_in_its_configuration();
    let config = SshConfig {
        account,
        gateway: &settings.host,
        address: None,
        port: settings.port,
        vm_domain: seat.control.settings().domains.vm_domain(),
        known: if whole { Known::Lines(&lines) } else { Known::Elsewhere },
        identities: &[],
        file: None,
        ssh: if seat.program.is_on_windows() { WINDOWS_SSH } else { "ssh" },
    };
    let text = match config.text() {
        Ok(text) => {
            format!("\n# The way to the VMs of {account}, from: ssh {} config\n{text}", gateway(seat))
        }
        // There is no path in it.
        Err(error) => error.to_string(),
    };
    let mut answer =
        Answer::done(text.clone(), &json!({ "ssh_config": text, "known_hosts": lines }), as_json);
    if !whole {
        answer.complain(format!(
            "This ssh needs these lines in its known_hosts too: ssh {} known-hosts\n",
            gateway(seat)
        ));
    }
    answer
}

/// What follows `ssh` to get here.
pub(super) fn gateway(seat: &Seat) -> String {
    as_user(seat, seat.login.account().as_str())
}

/// What follows `ssh` to get into one of the person's VMs without any configuration.
pub(super) fn direct(seat: &Seat, vm: &VmName) -> String {
    if vm.owner == *seat.login.account() { as_user(seat, &vm.label()) } else { as_user(seat, &vm.short()) }
}

fn as_user(seat: &Seat, user: &str) -> String {
    let settings = &seat.settings;
    match settings.port {
        22 => format!("{user}@{}", settings.host),
        port => format!("-p {port} {user}@{}", settings.host),
    }
}
