//! `berth admin recording …`

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum RecordingCommand {
    /// List what was recorded of sessions, the latest first
    List,
    /// Write a recording to standard output, as asciicast: `berth admin recording show NAME | asciinema play -`
    Show(RecordingArgs),
    /// Remove a recording
    Remove(RecordingArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RecordingArgs {
    /// The recording's name, as the list has it
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}
