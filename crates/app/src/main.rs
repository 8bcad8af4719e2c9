//! The binary `berth`: the server, and what its operator types.
//!
//! ```text
//!   berth serve          config ──► build ──► spawn ──► wait for a signal ──► drain with a deadline
//!   berth admin …        one request over the admin socket of the running server
//!   berth image …        images, without a server
//!   berth restore        a state folder from a backup, without a server
//!   berth bench …        measures, with a server of its own
//!   berth check-config   what is in force and what is wrong with it
//!   berth vm-shim        one VM's own process; started by the engine, never by a person
//! ```
//!
//! Exit status: 0 done, 1 refused or failed, 2 the command line makes no sense. docs/commands.md describes the output.

mod admin;
mod backup;
mod cli;
mod command;
mod config;
mod files;
mod handover;
mod https;
mod known_hosts;
mod logging;
mod notify;
mod output;
mod ssh_config;
mod state;

use std::process::ExitCode;

use clap::{
    Parser,
    error::{ContextKind, ContextValue},
};

use crate::{
    admin::wire::{Failure, FailureKind},
    cli::{
        AccountCommand, AdminCommand, BenchCommand, Cli, Command, ImageCommand, KeyCommand, VmCommand,
        VmDiskCommand,
    },
    command::{
        Context, account, audit, backup as copies, bench, check_config, database, host_ca, image, key,
        recording, serve, share, team, upgrade, vm,
    },
    output::Output,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(error),
    };
    let output = Output::new(cli.json);
    match run(cli, &output) {
        Ok(status) => status,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, output: &Output) -> Result<ExitCode, Failure> {
    let context = Context { overrides: cli.overrides(), output };
    let done = match cli.command {
        Command::Serve(args) => serve::run(&context, &args),
        Command::CheckConfig => check_config::run(&context),
        Command::Image(ImageCommand::Build(args)) => image::build(&context, &args),
        Command::Image(ImageCommand::List) => image::list(&context),
        Command::Admin(command) => admin(&context, command),
        Command::Bench(BenchCommand::Vm(args)) => bench::vm(&context, &args),
        Command::Bench(BenchCommand::Gateway(args)) => bench::gateway(&context, &args),
        Command::Bench(BenchCommand::Http(args)) => bench::http(&context, &args),
        Command::Bench(BenchCommand::StandIn { dir, site, sshd }) => bench::stand_in(&dir, site, sshd),
        Command::Bench(BenchCommand::Flood { from, to }) => bench::flood(from, to),
        Command::Restore(args) => copies::restore(&context, &args),
        Command::VmShim(args) => return Ok(berth_engine_qemu::shim::run(args.args)),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn admin(context: &Context<'_>, command: AdminCommand) -> Result<(), Failure> {
    match command {
        AdminCommand::Account(command) => match command {
            AccountCommand::Add(args) => account::add(context, &args),
            AccountCommand::List => account::list(context),
            AccountCommand::Remove(args) => account::remove(context, &args),
            AccountCommand::SshConfig(args) => account::ssh_config(context, &args),
            AccountCommand::Limits(args) => account::limits(context, &args),
            AccountCommand::Link(args) => account::link(context, &args),
            AccountCommand::Invite(args) => account::invite(context, &args),
            AccountCommand::Role(args) => account::role(context, &args),
            AccountCommand::Block(args) => account::block(context, &args, true),
            AccountCommand::Unblock(args) => account::block(context, &args, false),
            AccountCommand::NameFor(args) => account::name_for(context, &args),
        },
        AdminCommand::Key(command) => match command {
            KeyCommand::Add(args) => key::add(context, &args),
            KeyCommand::List(args) => key::list(context, &args),
            KeyCommand::Remove(args) => key::remove(context, &args),
        },
        AdminCommand::Vm(command) => match command {
            VmCommand::Add(args) => vm::add(context, &args),
            VmCommand::List(args) => vm::list(context, &args),
            VmCommand::Start(args) => vm::start(context, &args),
            VmCommand::Sleep(args) => vm::sleep(context, &args),
            VmCommand::Wake(args) => vm::wake(context, &args),
            VmCommand::Why(args) => vm::why(context, &args),
            VmCommand::Snooze(args) => vm::snooze(context, &args),
            VmCommand::AlwaysOn(args) => vm::always_on(context, &args),
            VmCommand::Stop(args) => vm::stop(context, &args),
            VmCommand::Rebuild(args) => vm::rebuild(context, &args),
            VmCommand::Resize(args) => vm::resize(context, &args),
            VmCommand::Disk(VmDiskCommand::Backup(args)) => copies::back_up_disk(context, &args),
            VmCommand::Disk(VmDiskCommand::Restore(args)) => copies::restore_disk(context, &args),
            VmCommand::Remove(args) => vm::remove(context, &args),
            VmCommand::Share(args) => share::share(context, &args),
            VmCommand::Unshare(args) => share::unshare(context, &args),
            VmCommand::Shares(args) => share::shares(context, &args),
            VmCommand::Log(args) => vm::log(context, &args),
        },
        AdminCommand::HostCa(command) => host_ca::run(context, command),
        AdminCommand::Recording(command) => recording::run(context, command),
        AdminCommand::Team(command) => team::run(context, &command),
        AdminCommand::Upgrade => upgrade::run(context),
        AdminCommand::Backup(args) => copies::back_up(context, &args),
        AdminCommand::MigrateStore(args) => database::migrate(context, &args),
        AdminCommand::Audit(args) => audit::audit(context, &args),
    }
}

/// Help and version are asked for; everything else is a mistake, told as JSON to who wants JSON.
fn not_understood(mut error: clap::Error) -> ExitCode {
    hide_our_own(&mut error);
    if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        let message = error.render().to_string();
        Output::new(true).failure(&Failure::new(FailureKind::Usage, message.trim()));
    } else if error.print().is_err() {
        return ExitCode::FAILURE;
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Lists of commands in complaints have the hidden one too.
fn hide_our_own(error: &mut clap::Error) {
    for kind in [ContextKind::ValidSubcommand, ContextKind::SuggestedSubcommand] {
        let Some(ContextValue::Strings(names)) = error.remove(kind) else { continue };
        let names: Vec<_> =
            names.into_iter().filter(|name| name != "vm-shim" && name != "stand-in").collect();
        if !names.is_empty() {
            error.insert(kind, ContextValue::Strings(names));
        }
    }
}
