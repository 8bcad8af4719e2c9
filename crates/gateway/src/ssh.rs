//! The SSH protocol, as russh speaks it. No other module of the gateway knows russh, but for the host key.
//!
//! Owns the algorithms and limits of a connection, the answers to requests, and the shapes in which the rest of the
//! gateway sees a channel. What a request leads to is decided in `session` and `tunnel`.
//!
//! Answers are given in russh's callbacks and not from the channel's task, because russh keeps for each channel only
//! whether the *last* request wants an answer, and OpenSSH sends `pty-req` and `shell` without waiting in between. Where
//! the answer is a VM's, the callback waits for it, and the connection's other channels with it: all of them lead there.

mod caller;
mod channel;
mod config;
mod handler;
mod login;

pub(crate) use caller::Caller;
pub(crate) use channel::{Gone, Incoming, OpenFailure, Opening, Reader, Writer};
pub(crate) use config::{IDENTIFICATION, config};
pub(crate) use handler::{Client, Handler, Seat, Surroundings};
pub(crate) use russh::{
    Disconnect, Error,
    server::{Config, RunningSession, run_stream},
};
