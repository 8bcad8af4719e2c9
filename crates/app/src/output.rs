//! What commands print: sentences and tables for people, tab-separated lines for pipes, one JSON document for programs.
//!
//! Text that people gave (labels, console lines) never reaches a terminal with control characters in it.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use serde_json::json;
use time::{OffsetDateTime, macros::format_description};

use crate::admin::wire::{Failure, FailureKind, Progress};

/// Where results go.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// The result of a command, as JSON or as text.
    pub(crate) fn result(&self, value: &impl Serialize, text: &str) -> Result<(), Failure> {
        if self.json {
            return self.json(value);
        }
        print(&printable(text))
    }

    /// A list. An empty one says on stderr how it gets its first line.
    pub(crate) fn table(&self, value: &impl Serialize, table: &Table, empty: &str) -> Result<(), Failure> {
        if self.json {
            return self.json(value);
        }
        if table.rows.is_empty() {
            self.note(empty);
            return Ok(());
        }
        print(&if io::stdout().is_terminal() { table.aligned() } else { table.separated() })
    }

    fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| {
            Failure::new(FailureKind::Unavailable, format!("The result is no JSON: {error}."))
        })?;
        print(&text)
    }

    /// Something that a person may want to know beside the result.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            complain(&printable(text));
        }
    }

    /// What goes on while a command waits.
    pub(crate) fn progress(&self, progress: &Progress) {
        let seconds = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
        self.note(&match progress {
            Progress::Starting { vm, usual_ms: Some(ms) } => {
                format!("Starting {vm} (about {})…", seconds(*ms))
            }
            Progress::Starting { vm, usual_ms: None } => format!("Starting {vm}…"),
            Progress::Waking { vm } => format!("Waking {vm}…"),
            Progress::Queued { vm, ahead, reason } => {
                let before = match ahead {
                    0 => "It is the next.".to_owned(),
                    1 => "One other comes first.".to_owned(),
                    others => format!("{others} others come first."),
                };
                format!("{vm} waits for memory: {reason}. {before}")
            }
            Progress::Ready { vm, took_ms } => format!("{vm} was ready in {}.", seconds(*took_ms)),
        });
    }

    /// Why a command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.message.is_empty() {
            return;
        }
        if self.json {
            // Nothing is left to be done where even this cannot be printed.
            let _ = self.json(&json!({ "error": failure }));
        } else {
            complain(&printable(&failure.message));
        }
    }
}

impl Failure {
    /// For a command whose result says itself what was refused: only the exit status is left to tell.
    pub(crate) fn already_told() -> Self {
        Self::new(FailureKind::Invalid, "")
    }
}

fn print(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            Err(Failure::new(FailureKind::Unavailable, format!("The result cannot be printed: {error}.")))
        }
        Ok(()) => Ok(()),
    }
}

fn complain(text: &str) {
    // A closed stderr is no reason to fail.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Lines of the same number of cells.
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { head: head.map(str::to_owned).to_vec(), rows: vec![] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let clean =
            |cell: String| cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        self.rows.push(cells.map(clean).to_vec());
    }

    /// For pipes: no heading, a tab between cells.
    fn separated(&self) -> String {
        self.rows.iter().map(|row| row.join("\t")).collect::<Vec<_>>().join("\n")
    }

    /// For people: a heading, and columns as wide as they need to be.
    fn aligned(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let widths: Vec<usize> = (0..self.head.len())
            .map(|i| lines().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max().unwrap_or(0))
            .collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        };
        lines().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// A span of time in one unit, as a person would say it.
pub(crate) fn span(length: time::Duration) -> String {
    match length.whole_seconds().max(0) {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds @ 100..=5399 => format!("{} min", (seconds + 30) / 60),
        seconds @ 5400..=172_799 => format!("{} h", (seconds + 1800) / 3600),
        seconds => format!("{} days", (seconds + 43_200) / 86_400),
    }
}

/// A day, in UTC.
pub(crate) fn day(at: OffsetDateTime) -> String {
    at.format(format_description!("[year]-[month]-[day]")).unwrap_or_default()
}

/// A minute, in UTC.
pub(crate) fn moment(at: OffsetDateTime) -> String {
    at.format(format_description!("[year]-[month]-[day] [hour]:[minute] UTC")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_for_people_and_for_pipes() {
        let mut table = Table::new(["NAME", "KEYS"]);
        table.row(["alice".into(), "2".into()]);
        table.row(["\x1b[2Jb\tb".into(), String::new()]);
        assert_eq!(table.aligned(), "NAME     KEYS\nalice    2\n\u{fffd}[2Jb\u{fffd}b");
        assert_eq!(table.separated(), "alice\t2\n\u{fffd}[2Jb\u{fffd}b\t");
    }

    #[test]
    fn spans_in_one_unit() {
        for (seconds, words) in
            [(-5, "0 s"), (99, "99 s"), (100, "2 min"), (5400, "2 h"), (172_800, "2 days")]
        {
            assert_eq!(span(time::Duration::seconds(seconds)), words);
        }
    }

    #[test]
    fn sentences_keep_their_lines_and_lose_what_moves_the_cursor() {
        assert_eq!(printable("one\ntwo\x1b[2J\r"), "one\ntwo\u{fffd}[2J\u{fffd}");
    }
}
