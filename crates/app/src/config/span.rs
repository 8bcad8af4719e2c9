//! Spans of time as people write them.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::size::split_number;

/// In milliseconds, from the longest to the shortest, so that the first that divides a span is the one to print it with.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];

/// A length of time, written `30 s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl Span {
    pub(crate) fn duration(self) -> Duration {
        self.0
    }
}

/// A text that is no span.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a length of time: give a number and one of ms, s, min, h, for example \"30 s\"")]
pub(crate) struct SpanError(String);

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let refused = || SpanError(text.to_owned());
        let (number, unit) = split_number(text).ok_or_else(refused)?;
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?;
        number.checked_mul(*factor).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(refused)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let divides = |factor: &u64| ms >= *factor && ms.is_multiple_of(*factor);
        let (name, factor) = UNITS.iter().find(|(_, factor)| divides(factor)).unwrap_or(&("ms", 1));
        write!(f, "{} {name}", ms / factor)
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;

    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_shortest() {
        for (text, written) in
            [("30 s", "30 s"), ("60 s", "1 min"), ("90s", "90 s"), ("2 h", "2 h"), ("0 s", "0 ms")]
        {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_no_span() {
        for text in ["", "30", "s", "1.5 s", "-1 s", "1 minute", "99999999999999999999 h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
