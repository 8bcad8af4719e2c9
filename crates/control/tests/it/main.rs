//! Control with a real store in memory and the engine in memory.
// So that clippy sees the helpers as the tests that they are.
#![cfg(test)]

mod access;
mod connections;
mod disks;
mod kept_disks;
mod keys;
mod left_early;
mod lifecycle;
mod listing;
mod parked;
mod room;
mod sharing;
mod sites;
mod sleep;
mod standing;
mod team;
mod terminal;
mod time;
mod web;
mod web_acting;
mod web_links;
mod web_log_in;
mod web_oidc;
mod web_passkeys;
mod web_tokens;
mod world;
