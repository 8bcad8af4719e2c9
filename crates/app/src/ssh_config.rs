//! The ssh_config(5) for an account on this machine.

use std::path::{Path, PathBuf};

use berth_model::ssh_config::{Known, PathError, SshConfig};

use crate::admin::wire::WayIn;

/// The text of a file that is to be kept at `file`. With `identities`, those keys are offered and no other.
pub(crate) fn write(way: &WayIn, file: &Path, identities: &[PathBuf]) -> Result<String, PathError> {
    let WayIn { account, gateway, address, vm_domain, known_hosts, website } = way;
    let config = SshConfig {
        account,
        gateway,
        address: Some(address.ip()),
        port: address.port(),
        vm_domain,
        known: Known::File(known_hosts),
        identities,
        file: Some(file),
        ssh: "ssh",
    };
    Ok(format!(
        "# The way to the VMs of {account}. Written by berth; changes are lost.\n# Website: {website}\n{}",
        config.text()?
    ))
}
