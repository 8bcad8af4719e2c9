//! Recordings of sessions: which there are, who is told, who may look.
//!
//! What can be recorded is what this server carries in the clear and somebody has a terminal in: ssh in direct mode, and
//! the terminal in the page. Whether it is, is the operator's decision in the configuration. How a recording gets into a
//! file, and what happens when the disk does not take it, is `berth-recording`'s.

use std::{io, path::PathBuf};

use berth_recording::{About, Limits, Opened, Recorder, Recording, RecordingInfo, RecordingWay};
use berth_store::{AuditKind, NewAudit, Scope};
use tracing::error;

use crate::{Acting, Control, access::Entry, error::Error, ledger::Ledger, web_error::WebError};

/// What the operator decided about recordings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingSettings {
    /// Where they are kept.
    pub folder: PathBuf,
    /// How large they may be.
    pub limits: Limits,
    /// Whether sessions are recorded from now on. What there is can be looked at in any case.
    pub sessions: bool,
}

/// The recordings, for somebody who may see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recordings {
    /// Whether sessions are recorded now.
    pub on: bool,
    /// All that there are, the latest first.
    pub all: Vec<RecordingInfo>,
}

/// What people are told whose session is recorded: a sentence.
const NOTICE: &str =
    "This session is recorded: all that appears on the screen, but not the keys that are pressed.";
/// The same where none has begun yet.
const NOTICE_AHEAD: &str = "Sessions with a terminal that this gateway carries are recorded: all that appears on the \
                            screen, but not the keys that are pressed.";

/// Where recordings go, in `tools`.
pub(crate) struct Recorded {
    recorder: Recorder,
    sessions: bool,
}

impl Recorded {
    pub(crate) fn open(settings: &RecordingSettings) -> Result<Self, Error> {
        let recorder =
            Recorder::open(&settings.folder, settings.limits).map_err(|error| unreadable(&error))?;
        Ok(Self { recorder, sessions: settings.sessions })
    }

    pub(crate) async fn close(&self) {
        self.recorder.close().await;
    }
}

impl Control {
    /// What somebody is told whose session is recorded; `None` where none is.
    #[must_use]
    pub fn recording_notice(&self) -> Option<&'static str> {
        self.records().then_some(NOTICE)
    }

    /// What somebody is told before they have a session; `None` where none is recorded.
    #[must_use]
    pub fn recording_notice_ahead(&self) -> Option<&'static str> {
        self.records().then_some(NOTICE_AHEAD)
    }

    fn records(&self) -> bool {
        self.tools.recorded.as_ref().is_some_and(|recorded| recorded.sessions)
    }

    /// Begins to record a session that `entry` allows, with a terminal of this size, if sessions are recorded. Written down,
    /// as is later what is missing of it. Nothing of this waits for a disk or fails the session.
    #[must_use]
    pub fn record(&self, entry: &Entry, way: RecordingWay, columns: u16, rows: u16) -> Option<Recording> {
        let recorded = self.tools.recorded.as_ref().filter(|recorded| recorded.sessions)?;
        let about = About {
            account: entry.account().clone(),
            vm: entry.vm().clone(),
            way,
            began: self.settings.clock.now(),
        };
        let ledger = self.tools.ledger.clone();
        let incomplete = entry.event_of(AuditKind::RecordingIncomplete, String::new());
        let missing = {
            let (ledger, what) = (ledger.clone(), incomplete.clone());
            move |name: &str, why: &str| put(&ledger, NewAudit { detail: format!("{name}: {why}"), ..what })
        };
        let recording = recorded.recorder.begin(about, columns, rows, missing);
        let what = match &recording {
            Some(recording) => entry.event_of(AuditKind::SessionRecorded, recording.name().to_owned()),
            None => {
                error!(vm = %entry.vm(), "a session is not recorded: as many are under way as can be");
                NewAudit { detail: "not recorded: as many are under way as can be".to_owned(), ..incomplete }
            }
        };
        put(&ledger, what);
        recording
    }
}

impl Acting {
    /// The recordings: for operators.
    ///
    /// # Errors
    /// For others there are none; the disk fails.
    pub async fn recordings(&self) -> Result<Recordings, WebError> {
        self.must_be_operator(Scope::OpsRead)?;
        let Some(recorded) = &self.control.tools.recorded else {
            return Ok(Recordings { on: false, all: vec![] });
        };
        let all = self.on_disk(|recorder| recorder.list()).await?;
        Ok(Recordings { on: recorded.sessions, all })
    }

    /// Opens a recording: for operators. Written down.
    ///
    /// # Errors
    /// There is none of this name; the disk fails.
    pub async fn open_recording(&self, name: &str) -> Result<Opened, WebError> {
        self.must_be_operator(Scope::OpsRead)?;
        let (name, asked) = (name.to_owned(), name.to_owned());
        self.to_the_end(|acting| async move {
            let opened = acting.on_disk(move |recorder| recorder.read(&asked)).await?;
            let opened = opened.ok_or(Error::NoSuchRecording(name))?;
            acting.note_recording(AuditKind::RecordingOpened, &opened.info).await;
            Ok(opened)
        })
        .await
    }

    /// Removes a recording: for operators. Written down.
    ///
    /// # Errors
    /// There is none of this name; the disk fails.
    pub async fn remove_recording(&self, name: &str) -> Result<RecordingInfo, WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        let (name, asked) = (name.to_owned(), name.to_owned());
        self.to_the_end(|acting| async move {
            let removed = acting.on_disk(move |recorder| recorder.remove(&asked)).await?;
            let removed = removed.ok_or(Error::NoSuchRecording(name))?;
            acting.note_recording(AuditKind::RecordingRemoved, &removed).await;
            Ok(removed)
        })
        .await
    }

    /// Does something with the files, where nobody waits for them.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(Recorder) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let recorded = self.control.tools.recorded.as_ref();
        let recorder =
            recorded.ok_or_else(|| Error::Recordings("they are not kept here".to_owned()))?.recorder.clone();
        match self.control.tasks.spawn_blocking(move || work(recorder)).await {
            Ok(done) => done.map_err(|error| unreadable(&error)),
            Err(error) => Err(Error::Recordings(error.to_string())),
        }
    }

    /// For the owner of the VM, and for whose session it was.
    async fn note_recording(&self, kind: AuditKind, info: &RecordingInfo) {
        self.note(kind, &info.vm.owner, info.vm.to_string(), info.name.clone()).await;
        if info.account != info.vm.owner {
            self.note(kind, &info.account, info.vm.to_string(), info.name.clone()).await;
        }
    }
}

fn put(ledger: &Ledger, what: NewAudit) {
    ledger.put(what.into());
}

fn unreadable(error: &io::Error) -> Error {
    error!(%error, "the recordings cannot be read");
    Error::Recordings(error.to_string())
}
