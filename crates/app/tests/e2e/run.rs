//! Commands that are run to their end, and waiting.

use std::{
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// What a command gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    /// That it succeeded and had nothing to complain of; gives what it printed.
    #[track_caller]
    pub(crate) fn quiet(self) -> String {
        assert!(self.code == Some(0) && self.err.is_empty(), "{self:#?}");
        self.out
    }

    /// That it succeeded; gives what it printed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.out
    }

    /// That it failed; gives what it complained of.
    #[track_caller]
    pub(crate) fn fails(self) -> String {
        assert!(self.code.is_some_and(|code| code != 0), "{self:#?}");
        self.err
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command that has to succeed.
#[track_caller]
pub(crate) fn run(words: &[&str]) -> String {
    let (program, arguments) = words.split_first().expect("a command");
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    Run::from(output.unwrap_or_else(|error| panic!("{program}: {error}"))).ok()
}

/// Waits until `done`, with the patience that an emulated machine takes.
#[track_caller]
pub(crate) fn wait_for(what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < patience, "waited {patience:?} in vain until {what}");
        sleep(Duration::from_millis(100));
    }
}
