//! A paste without its white space, which remembers where that was.

use std::collections::BTreeMap;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::key::blob;

const UNPADDED: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireNone);
const STRICT: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, UNPADDED);
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, UNPADDED.with_decode_allow_trailing_bits(true));

/// Enough base64 for the length and the longest name of a type, in whole groups of four.
const NAME_BASE64_LEN: usize = 92;

/// Takes out what editors, browsers and terminals add: byte order marks, zero-width characters, NULs, the brackets of
/// a bracketed paste, no-break spaces, foreign line ends and typographic quotes.
pub(super) fn normalize(text: &str) -> String {
    let text = text.replace("\u{1b}[200~", "").replace("\u{1b}[201~", "").replace("\r\n", "\n");
    text.chars()
        .filter(|c| !matches!(c, '\0' | '\u{feff}' | '\u{200b}'..='\u{200d}' | '\u{2060}'))
        .map(|c| match c {
            '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => '\n',
            '“' | '”' | '„' => '"',
            c if c != '\n' && c.is_whitespace() => ' ',
            c => c,
        })
        .collect()
}

pub(super) fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// Decodes base64 without padding, refusing bits that a canonical encoding has not.
pub(super) fn decode(base64: &[u8]) -> Option<Vec<u8>> {
    STRICT.decode(base64).ok()
}

/// The same without regard to such bits, for base64 that goes on.
pub(super) fn lenient_decode(base64: &[u8]) -> Option<Vec<u8>> {
    LENIENT.decode(base64).ok()
}

/// What stands before a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    None,
    Space,
    /// The byte is the first of its line.
    Line,
    /// The same, after an empty line or a comment, or at the beginning.
    Break,
}

/// The bytes that are not white space, addressed by their index among themselves.
pub(super) struct Text<'a> {
    source: &'a str,
    bytes: Vec<u8>,
    /// Where each byte is in `source`, and what stands before it.
    places: Vec<(usize, Gap)>,
    /// Where blobs begin, and the types that they name.
    blobs: BTreeMap<usize, String>,
    /// Where the type stands of a blob that follows it. Known in advance, or every line of a hostile paste would be
    /// searched for it.
    types: BTreeMap<usize, &'static str>,
}

impl<'a> Text<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        let mut text =
            Self { source, bytes: vec![], places: vec![], blobs: BTreeMap::new(), types: BTreeMap::new() };
        let mut gap = Gap::Break;
        let mut start = 0;
        for line in source.split('\n') {
            let unquoted = line.trim_start_matches([' ', '>']);
            if unquoted.is_empty() || unquoted.starts_with('#') {
                gap = Gap::Break;
            } else {
                text.push_line(start + line.len() - unquoted.len(), unquoted, gap);
                gap = Gap::Line;
            }
            start += line.len() + 1;
        }
        text.find_blobs();
        text
    }

    fn find_blobs(&mut self) {
        self.blobs = (0..self.len()).filter_map(|at| Some((at, self.read_blob_type(at)?))).collect();
        let named = self.blobs.keys().flat_map(|blob| {
            let starts = |name: &str| blob.checked_sub(name.len()).filter(|at| self.has_word(*at, name));
            blob::TYPES.iter().filter_map(move |(name, _)| Some((starts(name)?, *name)))
        });
        self.types = named.collect();
    }

    fn read_blob_type(&self, at: usize) -> Option<String> {
        if !self.bytes(at, at + 4).eq(b"AAAA") {
            return None;
        }
        let run = self.base64_run(at, NAME_BASE64_LEN, |_| false);
        let whole = run.len() - run.len() % 4;
        let bytes = decode(run.get(..whole)?)?;
        blob::type_name(&bytes).map(str::to_owned)
    }

    fn push_line(&mut self, start: usize, line: &str, mut gap: Gap) {
        for (offset, byte) in line.bytes().enumerate() {
            if byte == b' ' {
                gap = gap.max(Gap::Space);
            } else {
                self.bytes.push(byte);
                self.places.push((start + offset, gap));
                gap = Gap::None;
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// The bytes of a range, or none where it is no range.
    pub(super) fn bytes(&self, from: usize, to: usize) -> &[u8] {
        self.bytes.get(from..to.min(self.len())).unwrap_or_default()
    }

    /// What stands before a byte; the end of the text is a break.
    pub(super) fn gap(&self, at: usize) -> Gap {
        self.places.get(at).map_or(Gap::Break, |(_, gap)| *gap)
    }

    pub(super) fn is_line_start(&self, at: usize) -> bool {
        self.gap(at) >= Gap::Line
    }

    /// The first line start at or after `at`; the length of the text where there is none.
    pub(super) fn next_line(&self, at: usize) -> usize {
        (at..self.len()).find(|at| self.is_line_start(*at)).unwrap_or(self.len())
    }

    /// The source from one byte to another, white space included.
    pub(super) fn source(&self, from: usize, to: usize) -> &'a str {
        let place = |at: usize| self.places.get(at).map_or(self.source.len(), |(place, _)| *place);
        self.source.get(place(from)..place(to)).unwrap_or_default()
    }

    /// The source from a byte to the end of its line.
    pub(super) fn rest_of_line(&self, at: usize) -> &'a str {
        self.source(at, self.len()).split('\n').next().unwrap_or_default()
    }

    /// Whether the bytes from `at` on are those of `word` in any case of letters, with no break between them.
    pub(super) fn has_word(&self, at: usize, word: &str) -> bool {
        let end = at + word.len();
        self.bytes(at, end).eq_ignore_ascii_case(word.as_bytes())
            && !(at + 1..end).any(|at| self.gap(at) == Gap::Break)
    }

    /// The type that the blob names which begins at `at`.
    pub(super) fn blob_type(&self, at: usize) -> Option<&str> {
        self.blobs.get(&at).map(String::as_str)
    }

    /// The type that stands at `at` before a blob.
    pub(super) fn type_before_blob(&self, at: usize) -> Option<&'static str> {
        self.types.get(&at).copied()
    }

    /// Whether a type stands before a blob in the bytes of a range.
    pub(super) fn has_type_within(&self, range: std::ops::Range<usize>) -> bool {
        self.types.range(range).next().is_some()
    }

    /// The base64 from `at` on, over line ends but not over spaces, until `ends_before` says so of a line's start.
    pub(super) fn base64_run(&self, at: usize, most: usize, ends_before: impl Fn(usize) -> bool) -> &[u8] {
        let goes_on = |next: usize| {
            self.byte(next).is_some_and(is_base64)
                && (next == at
                    || match self.gap(next) {
                        Gap::None => true,
                        Gap::Line => !ends_before(next),
                        Gap::Space | Gap::Break => false,
                    })
        };
        let end = (at..at.saturating_add(most)).find(|next| !goes_on(*next)).unwrap_or(at + most);
        self.bytes(at, end)
    }
}
