//! What each command does, a file for each noun.

use crate::{
    admin::{
        client,
        wire::{Answer, Failure, FailureKind, Progress, Request},
    },
    config::{self, Config, Overrides},
    output::Output,
    state::StateDir,
};

pub(crate) mod account;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod check_config;
pub(crate) mod database;
pub(crate) mod host_ca;
pub(crate) mod image;
pub(crate) mod key;
pub(crate) mod recording;
pub(crate) mod serve;
pub(crate) mod share;
pub(crate) mod team;
pub(crate) mod upgrade;
pub(crate) mod vm;

mod confirm;

/// What every command is given.
pub(crate) struct Context<'a> {
    pub(crate) overrides: Overrides,
    pub(crate) output: &'a Output,
}

impl Context<'_> {
    /// The configuration in force, its values judged.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let config = self.unjudged_config()?;
        match config.problems().first() {
            None => Ok(config),
            Some(problem) => Err(Failure::new(
                FailureKind::Invalid,
                format!(
                    "The configuration is wrong. {}: {} (berth check-config tells all.)",
                    problem.key, problem.message
                ),
            )),
        }
    }

    /// The configuration in force, as it is.
    pub(crate) fn unjudged_config(&self) -> Result<Config, Failure> {
        config::load(self.overrides.clone())
            .map_err(|error| Failure::new(FailureKind::Invalid, error.to_string()))
    }

    /// Asks the running server. Progress is for people, so it goes to stderr, and not at all beside JSON.
    pub(crate) fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        let socket = StateDir::at(&self.config()?.state_dir).admin_socket();
        client::ask(&socket, request, |progress| self.output.progress(&about(request, progress)))
    }
}

/// One that is asleep and is to boot does not wake.
fn about(request: &Request, progress: Progress) -> Progress {
    match (request, progress) {
        (Request::VmStart { from_disk: true, .. }, Progress::Waking { vm }) => {
            Progress::Starting { vm, usual_ms: None }
        }
        (_, progress) => progress,
    }
}

/// An answer of another kind than was asked for.
pub(crate) fn misfit() -> Failure {
    Failure::new(
        FailureKind::Unavailable,
        "The server answered something else than was asked. Restart the server.",
    )
}
