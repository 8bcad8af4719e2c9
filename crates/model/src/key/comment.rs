//! Text of strangers that will be shown: in terminals, logs and pages.

/// The most characters that are kept of a key's comment.
pub const MAX_COMMENT_LEN: usize = 255;
const MAX_QUOTE_LEN: usize = 64;

/// Makes a comment safe to show: no control characters (and so no escape sequences), nothing invisible, nothing that
/// changes the direction of what follows, white space as single spaces, at most [`MAX_COMMENT_LEN`] characters.
pub(super) fn clean(text: &str) -> String {
    cut(text, MAX_COMMENT_LEN)
}

/// As much of a stranger's word as an error may quote.
pub(super) fn quotable(word: &str) -> String {
    cut(word, MAX_QUOTE_LEN)
}

fn cut(text: &str, most: usize) -> String {
    let visible: String = text.chars().filter(|c| c.is_whitespace() || is_visible(*c)).collect();
    let joined = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.chars().take(most).collect::<String>().trim_end().to_owned()
}

fn is_visible(c: char) -> bool {
    let hidden = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}');
    !c.is_control() && !hidden
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comments_lose_what_a_terminal_would_obey() {
        assert_eq!(clean("alice\u{1b}[31m@lap\u{0}top\u{7}"), "alice[31m@laptop");
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{200b}d\u{9b}e"), "abcde");
        assert_eq!(clean("  Jürgen’s \t MacBook\u{a0}Pro  "), "Jürgen’s MacBook Pro");
        assert_eq!(clean(&"é".repeat(300)).chars().count(), MAX_COMMENT_LEN);
    }

    proptest! {
        #[test]
        fn cleaning_is_bounded_and_final(text in "\\PC{0,400}|(?s).{0,400}") {
            let cleaned = clean(&text);
            prop_assert!(cleaned.chars().count() <= MAX_COMMENT_LEN);
            prop_assert!(cleaned.chars().all(|c| c == ' ' || is_visible(c)));
            prop_assert_eq!(&clean(&cleaned), &cleaned);
        }
    }
}
