//! What a person calls a VM: text of their own, which is shown and means nothing.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The most characters of a [`Title`].
pub const MAX_TITLE: usize = 40;

/// One line of 1 to [`MAX_TITLE`] characters, none of which steers a terminal, turns the direction of the text around it
/// or takes no room. What is around it of white space is gone. It still has to be escaped for where it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Title(String);

/// Why a text is no [`Title`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TitleError {
    /// There is nothing in it.
    #[error("Write what it is to be called.")]
    Empty,
    /// It has more than [`MAX_TITLE`] characters.
    #[error("That is longer than {MAX_TITLE} characters. Choose a shorter one.")]
    TooLong,
    /// It has a character that is not text.
    #[error("That has a character in it that cannot be seen. Type it anew.")]
    Unseen,
}

impl Title {
    /// It as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a character does something to the text around it, or is nothing to look at.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl FromStr for Title {
    type Err = TitleError;

    fn from_str(text: &str) -> Result<Self, TitleError> {
        let text = text.trim();
        match text.chars().take(MAX_TITLE + 1).count() {
            0 => Err(TitleError::Empty),
            1..=MAX_TITLE if text.chars().any(is_unseen) => Err(TitleError::Unseen),
            1..=MAX_TITLE => Ok(Self(text.to_owned())),
            _ => Err(TitleError::TooLong),
        }
    }
}

impl TryFrom<String> for Title {
    type Error = TitleError;

    fn try_from(text: String) -> Result<Self, TitleError> {
        text.parse()
    }
}

impl From<Title> for String {
    fn from(title: Title) -> Self {
        title.0
    }
}

impl fmt::Display for Title {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_call_their_machines() {
        for text in ["web shop", "Zoë’s <test> & more", "データベース", "⚙️", &"x".repeat(40)] {
            assert_eq!(text.parse::<Title>().unwrap().as_str(), text);
        }
        assert_eq!("  a b\n".parse::<Title>().unwrap().as_str(), "a b");
    }

    #[test]
    fn what_is_no_text_to_look_at() {
        assert_eq!("".parse::<Title>(), Err(TitleError::Empty));
        assert_eq!(" \t ".parse::<Title>(), Err(TitleError::Empty));
        assert_eq!("ü".repeat(41).parse::<Title>(), Err(TitleError::TooLong));
        assert_eq!("x".repeat(1 << 20).parse::<Title>(), Err(TitleError::TooLong));
        for text in
            ["a\u{1b}[31m", "a\nb", "\u{202e}gpj.exe", "a\u{200b}b", "a\u{2028}b", "\u{feff}", "\u{e0041}a"]
        {
            assert_eq!(text.parse::<Title>(), Err(TitleError::Unseen), "{text:?}");
        }
    }
}
