//! Why a key or a paste is refused, in sentences for the member.

/// Why one key is refused. What is quoted in it is short, and safe to show in a terminal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key could be read.
    #[error("This is not a public key. Paste the whole line of your .pub file.")]
    NotAKey,
    /// The key ends too early.
    #[error("This key is cut off. Copy the whole line of your .pub file, from its first word to the end.")]
    Cut,
    /// The key's bytes are no key, or more than a key.
    #[error(
        "This key is damaged: characters of it were changed, added or lost. Copy the line of your .pub file again."
    )]
    Damaged,
    /// The word before the key names another type than the key.
    #[error("This line says {word} but holds a key of type {holds}. Copy the line of your .pub file again.")]
    TypeMismatch {
        /// The word.
        word: String,
        /// The type inside.
        holds: String,
    },
    /// A type that Berth does not know.
    #[error(
        "Keys of type {0} are not accepted. Make an ed25519 key (ssh-keygen -t ed25519) and paste its .pub file."
    )]
    UnknownType(String),
    /// A DSA key.
    #[error(
        "DSA keys are too weak and not accepted. Make an ed25519 key (ssh-keygen -t ed25519) and paste its .pub file."
    )]
    Dsa,
    /// An RSA key below [`super::MIN_RSA_BITS`].
    #[error(
        "This RSA key has {0} bits, too few to be safe; the least is 2048. Make an ed25519 key \
         (ssh-keygen -t ed25519) and paste its .pub file."
    )]
    RsaTooSmall(usize),
    /// An RSA key above [`super::MAX_RSA_BITS`].
    #[error(
        "This RSA key has {0} bits; the most is 8192. Make an ed25519 key (ssh-keygen -t ed25519) and paste its .pub \
         file."
    )]
    RsaTooLarge(usize),
    /// A certificate and not a key.
    #[error(
        "This is a certificate. Paste the plain public key instead: the .pub file without -cert in its name."
    )]
    Certificate,
    /// A public key in PEM, which `ssh-keygen` converts.
    #[error(
        "This is a public key in PEM format. Convert it (ssh-keygen -i -m PKCS8 -f FILE) and paste the result."
    )]
    Pem,
    /// A key of SSH's protocol 1.
    #[error(
        "This is a key of SSH version 1, which is not in use any more. Make an ed25519 key \
         (ssh-keygen -t ed25519) and paste its .pub file."
    )]
    Version1,
    /// The fingerprint of a key.
    #[error("This is the fingerprint of a key and not the key. Paste the line of your .pub file.")]
    Fingerprint,
    /// An option that Berth does not honour.
    #[error("The option {0} is not supported here. Only from= and expiry-time= are; leave the others out.")]
    Option(String),
    /// Options that cannot be read.
    #[error(
        "The options before the key cannot be read. They look like from=\"192.0.2.0/24\",expiry-time=\"20301231\"."
    )]
    Options,
    /// `from=` twice.
    #[error("The option from= is there twice. Put all addresses into one: from=\"192.0.2.7,10.0.0.0/8\".")]
    FromTwice,
    /// `from=` with something that is no address.
    #[error(
        "“{0}” in from= is not an address. It may list addresses, networks and patterns of addresses, for example \
         from=\"192.0.2.7,10.0.0.0/8,2001:db8::/32,!10.0.0.1\"; host names are not looked up."
    )]
    From(String),
    /// A network in `from=` whose address has bits behind its prefix.
    #[error(
        "“{0}” in from= is not a network: its address goes on after the prefix. Write 10.0.0.0/8, not 10.0.0.1/8."
    )]
    FromHostBits(String),
    /// `from=` with no address, or with too many.
    #[error("from= needs 1 to 64 addresses.")]
    FromCount,
    /// `expiry-time=` that is no time.
    #[error("expiry-time= needs a date like 20301231, or with a time like 202312311800Z, in UTC.")]
    Expiry,
    /// Not a fingerprint of the form `SHA256:…`.
    #[error("A fingerprint looks like SHA256: and 43 letters and digits.")]
    NotAFingerprint,
}

/// Why a whole paste is refused. Holds nothing of the paste.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
