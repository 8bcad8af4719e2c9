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

/// Text of several lines without anything that a terminal acts on, or that puts letters in another order than they stand
/// in; a tab stays.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if acts(c) && !matches!(c, '\n' | '\t') { '?' } else { c }).collect()
}

/// The same for what has to stay in its line.
pub(crate) fn in_one_line(text: &str) -> String {
    text.chars().map(|c| if acts(c) { '?' } else { c }).collect()
}

/// Whether a terminal does something else with a character than showing it: control characters, and Unicode's for the
/// direction and for what is not to be seen.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
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

    #[test]
    fn what_hides_or_turns_text_around_is_seen() {
        assert_eq!(plain("a\u{1b}]0;x\u{7}\r\u{9b}1m\nb\tc"), "a?]0;x???1m\nb\tc");
        assert_eq!(in_one_line("a\u{202e}b\u{200b}\nc\u{feff}\u{e0041}ü猫"), "a?b??c??ü猫");
    }

    proptest! {
        #[test]
        fn said_back_is_always_short_and_printable(text in any::<String>()) {
            let said = quoted(&text);
            prop_assert!(said.len() <= QUOTED + 3);
            prop_assert!(said.bytes().all(|b| (0x20..0x7f).contains(&b)));
        }

        #[test]
        fn plain_text_moves_nothing(text in any::<String>()) {
            prop_assert!(plain(&text).chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
            prop_assert_eq!(plain(&text).chars().count(), text.chars().count());
            prop_assert!(!in_one_line(&text).contains(char::is_control));
        }

        #[test]
        fn ascii_is_ascii(text in any::<String>()) {
            prop_assert!(in_ascii(&text).is_ascii());
        }
    }
}
