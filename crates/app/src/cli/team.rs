//! `berth admin team …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum TeamCommand {
    /// The CAs whose certificates let members in
    #[command(subcommand)]
    Ca(TeamCaCommand),
    /// The VMs that belong to the team: every member is let in
    #[command(subcommand)]
    Vm(TeamVmCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TeamVmCommand {
    /// Add a VM to the team and print its host name; what is done with one later is berth admin vm
    Add,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TeamCaCommand {
    /// List the CAs, and what of their certificates is revoked
    List,
    /// Trust a CA: who has its certificate with an account's name as principal is in as that account
    Add(AddTeamCaArgs),
    /// Trust a CA no more: connections that its certificates opened end at once
    Remove(RemoveTeamCaArgs),
    /// Load a key revocation list (ssh-keygen -k) in the place of the last one: connections by what is in it end at once
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AddTeamCaArgs {
    /// The .pub file of the CA, or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// What to call it; otherwise its comment
    #[arg(long = "name", value_name = "LABEL")]
    pub(crate) label: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveTeamCaArgs {
    /// The CA's fingerprint, or what it is called
    #[arg(value_name = "CA")]
    pub(crate) ca: String,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The list, as ssh-keygen -k has written it, or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}
