//! An ssh session into a VM, over a stream that somebody else has opened.
//!
//! Owns the client's half of the protocol (russh, behind `connection` and `channel`), and that the VM is the right one:
//! its host key is compared with the one that is known, and never learnt. Owns no socket, no key and no rule about who
//! may. Two sorts of users: who has a session of its own (`channel`), and who carries somebody else's ssh client over
//! (`carried`, `arrival`).
//!
//! ```text
//!   stream ── Connection::open: host key, certificate ──► Connection ── session() ──► Channel ── pty, shell, exec ──┐
//!                                                                                         Input, Output ◄──────────┘
//!   stream ── Connection::open_for_client ──► Connection ── carried_session(), to_port(), to_socket() ──► ToVm, FromVm
//!                                        └──► arrivals: what the VM opens
//! ```
//!
//! Memory: what comes from the VM waits in a queue of a few packets. When that is full the connection is not read, so a
//! reader that stops holds the VM's program up and nothing here grows.
//!
//! Rule of concurrency: a connection is one task, which delivers to its channels in order. An [`Output`] or [`FromVm`]
//! that is not read therefore holds up its neighbours, and its own other half: who cannot have that opens more connections.
//! The task ends with the [`Connection`], whatever the stream does.

mod arrival;
mod carried;
mod channel;
mod connection;
mod credentials;
mod cut;
mod error;
mod host;

pub use arrival::{Arrival, Origin};
pub use carried::{FromVm, Message, Request, TerminalMode, ToVm, Window};
pub use channel::{Channel, Event, Input, Output, Size};
pub use connection::Connection;
pub use credentials::Credentials;
pub use error::Error;
