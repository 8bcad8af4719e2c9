//! `berth admin migrate-store`

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct MigrateStoreArgs {
    /// Where to, with nothing in it: postgres://user@host/database, or a new file for SQLite
    #[arg(long, value_name = "URL|FILE")]
    pub(crate) to: String,
    /// Where from, if not from where the configuration says
    #[arg(long, value_name = "URL|FILE")]
    pub(crate) from: Option<String>,
    /// The file with the password for --to, or for --from where only that is on a server
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Copy while the server runs, to see that it works and how long it takes; what changes meanwhile is not in the copy
    #[arg(long)]
    pub(crate) trial: bool,
}
