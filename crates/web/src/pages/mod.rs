//! The pages, each answering one question.

pub(crate) mod account;
pub(crate) mod activity;
pub(crate) mod confirm;
pub(crate) mod disk;
pub(crate) mod enter;
pub(crate) mod environments;
pub(crate) mod files;
pub(crate) mod help;
pub(crate) mod keys;
pub(crate) mod link;
pub(crate) mod log_in;
pub(crate) mod oidc;
pub(crate) mod ops;
pub(crate) mod passkeys;
pub(crate) mod people;
pub(crate) mod ports;
pub(crate) mod sessions;
pub(crate) mod shared;
pub(crate) mod team;
pub(crate) mod terminal;
pub(crate) mod tokens;
pub(crate) mod vm;
pub(crate) mod watch;
