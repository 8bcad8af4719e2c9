//! The operator's way in: a unix socket in the state folder, on which `berth admin` speaks to the running server, so
//! that every change counts at once.
//!
//! ```text
//!   berth admin … ── client ── wire ── server ── answer ──► Control
//!                                                   └─────► KnownHosts, after VMs came or went
//! ```
//!
//! Whoever may connect may do everything: the socket is for root and for the user that the server runs as, by its mode
//! and again by the peer's credentials.

pub(crate) mod answer;
pub(crate) mod client;
pub(crate) mod server;
pub(crate) mod wire;
