//! From what people paste to keys.

use super::{KeyError, KeyOptions, PasteError, PublicKey};

/// One key out of a paste.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastedKey {
    /// The key.
    pub key: PublicKey,
    /// What restricts its use.
    pub options: KeyOptions,
    /// The comment, at most 255 characters, safe to show in a terminal. May be empty.
    pub comment: String,
}

/// Reads every key in a paste and judges each.
///
/// # Errors
/// The whole paste is refused where it has a private key in it, no key at all, or too much.
pub fn parse_pasted(_text: &str) -> Result<Vec<Result<PastedKey, KeyError>>, PasteError> {
    unimplemented!()
}
