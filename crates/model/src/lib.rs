//! The words that Berth speaks: names, ids, host names, public keys and secrets.
//!
//! This crate owns what these values may look like and how text becomes one of them. Everything here is a pure
//! function of its arguments: no file, no network, no clock, no lock, no global state. Whether a name is taken, a
//! VM exists or a key belongs to somebody is not known here; the store and the control crate know.
//!
//! Every parser meets text from strangers: it is bounded in size before it is looked at, it never panics, and its
//! errors are sentences for the person who sent the text, saying what is wrong and what to do.
//!
//! | module | text | value |
//! |---|---|---|
//! | [`name`] | `alice` | [`AccountName`], [`TeamName`] |
//! | [`vm`] | `vm-0.alice.koding` | [`VmName`], [`VmNumber`], [`VmId`] |
//! | [`host`] | `vm-0.alice.koding.kd.io` | [`Domains`] turn it into a [`VmName`] |
//! | [`key`] | what people paste | [`PastedKey`]: [`PublicKey`], [`KeyOptions`], comment |
//! | [`title`] | what a person calls a VM | [`Title`] |
//! | [`secret`] | | [`Secret`], which no log can print |
//! | [`ssh_config`] | | what a member's ssh has to be told |

pub mod host;
pub mod key;
pub mod krl;
pub mod name;
pub mod secret;
pub mod ssh_config;
pub mod title;
pub mod vm;

pub use host::{DomainError, Domains, SITE_PORT};
pub use key::{
    AddressPattern, Fingerprint, KeyError, KeyOptions, NotPermitted, PasteError, PastedKey, PublicKey,
    parse_pasted,
};
pub use krl::{Certified, Krl, KrlError, MAX_KRL};
pub use name::{AccountName, NameError, TeamName};
pub use secret::Secret;
pub use title::{MAX_TITLE, Title, TitleError};
pub use vm::{VmId, VmName, VmNameError, VmNumber};
