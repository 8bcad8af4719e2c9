//! A session channel: what is asked on it, and the tunnel or the refusal that follows.

use std::time::Duration;

use berth_vm_ssh::Window;

use crate::{
    lobby, nc_words,
    refusal::{Asked, status},
    ssh::{Gone, Incoming, Reader, Seat, Writer},
    text::{for_terminal, plain},
    tunnel,
};

/// How long a client may take to take a text.
const PATIENCE: Duration = Duration::from_secs(10);

/// The person at the other end of a session channel.
pub(crate) struct Person {
    pub(crate) writer: Writer,
    has_terminal: bool,
}

impl Person {
    pub(crate) fn new(writer: Writer, has_terminal: bool) -> Self {
        Self { writer, has_terminal }
    }

    /// Writes `text` to stderr, its lines ended as the person's terminal needs it.
    pub(crate) async fn tell(&self, text: String) {
        let text = if self.has_terminal { for_terminal(&text) } else { text };
        // Somebody who is gone is told nothing.
        let _ = self.writer.stderr(text).await;
    }

    pub(crate) fn has_terminal(&self) -> bool {
        self.has_terminal
    }

    /// Writes `text` to stdout, without anything that a terminal acts on.
    pub(crate) async fn say(&self, text: &str) -> Result<(), Gone> {
        let text = plain(text);
        self.draw(if self.has_terminal { for_terminal(&text) } else { text }).await
    }

    /// The same to stderr; where there is a terminal it is one stream, in the order in which it is said.
    pub(crate) async fn complain(&self, text: &str) -> Result<(), Gone> {
        if self.has_terminal || text.is_empty() {
            return self.say(text).await;
        }
        let saying = tokio::time::timeout(PATIENCE, self.tell(plain(text)));
        saying.await.map_err(|_| Gone)
    }

    /// Writes bytes for the terminal as they are.
    pub(crate) async fn draw(&self, bytes: String) -> Result<(), Gone> {
        if bytes.is_empty() {
            return Ok(());
        }
        tokio::time::timeout(PATIENCE, self.writer.data(bytes.into())).await.map_err(|_| Gone)?
    }

    /// Says `text` and ends the session. The client's end of the channel must not be waited for any more.
    pub(crate) async fn leave(&self, text: String, status: u32) {
        let _ = tokio::time::timeout(PATIENCE, async {
            if !text.is_empty() {
                self.tell(text).await;
            }
            let _ = self.writer.exit_status(status).await;
            let _ = self.writer.eof().await;
        })
        .await;
        let _ = self.writer.close().await;
    }
}

/// Waits for the one request that starts something and does it.
pub(crate) async fn run(seat: Seat, mut reader: Reader, writer: Writer) {
    let mut columns = None;
    let asked = loop {
        match reader.next().await {
            None => return,
            Some(Incoming::Pty { columns: wide } | Incoming::Resize(Window { columns: wide, .. })) => {
                // One that was refused comes here, too.
                columns = Some(wide).filter(|_| seat.login.permits().pty);
            }
            // There is nothing to be fed yet.
            Some(Incoming::Data(_) | Incoming::Eof | Incoming::Signal(_)) => {}
            Some(Incoming::Shell) => {
                let person = Person { writer, has_terminal: columns.is_some() };
                return lobby::shell(seat, reader, person, columns).await;
            }
            Some(Incoming::Subsystem(name)) => break Asked::Subsystem(name),
            Some(Incoming::Exec(command)) if !nc_words::is_nc(&command) => {
                let person = Person { writer, has_terminal: columns.is_some() };
                return lobby::exec(seat, reader, person, &command, columns).await;
            }
            Some(Incoming::Exec(command)) => match nc_words::parse(&command) {
                Ok(target) => {
                    let person = Person { writer, has_terminal: columns.is_some() };
                    return tunnel::by_exec(seat, reader, person, target).await;
                }
                Err(not_a_tunnel) => break Asked::Command(not_a_tunnel),
            },
        }
    };
    // From here on what comes is thrown away by russh itself.
    drop(reader);
    let account = seat.login.account();
    let vms = seat.control.vms(Some(account)).await.unwrap_or_default();
    let text = asked.lines(&seat.settings.address, account.as_str(), vms.first());
    Person { writer, has_terminal: columns.is_some() }.leave(text, status::USAGE).await;
}
