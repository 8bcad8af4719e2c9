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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    fn options(text: &str) -> KeyOptions {
        text.parse().expect(text)
    }

    fn at(text: &str) -> OffsetDateTime {
        options(&format!("expiry-time=\"{text}\"")).expires.expect("a time")
    }

    #[test]
    fn from_follows_openssh() {
        let now = datetime!(2030-01-01 0:00 UTC);
        let permits = |list: &str, addr: &str| {
            options(&format!("from=\"{list}\"")).permits(addr.parse().expect("an address"), now).is_ok()
        };
        assert!(permits("192.0.2.7", "192.0.2.7") && !permits("192.0.2.7", "192.0.2.70"));
        assert!(permits("192.0.2.7", "::ffff:192.0.2.7") && permits("::ffff:192.0.2.7", "192.0.2.7"));
        assert!(permits("10.0.0.0/8", "10.255.0.1") && !permits("10.0.0.0/8", "11.0.0.1"));
        assert!(permits("::ffff:10.0.0.0/104", "10.255.0.1"));
        assert!(permits("0.0.0.0/0", "1.2.3.4") && !permits("0.0.0.0/0", "::1") && permits("::/0", "::1"));
        assert!(permits("2001:db8::/32", "2001:db8::5") && !permits("2001:db8::/32", "2001:db9::5"));
        assert!(permits("192.0.2.*", "192.0.2.99") && !permits("192.0.2.*", "192.0.20.9"));
        assert!(permits("192.0.2.?", "192.0.2.9") && !permits("192.0.2.?", "192.0.2.99"));
        assert!(permits("2001:DB8:*", "2001:db8::5") && permits("*", "::1"));
        assert!(permits("!10.0.0.1,10.0.0.0/8", "10.0.0.2") && !permits("10.0.0.0/8,!10.0.0.1", "10.0.0.1"));
        assert!(!permits("!10.0.0.1", "10.0.0.2"), "a list of negations lets nobody in");
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(at("20301231"), datetime!(2030-12-31 0:00 UTC));
        assert_eq!(at("203012311805"), datetime!(2030-12-31 18:05 UTC));
        assert_eq!(at("20301231180559Z"), datetime!(2030-12-31 18:05:59 UTC));
        assert_eq!(at("20301231UTC"), datetime!(2030-12-31 0:00 UTC));
        for wrong in [
            "",
            "2030",
            "20301301",
            "20300230",
            "2030123124",
            "203012312400",
            "20301231Z0",
            "+2030123",
            "٢٠٣٠",
        ] {
            let text = format!("expiry-time=\"{wrong}\"");
            assert_eq!(text.parse::<KeyOptions>(), Err(KeyError::Expiry), "{wrong}");
        }
    }

    #[test]
    fn a_key_expires_at_its_time() {
        let options = options("expiry-time=\"20301231\",expiry-time=\"20310101\"");
        let addr = "192.0.2.7".parse().expect("an address");
        let end = datetime!(2030-12-31 0:00 UTC);
        assert_eq!(options.permits(addr, end - time::Duration::SECOND), Ok(()));
        assert_eq!(options.permits(addr, end), Err(NotPermitted::Expired));
        assert_eq!(KeyOptions::default().permits(addr, end), Ok(()));
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for (text, name) in [
            ("no-pty", "no-pty"),
            ("command=\"rm -rf \\\"/\\\", no\"", "command"),
            ("restrict,pty", "restrict"),
            ("from=\"10.0.0.1\",cert-authority", "cert-authority"),
            ("permitopen=\"a:1\"", "permitopen"),
        ] {
            assert_eq!(text.parse::<KeyOptions>(), Err(KeyError::Option(name.to_owned())), "{text}");
        }
        for text in [
            "from",
            "from=",
            "from=10.0.0.1",
            "from=\"10.0.0.1",
            "from=\"10.0.0.1\",",
            ",",
            "=\"\"",
            "from=\"1.1.1.1\"x",
        ] {
            assert_eq!(text.parse::<KeyOptions>(), Err(KeyError::Options), "{text}");
        }
        assert_eq!("From=\"1.1.1.1\",from=\"1.1.1.2\"".parse::<KeyOptions>(), Err(KeyError::FromTwice));
        for list in ["", "1.1.1.1,", ",1.1.1.1", &["1.1.1.1"; 65].join(",")] {
            assert_eq!(format!("from=\"{list}\"").parse::<KeyOptions>(), Err(KeyError::FromCount), "{list}");
        }
        for wrong in [
            "example.com",
            "*.example.com",
            "*.cafe",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.1",
            "fe80::1%eth0",
            "!",
            "/8",
        ] {
            let text = format!("from=\"{wrong}\"");
            assert_eq!(text.parse::<KeyOptions>(), Err(KeyError::From(wrong.to_owned())), "{wrong}");
        }
        assert_eq!(
            "from=\"10.0.0.1/8\"".parse::<KeyOptions>(),
            Err(KeyError::FromHostBits("10.0.0.1/8".to_owned()))
        );
    }

    fn pattern() -> impl Strategy<Value = String> {
        let network = |(addr, prefix): (IpAddr, u8)| {
            let bits = if addr.is_ipv4() { 32 } else { 128 };
            format!("{}/{}", address::masked(addr, prefix % (bits + 1)), prefix % (bits + 1))
        };
        let what = prop_oneof![
            any::<IpAddr>().prop_map(|addr| addr.to_string()),
            (any::<IpAddr>(), any::<u8>()).prop_map(network),
            "[0-9]{1,3}\\.[0-9*?]{1,3}\\.\\*",
        ];
        (any::<bool>(), what).prop_map(|(negated, what)| if negated { format!("!{what}") } else { what })
    }

    proptest! {
        #[test]
        fn options_round_trip(list in prop::collection::vec(pattern(), 1..6), seconds in prop::option::of(0_i64..250_000_000_000)) {
            let parsed = options(&format!("from=\"{}\"", list.join(",")));
            let expires = seconds.map(|s| OffsetDateTime::from_unix_timestamp(s).expect("a time"));
            for options in [KeyOptions { expires, ..parsed }, KeyOptions { from: Vec::new(), expires }] {
                prop_assert_eq!(options.to_string().parse(), Ok(options));
            }
        }

        #[test]
        fn a_negation_more_never_lets_more_in(list in prop::collection::vec(pattern(), 1..5), no in pattern(), addr: IpAddr) {
            let now = datetime!(2030-01-01 0:00 UTC);
            let no = format!("!{}", no.trim_start_matches('!'));
            let before = options(&format!("from=\"{}\"", list.join(",")));
            let after = options(&format!("from=\"{},{no}\"", list.join(",")));
            prop_assert!(before.permits(addr, now).is_ok() || after.permits(addr, now).is_err());
        }

        #[test]
        fn no_text_panics(text in "(?s).{0,200}|(from|expiry-time)=\"[0-9a-f:.,/*?!TZ]{0,40}\"?") {
            if let Ok(options) = text.parse::<KeyOptions>() {
                prop_assert_eq!(options.to_string().parse(), Ok(options));
            }
        }
    }
}
