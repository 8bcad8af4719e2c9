//! Values for which a word may stand: `"never"`, `"unlimited"`, `"all"`.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

/// What is read: a value of `T`, or `word` for none.
struct OrWord<T> {
    word: &'static str,
    expected: &'static str,
    value: PhantomData<T>,
}

impl<T: FromStr> Visitor<'_> for OrWord<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or \"{}\"", self.expected, self.word)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        if text == self.word {
            return Ok(None);
        }
        let value = text.parse().map_err(|_| {
            let Self { word, expected, .. } = self;
            E::custom(format!("{text:?} means nothing here. Give {expected}, or \"{word}\""))
        })?;
        Ok(Some(value))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }
}

fn read<'de, T: FromStr, D: Deserializer<'de>>(
    from: D,
    word: &'static str,
    expected: &'static str,
) -> Result<Option<T>, D::Error> {
    from.deserialize_any(OrWord { word, expected, value: PhantomData })
}

fn write<T: Serialize, S: Serializer>(value: Option<&T>, word: &str, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(to),
        None => to.serialize_str(word),
    }
}

/// A length of time, or `"never"`.
pub(super) mod never {
    use super::*;
    use crate::config::Span;

    pub(crate) fn serialize<S: Serializer>(value: &Option<Span>, to: S) -> Result<S::Ok, S::Error> {
        write(value.as_ref(), "never", to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Span>, D::Error> {
        read(from, "never", "a length of time in quotes, for example \"20 min\"")
    }
}

/// A size, or `"all"`.
pub(super) mod all {
    use super::*;
    use crate::config::Size;

    pub(crate) fn serialize<S: Serializer>(value: &Option<Size>, to: S) -> Result<S::Ok, S::Error> {
        write(value.as_ref(), "all", to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Size>, D::Error> {
        read(from, "all", "a size in quotes, for example \"16 GiB\"")
    }
}

/// A size, or `"unlimited"`.
pub(super) mod unlimited_size {
    use super::*;
    use crate::config::Size;

    pub(crate) fn serialize<S: Serializer>(value: &Option<Size>, to: S) -> Result<S::Ok, S::Error> {
        write(value.as_ref(), "unlimited", to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Size>, D::Error> {
        read(from, "unlimited", "a size in quotes, for example \"20 GiB\"")
    }
}

/// A number, or `"unlimited"`.
pub(super) mod unlimited_count {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Option<u32>, to: S) -> Result<S::Ok, S::Error> {
        write(value.as_ref(), "unlimited", to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
        read(from, "unlimited", "a whole number, for example 5")
    }
}
