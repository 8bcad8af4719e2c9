//! `berth admin account …`

use std::path::PathBuf;

use berth_control::{Limits, Role};
use clap::{Args, Subcommand, ValueEnum};

use crate::config::Size;

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
    /// Print a link that logs the owner of an account in on the website: once, within ten minutes
    Link(LinkArgs),
    /// Print a link with which somebody makes an account of their own: once, within a week
    Invite(InviteArgs),
    /// Let an account run this Berth on the website, or no more
    Role(RoleArgs),
    /// Shut an account out: its connections and sessions end at once, and its VMs sleep
    Block(AccountArgs),
    /// Let an account in again
    Unblock(AccountArgs),
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

#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    /// Name of the account
    #[arg(value_name = "NAME")]
    pub(crate) account: String,
    /// The link asks for a new password, works for a day, and ends all sessions of the account when it is used
    #[arg(long)]
    pub(crate) reset: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InviteArgs {
    /// Name that the account will have; without it, whoever follows the link chooses one
    #[arg(value_name = "NAME")]
    pub(crate) account: Option<String>,
    /// The account will run this Berth
    #[arg(long)]
    pub(crate) operator: bool,
    /// Whom it is for, to tell invitations apart
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) note: String,
}

#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// Name of the account
    #[arg(value_name = "NAME")]
    pub(crate) account: String,
    /// What it is to be
    #[arg(value_name = "member|operator")]
    pub(crate) role: RoleWord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleWord {
    Member,
    Operator,
}

impl From<RoleWord> for Role {
    fn from(word: RoleWord) -> Self {
        match word {
            RoleWord::Member => Self::Member,
            RoleWord::Operator => Self::Operator,
        }
    }
}
