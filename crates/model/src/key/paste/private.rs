//! Recognising private keys, whole or in parts, in order to refuse them.

use super::text::{decode, is_base64};

/// Between the first word of an armour line and its `PRIVATE KEY` are at most the names of a format and an
/// algorithm.
const MAX_LABEL_LEN: usize = 32;
/// As much base64 as tells a private key's encoding.
const PROBE_LEN: usize = 40;

/// Fields that only PuTTY's private keys have.
const PUTTY_MARKS: [&str; 3] = ["PUTTY-USER-KEY-FILE-", "PRIVATE-LINES:", "PRIVATE-MAC:"];

/// Whether a private key in any format is anywhere in a text: by its armour, by PuTTY's fields, or, where these were
/// not copied, by its first bytes. White space and the marks that mail programs put before lines do not matter.
pub(super) fn contains_private_key(text: &str) -> bool {
    let marks = squeeze(text);
    has_armour(&marks) || PUTTY_MARKS.iter().any(|mark| marks.contains(mark)) || has_private_bytes(text)
}

/// What armour is made of: letters, digits and hyphens (typographic ones too), in upper case.
fn squeeze(text: &str) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' => Some('-'),
            c if c.is_ascii_alphanumeric() || c == '-' || c == ':' => Some(c.to_ascii_uppercase()),
            _ => None,
        })
        .collect()
}

fn has_armour(marks: &str) -> bool {
    // The armour of SSH 1 is binary behind its first line.
    marks.contains("SSHPRIVATEKEYFILEFORMAT")
        || ["-BEGIN", "-END"].iter().any(|mark| {
            marks.match_indices(mark).any(|(at, _)| {
                let label = marks.get(at + mark.len()..).unwrap_or_default();
                let end = label.find('-').unwrap_or(label.len()).min(MAX_LABEL_LEN + "PRIVATEKEY".len());
                label.get(..end).is_some_and(|label| label.contains("PRIVATEKEY"))
            })
        })
}

fn has_private_bytes(text: &str) -> bool {
    let base64 = without_line_ends(text);
    base64.iter().enumerate().filter(|(_, (_, starts))| *starts).any(|(at, _)| {
        let rest = base64.iter().skip(at).take(PROBE_LEN).map(|(byte, _)| *byte);
        let word: Vec<u8> = rest.take_while(|byte| is_base64(*byte)).collect();
        let whole = word.len() - word.len() % 4;
        word.get(..whole).and_then(decode).is_some_and(|bytes| is_private_encoding(&bytes))
    })
}

/// The text without white space and `>`, each byte with whether a word of base64 may begin there.
fn without_line_ends(text: &str) -> Vec<(u8, bool)> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut starts = true;
    for byte in text.bytes() {
        if byte.is_ascii_whitespace() || byte == b'>' {
            starts = true;
        } else {
            bytes.push((byte, starts && is_base64(byte)));
            starts = !is_base64(byte);
        }
    }
    bytes
}

/// Whether bytes are the first ones of a private key: OpenSSH's own format, ssh.com's, or the DER inside PEM.
fn is_private_encoding(bytes: &[u8]) -> bool {
    const OPENSSH: &[u8] = b"openssh-key-v1";
    const SSH_COM: &[u8] = &[0x3f, 0x6f, 0xf9, 0xeb];
    bytes.starts_with(OPENSSH) || bytes.starts_with(SSH_COM) || is_private_der(bytes)
}

/// PKCS #1, SEC 1, DSA and PKCS #8 begin with a version and then the next field; encrypted PKCS #8 with the object
/// identifier of an encryption (RFC 8018, RFC 5915, RFC 5958).
fn is_private_der(bytes: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    let Some(body) = der_body(bytes, SEQUENCE) else { return false };
    if let Some(inner) = der_body(body, SEQUENCE) {
        const PKCS5: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05];
        const PKCS12: &[u8] = &[0x06, 0x0a, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c];
        return inner.starts_with(PKCS5) || inner.starts_with(PKCS12);
    }
    matches!(body, [0x02, 0x01, 0x00, 0x02 | SEQUENCE, ..] | [0x02, 0x01, 0x01, 0x04 | SEQUENCE, ..])
}

/// What follows a tag and its length.
fn der_body(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    match bytes {
        [first, 0x82, _, _, body @ ..] | [first, 0x81, _, body @ ..] | [first, 0x00..=0x7f, body @ ..] => {
            (*first == tag).then_some(body)
        }
        _ => None,
    }
}
