//! The format: asciicast v2, <https://docs.asciinema.org/manual/asciicast/v2/>. A line of JSON about all of it, then one
//! for each thing that happens.

use std::time::Instant;

use serde::Serialize;
use time::OffsetDateTime;

/// Pauses longer than this are shown as this long, in seconds.
const LONGEST_PAUSE: f32 = 2.0;

#[derive(Serialize)]
struct Header<'a> {
    version: u8,
    width: u16,
    height: u16,
    timestamp: i64,
    idle_time_limit: f32,
    title: &'a str,
}

/// The lines of one recording, each with its line's end.
pub(crate) struct Cast {
    began: Instant,
    /// The beginning of a character whose end is still to come.
    rest: Vec<u8>,
}

impl Cast {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), rest: vec![] }
    }

    /// The first line.
    pub(crate) fn header(title: &str, columns: u16, rows: u16, at: OffsetDateTime) -> Vec<u8> {
        let timestamp = at.unix_timestamp();
        let (width, height) = (columns.max(1), rows.max(1));
        line(&Header { version: 2, width, height, timestamp, idle_time_limit: LONGEST_PAUSE, title })
    }

    /// What appeared. Bytes that are no UTF-8 become U+FFFD; of a character whose end is still to come nothing is
    /// written yet, so there may be no line.
    pub(crate) fn output(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        self.rest.extend_from_slice(data);
        let (text, used) = text_of(&self.rest);
        self.rest.drain(..used);
        (!text.is_empty()).then(|| self.event("o", &text))
    }

    /// Some of what appeared is not there: what it began with has no end.
    pub(crate) fn forget(&mut self) {
        self.rest.clear();
    }

    /// The terminal has another size.
    pub(crate) fn resized(&self, columns: u16, rows: u16) -> Vec<u8> {
        self.event("r", &format!("{columns}x{rows}"))
    }

    /// A mark with these words.
    pub(crate) fn mark(&self, words: &str) -> Vec<u8> {
        self.event("m", words)
    }

    fn event(&self, kind: &str, data: &str) -> Vec<u8> {
        let seconds = (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e6;
        line(&(seconds, kind, data))
    }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The text of these bytes, and how many of them it is: all but a character that may have an end.
fn text_of(bytes: &[u8]) -> (String, usize) {
    let mut text = String::with_capacity(bytes.len());
    let mut used = 0;
    let mut left = bytes;
    loop {
        match std::str::from_utf8(left) {
            Ok(rest) => {
                text.push_str(rest);
                return (text, bytes.len());
            }
            Err(error) => {
                let (valid, after) = left.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                used += valid.len();
                let Some(wrong) = error.error_len() else { return (text, used) };
                text.push(char::REPLACEMENT_CHARACTER);
                used += wrong;
                left = after.get(wrong..).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(lines: &[Vec<u8>]) -> String {
        let data = |line: &Vec<u8>| {
            let event: (f64, String, String) = serde_json::from_slice(line).unwrap();
            assert_eq!(event.1, "o");
            event.2
        };
        lines.iter().map(data).collect()
    }

    #[test]
    fn characters_that_come_in_pieces_are_put_together_and_wrong_bytes_are_replaced() {
        let mut cast = Cast::new();
        let pieces: [&[u8]; 6] =
            [b"sm\xc3", b"\xb8r \xf0\x9f", b"\x8d\x9e", b" \xff\xc0", b"x\xe2\x82", b"y"];
        let lines: Vec<_> = pieces.iter().filter_map(|piece| cast.output(piece)).collect();
        assert_eq!(shown(&lines), "smør 🍞 \u{fffd}\u{fffd}x\u{fffd}y");
        assert!(cast.output(b"\xe2").is_none(), "nothing to show yet");
        cast.forget();
        assert_eq!(shown(&[cast.output(b"z").unwrap()]), "z");
    }

    #[test]
    fn the_first_line_and_others_are_what_players_read() {
        let header = Cast::header("alice in vm-0", 80, 0, OffsetDateTime::UNIX_EPOCH);
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(
            (&header["version"], &header["width"], &header["height"]),
            (&2.into(), &80.into(), &1.into())
        );
        let cast = Cast::new();
        let resized: (f64, String, String) = serde_json::from_slice(&cast.resized(100, 30)).unwrap();
        assert_eq!((resized.1.as_str(), resized.2.as_str()), ("r", "100x30"));
        assert!(cast.mark("x").ends_with(b",\"m\",\"x\"]\n"));
    }

    proptest! {
        /// Whatever comes in whichever pieces: every line is one line of JSON, little is held back, and text that is
        /// text is there as it was.
        #[test]
        fn anything_becomes_lines(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut cast = Cast::new();
            let lines: Vec<_> = pieces.iter().filter_map(|piece| cast.output(piece)).collect();
            prop_assert!(cast.rest.len() <= 3);
            for line in &lines {
                prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            }
            let all = pieces.concat();
            let whole = all.len() - cast.rest.len();
            prop_assert_eq!(shown(&lines), String::from_utf8_lossy(&all[..whole]));
        }
    }
}
