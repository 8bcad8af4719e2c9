//! `[upgrade]`: how a server is replaced.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Span;

/// What becomes of who is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Upgrade {
    /// For so long a server that was replaced serves the connections that it has.
    pub(crate) patience: Span,
}

impl Default for Upgrade {
    fn default() -> Self {
        Self { patience: Span(Duration::from_secs(24 * 3600)) }
    }
}
