//! The editor, driven by the bytes of a terminal, and seen through a screen of one row.

use proptest::prelude::*;

use super::*;
use crate::lobby::keyboard::Keyboard;

/// A terminal's last row, as far as the editor uses one.
#[derive(Default)]
struct Screen {
    row: Vec<char>,
    at: usize,
    rung: usize,
}

impl Screen {
    fn write(&mut self, bytes: &str) {
        let mut rest = bytes.chars();
        while let Some(c) = rest.next() {
            match c {
                '\r' => self.at = 0,
                '\n' => *self = Self { rung: self.rung, ..Self::default() },
                '\x07' => self.rung += 1,
                '\x1b' => {
                    assert_eq!(rest.next(), Some('['));
                    let mut number = String::new();
                    let verb = loop {
                        match rest.next().expect("a sequence has an end") {
                            digit @ '0'..='9' => number.push(digit),
                            verb => break verb,
                        }
                    };
                    match verb {
                        'K' => self.row.truncate(self.at),
                        'C' => self.at += number.parse::<usize>().expect("a number"),
                        'H' => self.at = 0,
                        'J' => self.row.clear(),
                        verb => panic!("the editor does not say {verb}"),
                    }
                }
                // It stands in the cell of the character before it.
                c if columns(c) == 0 => {}
                c => {
                    self.row.resize(self.row.len().max(self.at), ' ');
                    for (n, cell) in
                        std::iter::once(c).chain(std::iter::repeat_n('\0', columns(c) - 1)).enumerate()
                    {
                        self.row.splice(self.at + n..(self.at + n + 1).min(self.row.len()), [cell]);
                    }
                    self.at += columns(c);
                }
            }
        }
    }

    fn text(&self) -> String {
        self.row.iter().filter(|c| **c != '\0').collect::<String>().trim_end().to_owned()
    }
}

struct Desk {
    editor: Editor,
    keyboard: Keyboard,
    screen: Screen,
}

impl Desk {
    fn new(columns: u32) -> Self {
        let mut editor = Editor::new(columns);
        editor.begin("> ");
        Self { editor, keyboard: Keyboard::default(), screen: Screen::default() }
    }

    /// Types, and gives what came of it.
    fn types(&mut self, text: impl AsRef<[u8]>) -> Vec<Event> {
        let mut events = vec![];
        for byte in text.as_ref() {
            let Some(key) = self.keyboard.press(*byte) else { continue };
            if let Some(event) = self.editor.press(key) {
                match &event {
                    Event::Line(line) => {
                        self.editor.remember(line);
                        self.editor.begin("> ");
                    }
                    Event::Interrupted => self.editor.begin("> "),
                    Event::End | Event::Complete => {}
                }
                events.push(event);
            }
        }
        self.screen.write(&self.editor.look());
        events
    }

    fn line(&self) -> String {
        self.editor.line.iter().collect()
    }
}

fn line(text: &str) -> Vec<Event> {
    vec![Event::Line(text.into())]
}

#[test]
fn a_line_is_typed_and_edited() {
    for (typed, becomes) in [
        (&b"vms\r"[..], "vms"),
        (b"vsm\x7f\x7fms\r", "vms"),
        (b"ms\x01v\r", "vms"),
        (b"vm\x02\x02\x05s\r", "vms"),
        (b"start vm-1\x17vm-0\r", "start vm-0"),
        (b"start vm-1  \x17\x17stop\r", "stop"),
        (b"rubbish\x15vms\r", "vms"),
        (b"vms rubbish\x1b[H\x1b[C\x1b[C\x1b[C\x0b\r", "vms"),
        (b"vxms\x1b[D\x1b[D\x1b[D\x1b[3~\r", "vms"),
        (b"vxms\x02\x02\x02\x04\r", "vms"),
        ("schläfer\x7f\x7f\x7f\x7fä\r".as_bytes(), "schlä"),
        (b"rubbish\x03vms\r", "vms"),
    ] {
        let events = Desk::new(80).types(typed);
        assert_eq!(events.last(), Some(&Event::Line(becomes.into())), "{typed:?}");
    }
}

#[test]
fn the_screen_shows_the_line_and_the_cursor() {
    let mut desk = Desk::new(80);
    assert_eq!(desk.types("start vm-0"), []);
    assert_eq!((desk.screen.text().as_str(), desk.screen.at), ("> start vm-0", 12));
    desk.types("\x1b[D\x1b[D");
    assert_eq!((desk.screen.text().as_str(), desk.screen.at), ("> start vm-0", 10));
    desk.types("\x01");
    assert_eq!(desk.screen.at, 2);
    desk.types("\x05猫");
    assert_eq!(
        (desk.screen.text().as_str(), desk.screen.at),
        ("> start vm-0猫", 14),
        "it is two columns wide"
    );
    desk.types("\x0c");
    assert_eq!(desk.screen.text(), "> start vm-0猫");
}

#[test]
fn a_long_line_is_shown_around_the_cursor_and_follows_the_width() {
    let mut desk = Desk::new(20);
    desk.types("abcdefghijklmnopqrstuvwxyz");
    assert_eq!((desk.screen.text().as_str(), desk.screen.at), ("> jklmnopqrstuvwxyz", 19));
    desk.types("\x01");
    assert_eq!((desk.screen.text().as_str(), desk.screen.at), ("> abcdefghijklmnopq", 2));
    desk.editor.resize(24);
    desk.types("");
    assert_eq!(desk.screen.text(), "> abcdefghijklmnopqrstu");
    desk.editor.resize(0);
    desk.types("");
    assert_eq!(desk.screen.text(), "> abcdefghijklmnopqrstuvwxyz");
}

#[test]
fn what_was_typed_before_comes_back() {
    let mut desk = Desk::new(80);
    assert_eq!(desk.types("vms\rvms\r \rwhy vm-0\r").len(), 4);
    desk.types("dr\x1b[A");
    assert_eq!(desk.line(), "why vm-0");
    desk.types("\x10");
    assert_eq!(desk.line(), "vms", "twice the same is once");
    let rung = desk.screen.rung;
    desk.types("\x1b[A");
    assert_eq!((desk.line().as_str(), desk.screen.rung), ("vms", rung + 1), "there is nothing before it");
    desk.types("\x1b[B\x1b[B");
    assert_eq!(desk.line(), "dr", "what was begun is there again");
    desk.types("\x1b[B");
    assert_eq!(desk.screen.rung, rung + 2);
    assert_eq!(desk.types("\x1b[A\x7f1\r"), line("why vm-1"));
}

#[test]
fn history_and_lines_have_an_end() {
    let mut desk = Desk::new(80);
    for n in 0..300 {
        desk.types(format!("line {n}\r"));
    }
    assert_eq!(desk.editor.history.len(), MAX_HISTORY);
    let long = "é".repeat(MAX_LINE);
    desk.types(&long);
    assert_eq!(desk.line().len(), MAX_LINE);
    assert!(desk.screen.rung > 0);
}

#[test]
fn control_d_ends_an_empty_line_only() {
    let mut desk = Desk::new(80);
    assert_eq!(desk.types("x\x02\x04"), []);
    assert_eq!(desk.types("\x04"), [Event::End]);
    assert_eq!(desk.types("x\x03"), [Event::Interrupted]);
}

#[test]
fn a_word_goes_on_as_far_as_it_can() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut desk = Desk::new(80);
    assert_eq!(desk.types("st\t"), [Event::Complete]);
    assert_eq!(desk.editor.before_cursor(), "st");
    desk.editor.complete(2, &words(&["start", "stop"]));
    assert_eq!(desk.line(), "st", "they part here");
    desk.types("");
    assert_eq!(desk.screen.text(), "> st", "and the line is drawn anew below them");
    desk.types("a");
    desk.editor.complete(3, &words(&["start"]));
    assert_eq!(desk.line(), "start ");
    desk.editor.complete(0, &words(&["vm-0", "vm-1"]));
    assert_eq!(desk.line(), "start vm-");
    desk.types("");
    let rung = desk.screen.rung;
    desk.editor.complete(0, &[]);
    desk.types("");
    assert_eq!(desk.screen.rung, rung + 1);
}

proptest! {
    #[test]
    fn whatever_is_typed_the_screen_shows_part_of_the_line_with_the_cursor(
        bytes in proptest::collection::vec(prop_oneof![
            proptest::sample::select(b"abc \x01\x02\x04\x05\x06\x08\x0b\x0c\x15\x17\x1b[ABCDHF~3\t".to_vec()),
            any::<u8>(),
        ], 0..200),
        columns in 0_u32..60,
    ) {
        let mut desk = Desk::new(columns);
        desk.types(&bytes);
        prop_assert!(desk.editor.cursor <= desk.editor.line.len());
        let wide = desk.editor.columns;
        prop_assert!(desk.screen.at < wide && desk.screen.row.len() < wide);
        // Marks without a width are not kept by this screen.
        prop_assume!(desk.editor.line.iter().all(|c| super::columns(*c) > 0));
        let shown = desk.screen.text();
        let shown = shown.strip_prefix('>').map(|shown| shown.strip_prefix(' ').unwrap_or(shown));
        prop_assert!(shown.is_some_and(|shown| desk.line().contains(shown)), "{shown:?}");
    }
}
