//! The two options of a key that Berth honours: `from="…"` and `expiry-time="…"` (sshd(8), AUTHORIZED_KEYS).

use std::{fmt, net::IpAddr, str::FromStr};

use time::OffsetDateTime;

use super::KeyError;

/// One pattern of `from="…"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPattern(String);

/// What restricts the use of a key. `Display` and `FromStr` are its form in an authorized_keys line, empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyOptions {
    /// The addresses that the key may be used from; empty means any.
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
    #[error("This key may not be used from this address (its from= option).")]
    Address,
}

impl KeyOptions {
    /// Whether the key may be used by a client at `addr` at the time `now`.
    ///
    /// # Errors
    /// Which restriction forbids it.
    pub fn permits(&self, _addr: IpAddr, _now: OffsetDateTime) -> Result<(), NotPermitted> {
        unimplemented!()
    }
}

impl fmt::Display for KeyOptions {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}

impl FromStr for KeyOptions {
    type Err = KeyError;

    fn from_str(_text: &str) -> Result<Self, KeyError> {
        unimplemented!()
    }
}
