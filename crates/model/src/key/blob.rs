//! The binary form of a public key (RFC 4253, 6.6): a sequence of length-prefixed strings, the first of which names
//! its type. From the type follows the number of strings, so that a blob says itself where it ends.

/// More base64 than any accepted key has; an RSA key of 8192 bits has 1,400 characters.
pub(super) const MAX_BASE64_LEN: usize = 16 * 1024;

/// The longest name of a type (RFC 4251, 6).
const MAX_NAME_LEN: usize = 64;

/// What is to be done with a type of key that OpenSSH knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Accepted, if the key itself is.
    Accepted {
        /// How many strings make a blob, with the name.
        fields: usize,
    },
    /// Refused for its weakness.
    Dsa,
    /// Refused for not being a key.
    Certificate,
}

/// Every type of key that OpenSSH has had since protocol 2. No name is the beginning of another one that is not a
/// certificate's, and a name counts only with a blob right behind it, so that the order does not matter.
pub(super) const TYPES: &[(&str, Kind)] = &[
    ("ssh-ed25519", Kind::Accepted { fields: 2 }),
    ("ssh-rsa", Kind::Accepted { fields: 3 }),
    ("ecdsa-sha2-nistp256", Kind::Accepted { fields: 3 }),
    ("ecdsa-sha2-nistp384", Kind::Accepted { fields: 3 }),
    ("ecdsa-sha2-nistp521", Kind::Accepted { fields: 3 }),
    ("sk-ssh-ed25519@openssh.com", Kind::Accepted { fields: 3 }),
    ("sk-ecdsa-sha2-nistp256@openssh.com", Kind::Accepted { fields: 4 }),
    ("ssh-dss", Kind::Dsa),
    ("ssh-ed25519-cert-v01@openssh.com", Kind::Certificate),
    ("ssh-rsa-cert-v01@openssh.com", Kind::Certificate),
    ("ssh-dss-cert-v01@openssh.com", Kind::Certificate),
    ("ecdsa-sha2-nistp256-cert-v01@openssh.com", Kind::Certificate),
    ("ecdsa-sha2-nistp384-cert-v01@openssh.com", Kind::Certificate),
    ("ecdsa-sha2-nistp521-cert-v01@openssh.com", Kind::Certificate),
    ("sk-ssh-ed25519-cert-v01@openssh.com", Kind::Certificate),
    ("sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", Kind::Certificate),
];

pub(super) fn kind(name: &str) -> Option<Kind> {
    TYPES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// Whether a word could be the name of some type of key, known or not.
pub(super) fn looks_like_type(word: &str) -> bool {
    let family =
        ["ssh-", "ecdsa-", "sk-", "x509v3-", "rsa-sha2-"].iter().any(|start| word.starts_with(start));
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'@');
    family && word.len() <= MAX_NAME_LEN && word.bytes().all(plain)
}

fn take_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// The name that a blob, or the beginning of one, carries.
pub(super) fn type_name(bytes: &[u8]) -> Option<&str> {
    let (name, _) = take_string(bytes)?;
    std::str::from_utf8(name).ok().filter(|name| looks_like_type(name))
}

/// The number of bytes in the blob that `bytes` begin with; `None` where they end before it does.
pub(super) fn length(bytes: &[u8], fields: usize) -> Option<usize> {
    let mut rest = bytes;
    for _ in 0..fields {
        rest = take_string(rest)?.1;
    }
    Some(bytes.len() - rest.len())
}
