//! Patterns of addresses, as `from="…"` lists them (ssh_config(5), PATTERNS; OpenSSH's addr_match_list).

use std::{fmt, net::IpAddr, str::FromStr};

use super::{KeyError, comment};

/// One pattern of `from="…"`: an address, a network in CIDR notation, or a text with `*` and `?` that is compared
/// with the address as written; each may be negated with `!`. Host names are no patterns: nothing is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPattern {
    negated: bool,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// All addresses whose first `prefix` bits are those of `addr`, whose other bits are zero.
    Network { addr: IpAddr, prefix: u8 },
    /// Lower case, of the characters of addresses and `*` and `?`.
    Wildcard(String),
}

/// The longest text of an address is 45 characters.
const MAX_PATTERN_LEN: usize = 64;

/// Whether a list lets an address in: no negated pattern matches it, and one that is not negated does.
pub(super) fn list_permits(patterns: &[AddressPattern], addr: IpAddr) -> bool {
    let addr = addr.to_canonical();
    let matches = |negated: bool| patterns.iter().any(|p| p.negated == negated && p.what.matches(addr));
    !matches(true) && matches(false)
}

impl What {
    fn matches(&self, addr: IpAddr) -> bool {
        match self {
            Self::Network { addr: network, prefix } => {
                network.is_ipv4() == addr.is_ipv4() && masked(addr, *prefix) == *network
            }
            Self::Wildcard(pattern) => wildcard_matches(pattern.as_bytes(), addr.to_string().as_bytes()),
        }
    }
}

pub(super) fn masked(addr: IpAddr, prefix: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// `*` is any run of characters and `?` any one; linear in pattern × text, both of which are short.
fn wildcard_matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for p in pattern {
        let mut next = vec![false; text.len() + 1];
        let mut any_before = false;
        for (at, slot) in next.iter_mut().enumerate() {
            any_before |= reached.get(at).copied().unwrap_or(false);
            let before = at.checked_sub(1).and_then(|at| Some((reached.get(at)?, text.get(at)?)));
            *slot = match (p, before) {
                (b'*', _) => any_before,
                (b'?', Some((reached, _))) => *reached,
                (p, Some((reached, c))) => *reached && p == c,
                (_, None) => false,
            };
        }
        reached = next;
    }
    reached.last().copied().unwrap_or(false)
}

impl FromStr for AddressPattern {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let refused = || KeyError::From(comment::quotable(text));
        if text.len() > MAX_PATTERN_LEN {
            return Err(refused());
        }
        let (negated, pattern) = match text.strip_prefix('!') {
            Some(pattern) => (true, pattern),
            None => (false, text),
        };
        if pattern.contains(['*', '?']) {
            let pattern = pattern.to_ascii_lowercase();
            return match is_address_wildcard(&pattern) {
                true => Ok(Self { negated, what: What::Wildcard(pattern) }),
                false => Err(refused()),
            };
        }
        let (addr, prefix) = match pattern.split_once('/') {
            Some((addr, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                (addr, Some(digits.parse::<u8>().map_err(|_| refused())?))
            }
            Some(_) => return Err(refused()),
            None => (pattern, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| refused())?;
        let bits = if addr.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        if prefix > bits {
            return Err(refused());
        }
        if masked(addr, prefix) != addr {
            return Err(KeyError::FromHostBits(comment::quotable(text)));
        }
        Ok(Self { negated, what: canonical(addr, prefix) })
    }
}

/// A network of IPv4 addresses in IPv6 clothes is one of IPv4 addresses.
fn canonical(addr: IpAddr, prefix: u8) -> What {
    match (addr.to_canonical(), prefix.checked_sub(96)) {
        (v4 @ IpAddr::V4(_), Some(prefix)) if addr.is_ipv6() => What::Network { addr: v4, prefix },
        _ => What::Network { addr, prefix },
    }
}

/// Letters occur in IPv6 addresses only, which have colons: `*.cafe` is a host name.
fn is_address_wildcard(pattern: &str) -> bool {
    let v6 = pattern.contains(':');
    pattern.bytes().all(|b| match b {
        b'0'..=b'9' | b'.' | b'*' | b'?' => true,
        b'a'..=b'f' | b':' => v6,
        _ => false,
    })
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negated {
            f.write_str("!")?;
        }
        match &self.what {
            What::Network { addr, prefix } if *prefix == if addr.is_ipv4() { 32 } else { 128 } => addr.fmt(f),
            What::Network { addr, prefix } => write!(f, "{addr}/{prefix}"),
            What::Wildcard(pattern) => f.write_str(pattern),
        }
    }
}
