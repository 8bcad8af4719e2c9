//! The operators' pages.

pub(crate) mod account;
pub(crate) mod accounts;
pub(crate) mod audit;
pub(crate) mod connections;
pub(crate) mod health;
pub(crate) mod limits;
pub(crate) mod recordings;
pub(crate) mod team;
pub(crate) mod vms;
