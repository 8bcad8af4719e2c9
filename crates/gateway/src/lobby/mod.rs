//! The lobby: what a member can do over ssh without going into a VM, `ssh GATEWAY` and `ssh GATEWAY COMMAND`.
//!
//! Owns the command line: what is typed, what it means, how it is answered. Owns no rule: all that is done is asked of
//! control in the member's name, which writes it down.
//!
//! ```text
//!   shell, with a terminal ─ keyboard ─ editor ─┐
//!   shell, from a pipe ───────────────── lines ─┼─ command ─ desk ─► control
//!   exec ────────────────────────────────────── ┘              └─ answer: text, or --json; a status
//! ```
//!
//! What reaches a terminal is either drawn by the editor or has gone through [`crate::text::plain`]: nothing that a
//! person or a guest has named can move the cursor.
//!
//! Concurrency: one task a session, which reads on while a command is carried out.

mod answer;
mod client;
mod command;
mod config;
mod desk;
mod doctor;
mod editor;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod keyboard;
mod list;
mod sharing;
mod sharing_words;
mod shell;

use crate::{
    nc_words::NotATunnel,
    refusal::Asked,
    session::Person,
    ssh::{Reader, Seat},
    text::quoted,
};
use answer::Answer;
pub(crate) use client::Client;
use command::Line;
use desk::Desk;
use shell::{Input, Paste, Terminal};

/// Exit statuses of the lobby's commands, which are those of `berth` itself.
mod status {
    /// It is done.
    pub(super) const DONE: u32 = 0;
    /// It was refused or failed.
    pub(super) const FAILED: u32 = 1;
    /// The command makes no sense.
    pub(super) const USAGE: u32 = 2;
}

/// A shell: commands, one after the other. `columns` is the width of the person's terminal, if they have one.
pub(crate) async fn shell(seat: Seat, reader: Reader, person: Person, columns: Option<u32>) {
    let status = match columns {
        Some(columns) => Terminal::new(&seat, &person, reader, columns).serve().await,
        None => shell::serve_pipe(&seat, &person, Input::new(reader)).await,
    };
    person.leave(String::new(), status).await;
}

/// One command.
pub(crate) async fn exec(seat: Seat, reader: Reader, person: Person, command: &[u8], columns: Option<u32>) {
    let answer = match std::str::from_utf8(command) {
        Ok(line) => match command::parse(line) {
            Ok(line) => carry_out(&seat, reader, &person, line, columns).await,
            Err(no) => {
                let mut answer = Answer::usage(no.why, no.json);
                if no.is_unknown && !answer.is_json() {
                    answer.complain(elsewhere(&seat, line).await);
                }
                answer
            }
        },
        Err(_) => Answer::usage("The command is not valid UTF-8.".to_owned(), false),
    };
    let status = answer.status();
    let _ = answer.say(&person).await;
    person.leave(String::new(), status).await;
}

async fn carry_out(seat: &Seat, reader: Reader, person: &Person, line: Line, columns: Option<u32>) -> Answer {
    let desk = Desk::new(seat, person, line.json);
    let Some(columns) = columns else {
        let mut input = Input::new(reader);
        if !line.command.wants_a_paste() {
            // What comes is thrown away by russh itself.
            drop(input);
            return desk.carry_out(line.command).await;
        }
        return match input.rest().await {
            Paste::Text(text) => desk.carry_out(line.command.with_paste(text)).await,
            Paste::TooLong => Answer::usage("That is too long for public keys.".to_owned(), line.json),
            Paste::GivenUp => Answer::silent(status::FAILED),
        };
    };
    Terminal::new(seat, person, reader, columns).carry_out(line).await
}

/// What this host is, for a command that it does not know.
async fn elsewhere(seat: &Seat, line: &str) -> String {
    let account = seat.login.account();
    let vms = seat.control.vms(Some(account)).await.unwrap_or_default();
    let asked = Asked::Command(NotATunnel::OtherCommand(quoted(line)));
    let gateway = &seat.settings.address;
    asked.lines(gateway, account.as_str(), vms.first()) + "For what this host does itself, type: help\n"
}
