//! A channel as the rest of the gateway sees it.
//!
//! Dropping the halves closes nothing: only [`Writer::close`] does, or the end of the connection. A [`Writer`] waits for
//! the client's credit, and russh does not wake it when the connection is gone: a channel's task must be dropped with
//! its connection.

use berth_vm_ssh::Window;
use bytes::Bytes;
use russh::{
    Channel, ChannelId, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf, Sig,
    server::{ChannelOpenHandle, Msg},
};

use crate::text::in_ascii;

/// stderr (RFC 4254, 5.2).
const STDERR: u32 = 1;

/// What a client sends on a channel.
#[derive(Debug)]
pub(crate) enum Incoming {
    Data(Bytes),
    /// No more data will come.
    Eof,
    /// A terminal, so many columns wide; 0 where that is not said.
    Pty {
        columns: u32,
    },
    Shell,
    Exec(Vec<u8>),
    Subsystem(String),
    /// The terminal has another size.
    Resize(Window),
    /// A signal for the program, its name without `SIG`.
    Signal(String),
}

/// The client is gone, or cannot be written to any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// What the client sends.
pub(crate) struct Reader(ChannelReadHalf);

/// What is sent to the client.
pub(crate) struct Writer {
    half: ChannelWriteHalf<Msg>,
    kind: Kind,
}

/// The kinds of channel that are opened: those in which something runs, and those that lead somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Session,
    Stream,
}

fn name_of(signal: Sig) -> String {
    match signal {
        Sig::Custom(name) => name,
        known => format!("{known:?}"),
    }
}

/// The halves of a channel that this side has opened.
pub(super) fn opened(channel: Channel<Msg>) -> (Reader, Writer) {
    let (reader, half) = channel.split();
    (Reader(reader), Writer { half, kind: Kind::Stream })
}

impl Reader {
    /// The next thing, or `None` when the client has closed the channel. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        loop {
            return Some(match self.0.wait().await? {
                ChannelMsg::Data { data } => Incoming::Data(data),
                ChannelMsg::Eof => Incoming::Eof,
                ChannelMsg::Close => return None,
                ChannelMsg::RequestPty { col_width, .. } => Incoming::Pty { columns: col_width },
                ChannelMsg::RequestShell { .. } => Incoming::Shell,
                ChannelMsg::Exec { command, .. } => Incoming::Exec(command),
                ChannelMsg::RequestSubsystem { name, .. } => Incoming::Subsystem(name),
                ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height } => {
                    let (columns, rows) = (col_width, row_height);
                    Incoming::Resize(Window { columns, rows, width: pix_width, height: pix_height })
                }
                ChannelMsg::Signal { signal } => Incoming::Signal(name_of(signal)),
                // Answered where they came in, or news of russh's about itself.
                _ => continue,
            });
        }
    }
}

impl Writer {
    /// Sends data; waits for the client's credit.
    pub(crate) async fn data(&self, data: Bytes) -> Result<(), Gone> {
        self.half.data_bytes(data).await.map_err(|_| Gone)
    }

    /// Sends data of another stream than the first; waits for the client's credit.
    pub(crate) async fn extended(&self, stream: u32, data: Bytes) -> Result<(), Gone> {
        self.half.extended_data_bytes(stream, data).await.map_err(|_| Gone)
    }

    /// Which channel it is.
    pub(super) fn id(&self) -> ChannelId {
        self.half.id()
    }

    /// Sends text to the person.
    pub(crate) async fn stderr(&self, text: String) -> Result<(), Gone> {
        self.half.extended_data_bytes(STDERR, text.into_bytes()).await.map_err(|_| Gone)
    }

    /// Says that no more data will come.
    pub(crate) async fn eof(&self) -> Result<(), Gone> {
        self.half.eof().await.map_err(|_| Gone)
    }

    /// Says how it ended, where that can be said. To be said before the end of the data: a client that has ended its
    /// side closes the channel when it hears of that.
    pub(crate) async fn exit_status(&self, status: u32) -> Result<(), Gone> {
        match self.kind {
            Kind::Session => self.half.exit_status(status).await.map_err(|_| Gone),
            Kind::Stream => Ok(()),
        }
    }

    /// Closes the channel.
    pub(crate) async fn close(&self) -> Result<(), Gone> {
        self.half.close().await.map_err(|_| Gone)
    }
}

/// Why a channel is not opened (RFC 4254, 5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenFailure(ChannelOpenFailure);

impl OpenFailure {
    /// It may not be.
    pub(crate) fn prohibited(text: &str) -> Self {
        Self::new(ChannelOpenFailure::AdministrativelyProhibited, text)
    }

    /// It cannot be.
    pub(crate) fn connect_failed(text: &str) -> Self {
        Self::new(ChannelOpenFailure::ConnectFailed, text)
    }

    /// There are too many.
    pub(crate) fn shortage(text: &str) -> Self {
        Self::new(ChannelOpenFailure::ResourceShortage, text)
    }

    /// As somebody else says.
    pub(crate) fn with_code(code: u32, text: &str) -> Self {
        Self(ChannelOpenFailure::Other { code, reason: in_ascii(text) })
    }

    /// russh has texts of its own for the codes that it knows, so ours travel as codes that it does not.
    fn new(reason: ChannelOpenFailure, text: &str) -> Self {
        Self::with_code(reason.code(), text)
    }

    #[cfg(test)]
    pub(crate) fn code(&self) -> u32 {
        self.0.code()
    }
}

/// A channel that a client asked for and that is neither opened nor refused. Dropped, it is refused.
pub(crate) struct Opening {
    kind: Kind,
    reply: ChannelOpenHandle,
    channel: Channel<Msg>,
}

impl Opening {
    pub(super) fn session(channel: Channel<Msg>, reply: ChannelOpenHandle) -> Self {
        Self { kind: Kind::Session, reply, channel }
    }

    /// direct-tcpip, or direct-streamlocal.
    pub(super) fn stream(channel: Channel<Msg>, reply: ChannelOpenHandle) -> Self {
        Self { kind: Kind::Stream, reply, channel }
    }

    pub(crate) async fn accept(self) -> (Reader, Writer) {
        self.reply.accept().await;
        let (reader, half) = self.channel.split();
        (Reader(reader), Writer { half, kind: self.kind })
    }

    pub(crate) async fn refuse(self, failure: OpenFailure) {
        refuse(self.reply, failure).await;
    }
}

/// Refuses a channel of whatever kind.
pub(super) async fn refuse(reply: ChannelOpenHandle, failure: OpenFailure) {
    reply.reject(failure.0).await;
}
