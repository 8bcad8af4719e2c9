//! `berth admin key …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::AccountArgs;

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
