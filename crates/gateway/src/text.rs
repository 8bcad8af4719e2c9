//! Text for terminals that are not ours.

/// The most characters of a stranger's text that are said back.
const QUOTED: usize = 60;

/// What somebody sent, fit to be said back: printable ASCII only, everything else a question mark, cut short.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let mut said: String = text.chars().take(QUOTED).map(plain).collect();
    if text.chars().nth(QUOTED).is_some() {
        said.push_str("...");
    }
    said
}

/// Ends lines for a terminal in raw mode, where a line feed alone goes straight down.
pub(crate) fn for_terminal(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// The text in ASCII, for places where OpenSSH's client shows other characters as octal numbers: its log lines.
pub(crate) fn in_ascii(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '…' => plain.push_str("..."),
            '’' => plain.push('\''),
            c if c.is_ascii() => plain.push(c),
            _ => plain.push('?'),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(quoted("ls\u{1b}]0;x\u{7}\r\n\u{202e}é"), "ls?]0;x?????");
        assert_eq!(quoted(&"a".repeat(61)), format!("{}...", "a".repeat(60)));
    }

    #[test]
    fn lines_end_as_where_they_go() {
        assert_eq!(for_terminal("one\ntwo\n"), "one\r\ntwo\r\n");
        assert_eq!(in_ascii("it’s waking… ü"), "it's waking... ?");
    }

    proptest! {
        #[test]
        fn said_back_is_always_short_and_printable(text in any::<String>()) {
            let said = quoted(&text);
            prop_assert!(said.len() <= QUOTED + 3);
            prop_assert!(said.bytes().all(|b| (0x20..0x7f).contains(&b)));
        }

        #[test]
        fn ascii_is_ascii(text in any::<String>()) {
            prop_assert!(in_ascii(&text).is_ascii());
        }
    }
}
