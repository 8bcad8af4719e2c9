//! Entries of `authorized_keys`, and lines that are none.

use std::ops::ControlFlow;

use super::{
    PastedKey, block,
    text::{Gap, Text, decode, is_base64, lenient_decode},
};
use crate::key::{
    KeyError, PublicKey,
    blob::{self, Kind, MAX_BASE64_LEN},
    comment,
};

/// Bounds on options that are looked through: how many, how long a name, how long a
/// value in quotes, how long all of them.
const MAX_OPTIONS: usize = 32;
const MAX_OPTION_NAME_LEN: usize = 40;
const MAX_OPTION_VALUE_LEN: usize = 4 * 1024;
const MAX_OPTIONS_LEN: usize = 8 * 1024;

/// So much base64 in one piece is no word of a comment.
const MAX_COMMENT_WORD_LEN: usize = 40;

/// The options that sshd(8) knows. Only these are recognised where a line break makes them doubtful.
const OPTIONS: [&str; 23] = [
    "agent-forwarding",
    "cert-authority",
    "command",
    "environment",
    "expiry-time",
    "from",
    "no-agent-forwarding",
    "no-port-forwarding",
    "no-pty",
    "no-touch-required",
    "no-user-rc",
    "no-X11-forwarding",
    "permitlisten",
    "permitopen",
    "port-forwarding",
    "principals",
    "pty",
    "restrict",
    "touch-required",
    "tunnel",
    "user-rc",
    "verify-required",
    "X11-forwarding",
];

/// The beginning of an entry, up to its blob.
pub(super) struct Head {
    quote: Option<u8>,
    options: String,
    word: Option<&'static str>,
    blob: usize,
}

/// The entry that begins at `at`: perhaps options, perhaps a type, and a blob.
pub(super) fn head(text: &Text<'_>, at: usize) -> Option<Head> {
    let quote = text.byte(at).filter(|byte| is_quote(*byte));
    let start = at + usize::from(quote.is_some());
    if text.blob_type(start).is_some() {
        return Some(Head { quote, options: String::new(), word: None, blob: start });
    }
    if !text.has_type_within(start..start + MAX_OPTIONS_LEN) {
        return None;
    }
    let mut next = start;
    for _ in 0..MAX_OPTIONS {
        if let Some(word) = text.type_before_blob(next) {
            let options = String::from_utf8_lossy(text.bytes(start, next)).into_owned();
            if next > start && text.is_line_start(next) && !ends_as_option(&options) {
                return None;
            }
            return Some(Head { quote, options, word: Some(word), blob: next + word.len() });
        }
        next = match skip_option(text, next)? {
            ControlFlow::Continue(end) => end,
            ControlFlow::Break(end) => {
                text.type_before_blob(end)?;
                end
            }
        };
    }
    None
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

/// The end of the option at `at`: `Continue` after a comma, `Break` where no other option follows.
fn skip_option(text: &Text<'_>, at: usize) -> Option<ControlFlow<usize, usize>> {
    let name_end = (at..=at + MAX_OPTION_NAME_LEN).find(|end| !goes_on_name(text, at, *end))?;
    let known = is_known_option(text.bytes(at, name_end));
    let end = match text.byte(name_end) {
        Some(b'=') => skip_value(text, name_end + 1, known)?,
        _ => name_end,
    };
    // The last line of a blob, padding and a quote behind it, is no option because a key follows.
    let broken = (at + 1..end).any(|at| text.is_line_start(at));
    if end == at || broken && !known {
        return None;
    }
    match text.byte(end) {
        Some(b',') => Some(ControlFlow::Continue(end + 1)),
        _ => Some(ControlFlow::Break(end)),
    }
}

/// Whether the name of the option at `start` goes on at `at`.
fn goes_on_name(text: &Text<'_>, start: usize, at: usize) -> bool {
    let is_name =
        text.byte(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let parted = matches!(text.gap(at), Gap::Space | Gap::Break) || text.type_before_blob(at).is_some();
    is_name && (at == start || !parted)
}

fn is_known_option(name: &[u8]) -> bool {
    OPTIONS.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// The end of a value; without quotes it is an error, which is told for an option that is known.
fn skip_value(text: &Text<'_>, at: usize, known: bool) -> Option<usize> {
    let limit = at + MAX_OPTION_VALUE_LEN;
    if text.byte(at) != Some(b'"') {
        let ends = |at: &usize| text.byte(*at) == Some(b',') || text.gap(*at) != Gap::None;
        return (at + 1..limit.min(text.len())).find(ends).filter(|_| known);
    }
    let mut escaped = false;
    for next in at + 1..limit.min(text.len()) {
        match text.byte(next)? {
            _ if text.gap(next) == Gap::Break => return None,
            b'"' if !escaped => return Some(next + 1),
            byte => escaped = byte == b'\\' && !escaped,
        }
    }
    None
}

/// Whether a text ends as only a list of options does, and not as words that happen to stand before a key.
fn ends_as_option(text: &str) -> bool {
    text.ends_with('"') || text.rsplit(',').next().is_some_and(|name| is_known_option(name.as_bytes()))
}

fn starts_entry(text: &Text<'_>, at: usize) -> bool {
    block::find(text, at).is_some() || head(text, at).is_some()
}

/// Reads an entry, and says where it ends: the beginning of a line.
pub(super) fn read(text: &Text<'_>, head: &Head) -> (Result<PastedKey, KeyError>, usize) {
    match blob(text, head.blob, |at| starts_entry(text, at)) {
        Ok((bytes, end)) => {
            let (comment, end) = comment_after(text, head, end);
            (judge(head, &bytes, &comment), end)
        }
        Err(error) => (Err(error), end_of_entry(text, head.blob)),
    }
}

fn judge(head: &Head, bytes: &[u8], comment: &str) -> Result<PastedKey, KeyError> {
    if let (Some(word), Some(name)) = (head.word, blob::type_name(bytes))
        && word != name
    {
        return Err(KeyError::TypeMismatch { word: word.to_owned(), holds: comment::quotable(name) });
    }
    let key = PublicKey::from_blob(bytes)?;
    Ok(PastedKey { key, options: head.options.parse()?, comment: comment::clean(comment) })
}

/// The bytes of the blob at `at` and where it ends, its padding included.
pub(super) fn blob(
    text: &Text<'_>,
    at: usize,
    ends_before: impl Fn(usize) -> bool,
) -> Result<(Vec<u8>, usize), KeyError> {
    let name = text.blob_type(at).ok_or(KeyError::NotAKey)?;
    let fields = match blob::kind(name) {
        Some(Kind::Accepted { fields }) => fields,
        Some(Kind::Dsa) => return Err(KeyError::Dsa),
        Some(Kind::Certificate) => return Err(KeyError::Certificate),
        None => return Err(KeyError::UnknownType(comment::quotable(name))),
    };
    let run = text.base64_run(at, MAX_BASE64_LEN, ends_before);
    let bytes = self_delimited(run, fields).ok_or(KeyError::Cut)?;
    let characters = (bytes.len() * 8).div_ceil(6);
    // The last group has bits that belong to no byte; a canonical encoding has zeros there.
    if run.get(..characters).and_then(decode).as_deref() != Some(bytes.as_slice()) {
        return Err(KeyError::Damaged);
    }
    let end = skip_padding(text, at + characters, (4 - characters % 4) % 4);
    let ends_here =
        text.gap(end) != Gap::None || text.byte(end).is_some_and(|b| is_quote(b) || b == b',' || b == b';');
    if ends_here { Ok((bytes, end)) } else { Err(KeyError::Damaged) }
}

/// The blob at the beginning of some base64, behind which a word of a comment may stand that looks like base64.
fn self_delimited(base64: &[u8], fields: usize) -> Option<Vec<u8>> {
    let groups = base64.len() - base64.len() % 4;
    // The last group of a blob may have two or three characters.
    [0, 2, 3].into_iter().find_map(|more| {
        let mut bytes = lenient_decode(base64.get(..groups + more)?)?;
        let length = blob::length(&bytes, fields)?;
        bytes.truncate(length);
        Some(bytes)
    })
}

fn skip_padding(text: &Text<'_>, at: usize, most: usize) -> usize {
    let is_padding = |at: &usize| text.byte(*at) == Some(b'=') && text.gap(*at) != Gap::Break;
    at + (at..at + most).take_while(is_padding).count()
}

/// The comment of the entry whose blob ends at `end`, and where it ends. The comment of an entry that was wrapped
/// may go on in the next lines, and the last word of any may have been broken; but these must not look like a key.
fn comment_after(text: &Text<'_>, head: &Head, end: usize) -> (String, usize) {
    let here = if text.is_line_start(end) { "" } else { text.rest_of_line(end) };
    let mut next = text.next_line(end);
    let mut comment = here.to_owned();
    let wrapped = (head.blob..end).any(|at| text.is_line_start(at)) || comment.trim().is_empty();
    while text.gap(next) == Gap::Line
        && (wrapped || text.rest_of_line(next).split_whitespace().count() == 1)
        && !starts_entry(text, next)
        && is_comment(text, next)
    {
        comment.push(' ');
        comment.push_str(text.rest_of_line(next));
        next = text.next_line(next + 1);
    }
    if let Some(quote) = head.quote {
        let trimmed = comment.trim_end().trim_end_matches([',', ';']).trim_end();
        comment = trimmed.strip_suffix(char::from(quote)).unwrap_or(trimmed).to_owned();
    }
    (comment, next)
}

fn is_comment(text: &Text<'_>, line: usize) -> bool {
    let source = text.rest_of_line(line);
    !source.contains("AAAA")
        && !source.split_whitespace().any(blob::looks_like_type)
        && !source
            .split(|c: char| !c.is_ascii() || !is_base64(c as u8))
            .any(|word| word.len() > MAX_COMMENT_WORD_LEN)
}

/// Where an entry that cannot be read ends: at the next one, or at a break.
fn end_of_entry(text: &Text<'_>, at: usize) -> usize {
    let mut line = text.next_line(at + 1);
    while text.gap(line) == Gap::Line && !starts_entry(text, line) && !starts_with_type(text, line) {
        line = text.next_line(line + 1);
    }
    line
}

fn first_word<'a>(text: &Text<'a>, line: usize) -> &'a str {
    text.rest_of_line(line).split_whitespace().next().unwrap_or_default()
}

fn starts_with_type(text: &Text<'_>, line: usize) -> bool {
    blob::looks_like_type(first_word(text, line))
}

/// Says what is wrong with lines that are no entry, and where they end.
pub(super) fn reject(text: &Text<'_>, at: usize) -> (Result<PastedKey, KeyError>, usize) {
    let end = end_of_entry(text, at);
    let mut words = text.source(at, end).split_whitespace();
    let first = first_word(text, at);
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    let error = if blob::kind(first) == Some(Kind::Dsa) {
        KeyError::Dsa
    } else if blob::kind(first) == Some(Kind::Certificate) {
        KeyError::Certificate
    } else if blob::kind(first).is_some() {
        KeyError::Cut
    } else if blob::looks_like_type(first) {
        KeyError::UnknownType(comment::quotable(first))
    } else if words.clone().any(|word| word.starts_with("SHA256:") || word.starts_with("MD5:")) {
        KeyError::Fingerprint
    } else if words.clone().count() >= 3 && words.by_ref().take(3).all(is_number) {
        KeyError::Version1
    } else {
        KeyError::NotAKey
    };
    (Err(error), end)
}
