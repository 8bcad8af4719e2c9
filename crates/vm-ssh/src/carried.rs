//! A channel that is carried over for somebody else's client: everything goes through as it is, in order.

use bytes::Bytes;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig, client::Msg};

use crate::Error;

pub use russh::Pty as TerminalMode;

/// What a client asks on a channel (RFC 4254, 6.2 to 6.9, and agent forwarding).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A variable of the environment.
    Env {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A terminal.
    Pty {
        /// Its kind.
        term: String,
        /// Its size.
        size: Window,
        /// Its modes (RFC 4254, 8).
        modes: Vec<(TerminalMode, u32)>,
    },
    /// The display.
    X11 {
        /// One connection and no more.
        single: bool,
        /// The protocol of the authentication.
        protocol: String,
        /// Its cookie.
        cookie: String,
        /// The screen.
        screen: u32,
    },
    /// The agent.
    Agent,
    /// The user's shell.
    Shell,
    /// A command for it.
    Exec(Vec<u8>),
    /// A subsystem.
    Subsystem(String),
    /// The terminal has another size. Is not answered.
    Resize(Window),
    /// A signal, its name without `SIG`. Is not answered.
    Signal(String),
}

impl Request {
    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Env { name, value } => name.len() + value.len(),
            Self::Pty { term, modes, .. } => term.len() + size_of_val(modes.as_slice()),
            Self::X11 { protocol, cookie, .. } => protocol.len() + cookie.len(),
            Self::Exec(command) => command.len(),
            Self::Subsystem(name) | Self::Signal(name) => name.len(),
            Self::Agent | Self::Shell | Self::Resize(_) => 0,
        }
    }
}

/// The size of a client's terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// In characters.
    pub columns: u32,
    /// In characters.
    pub rows: u32,
    /// In pixels, or 0.
    pub width: u32,
    /// In pixels, or 0.
    pub height: u32,
}

/// What the VM sends on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Data.
    Data(Bytes),
    /// Data of another stream: 1 is stderr.
    Extended(u32, Bytes),
    /// No more data will come.
    Eof,
    /// The program ended with this status.
    Status(u32),
    /// A signal ended the program.
    Signal {
        /// Its name without `SIG`.
        name: String,
        /// Whether there is a core dump.
        core_dumped: bool,
        /// A text about it.
        message: String,
    },
    /// The answer to the oldest request that has none.
    Granted(bool),
}

/// What is sent to the VM on a channel. Dropping it closes nothing.
pub struct ToVm(ChannelWriteHalf<Msg>);

/// What the VM sends on a channel.
pub struct FromVm(ChannelReadHalf);

pub(crate) fn split(channel: russh::Channel<Msg>) -> (ToVm, FromVm) {
    let (read, write) = channel.split();
    (ToVm(write), FromVm(read))
}

impl ToVm {
    /// Sends data; waits for the VM's credit. When the future is dropped, a part of it may have been sent. Where the
    /// connection has ended it may wait for ever: watch the [`FromVm`] beside it.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn data(&self, data: Bytes) -> Result<(), Error> {
        Ok(self.0.data_bytes(data).await?)
    }

    /// Says that no more data will come.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn eof(&self) -> Result<(), Error> {
        Ok(self.0.eof().await?)
    }

    /// Closes the channel.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn close(&self) -> Result<(), Error> {
        Ok(self.0.close().await?)
    }

    /// Passes a request on. Its answer comes as [`Message::Granted`], but for those that have none.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn ask(&self, request: Request) -> Result<(), Error> {
        let to = &self.0;
        match request {
            Request::Env { name, value } => to.set_env(true, name, value).await,
            Request::Pty { term, size: Window { columns, rows, width, height }, modes } => {
                to.request_pty(true, &term, columns, rows, width, height, &modes).await
            }
            Request::X11 { single, protocol, cookie, screen } => {
                to.request_x11(true, single, protocol, cookie, screen).await
            }
            Request::Agent => to.agent_forward(true).await,
            Request::Shell => to.request_shell(true).await,
            Request::Exec(command) => to.exec(true, command).await,
            Request::Subsystem(name) => to.request_subsystem(true, name).await,
            Request::Resize(Window { columns, rows, width, height }) => {
                to.window_change(columns, rows, width, height).await
            }
            Request::Signal(name) => to.signal(Sig::Custom(name)).await,
        }?;
        Ok(())
    }
}

impl FromVm {
    /// The next thing that comes, or `None` when the channel or the connection has ended. Nothing is lost when the future
    /// is dropped.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            return Some(match self.0.wait().await? {
                ChannelMsg::Data { data } => Message::Data(data),
                ChannelMsg::ExtendedData { data, ext } => Message::Extended(ext, data),
                ChannelMsg::Eof => Message::Eof,
                ChannelMsg::ExitStatus { exit_status } => Message::Status(exit_status),
                ChannelMsg::ExitSignal { signal_name, core_dumped, error_message, .. } => Message::Signal {
                    name: crate::channel::name(&signal_name),
                    core_dumped,
                    message: error_message,
                },
                ChannelMsg::Success => Message::Granted(true),
                ChannelMsg::Failure => Message::Granted(false),
                ChannelMsg::Close => return None,
                _ => continue,
            });
        }
    }
}
