//! `berth admin backup`, `berth restore`

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to be made, an archive; one that is there is not replaced
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Leave out what was recorded of sessions
    #[arg(long)]
    pub(crate) no_recordings: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// What `berth admin backup` has made
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}
