//! The ways in by ssh.
//!
//! Owns the SSH connections that clients make: who is at the other end (a key, once its signature is verified), which
//! of the ways in they take, and the bytes between them and a VM. Owns no rule about who may enter what and no VM:
//! those are asked of `berth-control`, which gives a proof for each. No shell, no process and no name resolution
//! exist here.
//!
//! ```text
//!             ┌ admission ┐  ┌ ssh (russh lives here and nowhere else) ┐
//!   client ──►│ penalties ├─►│ log-in, then one task a channel         │
//!             └───────────┘  │   session ─ exec "nc HOST PORT" ┐       │   enter()    ┌─────────┐
//!                            │   direct-tcpip HOST PORT ───────┴─ tunnel ├─ connect() ─►│ control │──► VM
//!                            │   shell, other words ─ lobby ───────────┼─ acting() ──►└─────────┘
//!                            └─────────────────────────────────────────┘
//! ```
//!
//! Concurrency: a task accepts for each listener, a task watches over each connection, russh has a task for its
//! protocol, and every channel has one. All but russh's are tracked; that one ends when its transport is cut, which is
//! how a connection is ended that does not end by itself. russh's task never waits for a channel's: see `backlog.rs`.
//!
//! docs/protocol.md lists every request and its fate.

mod accounts;
mod admission;
mod backlog;
mod certificate;
mod connection;
mod direct;
mod early;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod host_key;
mod leash;
mod limit;
mod lobby;
mod nc_words;
mod pace;
mod penalty;
mod progress;
mod refusal;
mod server;
mod session;
mod settings;
mod source;
mod splice;
mod ssh;
mod text;
mod tunnel;
mod way;
mod words;

pub use host_key::{HostKey, HostKeyError};
pub use server::Gateway;
pub use settings::{GatewaySettings, Limits, Penalties};
