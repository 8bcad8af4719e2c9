//! An ssh session into a VM, over a stream that somebody else has opened.
//!
//! Owns the client's half of the protocol (russh, behind `connection` and `channel`), and that the VM is the right one:
//! its host key is compared with the one that is known, and never learnt. Owns no socket, no key and no rule about who
//! may.
//!
//! ```text
//!   stream ── Connection::open: host key, certificate ──► Connection ── session() ──► Channel ── pty, shell, exec ──┐
//!                                                                                         Input, Output ◄──────────┘
//! ```
//!
//! Memory: what comes from the VM waits in a queue of a few packets. When that is full the connection is not read, so a
//! reader that stops holds the VM's program up and nothing here grows.
//!
//! Rule of concurrency: a connection is one task, which delivers to its channels in order. An [`Output`] that is not read
//! therefore holds up its neighbours, and its own [`Input`]: who cannot have that opens a connection for each channel.
//! The task ends with the [`Connection`], whatever the stream does.

mod channel;
mod connection;
mod credentials;
mod cut;
mod error;

pub use channel::{Channel, Event, Input, Output, Size};
pub use connection::Connection;
pub use credentials::Credentials;
pub use error::Error;
