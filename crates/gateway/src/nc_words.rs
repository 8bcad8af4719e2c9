//! `nc HOST PORT`, as people write it into a ProxyCommand.
//!
//! The command of an exec request is text that a server would give to a shell. There is no shell here: the words are
//! split as a shell splits plain words and simple quotes, and whatever would mean more to a shell is refused by name.
//! An accepted command is exactly the host and the port that stand in it.
//!
//! Options of netcat that come with recipes for ssh are understood: `-N` asks for what is done anyway (the end of input
//! is passed on), `-4` and `-6` have no meaning where no address is looked up, and the waiting times of `-w` and `-q`
//! are not needed, since an ssh server ends its side by itself and a dead one is noticed.

use crate::{
    text::quoted,
    words::{NotWords, split},
};

/// The longest command that is looked at: a host name has 253 characters at most.
const MAX_LEN: usize = 1024;

/// What an accepted command asks for. Neither is checked for sense: that is for control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The host as typed.
    pub(crate) host: String,
    /// The port as typed, at most ten digits.
    pub(crate) port: u32,
}

/// Why a command is no tunnel. The texts say what is wrong, not what to do: `refusal` adds that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotATunnel {
    #[error("This host has no command {0:?}.")]
    OtherCommand(String),
    #[error("The command is empty.")]
    Empty,
    #[error("The command is longer than {MAX_LEN} bytes.")]
    TooLong,
    #[error("The command is not valid UTF-8.")]
    NotUtf8,
    #[error(transparent)]
    NotWords(#[from] NotWords),
    #[error("nc does not take {0} here, only -N, -q SECONDS and -w SECONDS.")]
    Option(String),
    #[error("nc needs a number of seconds after -{0}.")]
    Seconds(char),
    #[error("nc needs a host and a port.")]
    NoPort,
    #[error("nc needs a port from 1 to 65535, and {0:?} is none.")]
    NotAPort(String),
    #[error("nc takes a host and a port, and {0:?} is too much.")]
    TooMuch(String),
}

/// Whether a command begins as a tunnel does, whatever follows.
pub(crate) fn is_nc(command: &[u8]) -> bool {
    let mut words = command.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    matches!(words.next(), Some(b"nc" | b"netcat"))
}

/// Reads the command of an exec request.
pub(crate) fn parse(command: &[u8]) -> Result<Target, NotATunnel> {
    if command.len() > MAX_LEN {
        return Err(NotATunnel::TooLong);
    }
    let text = std::str::from_utf8(command).map_err(|_| NotATunnel::NotUtf8)?;
    let first = text.split_ascii_whitespace().next().ok_or(NotATunnel::Empty)?;
    if !matches!(first, "nc" | "netcat") {
        return Err(NotATunnel::OtherCommand(quoted(text)));
    }
    let words = split(text)?;
    let mut words = words.iter().skip(1).map(String::as_str);
    let host = options(&mut words)?.ok_or(NotATunnel::NoPort)?;
    let port = words.next().ok_or(NotATunnel::NoPort)?;
    if let Some(extra) = words.next() {
        return Err(NotATunnel::TooMuch(quoted(extra)));
    }
    // Ten digits are enough for control to name a port such as 65536 that is a number and no port.
    let digits = !port.is_empty() && port.len() <= 10 && port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|_| digits).ok_or_else(|| NotATunnel::NotAPort(quoted(port)))?;
    if host.is_empty() {
        return Err(NotATunnel::NoPort);
    }
    Ok(Target { host: host.to_owned(), port })
}

/// Takes the options, and the word after them, which is the host.
fn options<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Option<&'a str>, NotATunnel> {
    while let Some(word) = words.next() {
        if word == "--" {
            return Ok(words.next());
        }
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            return Ok(Some(word));
        };
        let mut letters = letters.chars();
        while let Some(letter) = letters.next() {
            match letter {
                'N' | '4' | '6' => {}
                'q' | 'w' => {
                    let rest = letters.as_str();
                    let value = if rest.is_empty() { words.next().unwrap_or_default() } else { rest };
                    if !is_seconds(value) {
                        return Err(NotATunnel::Seconds(letter));
                    }
                    break;
                }
                _ => return Err(NotATunnel::Option(quoted(word))),
            }
        }
    }
    Ok(None)
}

/// A number as netcat takes it; `-q -1` means for ever.
fn is_seconds(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(host: &str, port: u32) -> Result<Target, NotATunnel> {
        Ok(Target { host: host.into(), port })
    }

    #[test]
    fn recipes_for_ssh_are_understood() {
        for recipe in [
            "nc vm-0.alice.kd.io 22",
            "netcat vm-0.alice.kd.io 22",
            "nc -q0 vm-0.alice.kd.io 22",
            "nc -q 10 vm-0.alice.kd.io 22",
            "nc -q -1 vm-0.alice.kd.io 22",
            "nc -w5 -N vm-0.alice.kd.io 22",
            "nc -Nw 5 -- vm-0.alice.kd.io 22",
            "nc -4 vm-0.alice.kd.io 22",
            "  nc\tvm-0.alice.kd.io   22 ",
            "nc 'vm-0.alice.kd.io' \"22\"",
            "nc vm-0.'alice'.kd.io 22",
        ] {
            assert_eq!(parse(recipe.as_bytes()), target("vm-0.alice.kd.io", 22), "{recipe}");
        }
    }

    #[test]
    fn what_means_more_to_a_shell_is_refused_by_name() {
        for (command, named) in [
            ("nc $(id) 22", "A dollar sign"),
            ("nc ${HOME} 22", "A dollar sign"),
            ("nc \"$HOME\" 22", "A dollar sign"),
            ("nc h 22; id", "A semicolon"),
            ("nc h 22 | sh", "A pipe"),
            ("nc h 22 & id", "An ampersand"),
            ("nc `id` 22", "A backtick"),
            ("nc \"`id`\" 22", "A backtick"),
            ("nc h 22\nid", "A line break"),
            ("nc h 22\rid", "A line break"),
            ("nc 'h\n' 22", "A line break"),
            ("nc h\\ 22", "A backslash"),
            ("nc h\u{1b} 22", "A control character"),
            ("nc h\0 22", "A control character"),
            ("nc h 22 > /etc/passwd", "The character >"),
            ("nc * 22", "The character *"),
            ("nc ~ 22", "The character ~"),
            ("nc {a,b} 22", "The character {"),
        ] {
            assert_eq!(parse(command.as_bytes()), Err(NotWords::ForAShell(named.into()).into()), "{command}");
        }
    }

    #[test]
    fn single_quotes_make_a_character_plain() {
        assert_eq!(parse(b"nc 'a;b$c' 22"), target("a;b$c", 22));
        assert_eq!(parse(b"nc 'a b' 22"), target("a b", 22));
        assert_eq!(parse(b"nc 'a 22"), Err(NotWords::OpenQuote.into()));
    }

    #[test]
    fn everything_else_is_refused() {
        use NotATunnel::*;
        for (command, why) in [
            ("", Empty),
            ("   ", Empty),
            ("ls -la", OtherCommand("ls -la".into())),
            ("ncat h 22", OtherCommand("ncat h 22".into())),
            ("nc", NoPort),
            ("nc h", NoPort),
            ("nc -q", Seconds('q')),
            ("nc -w five h 22", Seconds('w')),
            ("nc -w h 22", Seconds('w')),
            ("nc '' 22", NoPort),
            ("nc -l 22", Option("-l".into())),
            ("nc -e /bin/sh h 22", Option("-e".into())),
            ("nc -U /run/x 22", Option("-U".into())),
            ("nc --help", Option("--help".into())),
            ("nc h 22 23", TooMuch("23".into())),
            ("nc h -1", NotAPort("-1".into())),
            ("nc h +22", NotAPort("+22".into())),
            ("nc h ssh", NotAPort("ssh".into())),
            ("nc h ''", NotAPort("".into())),
            ("nc h 99999999999", NotAPort("99999999999".into())),
            ("nc h 4294967296", NotAPort("4294967296".into())),
        ] {
            assert_eq!(parse(command.as_bytes()), Err(why), "{command}");
        }
        assert_eq!(parse(b"nc \xff 22"), Err(NotUtf8));
        assert_eq!(parse(format!("nc {} 22", "a".repeat(MAX_LEN)).as_bytes()), Err(TooLong));
        assert_eq!(parse(b"nc h 65536"), target("h", 65536), "what is no port is control's to say");
        assert_eq!(parse(b"nc -- -h 0"), target("-h", 0));
    }

    /// How a shell would need `word` quoted, for every way that is accepted here.
    fn spelled(word: &str, way: u8) -> String {
        match way % 3 {
            0 => format!("'{word}'"),
            1 => format!("\"{word}\""),
            _ => word.to_owned(),
        }
    }

    proptest! {
        #[test]
        fn never_panics(command in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let _ = parse(&command);
        }

        #[test]
        fn never_panics_near_the_grammar(words in proptest::collection::vec("[a-z0-9.'\"$;|\\\\ -]{0,9}|-q|-w|-N|--", 0..20)) {
            let _ = parse(format!("nc {}", words.join(" ")).as_bytes());
        }

        #[test]
        fn accepted_is_what_was_typed(
            host in "[a-zA-Z0-9._:%@/+=,-]{1,60}", port in any::<u32>(), ways in any::<(u8, u8)>(),
            options in proptest::sample::select(vec!["", "-N ", "-q 1 ", "-w9 -N ", "-- "]),
        ) {
            prop_assume!(!host.starts_with('-') || options == "-- ");
            let command = format!("nc {options}{} {}", spelled(&host, ways.0), spelled(&port.to_string(), ways.1));
            prop_assert_eq!(parse(command.as_bytes()), Ok(Target { host, port }));
        }

        #[test]
        fn what_is_accepted_holds_the_words_of_the_command(command in "nc [ -~]{0,60}") {
            if let Ok(target) = parse(command.as_bytes()) {
                let bare: String = command.chars().filter(|c| !matches!(c, '\'' | '"')).collect();
                prop_assert!(bare.contains(&target.host));
                let port = bare.trim_end().rsplit([' ', '\t']).next().unwrap_or_default();
                prop_assert_eq!(port.parse::<u32>(), Ok(target.port));
            }
        }

        #[test]
        fn unquoted_shell_characters_are_never_accepted(before in "[a-z ]{0,5}", c in "[;&|<>(){}$`\\\\\n*?~#!^]", after in "[a-z ]{0,5}") {
            let command = format!("nc {before}{c}{after} 22");
            prop_assert!(matches!(parse(command.as_bytes()), Err(NotATunnel::NotWords(NotWords::ForAShell(_)))));
        }
    }
}
