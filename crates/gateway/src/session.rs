//! A session channel: what is asked on it, and the tunnel or the refusal that follows.

use std::time::Duration;

use berth_control::LinkFor;

use crate::{
    nc_words,
    refusal::{Asked, status},
    ssh::{Incoming, Reader, Seat, Writer},
    text::for_terminal,
    tunnel,
};

/// The command that makes a link to the website.
const LOG_IN: &[u8] = b"login";

/// How long a client may take to take a text.
const PATIENCE: Duration = Duration::from_secs(10);

/// The person at the other end of a session channel.
pub(crate) struct Person {
    pub(crate) writer: Writer,
    has_terminal: bool,
}

impl Person {
    /// Writes `text` to stderr, its lines ended as the person's terminal needs it.
    pub(crate) async fn tell(&self, text: String) {
        let text = if self.has_terminal { for_terminal(&text) } else { text };
        // Somebody who is gone is told nothing.
        let _ = self.writer.stderr(text).await;
    }

    /// Says `text` and ends the session. The client's end of the channel must not be waited for any more.
    pub(crate) async fn leave(&self, text: String, status: u32) {
        let _ = tokio::time::timeout(PATIENCE, async {
            self.tell(text).await;
            let _ = self.writer.exit_status(status).await;
            let _ = self.writer.eof().await;
        })
        .await;
        let _ = self.writer.close().await;
    }
}

/// Prints a link that logs the owner of the key in on the website.
async fn log_in_link(seat: &Seat, person: &Person) {
    let made = seat.control.acting(seat.login.actor()).make_link(seat.login.account(), LinkFor::LogIn).await;
    match made {
        Ok(link) => {
            let line = format!("{}{}", link.expose(), if person.has_terminal { "\r\n" } else { "\n" });
            let _ = tokio::time::timeout(PATIENCE, person.writer.data(line.into())).await;
            let account = seat.login.account();
            let text = format!(
                "Whoever opens this link within ten minutes is logged in as {account}. It works once.\n"
            );
            person.leave(text, status::DONE).await;
        }
        Err(error) => person.leave(format!("{error}\n"), status::UNAVAILABLE).await,
    }
}

/// Waits for the one request that starts something and does it.
pub(crate) async fn run(seat: Seat, mut reader: Reader, writer: Writer) {
    let mut has_terminal = false;
    let asked = loop {
        match reader.next().await {
            None => return,
            Some(Incoming::Pty) => has_terminal = true,
            // There is nothing to be fed yet.
            Some(Incoming::Data(_) | Incoming::Eof) => {}
            Some(Incoming::Shell) => break Asked::Shell,
            Some(Incoming::Subsystem(name)) => break Asked::Subsystem(name),
            Some(Incoming::Exec(command)) if command.trim_ascii() == LOG_IN => {
                drop(reader);
                return log_in_link(&seat, &Person { writer, has_terminal }).await;
            }
            Some(Incoming::Exec(command)) => match nc_words::parse(&command) {
                Ok(target) => {
                    let person = Person { writer, has_terminal };
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
    Person { writer, has_terminal }.leave(text, status::USAGE).await;
}
