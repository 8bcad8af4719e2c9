//! Public keys: what they are, what restricts their use, and what people paste when they add one.
//!
//! Private keys are none of this module's values: [`parse_pasted`] recognises them only to refuse them, and keeps no
//! part of such a text, not even in an error.

mod error;
mod options;
mod paste;
mod public;

pub use error::{KeyError, PasteError};
pub use options::{AddressPattern, KeyOptions, NotPermitted};
pub use paste::{PastedKey, parse_pasted};
pub use public::{Fingerprint, PublicKey};
