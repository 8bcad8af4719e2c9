//! Names of accounts and teams, which share one namespace.
//!
//! A name is a DNS label, a Linux user name and a word in a command line at once, so it may be only what all three
//! allow. Whether a name is free is not known here.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

mod reserved;

/// The least number of characters in a name.
pub const MIN_LEN: usize = 2;
/// The greatest number of characters in a name: the limit of Linux user names.
pub const MAX_LEN: usize = 32;

/// Why a text is not a name. The sentence is for the person who chose it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("The name is empty. {SHAPE}")]
    Empty,
    /// Fewer than [`MIN_LEN`] characters.
    #[error("The name is too short. {SHAPE}")]
    TooShort,
    /// More than [`MAX_LEN`] characters.
    #[error("The name is too long. {SHAPE}")]
    TooLong,
    /// It contains a character that no name has.
    #[error("The name has the character {}, which names cannot have. {SHAPE}", printable(*.0))]
    Character(char),
    /// It does not begin with a letter.
    #[error("The name does not begin with a letter. {SHAPE}")]
    Start,
    /// It ends with a hyphen.
    #[error("The name ends with a hyphen. {SHAPE}")]
    End,
    /// Two hyphens as its third and fourth character, which DNS keeps for encoded names (RFC 5891, 4.2.3.1).
    #[error(
        "Two hyphens after the second letter have a meaning of their own in host names. Leave one of them out."
    )]
    Encoded,
    /// It begins like the name of a VM.
    #[error("Names that begin with vm- or shared- are for VMs. Choose another one.")]
    VmLike,
    /// It is on the list of names that stand for something else.
    #[error("The name {0} is reserved for the system. Choose another one.")]
    Reserved(String),
}

const SHAPE: &str = "A name has 2 to 32 characters, a to z, 0 to 9 and hyphens, begins with a letter and does not end with a hyphen.";

fn printable(c: char) -> String {
    if c == ' ' { "“ ” (a space)".to_owned() } else { format!("“{}”", c.escape_debug()) }
}

fn check(text: &str) -> Result<(), NameError> {
    let Some(first) = text.chars().next() else { return Err(NameError::Empty) };
    if let Some(c) = text.chars().take(MAX_LEN + 1).find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(NameError::Character(c));
    }
    if text.len() > MAX_LEN {
        return Err(NameError::TooLong);
    }
    if !first.is_ascii_lowercase() {
        return Err(NameError::Start);
    }
    if text.len() < MIN_LEN {
        return Err(NameError::TooShort);
    }
    if text.ends_with('-') {
        return Err(NameError::End);
    }
    if text.starts_with("vm-") || text.starts_with("shared-") {
        return Err(NameError::VmLike);
    }
    if text.get(2..4) == Some("--") {
        return Err(NameError::Encoded);
    }
    if reserved::is_reserved(text) {
        return Err(NameError::Reserved(text.to_owned()));
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type! {
    /// The name of an account, which is also the Linux user in its VMs.
    ///
    /// 2 to 32 characters, `[a-z][a-z0-9-]*[a-z0-9]`, no `vm-*`, no `shared-*`, nothing on the reserved list and no
    /// hyphens where DNS would read an encoded name.
    AccountName
}

name_type! {
    /// The name of a team, with the same rules as an [`AccountName`].
    TeamName
}

/// The name of [`AccountName::of_teams`]. It is reserved, so nobody has it.
const OF_TEAMS: &str = "shared";

impl AccountName {
    /// What stands in the place of an owner where a VM belongs to its team: no account, nobody who could log in, and the
    /// name of a Linux user in such a VM who is nobody. It cannot be read from a text.
    #[must_use]
    pub fn of_teams() -> Self {
        Self(OF_TEAMS.to_owned())
    }

    /// Whether it is [`AccountName::of_teams`].
    #[must_use]
    pub fn is_of_teams(&self) -> bool {
        self.0 == OF_TEAMS
    }

    /// Whose a VM is: an account's name, or that of [`AccountName::of_teams`].
    ///
    /// # Errors
    /// As with [`AccountName::from_str`].
    pub fn owner_from(text: &str) -> Result<Self, NameError> {
        if text == OF_TEAMS { Ok(Self::of_teams()) } else { text.parse() }
    }

    /// The account name for a person's Unix login (`$USER`): lower-cased, without a Windows domain before it or a
    /// mail domain after it, every run of other characters a hyphen, cut to [`MAX_LEN`].
    ///
    /// A login that stands for a system and not a person (`root`, `admin`) gives `dev`. `None` where no name is left.
    #[must_use]
    pub fn from_login_name(login: &str) -> Option<Self> {
        let login = login.rsplit('\\').next().unwrap_or(login);
        let login = login.split('@').next().unwrap_or(login);
        let mut name = String::with_capacity(MAX_LEN);
        for c in login.chars().map(|c| c.to_ascii_lowercase()) {
            if name.len() == MAX_LEN {
                break;
            }
            match c {
                'a'..='z' => name.push(c),
                '0'..='9' if !name.is_empty() => name.push(c),
                _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
                _ => {}
            }
        }
        name.truncate(name.trim_end_matches('-').len());
        match Self::try_from(name) {
            Err(NameError::Reserved(_)) => Some(Self("dev".to_owned())),
            result => result.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> NameError {
        text.parse::<AccountName>().expect_err(text)
    }

    #[test]
    fn nobody_has_the_name_that_stands_for_teams() {
        assert!(matches!(refused(OF_TEAMS), NameError::Reserved(_)));
        assert!(AccountName::owner_from(OF_TEAMS).is_ok_and(|owner| owner.is_of_teams()));
        assert!(AccountName::owner_from("alice").is_ok_and(|owner| !owner.is_of_teams()));
        assert!(AccountName::owner_from("root").is_err());
    }

    #[test]
    fn the_shape_is_enforced() {
        for good in ["leeolayvar", "koding", "ab", "a1", "a-b", "a--b", "dev", &"a".repeat(32)] {
            assert_eq!(good.parse::<AccountName>().expect(good).as_str(), good);
            assert_eq!(good.parse::<TeamName>().expect(good).to_string(), good);
        }
        assert_eq!(refused(""), NameError::Empty);
        assert_eq!(refused("a"), NameError::TooShort);
        assert_eq!(refused(&"a".repeat(33)), NameError::TooLong);
        assert_eq!(refused("1a"), NameError::Start);
        assert_eq!(refused("-a"), NameError::Start);
        assert_eq!(refused("a-"), NameError::End);
        assert_eq!(refused("Alice"), NameError::Character('A'));
        assert_eq!(refused("a.b"), NameError::Character('.'));
        assert_eq!(refused("a b"), NameError::Character(' '));
        assert_eq!(refused("alıce"), NameError::Character('ı'));
        assert_eq!(refused("alice\n"), NameError::Character('\n'));
        assert_eq!(refused("xn--alice"), NameError::Encoded);
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for name in ["vm-0", "vm-x", "shared-1"] {
            assert_eq!(refused(name), NameError::VmLike);
        }
        for name in
            ["root", "admin", "www", "ssh", "api", "daemon", "www-data", "sshd", "messagebus", "nobody"]
        {
            assert_eq!(refused(name), NameError::Reserved(name.to_owned()));
        }
        for name in ["systemd-network", "systemd-anything", "sudo", "uucp", "localhost"] {
            assert_eq!(refused(name), NameError::Reserved(name.to_owned()));
        }
        assert!("vmx".parse::<AccountName>().is_ok() && "rooted".parse::<AccountName>().is_ok());
    }

    #[test]
    fn errors_say_what_is_wrong_and_what_a_name_is() {
        assert_eq!(
            refused("a_b").to_string(),
            "The name has the character “_”, which names cannot have. A name has 2 to 32 characters, a to z, 0 to 9 \
             and hyphens, begins with a letter and does not end with a hyphen."
        );
        assert!(!refused("a\u{1b}[31m").to_string().contains('\u{1b}'));
        assert!(refused(&format!("a{}", "é".repeat(100_000))).to_string().len() < 300);
    }

    #[test]
    fn logins_become_names() {
        let name = |login: &str| AccountName::from_login_name(login).map(String::from);
        assert_eq!(name("alice").as_deref(), Some("alice"));
        assert_eq!(name("Jane.Doe").as_deref(), Some("jane-doe"));
        assert_eq!(name("CORP\\jane").as_deref(), Some("jane"));
        assert_eq!(name("jane_doe@corp.example").as_deref(), Some("jane-doe"));
        assert_eq!(name("42nd..jane!").as_deref(), Some("nd-jane"));
        assert_eq!(name("root").as_deref(), Some("dev"));
        assert_eq!(name("Admin").as_deref(), Some("dev"));
        assert_eq!(name(&"j".repeat(40)), Some("j".repeat(32)));
        assert_eq!(name("vm-1"), None);
        assert_eq!(name("j"), None);
        assert_eq!(name("山田"), None);
        assert_eq!(name(""), None);
    }

    #[test]
    fn serde_checks_what_it_reads() {
        let read = |text| {
            AccountName::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text))
        };
        assert_eq!(read("alice").map(String::from), Ok("alice".to_owned()));
        assert!(read("root").is_err_and(|error| error.to_string().contains("reserved")));
    }

    proptest! {
        #[test]
        fn what_is_a_name_is_what_the_rule_says(text in "[a-z0-9A-Z.-]{0,34}|\\PC{0,34}") {
            let bytes = text.as_bytes();
            let rule = (2..=32).contains(&bytes.len())
                && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                && bytes[0].is_ascii_lowercase()
                && bytes[bytes.len() - 1] != b'-'
                && !text.starts_with("vm-")
                && !text.starts_with("shared-")
                && bytes.get(2..4) != Some(b"--")
                && !reserved::is_reserved(&text);
            prop_assert_eq!(text.parse::<AccountName>().is_ok(), rule);
            prop_assert_eq!(TeamName::try_from(text).is_ok(), rule);
        }

        #[test]
        fn every_name_from_a_login_is_a_name(login in "(?s).{0,80}") {
            if let Some(name) = AccountName::from_login_name(&login) {
                prop_assert_eq!(name.as_str().parse::<AccountName>(), Ok(name.clone()));
            }
        }

        #[test]
        fn a_name_is_its_own_login_name(name in "[a-z][a-z0-9-]{0,30}[a-z0-9]") {
            if let (Ok(account), false) = (name.parse::<AccountName>(), name.contains("--")) {
                prop_assert_eq!(AccountName::from_login_name(&name), Some(account));
            }
        }
    }
}
