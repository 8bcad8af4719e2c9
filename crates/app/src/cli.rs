//! The command line.

use std::{path::PathBuf, time::Duration};

use berth_control::Limits;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Overrides, Size, Span};

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
    /// Measure this machine, with a server and VMs of its own; needs ssh and an image
    #[command(subcommand)]
    Bench(BenchCommand),
    /// One VM's own process
    #[command(hide = true)]
    VmShim(ShimArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// How long a VM takes to a shell, to sleep, to wake and to boot
    Vm(BenchVmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BenchVmArgs {
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: u32,
    /// Wake from a cold disk too: empties the page cache of this whole machine each time, so it is for root
    #[arg(long)]
    pub(crate) cold: bool,
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
    /// Show or set what an account may have
    Limits(LimitsArgs),
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
pub(crate) struct LimitsArgs {
    /// Name of the account
    #[arg(value_name = "NAME")]
    pub(crate) account: String,
    /// VMs that it may have: a number, or unlimited
    #[arg(long, value_name = "N", value_parser = count_or_unlimited)]
    pub(crate) vms: Option<u32>,
    /// Virtual CPUs of all its VMs together: a number, or unlimited
    #[arg(long, value_name = "N", value_parser = count_or_unlimited)]
    pub(crate) cpus: Option<u32>,
    /// Memory of all its VMs together, such as 20GiB, or unlimited
    #[arg(long, value_name = "SIZE", value_parser = size_or_unlimited)]
    pub(crate) memory: Option<u64>,
    /// Disk of all its VMs together, such as 200GiB, or unlimited
    #[arg(long, value_name = "SIZE", value_parser = size_or_unlimited)]
    pub(crate) disk: Option<u64>,
    /// Forget what is set for this account alone: what the configuration says holds again
    #[arg(long, conflicts_with_all = ["vms", "cpus", "memory", "disk"])]
    pub(crate) default: bool,
}

fn count_or_unlimited(text: &str) -> Result<u32, String> {
    if text == "unlimited" {
        return Ok(Limits::NONE.vms);
    }
    text.parse().map_err(|_| "give a whole number, or unlimited".to_owned())
}

fn size_or_unlimited(text: &str) -> Result<u64, String> {
    if text == "unlimited" {
        return Ok(Limits::NONE.memory);
    }
    text.parse::<Size>().map(Size::bytes).map_err(|error| format!("{error}, or unlimited"))
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
    /// Start or wake a VM and wait until it answers ssh
    Start(StartVmArgs),
    /// Put a VM to sleep: everything in it stays as it is, and goes on when it is woken
    Sleep(VmArgs),
    /// Wake a VM that is asleep; ssh to it does so too
    Wake(VmArgs),
    /// Say why a VM is awake, asleep or off
    Why(VmArgs),
    /// Keep a VM awake for a while
    Snooze(SnoozeArgs),
    /// Have a VM start with the server, never sleep, and be started again when it stops; or no more
    AlwaysOn(AlwaysOnArgs),
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
pub(crate) struct StartVmArgs {
    /// A host name of the VM, or vm-0.alice for short
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
    /// If it is asleep, do not wake it but boot it; what was open in it is given up
    #[arg(long)]
    pub(crate) from_disk: bool,
    /// Do not ask on a terminal; elsewhere nothing is asked
    #[arg(long, requires = "from_disk")]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnoozeArgs {
    /// A host name of the VM, or vm-0.alice for short
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
    /// For how long from now, such as 2h or 30min, at most a week; or off
    #[arg(value_name = "TIME|off", value_parser = time_or_off)]
    pub(crate) time: Duration,
}

/// Zero for off.
fn time_or_off(text: &str) -> Result<Duration, String> {
    if text == "off" {
        return Ok(Duration::ZERO);
    }
    let time = text.parse::<Span>().map_err(|error| format!("{error}, or off"))?.duration();
    if time < Duration::from_secs(1) { Err("give at least 1s, or off".to_owned()) } else { Ok(time) }
}

#[derive(Debug, Args)]
pub(crate) struct AlwaysOnArgs {
    /// A host name of the VM, or vm-0.alice for short
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
    /// Whether it is to be always-on
    #[arg(value_name = "on|off")]
    pub(crate) switch: Switch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
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
            "admin vm start vm-0.alice --from-disk --yes",
            "admin vm stop vm-0.alice",
            "admin vm sleep vm-0.alice",
            "admin vm wake vm-0.alice --json",
            "admin vm why vm-0.alice",
            "admin vm always-on vm-0.alice on",
            "admin vm snooze vm-0.alice 2h",
            "admin vm snooze vm-0.alice off",
            "admin account limits alice",
            "admin account limits alice --vms 7 --cpus unlimited --memory 20GiB --disk unlimited",
            "admin account limits alice --default",
            "bench vm --json --runs 3 --cold",
            "admin vm remove vm-0.alice",
        ] {
            let words = std::iter::once("berth").chain(line.split(' '));
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn what_makes_no_sense() {
        for line in [
            "admin vm start vm-0.alice --yes",
            "admin vm always-on vm-0.alice",
            "admin vm always-on vm-0.alice maybe",
            "admin vm snooze vm-0.alice 2",
            "admin vm snooze vm-0.alice 0s",
            "admin account limits alice --vms many",
            "admin account limits alice --memory 1",
            "admin account limits alice --vms 7 --default",
            "bench vm --runs 0",
            "bench",
        ] {
            let words = std::iter::once("berth").chain(line.split(' '));
            assert_eq!(Cli::try_parse_from(words).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn no_command_is_a_mistake() {
        assert_eq!(Cli::try_parse_from(["berth"]).unwrap_err().exit_code(), 2);
        assert_eq!(Cli::try_parse_from(["berth", "admin"]).unwrap_err().exit_code(), 2);
    }
}
