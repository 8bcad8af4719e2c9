//! The command line.

mod account;
mod audit;
mod backup;
mod database;
mod host_ca;
mod key;
mod recording;
mod team;
mod vm;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand};

pub(crate) use self::{
    account::{
        AccountArgs, AccountCommand, InviteArgs, LimitsArgs, LinkArgs, NameForArgs, RemoveAccountArgs,
        RoleArgs, SshConfigArgs,
    },
    audit::AuditArgs,
    backup::{BackupArgs, RestoreArgs},
    database::MigrateStoreArgs,
    host_ca::HostCaCommand,
    key::{AddKeyArgs, KeyCommand, RemoveKeyArgs},
    recording::RecordingCommand,
    team::{TeamCaCommand, TeamCommand, TeamVmCommand},
    vm::{
        AddVmArgs, AlwaysOnArgs, BackUpDiskArgs, ListVmsArgs, RebuildVmArgs, RemoveVmArgs, ResizeVmArgs,
        RestoreDiskArgs, ShareVmArgs, SnoozeArgs, StartVmArgs, Switch, UnshareVmArgs, VmArgs, VmCommand,
        VmDiskCommand,
    },
};
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
    Serve(ServeArgs),
    /// Show the configuration in force and what is wrong with it
    CheckConfig,
    /// The images that VMs are made from
    #[command(subcommand)]
    Image(ImageCommand),
    /// Ask the running server: accounts, keys, VMs
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Make the state folder anew from a backup; no server may run with it
    Restore(RestoreArgs),
    /// Measure this machine, with a server and VMs of its own; needs ssh and an image
    #[command(subcommand)]
    Bench(BenchCommand),
    /// One VM's own process
    #[command(hide = true)]
    VmShim(ShimArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Take the place of the server at the other end of standard input
    #[arg(long, hide = true)]
    pub(crate) take_over: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// How long a VM takes to a shell, to sleep, to wake and to boot
    Vm(BenchVmArgs),
    /// The ssh gateway beside OpenSSH's sshd as a jump host: connections, memory, throughput, round trips
    Gateway(BenchGatewayArgs),
    /// The sites of VMs beside nginx as a reverse proxy: requests, throughput, memory of WebSockets
    Http(BenchHttpArgs),
    /// The gateway and the website that are measured
    #[command(hide = true)]
    StandIn {
        /// A folder with the file key.pub
        dir: PathBuf,
        /// The port whose site everybody may see
        #[arg(long)]
        site: Option<u16>,
        /// The port of the loopback on which the VM's sshd is
        #[arg(long)]
        sshd: Option<u16>,
    },
    /// Who begins connections to it and does not log in
    #[command(hide = true)]
    Flood {
        /// The address that they come from
        from: Ipv4Addr,
        /// The gateway's
        to: SocketAddr,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BenchGatewayArgs {
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// A little of everything, to see that it works: the figures say nothing
    #[arg(long)]
    pub(crate) quick: bool,
    /// One part alone
    #[arg(long, value_enum, value_name = "PART")]
    pub(crate) only: Option<BenchGatewayPart>,
}

/// A part of what is measured of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BenchGatewayPart {
    Connections,
    Openssh,
    RoundTrips,
    Throughput,
    Direct,
    Terminal,
    Floods,
    Memory,
}

#[derive(Debug, Args)]
pub(crate) struct BenchHttpArgs {
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// A little of everything, to see that it works: the figures say nothing
    #[arg(long)]
    pub(crate) quick: bool,
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
    /// The authority by which members' ssh knows the gateway and the VMs
    #[command(subcommand)]
    HostCa(HostCaCommand),
    /// The team: its own VMs, and whose certificates let its members in
    #[command(subcommand)]
    Team(TeamCommand),
    /// What was recorded of sessions
    #[command(subcommand)]
    Recording(RecordingCommand),
    /// Put the berth that is installed now in the place of the server that runs; nobody is disconnected
    Upgrade,
    /// Copy all that the server remembers but the VMs' disks into one file, while it runs
    Backup(BackupArgs),
    /// Copy the database from SQLite to PostgreSQL or back, each row compared; no server may run with it
    MigrateStore(MigrateStoreArgs),
    /// Show what happened, and who did it, the latest first
    Audit(AuditArgs),
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
            "admin vm snooze vm-0.alice 45m",
            "admin vm snooze vm-0.alice 1d",
            "admin vm snooze vm-0.alice off",
            "admin account limits alice",
            "admin account limits alice --vms 7 --cpus unlimited --memory 20GiB --disk unlimited",
            "admin account limits alice --default",
            "admin account link alice",
            "admin account link alice --reset --json",
            "admin account invite",
            "admin account invite carol --operator --note Carol",
            "admin account role alice operator",
            "admin account block alice",
            "admin account unblock alice",
            "admin recording list --json",
            "admin recording show 20261123T071022Z_alice_vm-0.alice.koding_web_1a2b3c4d.cast",
            "admin recording remove x",
            "admin audit",
            "admin audit laptop --about alice --by bob --kind log_in --last 2h -n 200",
            "bench vm --json --runs 3 --cold",
            "bench gateway --json --runs 3 --quick",
            "admin vm rebuild vm-0.alice --keep-home",
            "admin vm rebuild vm-0.alice --discard-home --yes",
            "admin vm resize vm-0.alice --disk 20GiB",
            "admin vm remove vm-0.alice",
            "admin vm disk backup vm-0.alice x.qcow2",
            "admin vm disk restore vm-0.alice x.qcow2 --yes",
            "admin upgrade --json",
            "admin backup berth.tar --no-recordings",
            "admin migrate-store --to postgres://berth@db/berth --password-file /etc/berth/password --trial --json",
            "admin migrate-store --from postgres://berth@db/berth --to /var/lib/berth/berth.db",
            "restore berth.tar --state /s --json",
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
            "admin vm rebuild vm-0.alice",
            "admin vm rebuild vm-0.alice --keep-home --discard-home",
            "admin vm resize vm-0.alice",
            "admin vm resize vm-0.alice --disk 20",
            "admin vm snooze vm-0.alice 2",
            "admin vm snooze vm-0.alice 0s",
            "admin account limits alice --vms many",
            "admin account limits alice --memory 1",
            "admin account limits alice --vms 7 --default",
            "admin account link",
            "admin account role alice king",
            "admin audit --last never",
            "admin migrate-store",
            "bench vm --runs 0",
            "bench gateway --runs 0",
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
