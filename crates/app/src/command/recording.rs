//! `berth admin recording …`

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use berth_control::RecordingState;
use serde_json::json;

use super::{Context, misfit};
use crate::{
    admin::wire::{Answer, Failure, FailureKind, Request},
    cli::RecordingCommand,
    output::{Table, moment},
};

pub(crate) fn run(context: &Context<'_>, command: RecordingCommand) -> Result<(), Failure> {
    match command {
        RecordingCommand::List => list(context),
        RecordingCommand::Show(args) => {
            let Answer::RecordingAt { path, whole } =
                context.ask(&Request::RecordingOpen { name: args.name })?
            else {
                return Err(misfit());
            };
            show(&path, whole)
        }
        RecordingCommand::Remove(args) => {
            let Answer::Removed { name } = context.ask(&Request::RecordingRemove { name: args.name })? else {
                return Err(misfit());
            };
            context.output.result(&json!({ "removed": name }), &format!("{name} is removed."))
        }
    }
}

fn list(context: &Context<'_>) -> Result<(), Failure> {
    let Answer::Recordings { on, all } = context.ask(&Request::RecordingList {})? else {
        return Err(misfit());
    };
    let mut table = Table::new(["NAME", "WHO", "VM", "BEGAN", "BYTES", "STATE"]);
    for recording in &all {
        let state = match recording.state {
            RecordingState::UnderWay => "under way",
            RecordingState::Complete => "complete",
            RecordingState::Incomplete => "incomplete",
        };
        table.row([
            recording.name.clone(),
            recording.account.to_string(),
            recording.vm.to_string(),
            moment(recording.began),
            recording.bytes.to_string(),
            state.to_owned(),
        ]);
    }
    let empty = if on {
        "No session was recorded yet."
    } else {
        "No session is recorded. In the configuration: recording.sessions = true"
    };
    context.output.table(&json!({ "on": on, "recordings": all }), &table, empty)
}

/// The file as it is, for a player: nothing is made fit for a terminal.
fn show(path: &Path, whole: u64) -> Result<(), Failure> {
    let copied = File::open(path).and_then(|file| io::copy(&mut file.take(whole), &mut io::stdout().lock()));
    match copied {
        Ok(_) => Ok(()),
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            let message = format!("{} cannot be read: {error}.", PathBuf::from(path).display());
            Err(Failure::new(FailureKind::Unavailable, message))
        }
    }
}
