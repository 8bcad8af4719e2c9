//! The gateway, spoken to by the ssh that everybody has.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod attacks;
mod certificates;
mod direct;
mod early;
mod guest;
mod limits;
mod lobby;
mod login;
mod protocol;
mod raw;
mod recordings;
mod refusals;
mod sharing;
mod sleep;
mod told;
mod trust;
mod tunnels;
mod world;
