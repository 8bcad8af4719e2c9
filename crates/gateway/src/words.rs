//! A line of text as words: split as a shell splits plain words and simple quotes, and whatever would mean more to a shell
//! is refused by name. There is no shell here.

use crate::text::quoted;

/// More words than any command takes.
const MAX_WORDS: usize = 16;

/// Why a line is not words. The texts say what is wrong, not what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotWords {
    #[error("{0} cannot be used here: no shell reads this command.")]
    ForAShell(String),
    #[error("A quote in the command is not closed.")]
    OpenQuote,
    #[error("The command has too many words, from {0:?} on.")]
    TooMany(String),
}

/// Splits into words; inside quotes a blank is a character like others.
pub(crate) fn split(text: &str) -> Result<Vec<String>, NotWords> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ' | '\t', None) => words.extend(word.take()),
            (c, _) if means_more(c, quote) => return Err(NotWords::ForAShell(name(c))),
            (c, _) => word.get_or_insert_default().push(c),
        }
        if words.len() > MAX_WORDS {
            return Err(NotWords::TooMany(quoted(words.last().map_or("", String::as_str))));
        }
    }
    if quote.is_some() {
        return Err(NotWords::OpenQuote);
    }
    words.extend(word);
    Ok(words)
}

/// Whether a shell would do more with `c` than copy it, or a terminal more than show it.
fn means_more(c: char, quote: Option<char>) -> bool {
    match (c, quote) {
        (c, _) if c.is_control() => true,
        (_, Some('\'')) => false,
        ('$' | '`' | '\\', _) => true,
        (_, Some(_)) => false,
        (c, None) => matches!(
            c,
            ';' | '&'
                | '|'
                | '<'
                | '>'
                | '('
                | ')'
                | '{'
                | '}'
                | '['
                | ']'
                | '*'
                | '?'
                | '~'
                | '#'
                | '!'
                | '^'
        ),
    }
}

/// A character by its name, or as it looks.
fn name(c: char) -> String {
    match c {
        '\n' | '\r' => "A line break".into(),
        ';' => "A semicolon".into(),
        '|' => "A pipe".into(),
        '`' => "A backtick".into(),
        '\\' => "A backslash".into(),
        '$' => "A dollar sign".into(),
        '&' => "An ampersand".into(),
        c if c.is_control() => "A control character".into(),
        c => format!("The character {c}"),
    }
}
