//! What came of a command, and how it is said: text for people, one JSON document for programs.

use std::fmt::Write as _;

use berth_control::{Error, Kind, WebError};
use serde::Serialize;
use serde_json::{Value, json};

use super::status;
use crate::{session::Person, ssh::Gone};

/// See the module's documentation.
pub(super) struct Answer {
    /// For stdout.
    text: String,
    /// For stderr.
    complaint: String,
    json: Option<Value>,
    status: u32,
}

/// Why something was not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// `None` where the command makes no sense.
    kind: Option<Kind>,
    message: String,
}

impl Failure {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind: Some(kind), message: message.into() }
    }

    pub(super) fn usage(message: String) -> Self {
        Self { kind: None, message }
    }
}

impl From<WebError> for Failure {
    fn from(error: WebError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl Answer {
    /// It is done: `text` tells it to a person, `data` to a program.
    pub(super) fn done(text: String, data: &impl Serialize, as_json: bool) -> Self {
        let json = as_json.then(|| serde_json::to_value(data).unwrap_or_default());
        Self { text, complaint: String::new(), json, status: status::DONE }
    }

    pub(super) fn failed(failure: &Failure, as_json: bool) -> Self {
        let kind = match failure.kind {
            None => return Self::usage(failure.message.clone(), as_json),
            Some(Kind::Invalid) => "invalid",
            Some(Kind::Unauthenticated | Kind::Denied) => "denied",
            Some(Kind::Missing) => "missing",
            Some(Kind::Conflict) => "conflict",
            Some(Kind::Unavailable) => "unavailable",
        };
        Self::not_done(kind, &failure.message, status::FAILED, as_json)
    }

    /// The command makes no sense.
    pub(super) fn usage(message: String, as_json: bool) -> Self {
        Self::not_done("usage", &message, status::USAGE, as_json)
    }

    fn not_done(kind: &str, message: &str, status: u32, as_json: bool) -> Self {
        let json = as_json.then(|| json!({ "error": { "kind": kind, "message": message } }));
        Self { text: String::new(), complaint: format!("{message}\n"), json, status }
    }

    /// Nothing is left to be said.
    pub(super) fn silent(status: u32) -> Self {
        Self { text: String::new(), complaint: String::new(), json: None, status }
    }

    /// The same with another status.
    pub(super) fn with_status(self, status: u32) -> Self {
        Self { status, ..self }
    }

    /// Has this said on stderr in place of what there was to be said there.
    pub(super) fn complain(&mut self, text: String) {
        self.complaint = text;
    }

    pub(super) fn is_json(&self) -> bool {
        self.json.is_some()
    }

    pub(super) fn status(&self) -> u32 {
        self.status
    }

    /// Says it.
    pub(super) async fn say(&self, person: &Person) -> Result<(), Gone> {
        if let Some(json) = &self.json {
            return person.say(&(in_ascii(&json.to_string()) + "\n")).await;
        }
        person.say(&self.text).await?;
        person.complain(&self.complaint).await
    }
}

/// A JSON document with everything but ASCII escaped: a terminal acts on none of it, and every program reads it.
fn in_ascii(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        if (' '..='~').contains(&c) {
            plain.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(plain, "\\u{unit:04x}");
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn json_is_ascii_and_means_the_same(text in any::<String>()) {
            let value = json!({ "title": text });
            let plain = in_ascii(&value.to_string());
            prop_assert!(plain.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{plain}");
            prop_assert_eq!(serde_json::from_str::<Value>(&plain).unwrap(), value);
        }
    }

    #[test]
    fn a_failure_is_the_same_document_as_the_command_lines() {
        let failure = Failure::new(Kind::Missing, "There is no VM x.");
        let answer = Answer::failed(&failure, true);
        let told = answer.json.map(|json| json.to_string());
        assert_eq!(told.as_deref(), Some(r#"{"error":{"kind":"missing","message":"There is no VM x."}}"#));
        assert_eq!((answer.status, Answer::usage(String::new(), false).status), (1, 2));
    }
}
