//! The shell of the lobby: at a terminal, where lines are edited and keys do things, and from a pipe, where every line is a
//! command.

use std::collections::VecDeque;

use super::{
    answer::Answer,
    command::{self, Command, Line},
    desk::Desk,
    editor::{Editor, Event, MAX_LINE},
    keyboard::Keyboard,
    status,
};
use crate::{
    session::Person,
    ssh::{Gone, Incoming, Reader, Seat},
};

/// The most bytes that wait to be looked at, and of a paste: more than any paste of keys that is taken.
const MAX_AHEAD: usize = 128 * 1024;
const PROMPT: &str = "berth> ";
/// Behind it keys are pasted.
const PASTE: &str = "";
const CONTROL_C: u8 = 0x03;

/// What a client has sent and nobody has looked at yet.
pub(super) struct Input {
    reader: Reader,
    ahead: VecDeque<u8>,
    /// No more will come.
    ended: bool,
    /// More came than is kept.
    spilt: bool,
}

/// What came in.
enum News {
    Bytes,
    /// The terminal is so many columns wide now.
    Resized(u32),
    /// No more bytes will come.
    End,
    /// The client has closed the session.
    Gone,
}

/// A text that was given.
pub(super) enum Paste {
    Text(String),
    TooLong,
    GivenUp,
}

impl Input {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, ahead: VecDeque::new(), ended: false, spilt: false }
    }

    /// Waits for something to come in. Nothing is lost when the future is dropped.
    async fn news(&mut self) -> News {
        loop {
            return match self.reader.next().await {
                None => News::Gone,
                Some(Incoming::Data(data)) => {
                    let room = MAX_AHEAD.saturating_sub(self.ahead.len());
                    self.spilt |= data.len() > room;
                    self.ahead.extend(data.iter().take(room));
                    News::Bytes
                }
                Some(Incoming::Eof) => {
                    self.ended = true;
                    News::End
                }
                Some(Incoming::Resize(window)) => News::Resized(window.columns),
                // A second request that starts something was refused where it came in, and nothing here takes signals.
                Some(
                    Incoming::Pty { .. }
                    | Incoming::Shell
                    | Incoming::Exec(_)
                    | Incoming::Subsystem(_)
                    | Incoming::Signal(_),
                ) => {
                    continue;
                }
            };
        }
    }

    /// All that comes, to its end.
    pub(super) async fn rest(&mut self) -> Paste {
        while !self.ended {
            if let News::Gone = self.news().await {
                return Paste::GivenUp;
            }
            if self.spilt {
                return Paste::TooLong;
            }
        }
        Paste::Text(String::from_utf8_lossy(self.ahead.make_contiguous()).into_owned())
    }

    /// The next line, without its end; `None` at the end of all, or when a line is too long.
    async fn line(&mut self) -> Option<String> {
        loop {
            let end = self.ahead.iter().position(|byte| *byte == b'\n');
            if end.is_none() && !self.ended && self.ahead.len() <= MAX_LINE && !self.spilt {
                if let News::Gone = self.news().await {
                    return None;
                }
                continue;
            }
            let len = end.map_or(self.ahead.len(), |at| at + 1);
            if len == 0 || (self.spilt && end.is_none()) {
                return None;
            }
            let line: Vec<u8> = self.ahead.drain(..len).collect();
            return Some(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned());
        }
    }

    /// Whether Ctrl-C came. What was typed before it is given up with it.
    fn is_interrupted(&mut self) -> bool {
        let at = self.ahead.iter().rposition(|byte| *byte == CONTROL_C);
        at.is_some_and(|at| self.ahead.drain(..=at).len() > 0)
    }

    /// Does `work` and keeps what comes in meanwhile. `None` when the client has gone.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                news = self.news() => if let News::Gone = news { return None },
            }
        }
    }
}

/// Carries out the lines of a pipe, one after the other; gives the status of the last.
pub(super) async fn serve_pipe(seat: &Seat, person: &Person, mut input: Input) -> u32 {
    let mut last = status::DONE;
    let greeting = Desk::new(seat, person, false).greeting().await;
    if person.complain(&greeting).await.is_err() {
        return status::FAILED;
    }
    while let Some(line) = input.line().await {
        let answer = match command::parse(&line) {
            Ok(Line { command: Command::Exit, .. }) => return last,
            Ok(Line { command: Command::Nothing, .. }) => continue,
            Ok(Line { command, json }) if command.wants_a_paste() => {
                let why = "Give the key in the line, or in a session of its own: ssh GATEWAY keys add < FILE";
                Answer::usage(why.to_owned(), json)
            }
            Ok(Line { command, json }) => {
                let desk = Desk::new(seat, person, json);
                let Some(answer) = input.meanwhile(desk.carry_out(command)).await else {
                    return status::FAILED;
                };
                answer
            }
            Err(no) => Answer::usage(no.why, no.json),
        };
        last = answer.status();
        if answer.say(person).await.is_err() {
            return status::FAILED;
        }
    }
    if input.spilt {
        let _ = person.complain("That is too much at once.\n").await;
        return status::USAGE;
    }
    last
}

/// A person at a terminal.
pub(super) struct Terminal<'a> {
    seat: &'a Seat,
    person: &'a Person,
    input: Input,
    keyboard: Keyboard,
    editor: Editor,
}

/// What came of waiting for a line.
enum Typed {
    Line(String),
    Interrupted,
    End,
}

impl<'a> Terminal<'a> {
    pub(super) fn new(seat: &'a Seat, person: &'a Person, reader: Reader, columns: u32) -> Self {
        let (keyboard, editor) = (Keyboard::default(), Editor::new(columns));
        Self { seat, person, input: Input::new(reader), keyboard, editor }
    }

    /// Greets, and carries out what is typed until the person leaves; gives the status of the last command.
    pub(super) async fn serve(mut self) -> u32 {
        self.try_serve().await.unwrap_or(status::FAILED)
    }

    async fn try_serve(&mut self) -> Result<u32, Gone> {
        let mut last = status::DONE;
        let greeting = Desk::new(self.seat, self.person, false).greeting().await;
        self.person.say(&greeting).await?;
        loop {
            let typed = match self.line(PROMPT).await? {
                Typed::Line(typed) => typed,
                Typed::Interrupted => continue,
                Typed::End => return Ok(last),
            };
            self.editor.remember(&typed);
            let answer = match command::parse(&typed) {
                Ok(Line { command: Command::Exit, .. }) => return Ok(last),
                Ok(Line { command: Command::Nothing, .. }) => continue,
                Ok(line) => self.carry_out(line).await,
                Err(no) => Answer::usage(no.why, no.json),
            };
            last = answer.status();
            answer.say(self.person).await?;
        }
    }

    /// Carries out one command; Ctrl-C gives it up.
    pub(super) async fn carry_out(&mut self, line: Line) -> Answer {
        let Line { mut command, json } = line;
        if command.wants_a_paste() {
            match self.paste().await {
                Ok(Paste::Text(text)) => command = command.with_paste(text),
                Ok(Paste::TooLong) => {
                    return Answer::usage("That is too long for public keys.".to_owned(), json);
                }
                Ok(Paste::GivenUp) | Err(Gone) => return Answer::silent(status::FAILED),
            }
        }
        let desk = Desk::new(self.seat, self.person, json);
        let mut work = std::pin::pin!(desk.carry_out(command));
        loop {
            tokio::select! {
                biased;
                answer = &mut work => return answer,
                news = self.input.news() => match news {
                    News::Gone => return Answer::silent(status::FAILED),
                    News::Resized(columns) => self.editor.resize(columns),
                    News::Bytes => {
                        if self.input.is_interrupted() {
                            let _ = self.person.complain("^C\n").await;
                            return Answer::silent(status::FAILED);
                        }
                    }
                    News::End => {}
                },
            }
        }
    }

    /// Keys, as people paste them: up to an empty line.
    async fn paste(&mut self) -> Result<Paste, Gone> {
        let hint = "Paste the public key, then press Enter on an empty line. Ctrl-C gives up.\n";
        self.person.say(hint).await?;
        let mut text = String::new();
        loop {
            match self.line(PASTE).await? {
                Typed::Line(line) if line.trim().is_empty() && !text.is_empty() => {
                    return Ok(Paste::Text(text));
                }
                Typed::Line(line) => {
                    text.push_str(&line);
                    text.push('\n');
                }
                Typed::End if !text.is_empty() => return Ok(Paste::Text(text)),
                Typed::End | Typed::Interrupted => return Ok(Paste::GivenUp),
            }
            if text.len() > MAX_AHEAD {
                return Ok(Paste::TooLong);
            }
        }
    }

    /// Has a line typed.
    async fn line(&mut self, prompt: &'static str) -> Result<Typed, Gone> {
        self.editor.begin(prompt);
        loop {
            while let Some(byte) = self.input.ahead.pop_front() {
                let Some(event) = self.keyboard.press(byte).and_then(|key| self.editor.press(key)) else {
                    continue;
                };
                if let Event::Complete = event {
                    self.complete().await;
                    continue;
                }
                self.person.draw(self.editor.look()).await?;
                return Ok(match event {
                    Event::Line(line) => Typed::Line(line),
                    Event::Interrupted => Typed::Interrupted,
                    Event::End | Event::Complete => Typed::End,
                });
            }
            self.input.spilt = false;
            self.person.draw(self.editor.look()).await?;
            match self.input.news().await {
                News::Bytes => {}
                News::Resized(columns) => self.editor.resize(columns),
                News::End => return Ok(Typed::End),
                News::Gone => return Err(Gone),
            }
        }
    }

    async fn complete(&mut self) {
        let before = self.editor.before_cursor();
        let desk = Desk::new(self.seat, self.person, false);
        let (vms, shared) = (desk.labels().await, desk.names_of_shared().await);
        let (typed, words) = command::completions(&before, &vms, &shared);
        self.editor.complete(typed, &words);
    }
}
