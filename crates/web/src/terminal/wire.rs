//! What a page and its terminal say to each other. What is typed and what is shown are binary messages; all else is a
//! text with one of these in it.

use axum::extract::ws::Message;
use berth_control::{Progress, Status, WatcherInfo};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::words::span;

/// The most bytes of one message of a page.
pub(crate) const MAX_MESSAGE: usize = 16 * 1024;
/// The most bytes that are sent to a page which it has not yet said it has drawn.
pub(crate) const SHOWN_WINDOW: usize = 256 * 1024;
/// The most bytes that a page may send which it has not yet been told are taken.
pub(crate) const TYPED_WINDOW: usize = 64 * 1024;

/// What a page says.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum FromPage {
    /// The first message. `again`: it comes back by itself, and nobody may be there.
    Open { columns: u16, rows: u16, again: bool },
    /// It has another size now.
    Size { columns: u16, rows: u16 },
    /// It has drawn so many bytes more.
    Drawn { bytes: usize },
    /// Somebody pressed a key while the VM did not run.
    Wake,
    /// Others may watch, and type or not; also for those who watch already.
    Share { typing: bool },
    /// Nobody may watch any more.
    Unshare,
    /// What was typed.
    #[serde(skip)]
    Typed(Bytes),
}

/// What a page is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum ToPage {
    /// What is waited for.
    Progress { words: String },
    /// The VM does not run, and a key brings it up.
    Waiting { why: String },
    /// The shell is there.
    Open { vm: String, number: u8 },
    /// The numbers of the terminals that are open in the VM.
    List { open: Vec<u8> },
    /// Others may watch, by this link; told again when something of it changes.
    Shared { link: String, typing: bool, watchers: Vec<Onlooker> },
    /// Nobody may watch (any more); why, where that was not asked for.
    Unshared { why: Option<String> },
    /// For who watches: whose terminal it is, how large it is, whether they may type; told again when something changes.
    Watching { by: String, typing: bool, columns: u16, rows: u16, watchers: Vec<Onlooker> },
    /// For who watches: nothing is to be seen before the owner's page is back.
    Away { by: String },
    /// For who watches: it is over. The last word.
    Over { why: String },
    /// So many more bytes of what was typed are on their way.
    Taken { bytes: usize },
    /// The shell has ended. The last word.
    Exit { status: Option<u32> },
    /// The connection into the VM has ended, which the shell may have survived. The last word.
    Lost,
    /// It cannot be. `again`: trying once more may help. The last word.
    Failed { why: String, again: bool },
    /// The member's session has ended. The last word.
    LoggedOut,
    /// The server stops, and is back soon. The last word.
    Restarting,
}

/// Somebody who watches, as pages are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Onlooker {
    pub(crate) name: String,
    /// Grows while they type.
    pub(crate) typed: u64,
}

impl From<WatcherInfo> for Onlooker {
    fn from(info: WatcherInfo) -> Self {
        Self { name: info.account.to_string(), typed: info.typed }
    }
}

impl FromPage {
    /// What a message says; `None` for one that says nothing to us, an error for one that no page of ours sends.
    pub(crate) fn read(message: Message) -> Result<Option<Self>, NotOurs> {
        match message {
            Message::Binary(bytes) => Ok(Some(Self::Typed(bytes))),
            Message::Text(text) => serde_json::from_str(&text).map(Some).map_err(|_| NotOurs),
            Message::Ping(_) | Message::Pong(_) => Ok(None),
            Message::Close(_) => Err(NotOurs),
        }
    }
}

/// Not from a page of ours, or its last message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotOurs;

impl ToPage {
    pub(crate) fn message(&self) -> Message {
        Message::Text(serde_json::to_string(self).unwrap_or_default().into())
    }
}

/// News of a VM that is waited for.
pub(crate) fn words(news: &Progress) -> Option<String> {
    match news {
        Progress::Starting { vm, was: Status::Asleep | Status::Waking, .. } => {
            Some(format!("{} is asleep, waking it…", vm.label()))
        }
        Progress::Starting { vm, usual, .. } => {
            let usual = usual.map(|usual| format!(" (about {})", span(usual))).unwrap_or_default();
            Some(format!("{} is off, starting it{usual}…", vm.label()))
        }
        Progress::Queued { vm, ahead: 0, reason } => {
            Some(format!("{} waits for memory on this host: {reason}.", vm.label()))
        }
        Progress::Queued { vm, ahead, reason } => {
            Some(format!("{} waits for memory on this host behind {ahead} others: {reason}.", vm.label()))
        }
        Progress::Ready { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pages_say_is_read_and_nothing_else() {
        let read = |text: &str| FromPage::read(Message::Text(text.into()));
        assert_eq!(
            read(r#"{"is":"open","columns":80,"rows":24,"again":true}"#),
            Ok(Some(FromPage::Open { columns: 80, rows: 24, again: true }))
        );
        assert_eq!(read(r#"{"is":"drawn","bytes":9}"#), Ok(Some(FromPage::Drawn { bytes: 9 })));
        for wrong in [
            "",
            "[]",
            r#"{"is":"typed"}"#,
            r#"{"is":"size","columns":-1,"rows":1}"#,
            r#"{"is":"drawn","bytes":99999999999999999999}"#,
        ] {
            assert_eq!(read(wrong), Err(NotOurs), "{wrong}");
        }
        assert_eq!(FromPage::read(Message::Ping(Bytes::new())), Ok(None));
    }

    #[test]
    fn pages_are_told_in_json() {
        assert_eq!(
            ToPage::Exit { status: Some(0) }.message(),
            Message::Text(r#"{"is":"exit","status":0}"#.into())
        );
        assert_eq!(ToPage::LoggedOut.message(), Message::Text(r#"{"is":"logged_out"}"#.into()));
    }
}
