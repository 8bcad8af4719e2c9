//! `berth bench …`: what this machine does, measured with a server, a state folder and VMs of its own.
//!
//! ```text
//!   vm ── measure ──► World (state folder, server, account)   ──► Client (the ssh that people have)
//!                        │ Ctrl-C, an error, the end                   │
//!                        └──► cleared away                      Figures ──► a table, or JSON
//! ```
//!
//! Owned: the world and all that is in it. Not owned: the images, which are the installation's and are only read.

mod client;
mod figures;
mod machine;
mod processes;
mod vm;
mod world;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use self::{figures::Figures, world::World};
use super::Context;
use crate::{
    admin::wire::{Failure, FailureKind},
    cli::BenchVmArgs,
};

/// `berth bench vm`
pub(crate) fn vm(context: &Context<'_>, args: &BenchVmArgs) -> Result<(), Failure> {
    let config = context.config()?;
    let broken = |error: anyhow::Error| Failure::new(FailureKind::Unavailable, sentence(&error));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("The threads for this cannot be started")
        .map_err(broken)?;
    let measured = runtime.block_on(async {
        let interrupted = interruption()?;
        if args.cold {
            machine::may_empty_the_page_cache()?;
        }
        let mut world = World::make(&config)?;
        let measured = tokio::select! {
            measured = vm::measure(context, &mut world, args) => measured,
            () = interrupted => Err(anyhow::anyhow!("It was interrupted")),
        };
        context.output.note("Clearing away…");
        let cleared = world.clear().await;
        let figures = measured?;
        cleared.map(|()| figures)
    });
    // A question to the server that nobody waits for any more ends with it.
    runtime.shutdown_background();
    let (machine, figures) = measured.map_err(broken)?;
    print(context, &machine, &figures)
}

fn print(context: &Context<'_>, machine: &str, figures: &Figures) -> Result<(), Failure> {
    if context.output.is_json() {
        return context.output.result(&figures.json(), "");
    }
    context.output.result(&(), &format!("{machine}\n"))?;
    context.output.table(&(), &figures.table(), "")
}

/// Errors of libraries begin in lower case and end without a full stop.
fn sentence(error: &anyhow::Error) -> String {
    format!("{}.", format!("{error:#}").trim_end_matches('.'))
}

/// Ends when somebody wants this to end. From its making on, such signals do nothing else.
fn interruption() -> anyhow::Result<impl Future<Output = ()>> {
    let caught = "Signals cannot be caught";
    let mut interrupt = signal(SignalKind::interrupt()).context(caught)?;
    let mut terminate = signal(SignalKind::terminate()).context(caught)?;
    let mut hang_up = signal(SignalKind::hangup()).context(caught)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}
