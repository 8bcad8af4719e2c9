//! The two options of a key that Berth honours: `from="…"` and `expiry-time="…"` (sshd(8), AUTHORIZED_KEYS).

use std::{fmt, net::IpAddr, str::FromStr};

use time::{Date, Month, OffsetDateTime, Time};

use super::{AddressPattern, KeyError, address, comment};

/// The most patterns in one `from=`.
const MAX_PATTERNS: usize = 64;

/// What restricts the use of a key. `Display` and `FromStr` are its form in an `authorized_keys` line, empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyOptions {
    /// The addresses that the key may be used from; empty means any. Any negated pattern that matches forbids, and
    /// one that is not negated has to match, as in OpenSSH.
    pub from: Vec<AddressPattern>,
    /// From this time on the key is refused.
    pub expires: Option<OffsetDateTime>,
}

/// Why a key may not be used here and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPermitted {
    /// Its time is over.
    #[error("This key has expired. Add a new one.")]
    Expired,
    /// Its `from=` does not name this address.
    #[error("This key may not be used from this address: its from= option does not name it.")]
    Address,
}

impl KeyOptions {
    /// Whether the key may be used by a client at `addr` at the time `now`. An IPv4 address in IPv6 clothes counts
    /// as what it is.
    ///
    /// # Errors
    /// Which restriction forbids it.
    pub fn permits(&self, addr: IpAddr, now: OffsetDateTime) -> Result<(), NotPermitted> {
        if self.expires.is_some_and(|end| now >= end) {
            return Err(NotPermitted::Expired);
        }
        if self.from.is_empty() || address::list_permits(&self.from, addr) {
            Ok(())
        } else {
            Err(NotPermitted::Address)
        }
    }
}

impl fmt::Display for KeyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.from.is_empty() {
            let list: Vec<_> = self.from.iter().map(ToString::to_string).collect();
            write!(f, "from=\"{}\"", list.join(","))?;
        }
        if let Some(expires) = self.expires {
            let (date, (h, m, s)) = (expires.to_utc().date(), expires.to_utc().time().as_hms());
            let comma = if self.from.is_empty() { "" } else { "," };
            let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
            write!(f, "{comma}expiry-time=\"{year:04}{month:02}{day:02}{h:02}{m:02}{s:02}Z\"")?;
        }
        Ok(())
    }
}

impl FromStr for KeyOptions {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut options = Self::default();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (name, value, after) = split_option(rest)?;
            options.set(name, value)?;
            rest = match after.strip_prefix(',') {
                Some(more) if !more.is_empty() => more,
                None if after.is_empty() => after,
                _ => return Err(KeyError::Options),
            };
        }
        Ok(options)
    }
}

impl KeyOptions {
    fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), KeyError> {
        // OpenSSH compares the names without regard to case.
        match (name.to_ascii_lowercase().as_str(), value) {
            ("from", Some(list)) if self.from.is_empty() => self.from = patterns(list)?,
            ("from", Some(_)) => return Err(KeyError::FromTwice),
            // Of two, OpenSSH honours the earlier.
            ("expiry-time", Some(text)) => {
                let time = parse_time(text).ok_or(KeyError::Expiry)?;
                self.expires = Some(self.expires.map_or(time, |earlier| earlier.min(time)));
            }
            ("from" | "expiry-time", None) => return Err(KeyError::Options),
            _ => return Err(KeyError::Option(comment::quotable(name))),
        }
        Ok(())
    }
}

/// The first option of a list: its name, its value without the quotes, and what follows.
fn split_option(text: &str) -> Result<(&str, Option<&str>, &str), KeyError> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return Err(KeyError::Options);
    }
    let Some(quoted) = rest.strip_prefix('=') else { return Ok((name, None, rest)) };
    let quoted = quoted.strip_prefix('"').ok_or(KeyError::Options)?;
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            '"' if !escaped => {
                let (value, after) = quoted.split_at(at);
                return Ok((name, Some(value), after.get(1..).unwrap_or_default()));
            }
            _ => escaped = c == '\\' && !escaped,
        }
    }
    Err(KeyError::Options)
}

fn patterns(list: &str) -> Result<Vec<AddressPattern>, KeyError> {
    let patterns: Vec<&str> = list.split(',').map(str::trim).collect();
    if patterns.len() > MAX_PATTERNS || patterns.contains(&"") {
        return Err(KeyError::FromCount);
    }
    patterns.into_iter().map(str::parse).collect()
}

/// `YYYYMMDD[HHMM[SS]]`, then perhaps `Z` or `UTC`. Without these OpenSSH means the time zone of the server, which members do not know: here
/// it is UTC as well. A date alone is its first moment.
fn parse_time(text: &str) -> Option<OffsetDateTime> {
    let upper = text.to_ascii_uppercase();
    let digits = upper.strip_suffix('Z').or_else(|| upper.strip_suffix("UTC")).unwrap_or(&upper);
    if !digits.bytes().all(|b| b.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return None;
    }
    let number =
        |from: usize, to: usize| digits.get(from..to).map_or(Some(0), |part| part.parse::<u8>().ok());
    let year = digits.get(..4)?.parse().ok()?;
    let date = Date::from_calendar_date(year, Month::try_from(number(4, 6)?).ok()?, number(6, 8)?).ok()?;
    let time = Time::from_hms(number(8, 10)?, number(10, 12)?, number(12, 14)?).ok()?;
    Some(OffsetDateTime::new_utc(date, time))
}
