//! The server's log: lines on stderr, coloured on a terminal only.
//!
//! A log that cannot be written (a full disk) loses lines, and nothing else.

use std::io::{self, IsTerminal};

use crate::config::Log;

/// Starts the log. Called once.
pub(crate) fn start(log: &Log) -> Result<(), String> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(log.filter()?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // It would complain of a failed write on stderr, where the same write fails, and panic.
        .log_internal_errors(false)
        .finish();
    tracing::subscriber::set_global_default(subscriber).map_err(|error| error.to_string())
}
