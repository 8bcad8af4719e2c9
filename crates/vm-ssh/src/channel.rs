//! A session channel (RFC 4254, section 6).

use std::time::Duration;

use bytes::Bytes;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client::Msg};
use tokio::time::timeout;

use crate::Error;

/// So long an answer to a request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most columns and rows that a terminal has.
const MOST: u16 = 1000;

/// The size of a terminal in characters: 1 to 1000 each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    columns: u32,
    rows: u32,
}

impl Size {
    /// The nearest size that there is.
    #[must_use]
    pub fn new(columns: u16, rows: u16) -> Self {
        Self { columns: columns.clamp(1, MOST).into(), rows: rows.clamp(1, MOST).into() }
    }

    /// Columns and lines.
    #[must_use]
    pub fn characters(self) -> (u16, u16) {
        let small = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        (small(self.columns), small(self.rows))
    }
}

/// A channel in which nothing runs yet. Ask for what it needs, then for what runs.
pub struct Channel {
    read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
}

/// What is sent to the program. It closes its end of the channel when it is dropped.
pub struct Input(ChannelWriteHalf<Msg>);

/// What the program sends.
pub struct Output(ChannelReadHalf);

/// What comes from a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its output.
    Data(Bytes),
    /// Its errors, where it has no terminal.
    Errors(Bytes),
    /// It ended with this status. Output may follow.
    Exit(u32),
    /// A signal ended it: its name without `SIG`. Output may follow.
    Signal(String),
}

impl Channel {
    pub(crate) fn new(channel: russh::Channel<Msg>) -> Self {
        let (read, write) = channel.split();
        Self { read, write }
    }

    /// Sets a variable of the environment. The sshd may ignore it, and says nothing then.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn set_env(&self, name: &str, value: &str) -> Result<(), Error> {
        Ok(self.write.set_env(false, name, value).await?)
    }

    /// Gives it a terminal of this kind (`TERM`).
    ///
    /// # Errors
    /// The sshd gives none, or the connection has ended.
    pub async fn pty(&mut self, term: &str, size: Size) -> Result<(), Error> {
        self.write.request_pty(true, term, size.columns, size.rows, 0, 0, &[]).await?;
        self.granted("a terminal").await
    }

    /// Runs the user's shell.
    ///
    /// # Errors
    /// As with [`Channel::pty`].
    pub async fn shell(mut self) -> Result<(Input, Output), Error> {
        self.write.request_shell(true).await?;
        self.granted("a shell").await?;
        Ok((Input(self.write), Output(self.read)))
    }

    /// Has the user's shell run a command.
    ///
    /// # Errors
    /// As with [`Channel::pty`].
    pub async fn exec(mut self, command: &str) -> Result<(Input, Output), Error> {
        self.write.exec(true, command).await?;
        self.granted("to run a program").await?;
        Ok((Input(self.write), Output(self.read)))
    }

    async fn granted(&mut self, what: &'static str) -> Result<(), Error> {
        let answer = async {
            loop {
                match self.read.wait().await {
                    Some(ChannelMsg::Success) => return Ok(()),
                    Some(ChannelMsg::Failure) => return Err(Error::Request(what)),
                    Some(ChannelMsg::Close) | None => return Err(Error::Ended),
                    // News of the window; nothing runs that could send anything else.
                    Some(_) => {}
                }
            }
        };
        timeout(PATIENCE, answer).await.map_err(|_| Error::Silent)?
    }
}

impl Input {
    /// Sends data; waits for the program to take what came before. When the future is dropped, a part of it may have been
    /// sent. Where the connection has ended it may wait for ever: watch the [`Output`] beside it.
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
    pub async fn end(&self) -> Result<(), Error> {
        Ok(self.0.eof().await?)
    }

    /// Says that the terminal has another size now.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn resize(&self, size: Size) -> Result<(), Error> {
        Ok(self.0.window_change(size.columns, size.rows, 0, 0).await?)
    }
}

impl Output {
    /// The next thing that comes, or `None` when the channel or the connection has ended. Nothing is lost when the future
    /// is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            return Some(match self.0.wait().await? {
                ChannelMsg::Data { data } => Event::Data(data),
                ChannelMsg::ExtendedData { data, .. } => Event::Errors(data),
                ChannelMsg::ExitStatus { exit_status } => Event::Exit(exit_status),
                ChannelMsg::ExitSignal { signal_name, .. } => Event::Signal(name(&signal_name)),
                ChannelMsg::Close => return None,
                _ => continue,
            });
        }
    }
}

/// The name of a signal without `SIG`.
pub(crate) fn name(signal: &russh::Sig) -> String {
    match signal {
        russh::Sig::Custom(name) => name.clone(),
        known => format!("{known:?}"),
    }
}
