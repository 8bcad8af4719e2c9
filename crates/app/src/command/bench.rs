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
mod gateway;
mod http;
mod machine;
mod processes;
mod rate;
mod ratios;
mod servers;
mod stand_in;
mod vm;
mod world;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, ensure};
use rustix::process::geteuid;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use tokio_util::task::TaskTracker;

use self::{ratios::Ratios, world::World};
use super::Context;
use crate::{
    admin::wire::{Failure, FailureKind},
    cli::{BenchGatewayArgs, BenchHttpArgs, BenchVmArgs},
    files,
    output::Table,
};

/// `berth bench vm`
pub(crate) fn vm(context: &Context<'_>, args: &BenchVmArgs) -> Result<(), Failure> {
    let config = context.config()?;
    let (machine, figures) = run(async {
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
    })?;
    print(context, &machine, &figures.json(), &figures.table())
}

/// `berth bench gateway`
pub(crate) fn gateway(context: &Context<'_>, args: &BenchGatewayArgs) -> Result<(), Failure> {
    beside(context, async |dir, tasks| gateway::measure(context, dir, args, tasks).await)
}

/// Measures Berth beside a peer, in a folder of its own, and tells what came of it.
fn beside(
    context: &Context<'_>,
    measure: impl AsyncFnOnce(&Path, &TaskTracker) -> anyhow::Result<Ratios>,
) -> Result<(), Failure> {
    let machine = machine::describe(None);
    let ratios = run(async {
        let interrupted = interruption()?;
        ensure!(
            geteuid().is_root(),
            "The memory of other users’ processes is for root to see: run this as root"
        );
        files::allow_many();
        let dir = tempfile::Builder::new().prefix("berth-bench.").tempdir()?;
        let tasks = TaskTracker::new();
        tokio::select! {
            measured = measure(dir.path(), &tasks) => measured,
            () = interrupted => Err(anyhow::anyhow!("It was interrupted")),
        }
    })?;
    print(context, &machine, &ratios.json(), &ratios.table())
}

/// `berth bench http`
pub(crate) fn http(context: &Context<'_>, args: &BenchHttpArgs) -> Result<(), Failure> {
    beside(context, async |dir, tasks| http::measure(context, dir, args, tasks).await)
}

/// `berth bench stand-in`
pub(crate) fn stand_in(dir: &Path, site: Option<u16>, sshd: Option<u16>) -> Result<(), Failure> {
    files::allow_many();
    run(stand_in::serve(dir, site, sshd))
}

/// `berth bench flood`
pub(crate) fn flood(from: Ipv4Addr, to: SocketAddr) -> Result<(), Failure> {
    files::allow_many();
    run(gateway::flood(from, to))
}

/// Runs it to its end on threads of its own.
fn run<T>(doing: impl Future<Output = anyhow::Result<T>>) -> Result<T, Failure> {
    let broken = |error: anyhow::Error| Failure::new(FailureKind::Unavailable, sentence(&error));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("The threads for this cannot be started")
        .map_err(broken)?;
    let done = runtime.block_on(doing);
    // A question to the server that nobody waits for any more ends with it.
    runtime.shutdown_background();
    done.map_err(broken)
}

fn print<T: Serialize>(
    context: &Context<'_>,
    machine: &str,
    figures: &[T],
    table: &Table,
) -> Result<(), Failure> {
    if context.output.is_json() {
        return context.output.result(&figures, "");
    }
    context.output.result(&(), &format!("{machine}\n"))?;
    context.output.table(&(), table, "")
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
