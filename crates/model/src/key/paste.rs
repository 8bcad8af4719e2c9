//! From what people paste to keys.
//!
//! A key survives much on its way through mail programs and terminals, because a blob says itself where it ends
//! ([`super::blob`]). So the text is read without its line breaks ([`text::Text`]): an entry begins at a line where
//! options, a type and the first bytes of a blob follow each other, broken over lines or not; its blob is as long as
//! it says; and what is left of the line is the comment. What is not an entry is judged as well, so that nobody
//! believes a key to be added that was not.

mod block;
mod entry;
mod private;
mod text;

use super::{KeyError, KeyOptions, PasteError, PublicKey};
use text::Text;

/// The greatest paste, in bytes.
pub const MAX_PASTE_LEN: usize = 64 * 1024;
/// The most keys in one paste, those that are refused included.
pub const MAX_KEYS: usize = 100;

/// One key out of a paste.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastedKey {
    /// The key.
    pub key: PublicKey,
    /// What restricts its use.
    pub options: KeyOptions,
    /// The comment, at most [`super::MAX_COMMENT_LEN`] characters, safe to show in a terminal. May be empty.
    pub comment: String,
}

/// Reads every key in a paste and judges each, in order: lines of `authorized_keys` and of `.pub` files, RFC 4716 and
/// PuTTY's public format, and blobs without their type; with Windows line ends, a byte order mark, quotes around
/// them, `>` before each line, or wrapped at any width. Empty lines and lines that begin with `#` are skipped.
///
/// # Errors
/// The whole paste is refused where it has a private key of any format in it, no key at all, more than [`MAX_KEYS`]
/// or more than [`MAX_PASTE_LEN`] bytes.
pub fn parse_pasted(text: &str) -> Result<Vec<Result<PastedKey, KeyError>>, PasteError> {
    if text.len() > MAX_PASTE_LEN {
        return Err(PasteError::TooLarge);
    }
    let clean = text::normalize(text);
    if private::contains_private_key(&clean) {
        return Err(PasteError::PrivateKey);
    }
    let text = Text::new(&clean);
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if found.len() == MAX_KEYS {
            return Err(PasteError::TooMany);
        }
        let (result, end) = if let Some(block) = block::find(&text, at) {
            (block::read(&text, &block), block.end)
        } else if let Some(head) = entry::head(&text, at) {
            entry::read(&text, &head)
        } else {
            entry::reject(&text, at)
        };
        found.push(result);
        // Every reader consumes something; the maximum says so to those who change them.
        at = text.next_line(end.max(at + 1));
    }
    if found.is_empty() { Err(PasteError::Empty) } else { Ok(found) }
}
