//! `berth admin audit`

use std::time::Duration;

use clap::Args;

use crate::config::Span;

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Only what has this text in the account, the address, the VM, the key or the detail
    #[arg(value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// Only what is about this account
    #[arg(long, value_name = "NAME")]
    pub(crate) about: Option<String>,
    /// Only what this account did
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Only lines of this kind, such as log_in
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Only the last while, such as 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) last: Option<Duration>,
    /// Print so many lines at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub(crate) lines: usize,
}

fn time(text: &str) -> Result<Duration, String> {
    text.parse().map(Span::duration).map_err(|_| "give a length of time such as 30min or 2h".to_owned())
}
