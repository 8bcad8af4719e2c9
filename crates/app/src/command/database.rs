//! `berth admin migrate-store`: all of the database in another place.

use std::time::Instant;

use berth_store::{Copied, Place};
use serde_json::json;

use super::{Context, backup::belong_to_the_owner_of};
use crate::{
    admin::wire::{Failure, FailureKind},
    cli::MigrateStoreArgs,
    config::{
        Config,
        database::{has_password, place},
    },
    state::{Lock, StateDir},
};

pub(crate) fn migrate(context: &Context<'_>, args: &MigrateStoreArgs) -> Result<(), Failure> {
    let config = context.config()?;
    let state = StateDir::at(&config.state_dir);
    let invalid = |sentence: String| Failure::new(FailureKind::Invalid, sentence);
    let to = place(&args.to, args.password_file.as_ref()).map_err(invalid)?;
    let from = match &args.from {
        Some(from) => {
            let theirs = args.password_file.as_ref().filter(|_| matches!(to, Place::File(_)));
            place(from, theirs).map_err(invalid)?
        }
        None => config.database.place(state.database()).map_err(invalid)?,
    };
    let lock = if args.trial { None } else { Some(stopped(&state)?) };
    let begun = Instant::now();
    let copied = copy(&from, &to)?;
    if let Place::File(path) = &to
        && *path == state.database()
    {
        let given = belong_to_the_owner_of(&config.state_dir, path);
        given
            .map_err(|error| invalid(format!("{} cannot be given to its user: {error}.", path.display())))?;
    }
    if lock.is_some() {
        let noted = state.note_database(&to.to_string());
        noted.map_err(|error| {
            invalid(format!("{} cannot be written to: {error}.", config.state_dir.display()))
        })?;
    }
    drop(lock);
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let tables: serde_json::Map<_, _> =
        copied.tables.iter().map(|(table, rows)| ((*table).to_owned(), json!(rows))).collect();
    let value = json!({
        "from": from.to_string(), "to": to.to_string(), "rows": copied.rows(), "tables": tables, "trial": args.trial,
        "milliseconds": milliseconds,
    });
    let text = format!(
        "{} rows of {} tables are in {to}, and each is what it is in {from}. It took {}.{:03} s.\n{}",
        copied.rows(),
        copied.tables.len(),
        milliseconds / 1000,
        milliseconds % 1000,
        next(&config, args, &to),
    );
    context.output.result(&value, &text)
}

/// A server that runs would go on with what is only in the old place.
fn stopped(state: &StateDir) -> Result<Lock, Failure> {
    state.lock().map_err(|error| {
        let sentence = match state.running() {
            Some(pid) => format!(
                "A server runs ({pid}), and what it changes from now on would not be in the copy. Stop it (VMs run on) and try \
                 again, or see with --trial how long it takes."
            ),
            None => error.to_string(),
        };
        Failure::new(FailureKind::Conflict, sentence)
    })
}

fn copy(from: &Place, to: &Place) -> Result<Copied, Failure> {
    let failed = |error: anyhow::Error| Failure::new(FailureKind::Unavailable, format!("{error:#}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(error.into()))?;
    runtime.block_on(from.copy_to(to)).map_err(|error| failed(error.into()))
}

/// What the operator does next.
fn next(config: &Config, args: &MigrateStoreArgs, to: &Place) -> String {
    if args.trial {
        return "It was a trial: a server that runs goes on with the old one. Empty the new one before you copy in earnest, with \
                the server stopped."
            .to_owned();
    }
    let old = StateDir::at(&config.state_dir).database();
    match to {
        Place::Server(server) => {
            let url = if has_password(&args.to) { server.to_string() } else { args.to.clone() };
            let file = args.password_file.as_ref();
            let password = file.map(|file| format!("\npassword_file = {:?}", file.display().to_string()));
            format!(
                "Say so in the configuration, move {} away, and start the server:\n[database]\nurl = {url:?}{}",
                old.display(),
                password.unwrap_or_default()
            )
        }
        Place::File(path) if *path == old => {
            "Take [database] out of the configuration, and start the server.".to_owned()
        }
        Place::File(_) => format!(
            "To serve it, move it to {}, take [database] out of the configuration, and start the server.",
            old.display()
        ),
    }
}
