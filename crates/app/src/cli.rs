//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Overrides;

/// A shell in your own VM, one ssh away.
#[derive(Debug, Parser)]
#[command(name = "berth", version, propagate_version = true, infer_long_args = false)]
#[command(after_help = "Exit status: 0 done, 1 refused or failed, 2 the command line makes no sense.")]
pub(crate) struct Cli {
    /// Configuration file (TOML); without one the defaults hold [env: BERTH_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// State folder, in place of the configuration's state_dir [env: BERTH_STATE]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Folder of images, in place of the configuration's image_dir [env: BERTH_IMAGE_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    image_dir: Option<PathBuf>,

    /// Print one JSON document, errors too
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            file: self.config.clone().or_else(|| environment("BERTH_CONFIG")),
            state_dir: self.state.clone().or_else(|| environment("BERTH_STATE")),
            image_dir: self.image_dir.clone().or_else(|| environment("BERTH_IMAGE_DIR")),
        }
    }
}

/// A path in the environment. An empty one counts as not set, as `BERTH_CONFIG= make up` means it.
fn environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server until SIGTERM; VMs run on after it
    Serve,
    /// Show the configuration in force and what is wrong with it
    CheckConfig,
    /// The images that VMs are made from
    #[command(subcommand)]
    Image(ImageCommand),
    /// Ask the running server: accounts, keys, VMs
    #[command(subcommand)]
    Admin(AdminCommand),
    /// One VM's own process
    #[command(hide = true)]
    VmShim(ShimArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build the image of this berth, unless it is there
    Build(BuildArgs),
    /// List the images
    List,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Build it even if it is there, to have today's packages in it; the old one stays
    #[arg(long)]
    pub(crate) anew: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Members
    #[command(subcommand)]
    Account(AccountCommand),
    /// Members' public keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Members' VMs
    #[command(subcommand)]
    Vm(VmCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Add an account
    Add(AccountArgs),
    /// List the accounts
    List,
    /// Remove an account, its keys, and its VMs with everything on their disks; its name stays reserved
    Remove(RemoveAccountArgs),
    /// Print an ssh_config(5) that leads to the account's VMs from this machine
    SshConfig(SshConfigArgs),
    /// Print the account name for a Unix login
    NameFor(NameForArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AccountArgs {
    /// Name of the account
    #[arg(value_name = "NAME")]
    pub(crate) account: String,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveAccountArgs {
    /// Name of the account
    #[arg(value_name = "NAME")]
    pub(crate) account: String,
    /// Do not ask on a terminal; elsewhere nothing is asked
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SshConfigArgs {
    /// Name of the account
    #[arg(value_name = "NAME")]
    pub(crate) account: String,
    /// The path that the output will be kept at, which ssh has to be told for the way through the gateway
    #[arg(long, value_name = "FILE")]
    pub(crate) for_file: PathBuf,
    /// Key to offer, and none but those given; can be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct NameForArgs {
    /// Unix login
    pub(crate) login: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Add public keys to an account
    Add(AddKeyArgs),
    /// List the keys of an account
    List(AccountArgs),
    /// Remove a key; connections that it opened end at once
    Remove(RemoveKeyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AddKeyArgs {
    /// Name of the account
    #[arg(value_name = "NAME")]
    pub(crate) account: String,
    /// What to call the key; without it, its comment
    #[arg(long = "name", value_name = "LABEL")]
    pub(crate) label: Option<String>,
    /// File with one or more public keys, or - for standard input
    #[arg(value_name = "FILE|-")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveKeyArgs {
    /// Name of the account
    #[arg(value_name = "NAME")]
    pub(crate) account: String,
    /// The key's fingerprint, id or label
    #[arg(value_name = "KEY")]
    pub(crate) which: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// Add a VM to an account and print its host name
    Add(AddVmArgs),
    /// List VMs
    List(ListVmsArgs),
    /// Start a VM and wait until it answers ssh
    Start(VmArgs),
    /// Stop a VM and wait until it is off
    Stop(VmArgs),
    /// Remove a VM with everything on its disk
    Remove(RemoveVmArgs),
    /// Print the end of a VM's console since its last start
    Log(VmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AddVmArgs {
    /// Name of the account that it is for
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: String,
}

#[derive(Debug, Args)]
pub(crate) struct ListVmsArgs {
    /// Only the VMs of this account
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VmArgs {
    /// A host name of the VM, or vm-0.alice for short
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveVmArgs {
    /// A host name of the VM, or vm-0.alice for short
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
    /// Do not ask on a terminal; elsewhere nothing is asked
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShimArgs {
    /// What the engine wants the shim to know
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<std::ffi::OsString>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_the_tutorial_types() {
        for line in [
            "serve",
            "check-config --config x.toml",
            "image build --json",
            "image list",
            "admin account add alice --state /s",
            "admin account list",
            "admin account remove alice --yes",
            "admin key add alice --name laptop id.pub",
            "admin key add alice -",
            "admin key list alice",
            "admin key remove alice SHA256:x",
            "admin vm add alice",
            "admin vm list",
            "admin vm list alice --json",
            "admin vm start vm-0.alice",
            "admin vm stop vm-0.alice",
            "admin vm remove vm-0.alice",
        ] {
            let words = std::iter::once("berth").chain(line.split(' '));
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn no_command_is_a_mistake() {
        assert_eq!(Cli::try_parse_from(["berth"]).unwrap_err().exit_code(), 2);
        assert_eq!(Cli::try_parse_from(["berth", "admin"]).unwrap_err().exit_code(), 2);
    }
}
