//! A line that is being typed at a terminal: editing, history, and how it is drawn. Pure: keys go in, and out come events
//! and the bytes that show the line.
//!
//! The line has one row. What does not fit is left out at its ends, with the cursor always in sight, so that nothing has
//! to be known of how a terminal wraps.

use std::collections::VecDeque;

use unicode_width::UnicodeWidthChar;

use super::keyboard::Key;

/// The most bytes of a line. What is typed beyond that rings the bell.
pub(super) const MAX_LINE: usize = 8 * 1024;
/// Lines that are remembered.
const MAX_HISTORY: usize = 100;
/// Terminals that say less, or nothing, are taken for so wide.
const MIN_COLUMNS: usize = 20;
/// Nothing is gained by more.
const MAX_COLUMNS: usize = 1000;

/// What follows from a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The line is finished.
    Line(String),
    /// The line is given up.
    Interrupted,
    /// No more lines will come.
    End,
    /// Somebody wants to know how the line may go on. Answered by [`Editor::complete`].
    Complete,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Editor {
    prompt: &'static str,
    columns: usize,
    line: Vec<char>,
    cursor: usize,
    history: VecDeque<String>,
    /// How many lines back in the history, and what was typed before going there.
    back: usize,
    draft: Vec<char>,
    out: String,
    /// What is on the screen is not the line.
    stale: bool,
}

impl Editor {
    /// An editor for a terminal so many columns wide, 0 where that is not known.
    pub(super) fn new(columns: u32) -> Self {
        let mut editor = Self {
            prompt: "",
            columns: 0,
            line: vec![],
            cursor: 0,
            history: VecDeque::new(),
            back: 0,
            draft: vec![],
            out: String::new(),
            stale: true,
        };
        editor.resize(columns);
        editor
    }

    /// The terminal is so many columns wide now.
    pub(super) fn resize(&mut self, columns: u32) {
        let columns = usize::try_from(columns).unwrap_or(MAX_COLUMNS);
        self.columns = if columns == 0 { 80 } else { columns.clamp(MIN_COLUMNS, MAX_COLUMNS) };
        self.stale = true;
    }

    /// Begins a new line behind this prompt.
    pub(super) fn begin(&mut self, prompt: &'static str) {
        self.prompt = prompt;
        self.set(vec![]);
        self.back = 0;
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: Key) -> Option<Event> {
        match key {
            Key::Char(c) => self.insert(&[c]),
            Key::Enter => return Some(self.finish()),
            Key::Tab => return Some(Event::Complete),
            Key::Control('C') => {
                self.cursor = self.line.len();
                self.draw();
                self.out.push_str("^C\r\n");
                return Some(Event::Interrupted);
            }
            Key::Control('D') if self.line.is_empty() => {
                self.out.push_str("\r\n");
                return Some(Event::End);
            }
            Key::Control('L') => {
                self.out.push_str("\x1b[H\x1b[2J");
                self.stale = true;
            }
            Key::Up | Key::Control('P') => self.go_back(self.back + 1),
            Key::Down | Key::Control('N') => match self.back.checked_sub(1) {
                Some(back) => self.go_back(back),
                None => self.ring(),
            },
            key => self.edit(key),
        }
        None
    }

    fn edit(&mut self, key: Key) {
        let (at, end) = (self.cursor, self.line.len());
        match key {
            Key::Left | Key::Control('B') => self.cursor = at.saturating_sub(1),
            Key::Right | Key::Control('F') => self.cursor = (at + 1).min(end),
            Key::Home | Key::Control('A') => self.cursor = 0,
            Key::End | Key::Control('E') => self.cursor = end,
            Key::Backspace => self.cut(at.saturating_sub(1), at),
            Key::Delete | Key::Control('D') => self.cut(at, (at + 1).min(end)),
            Key::Control('U') => self.cut(0, at),
            Key::Control('K') => self.cut(at, end),
            Key::Control('W') => self.cut(self.word_before(), at),
            _ => return self.ring(),
        }
        self.stale = true;
    }

    /// Where the word before the cursor begins.
    fn word_before(&self) -> usize {
        let before = self.line.get(..self.cursor).unwrap_or_default();
        let blanks = before.iter().rev().take_while(|c| c.is_whitespace()).count();
        let word = before.iter().rev().skip(blanks).take_while(|c| !c.is_whitespace()).count();
        self.cursor - blanks - word
    }

    fn cut(&mut self, from: usize, to: usize) {
        if from == to {
            return self.ring();
        }
        self.line.drain(from..to);
        self.cursor = from;
    }

    fn insert(&mut self, typed: &[char]) {
        let bytes = |line: &[char]| line.iter().map(|c| c.len_utf8()).sum::<usize>();
        // A character has four bytes at most: only a line that may be full has to be counted.
        let full =
            self.line.len() + typed.len() > MAX_LINE / 4 && bytes(&self.line) + bytes(typed) > MAX_LINE;
        if full {
            return self.ring();
        }
        self.line.splice(self.cursor..self.cursor, typed.iter().copied());
        self.cursor += typed.len();
        self.stale = true;
    }

    fn ring(&mut self) {
        // Once until the next look is enough.
        if !self.out.ends_with('\x07') {
            self.out.push('\x07');
        }
    }

    fn set(&mut self, line: Vec<char>) {
        self.cursor = line.len();
        self.line = line;
        self.stale = true;
    }

    fn finish(&mut self) -> Event {
        self.cursor = self.line.len();
        self.draw();
        self.out.push_str("\r\n");
        let line: String = std::mem::take(&mut self.line).into_iter().collect();
        self.cursor = 0;
        self.back = 0;
        self.stale = true;
        Event::Line(line)
    }

    /// Remembers a line, unless it is the last one again or empty.
    pub(super) fn remember(&mut self, line: &str) {
        if line.trim().is_empty() || self.history.back().is_some_and(|last| last == line) {
            return;
        }
        if self.history.len() == MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(line.to_owned());
    }

    fn go_back(&mut self, back: usize) {
        if back > self.history.len() {
            return self.ring();
        }
        if self.back == 0 {
            self.draft = self.line.clone();
        }
        self.back = back;
        let line = match self.history.len().checked_sub(back).and_then(|at| self.history.get(at)) {
            Some(line) if back > 0 => line.chars().collect(),
            _ => std::mem::take(&mut self.draft),
        };
        self.set(line);
    }

    /// What stands before the cursor.
    pub(super) fn before_cursor(&self) -> String {
        self.line.iter().take(self.cursor).collect()
    }

    /// Has the word before the cursor, of which `typed` bytes are there, go on as one of `words`: as far as they agree,
    /// or else they are shown.
    pub(super) fn complete(&mut self, typed: usize, words: &[String]) {
        let Some(first) = words.first() else { return self.ring() };
        let agree = words.iter().skip(1).fold(first.as_str(), |agreed, word| common(agreed, word));
        let rest: Vec<char> = agree.get(typed..).unwrap_or_default().chars().collect();
        if words.len() == 1 {
            self.insert(&[&rest[..], &[' ']].concat());
        } else if rest.is_empty() {
            self.show(&words.join("  "));
        } else {
            self.insert(&rest);
        }
    }

    /// Shows a line of text above the one that is typed.
    fn show(&mut self, text: &str) {
        self.draw();
        self.out.push_str("\r\n");
        self.out.push_str(text);
        self.out.push_str("\r\n");
        self.stale = true;
    }

    /// Draws the line if it is not on the screen as it is, and gives all that has to be written.
    pub(super) fn look(&mut self) -> String {
        if self.stale {
            self.draw();
        }
        std::mem::take(&mut self.out)
    }

    fn draw(&mut self) {
        let room = self.columns.saturating_sub(width(self.prompt.chars()) + 1).max(1);
        let (shown, before) = window(&self.line, self.cursor, room);
        let at = width(self.prompt.chars()) + before;
        self.out.push('\r');
        self.out.push_str(self.prompt);
        self.out.extend(shown);
        self.out.push_str("\x1b[K\r");
        if at > 0 {
            self.out.push_str(&format!("\x1b[{at}C"));
        }
        self.stale = false;
    }
}

/// The part of a line that is shown in so many columns, and how many of them are before the cursor.
fn window(line: &[char], cursor: usize, room: usize) -> (&[char], usize) {
    let (mut from, mut before) = (cursor, 0);
    while let Some(c) = from.checked_sub(1).and_then(|at| line.get(at)) {
        if before + columns(*c) > room {
            break;
        }
        before += columns(*c);
        from -= 1;
    }
    let (mut to, mut taken) = (cursor, before);
    while let Some(c) = line.get(to) {
        if taken + columns(*c) > room {
            break;
        }
        taken += columns(*c);
        to += 1;
    }
    (line.get(from..to).unwrap_or_default(), before)
}

fn width(text: impl Iterator<Item = char>) -> usize {
    text.map(columns).sum()
}

fn columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// What two words begin with alike.
fn common<'a>(one: &'a str, other: &str) -> &'a str {
    let end = one.char_indices().zip(other.chars()).find(|((_, a), b)| a != b).map(|((at, _), _)| at);
    let end = end.unwrap_or_else(|| one.len().min(other.len()));
    one.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
