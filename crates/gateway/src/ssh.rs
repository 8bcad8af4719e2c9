//! The SSH protocol, as russh speaks it. No other module of the gateway knows russh, but for the host key.
//!
//! Owns the algorithms and limits of a connection, the answers to requests, and the shapes in which the rest of the
//! gateway sees a channel. What a request leads to is decided in `session` and `tunnel`.
//!
//! Answers are given in russh's callbacks and not from the channel's task, because russh keeps for each channel only
//! whether the *last* request wants an answer, and OpenSSH sends `pty-req` and `shell` without waiting in between.

mod channel;
mod config;
mod handler;
mod login;

pub(crate) use channel::{Gone, Incoming, OpenFailure, Opening, Reader, Writer};
pub(crate) use config::config;
pub(crate) use handler::{Handler, Seat, Surroundings};
pub(crate) use russh::{
    Disconnect, Error,
    server::{Config, RunningSession, run_stream},
};
