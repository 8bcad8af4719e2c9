//! Why a key or a paste is refused, in sentences for the member.

/// Why one key is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key could be read.
    #[error("This is not a public key. Paste the whole line of your .pub file.")]
    NotAKey,
}

/// Why a whole paste is refused. Holds nothing of the paste.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasteError {
    /// There is a private key in it.
    #[error(
        "That is a private key. It was not stored. Anyone who has seen it can be you: make a new pair \
         (ssh-keygen -t ed25519) and paste the .pub file."
    )]
    PrivateKey,
    /// Larger than any list of keys.
    #[error("That is more than 64 KiB, too long for a list of keys. Paste the line of your .pub file.")]
    TooLarge,
    /// More keys than one paste may have.
    #[error("That is more than 100 keys. Paste at most 100 at a time.")]
    TooMany,
    /// Nothing but comments and white space.
    #[error("There is no key in it. Paste the line of your .pub file.")]
    Empty,
}
