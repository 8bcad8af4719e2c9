//! What fuzzers type into the lobby. Every function panics where something does not hold.

use super::{
    command::{self, VERBS},
    editor::{Editor, Event, MAX_LINE},
    keyboard::{Key, Keyboard},
};

/// A line of the lobby, as a command and as the beginning of one.
///
/// # Panics
/// If a refusal says back what a terminal acts on, a command is not what `help` shows, or a word goes on as something that
/// does not begin with it.
pub fn lobby_lines(line: &str) {
    match command::parse(line) {
        Ok(_) => assert!(line.len() <= MAX_LINE),
        Err(no) => {
            assert!(!no.why.chars().any(char::is_control), "{:?}", no.why);
            // What stands in it of the line is cut short; the rest is ours.
            assert!(no.why.chars().count() <= 400, "{}", no.why.len());
            let first = line.split_ascii_whitespace().find(|word| *word != "--json");
            let known = VERBS.iter().any(|verb| Some(verb.name) == first);
            assert!(!(no.is_unknown && known), "{line:?} is said not to be known");
        }
    }
    let (vms, shared) = (["vm-0".to_owned(), "vm-10".to_owned()], ["vm-0.bob".to_owned()]);
    let (typed, words) = command::completions(line, &vms, &shared);
    let word = line.get(line.len() - typed..).expect("what is typed ends the line");
    assert!(words.iter().all(|candidate| candidate.starts_with(word)), "{word:?}: {words:?}");
}

/// Keys at the lobby's terminal; the first two bytes are its width.
///
/// # Panics
/// If a line is too long or has a control character in it, or something is written to the terminal that the editor does
/// not mean.
pub fn lobby_keys(data: &[u8]) {
    let Some((columns, typed)) = data.split_first_chunk::<2>() else { return };
    let mut editor = Editor::new(u32::from(u16::from_be_bytes(*columns)));
    let mut keyboard = Keyboard::default();
    editor.begin("> ");
    for byte in typed {
        let Some(key) = keyboard.press(*byte) else { continue };
        if let Key::Char(c) = key {
            assert!(!c.is_control(), "{c:?}");
        }
        match editor.press(key) {
            Some(Event::Line(line)) => {
                assert!(line.len() <= MAX_LINE && !line.contains(char::is_control), "{line:?}");
                editor.remember(&line);
                editor.begin("> ");
            }
            Some(Event::Interrupted) => editor.begin("> "),
            Some(Event::Complete) => {
                let before = editor.before_cursor();
                let (typed, words) = command::completions(&before, &["vm-0".to_owned()], &[]);
                editor.complete(typed, &words);
            }
            Some(Event::End) => break,
            None => {}
        }
        // A terminal is looked at when nothing more has come, which may be after any key.
        if byte % 3 == 0 {
            look_at(&editor.look());
        }
    }
    look_at(&editor.look());
}

/// Takes out of what is drawn all that the editor means; nothing that a terminal acts on may be left.
fn look_at(drawn: &str) {
    let mut rest = drawn;
    while let Some(at) = rest.find(char::is_control) {
        let control = rest.get(at..).unwrap_or_default();
        let known = ["\r\n", "\r", "\x07", "\x1b[K", "\x1b[H\x1b[2J"]
            .iter()
            .find(|known| control.starts_with(**known));
        let length = known.map(|known| known.len()).or_else(|| {
            let digits = control.strip_prefix("\x1b[")?.find(|c: char| !c.is_ascii_digit())?;
            (digits <= 4 && control.get(2 + digits..)?.starts_with('C')).then_some(digits + 3)
        });
        let length = length.unwrap_or_else(|| panic!("{control:?} is drawn"));
        rest = control.get(length..).unwrap_or_default();
    }
}
