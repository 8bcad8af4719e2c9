//! Keys in armour: RFC 4716, which is PuTTY's public format too, and what merely looks like it.

use super::{PastedKey, entry, text::Text};
use crate::key::{KeyError, KeyOptions, PublicKey, comment};

/// The longest label that is told apart, without white space.
const MAX_LABEL_LEN: usize = 40;

/// Armour in a text: where its content is, and where it ends.
pub(super) struct Block {
    label: String,
    body: usize,
    body_end: usize,
    pub(super) end: usize,
}

/// The armour that begins at the line start `at`. Without its last line it goes up to the next armour or the end.
pub(super) fn find(text: &Text<'_>, at: usize) -> Option<Block> {
    let (label, body) = marker(text, at, "BEGIN")?;
    let mut line = body;
    loop {
        if line >= text.len() || marker(text, line, "BEGIN").is_some() {
            return Some(Block { label, body, body_end: line, end: line });
        }
        if let Some((_, end)) = marker(text, line, "END") {
            return Some(Block { label, body, body_end: line, end });
        }
        line = text.next_line(line + 1);
    }
}

/// A line such as `---- BEGIN SSH2 PUBLIC KEY ----`: its label in upper case without spaces, and what follows it.
fn marker(text: &Text<'_>, at: usize, word: &str) -> Option<(String, usize)> {
    let hyphens = |from: usize, most: usize| {
        (from..from.saturating_add(most)).take_while(|at| text.byte(*at) == Some(b'-')).count()
    };
    let first = hyphens(at, MAX_LABEL_LEN);
    let label_start = at + first + word.len();
    if first < 2 || !text.has_word(at + first, word) {
        return None;
    }
    let label: String = text
        .bytes(label_start, label_start + MAX_LABEL_LEN)
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric())
        .map(|byte| char::from(byte.to_ascii_uppercase()))
        .collect();
    // As many as before it: what follows may be the next armour.
    let last = hyphens(label_start + label.len(), first);
    (last >= 2).then(|| (label.clone(), label_start + label.len() + last))
}

pub(super) fn read(text: &Text<'_>, block: &Block) -> Result<PastedKey, KeyError> {
    match block.label.as_str() {
        "SSH2PUBLICKEY" => read_rfc4716(text, block),
        label if label.starts_with("PGP") => Err(KeyError::NotAKey),
        label if label.ends_with("PUBLICKEY") => Err(KeyError::Pem),
        _ => Err(KeyError::NotAKey),
    }
}

/// RFC 4716, 3: headers, then the blob. However they were wrapped, the blob begins a line.
fn read_rfc4716(text: &Text<'_>, block: &Block) -> Result<PastedKey, KeyError> {
    let mut line = block.body;
    while line < block.body_end && text.blob_type(line).is_none() {
        line = text.next_line(line + 1);
    }
    if line >= block.body_end {
        return Err(KeyError::Damaged);
    }
    let (bytes, end) = entry::blob(text, line, |at| at >= block.body_end)?;
    if end != block.body_end {
        return Err(KeyError::Damaged);
    }
    let comment = comment::clean(&header(text.source(block.body, line), "comment"));
    Ok(PastedKey { key: PublicKey::from_blob(&bytes)?, options: KeyOptions::default(), comment })
}

/// The value of a header, continued lines joined, without the quotes around it.
fn header(headers: &str, wanted: &str) -> String {
    let mut value = String::new();
    let mut inside = false;
    for line in headers.lines().map(|line| line.trim_start_matches([' ', '>']).trim_end()) {
        let (tag, rest) = line.split_once(':').unwrap_or_default();
        let is_tag = !tag.is_empty() && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let continued = value.ends_with('\\');
        if is_tag && !continued {
            inside = tag.eq_ignore_ascii_case(wanted);
        }
        if inside {
            value.truncate(value.trim_end_matches('\\').len());
            value.push_str(if is_tag && !continued { rest.trim_start() } else { line });
        }
    }
    let value = value.trim();
    value.strip_prefix('"').map_or(value, |value| value.strip_suffix('"').unwrap_or(value)).to_owned()
}
