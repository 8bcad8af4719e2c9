//! `[log]`: what the server writes to stderr.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::Problem;

/// The log's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, or a list of `target=level` as `tracing-subscriber` reads it.
    pub(crate) level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into() }
    }
}

impl Log {
    /// The filter for the log.
    pub(crate) fn filter(&self) -> Result<EnvFilter, String> {
        // tracing-subscriber 0.3.23 cuts a part with a blank before it in the wrong place, and panics where that is inside
        // a character.
        let level = Some(&self.level).filter(|level| level.is_ascii());
        level
            .and_then(|level| EnvFilter::builder().parse(level).ok())
            .ok_or_else(|| format!("{:?} is no level. Give error, warn, info, debug or trace.", self.level))
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        // A word that is no level would be read as the name of a part of the program, and the log be empty.
        let word_is_level = self.level.contains(['=', ',']) || self.level.parse::<tracing::Level>().is_ok();
        match (self.filter(), word_is_level) {
            (Ok(_), true) => vec![],
            (Err(message), _) => vec![Problem::new("log.level", message)],
            (Ok(_), false) => {
                let message =
                    format!("{:?} is no level. Give error, warn, info, debug or trace.", self.level);
                vec![Problem::new("log.level", message)]
            }
        }
    }
}
