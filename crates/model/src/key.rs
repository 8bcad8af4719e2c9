//! Public keys: what they are, what restricts their use, and what people paste when they add one.
//!
//! Private keys are none of this module's values: [`parse_pasted`] recognises them only to refuse them, and keeps no
//! part of such a text, not even in an error.

mod address;
mod blob;
mod comment;
mod error;
mod options;
mod paste;
mod public;

pub use address::AddressPattern;
pub use comment::MAX_COMMENT_LEN;
pub use error::{KeyError, PasteError};
pub use options::{KeyOptions, NotPermitted};
pub use paste::{MAX_KEYS, MAX_PASTE_LEN, PastedKey, parse_pasted};
pub use public::{Fingerprint, MAX_RSA_BITS, MIN_RSA_BITS, PublicKey};
