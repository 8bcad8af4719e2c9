//! `berth admin host-ca …`

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum HostCaCommand {
    /// List the keys that members are told to trust, the one that signs first
    List,
    /// Make the next key: members are told of it from now on, and it does not sign yet
    Add,
    /// Have a key sign: the gateway shows its certificate at once, a VM in a moment or when it starts or wakes
    Use(HostCaArgs),
    /// Forget a key that does not sign any more: members are not told of it from now on
    Remove(HostCaArgs),
}

#[derive(Debug, Args)]
pub(crate) struct HostCaArgs {
    /// The key's fingerprint, as the list has it
    #[arg(value_name = "FINGERPRINT")]
    pub(crate) fingerprint: String,
}
