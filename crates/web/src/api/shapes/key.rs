//! SSH keys.

use berth_control::{AddedKey, KeyInfo, KeyUse};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// An SSH key.
#[derive(Serialize, ToSchema)]
pub(crate) struct Key {
    /// What its owner calls it.
    #[schema(example = "laptop")]
    label: String,
    /// What sort of key it is.
    #[schema(example = "ssh-ed25519")]
    algorithm: String,
    /// What names it.
    #[schema(example = "SHA256:u9Yx0mCz8pT5aQm1f0k3bq2rV7w8L6dS4hJ9nK1eXyA")]
    fingerprint: String,
    /// The comment that came with it.
    comment: String,
    /// Its options as in an authorized_keys line.
    options: String,
    /// When it was added.
    #[serde(with = "time::serde::rfc3339")]
    added: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339::option")]
    expires: Option<OffsetDateTime>,
    /// When and from where it was used last.
    last_used: Option<Used>,
}

/// One use of a key.
#[derive(Serialize, ToSchema)]
pub(crate) struct Used {
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// The client's address.
    #[schema(example = "192.0.2.7")]
    from: String,
}

impl From<KeyUse> for Used {
    fn from(used: KeyUse) -> Self {
        Self { at: used.at, from: used.from.to_string() }
    }
}

impl From<KeyInfo> for Key {
    fn from(info: KeyInfo) -> Self {
        Self {
            label: info.label,
            algorithm: info.algorithm,
            fingerprint: info.fingerprint.to_string(),
            comment: info.comment,
            options: info.options,
            added: info.added,
            expires: info.expires,
            last_used: info.last_used.map(Used::from),
        }
    }
}

/// Keys to be added.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "keys": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… alice@laptop", "label": "laptop" }))]
pub(crate) struct NewKeys {
    /// One or more public keys, as they stand in .pub files. Never a private one.
    pub(crate) keys: String,
    /// What to call them; the comment of each where this is not given. 64 characters at most.
    pub(crate) label: Option<String>,
}

/// What a key is called.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "label": "the old laptop" }))]
pub(crate) struct KeyLabel {
    /// 64 characters at most.
    pub(crate) label: String,
}

/// What became of one key.
#[derive(Serialize, ToSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// It counts from now on.
    Added {
        /// The key.
        key: Key,
    },
    /// The account had it before. Nothing was changed.
    AlreadyThere {
        /// What names it.
        fingerprint: String,
    },
    /// It was not added.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

impl From<AddedKey> for Verdict {
    fn from(judged: AddedKey) -> Self {
        match judged {
            AddedKey::Added { key } => Self::Added { key: key.into() },
            AddedKey::AlreadyThere { fingerprint } => {
                Self::AlreadyThere { fingerprint: fingerprint.to_string() }
            }
            AddedKey::Refused { reason } => Self::Refused { reason },
        }
    }
}

impl Verdict {
    /// Why it was not added, if so.
    pub(crate) fn refused(&self) -> Option<&str> {
        match self {
            Self::Refused { reason } => Some(reason),
            Self::Added { .. } | Self::AlreadyThere { .. } => None,
        }
    }
}
