//! What time it is, for the idle policy.

use time::OffsetDateTime;
use tokio::time::Instant;

/// Where the time comes from.
#[derive(Debug, Clone, Copy, Default)]
pub enum Clock {
    /// The host's clock.
    #[default]
    System,
    /// A fixed moment and what tokio's clock has counted since, so that a test which pauses that one pauses this too.
    Tokio {
        /// The moment.
        start: OffsetDateTime,
        /// What tokio's clock showed then.
        started: Instant,
    },
}

impl Clock {
    /// One that goes as tokio's does.
    #[must_use]
    pub fn of_the_test() -> Self {
        Self::Tokio {
            start: OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000),
            started: Instant::now(),
        }
    }

    /// The time, in UTC.
    #[must_use]
    pub fn now(self) -> OffsetDateTime {
        match self {
            Self::System => OffsetDateTime::now_utc(),
            Self::Tokio { start, started } => start + started.elapsed(),
        }
    }
}
