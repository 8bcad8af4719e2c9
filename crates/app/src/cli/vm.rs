//! `berth admin vm …`

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

use crate::config::{Size, Span};

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
    /// Give a VM a new disk from the present image; its name, host key, size and settings stay
    Rebuild(RebuildVmArgs),
    /// Make the disk of a VM larger; a disk does not get smaller
    Resize(ResizeVmArgs),
    /// Keep a VM's disk elsewhere, and put it back
    #[command(subcommand)]
    Disk(VmDiskCommand),
    /// Ask another account to share a VM; it is let in once it has accepted
    Share(ShareVmArgs),
    /// Take a VM back from an account: its connections end at once
    Unshare(UnshareVmArgs),
    /// List with whom a VM is shared
    Shares(VmArgs),
    /// Remove a VM with everything on its disk
    Remove(RemoveVmArgs),
    /// Print the end of a VM's console since its last start
    Log(VmArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum VmDiskCommand {
    /// Copy a VM's disk as it is at one moment into a qcow2 file, while the VM runs; one that sleeps is woken for it
    Backup(BackUpDiskArgs),
    /// Give a VM that is off the disk in such a file, in the place of its own
    Restore(RestoreDiskArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BackUpDiskArgs {
    /// A host name of the VM, or vm-0.alice for short
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
    /// The file to be made; one that is there is not replaced
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreDiskArgs {
    /// A host name of the VM, or vm-0.alice for short
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
    /// The file, which the server's user has to be able to read
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Do not ask on a terminal; elsewhere nothing is asked
    #[arg(long)]
    pub(crate) yes: bool,
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
    /// For how long from now, such as 30min or 2h, at most a week; or off
    #[arg(value_name = "TIME|off", value_parser = time_or_off)]
    pub(crate) time: Duration,
}

/// Zero for off. Takes what keepawake in a VM takes, too.
fn time_or_off(text: &str) -> Result<Duration, String> {
    if text == "off" {
        return Ok(Duration::ZERO);
    }
    let short = |unit, seconds: u64| {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(Duration::from_secs(count.checked_mul(seconds)?))
    };
    let time =
        text.parse().map(Span::duration).ok().or_else(|| short('m', 60)).or_else(|| short('d', 86_400));
    time.filter(|time| *time >= Duration::from_secs(1))
        .ok_or_else(|| "give a length of time such as 30min, 2h or 1d, or off".to_owned())
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
pub(crate) struct ShareVmArgs {
    /// A host name of the VM, or vm-0.alice for short
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
    /// Name of the account that it is shared with
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: String,
    /// Let them be root in it
    #[arg(long)]
    pub(crate) sudo: bool,
    /// For how long from now, such as 8h or 30d; without it until it is taken back
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub(crate) time: Option<Duration>,
}

fn time(text: &str) -> Result<Duration, String> {
    match time_or_off(text) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("give a length of time such as 8h or 30d".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct UnshareVmArgs {
    /// A host name of the VM, or vm-0.alice for short
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
    /// Name of the account that it is taken back from
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: String,
}

#[derive(Debug, Args)]
pub(crate) struct RebuildVmArgs {
    /// A host name of the VM, or vm-0.alice for short
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    /// Do not ask on a terminal; elsewhere nothing is asked
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct HomeArgs {
    /// Everything below /home is on the new disk too; the VM is shut down for that, and woken first if it sleeps
    #[arg(long)]
    pub(crate) keep_home: bool,
    /// Nothing of the old disk is kept, nor of what is running
    #[arg(long)]
    pub(crate) discard_home: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResizeVmArgs {
    /// A host name of the VM, or vm-0.alice for short
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
    /// How large its disk is to be in all, such as 20GiB
    #[arg(long, value_name = "SIZE")]
    pub(crate) disk: Size,
}
