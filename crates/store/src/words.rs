//! Enums whose variants have a word each, in the database and in JSON.

/// A word in a column that is none of those that it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("It is none of the words that it may be.")]
pub struct Unknown;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word for it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::words::Unknown;

            fn from_str(text: &str) -> Result<Self, $crate::words::Unknown> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text).ok_or($crate::words::Unknown)
            }
        }
    };
}

pub(crate) use words;

#[cfg(test)]
mod tests {
    use crate::{AuditKind, LoginWay, PortAccess, Rebuild, Role, Scope, Way};

    #[test]
    fn every_word_is_of_one_variant() {
        macro_rules! come_back {
            ($($name:ident),*) => {
                $(for one in $name::ALL {
                    assert_eq!(one.as_str().parse(), Ok(*one));
                    assert_eq!(serde_json::to_value(one).unwrap(), one.as_str());
                })*
            };
        }
        come_back!(AuditKind, LoginWay, PortAccess, Rebuild, Role, Scope, Way);
        assert!("root".parse::<Role>().is_err());
    }
}
