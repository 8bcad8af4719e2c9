//! Sizes as people write them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// From the largest to the smallest, so that the first that divides a size is the one to print it with.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", GIB),
    ("GB", 1_000_000_000),
    ("MiB", MIB),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// A number of bytes, written `1 GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Size(pub(super) u64);

impl Size {
    pub(crate) fn of(bytes: u64) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(self) -> u64 {
        self.0
    }
}

/// A text that is no size.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a size: give a number and one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, for example \"1 GiB\""
)]
pub(crate) struct SizeError(String);

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let refused = || SizeError(text.to_owned());
        let (number, unit) = split_number(text).ok_or_else(refused)?;
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?;
        number.checked_mul(*factor).map(Self).ok_or_else(refused)
    }
}

/// A whole number and what follows it, with or without spaces between.
pub(super) fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let divides = |factor: &u64| self.0 >= *factor && self.0.is_multiple_of(*factor);
        let (name, factor) = UNITS.iter().find(|(_, factor)| divides(factor)).unwrap_or(&("B", 1));
        write!(f, "{} {name}", self.0 / factor)
    }
}

impl TryFrom<String> for Size {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in ["1 GiB", "10 GB", "1536 MiB", "7 B", "3 TiB", "0 B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!("1GiB".parse::<Size>().unwrap(), "1024 MiB".parse().unwrap());
    }

    #[test]
    fn what_is_no_size() {
        for text in ["", "1", "GiB", "1.5 GiB", "-1 GiB", "1 gib", "1 GiB x", "99999999999 TiB", "١ GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
