//! What somebody types at a terminal, out of the bytes that it sends (ECMA-48, xterm's ctlseqs): one key at a time, and
//! wherever the bytes are cut.

/// The longest escape sequence that is looked at. What is longer is not a key.
const MAX_SEQUENCE: usize = 32;

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// A character that can be shown.
    Char(char),
    Enter,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    /// With a letter in upper case.
    Control(char),
}

/// Between two bytes.
#[derive(Debug, Default)]
enum State {
    #[default]
    Ground,
    /// After a carriage return, which some terminals send with a line feed.
    Return,
    Escape,
    /// `ESC [ …`
    Sequence(Vec<u8>),
    /// `ESC O`
    Single,
    /// The first bytes of a character, and how many it has.
    Character(Vec<u8>, usize),
}

/// Turns bytes into keys.
#[derive(Debug, Default)]
pub(super) struct Keyboard(State);

impl Keyboard {
    /// The key that ends with this byte, if one does.
    pub(super) fn press(&mut self, byte: u8) -> Option<Key> {
        match std::mem::take(&mut self.0) {
            State::Return if byte == b'\n' => None,
            State::Ground | State::Return => self.begin(byte),
            State::Escape => {
                self.0 = match byte {
                    b'[' => State::Sequence(Vec::new()),
                    b'O' => State::Single,
                    0x1b => State::Escape,
                    // A key with Alt, which means nothing here.
                    _ => State::Ground,
                };
                None
            }
            State::Single => sequence(&[], byte),
            State::Sequence(parameters) => self.go_on(parameters, byte),
            State::Character(bytes, len) => self.character(bytes, len, byte),
        }
    }

    fn begin(&mut self, byte: u8) -> Option<Key> {
        let len = match byte {
            b'\r' => {
                self.0 = State::Return;
                return Some(Key::Enter);
            }
            b'\n' => return Some(Key::Enter),
            b'\t' => return Some(Key::Tab),
            0x08 | 0x7f => return Some(Key::Backspace),
            0x1b => {
                self.0 = State::Escape;
                return None;
            }
            0x01..0x1b => return Some(Key::Control(char::from(byte + 0x40))),
            0x00 | 0x1c..0x20 => return None,
            0x20..0x7f => return Some(Key::Char(char::from(byte))),
            0xc2..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0..0xf5 => 4,
            // Not the first byte of a character.
            0x80..0xc2 | 0xf5.. => return None,
        };
        self.0 = State::Character(vec![byte], len);
        None
    }

    fn go_on(&mut self, mut parameters: Vec<u8>, byte: u8) -> Option<Key> {
        match byte {
            0x20..0x40 if parameters.len() < MAX_SEQUENCE => {
                parameters.push(byte);
                self.0 = State::Sequence(parameters);
                None
            }
            0x40..0x7f => sequence(&parameters, byte),
            0x1b => {
                self.0 = State::Escape;
                None
            }
            _ => None,
        }
    }

    fn character(&mut self, mut bytes: Vec<u8>, len: usize, byte: u8) -> Option<Key> {
        if !(0x80..0xc0).contains(&byte) {
            // The character was cut; this byte begins something else.
            return self.begin(byte);
        }
        bytes.push(byte);
        if bytes.len() < len {
            self.0 = State::Character(bytes, len);
            return None;
        }
        let c = std::str::from_utf8(&bytes).ok()?.chars().next()?;
        (!c.is_control()).then_some(Key::Char(c))
    }
}

/// The key of an escape sequence; those with Shift, Alt or Control are the same without.
fn sequence(parameters: &[u8], last: u8) -> Option<Key> {
    Some(match last {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' => Key::Right,
        b'D' => Key::Left,
        b'H' => Key::Home,
        b'F' => Key::End,
        b'~' => match parameters.split(|byte| *byte == b';').next()? {
            b"1" | b"7" => Key::Home,
            b"4" | b"8" => Key::End,
            b"3" => Key::Delete,
            _ => return None,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keyboard = Keyboard::default();
        bytes.iter().filter_map(|byte| keyboard.press(*byte)).collect()
    }

    #[test]
    fn keys_that_terminals_send() {
        for (bytes, key) in [
            (&b"a"[..], Key::Char('a')),
            ("ü".as_bytes(), Key::Char('ü')),
            ("猫".as_bytes(), Key::Char('猫')),
            ("🐈".as_bytes(), Key::Char('🐈')),
            (b"\x1b[A", Key::Up),
            (b"\x1bOB", Key::Down),
            (b"\x1b[1;5C", Key::Right),
            (b"\x1b[D", Key::Left),
            (b"\x1b[1~", Key::Home),
            (b"\x1bOF", Key::End),
            (b"\x1b[3~", Key::Delete),
            (b"\x7f", Key::Backspace),
            (b"\x08", Key::Backspace),
            (b"\x03", Key::Control('C')),
            (b"\x17", Key::Control('W')),
            (b"\t", Key::Tab),
            (b"\r", Key::Enter),
            (b"\n", Key::Enter),
            (b"\r\n", Key::Enter),
            (b"\x1b\x1b[A", Key::Up),
        ] {
            assert_eq!(keys(bytes), [key], "{bytes:?}");
        }
        assert_eq!(keys(b"\r\r\n\n"), [Key::Enter; 3]);
    }

    #[test]
    fn what_is_no_key_is_left_out() {
        for bytes in [
            &b"\x1b[200~"[..],
            b"\x1b[5~",
            b"\x1bb",
            b"\0",
            b"\x1c",
            b"\x80",
            b"\xff",
            b"\xc0\x80",
            b"\xed\xa0\x80",
            "\u{9b}".as_bytes(),
        ] {
            assert_eq!(keys(bytes), [], "{bytes:?}");
        }
        assert_eq!(keys(b"\xc3a"), [Key::Char('a')], "a character that was cut");
        assert_eq!(keys(&[b"\x1b[", &[b'1'; 100][..], b"x"].concat()).last(), Some(&Key::Char('x')));
    }

    proptest! {
        #[test]
        fn any_bytes_are_keys_that_can_be_shown(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for key in keys(&bytes) {
                if let Key::Char(c) = key {
                    prop_assert!(!c.is_control());
                }
            }
        }

        #[test]
        fn text_is_its_characters(text in "[^\\p{Cc}]{0,40}") {
            let typed: Vec<Key> = text.chars().map(Key::Char).collect();
            prop_assert_eq!(keys(text.as_bytes()), typed);
        }
    }
}
