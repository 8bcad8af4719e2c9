//! Berth from outside: the real binary, real VMs, the OpenSSH of this machine.
//!
//! All of it happens in a network namespace of its own, whose /etc/hosts names the hosts, with the gateway on port 22 and
//! a home folder whose `~/.ssh/config` is the tutorial's. Boots are slow without KVM, so the tests share one server and
//! its VMs: most run side by side on `leeolayvar`'s vm-0, those that pull a plug run alone ([`World::alone`]).
//!
//! Sleep by itself, and what happens when memory is short, need another configuration: those tests have a second server
//! ([`Worlds::small`]), one at a time, beside the others.
//!
//! Needs root (for the namespace) and an image; a missing one is an error that says what to do.
// So that clippy sees the helpers as the tests that they are.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "these tests run what a person would")]

mod backup;
mod bench;
mod certificates;
mod features;
mod forks;
mod idle;
mod isolation;
mod lifecycle;
mod load;
mod lobby;
mod page;
mod recordings;
mod refusals;
mod room;
mod run;
mod scripts;
mod sharing;
mod sleep;
mod soak;
mod team;
mod terminal;
mod tutorial;
mod upgrade;
mod website;
mod world;

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    sync::Arc,
};

use libtest_mimic::{Arguments, Trial};

use crate::world::{World, Worlds};

/// A test: fails by panicking.
type Test = fn(&World);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if !arguments.list && !rustix::process::geteuid().is_root() {
        let error = as_root().exec();
        eprintln!("These tests need root, for a network namespace, and sudo does not run: {error}");
        return ExitCode::FAILURE;
    }
    let worlds = Arc::new(Worlds::default());
    let small = [website::TESTS, idle::TESTS, room::TESTS];
    let main = [
        tutorial::TESTS,
        features::TESTS,
        refusals::TESTS,
        lobby::TESTS,
        isolation::TESTS,
        load::TESTS,
        lifecycle::TESTS,
        sleep::TESTS,
        forks::TESTS,
        scripts::TESTS,
        bench::TESTS,
        backup::TESTS,
        upgrade::TESTS,
        soak::TESTS,
        page::TESTS,
        recordings::TESTS,
        sharing::TESTS,
        certificates::TESTS,
        team::TESTS,
    ];
    // The small ones wait most of their time, so they begin with the first of the others.
    let small = small.into_iter().flatten().map(|(name, test)| trial(name, *test, &worlds, Worlds::small));
    let main = main.into_iter().flatten().map(|(name, test)| trial(name, *test, &worlds, Worlds::main));
    let (small, main): (Vec<_>, Vec<_>) = (small.collect(), main.collect());
    let conclusion = libtest_mimic::run(&arguments, in_turns(small, main));
    if conclusion.has_failed() {
        worlds.all().for_each(World::print_log);
    }
    drop(worlds);
    conclusion.exit_code()
}

/// One of each, for as long as there are both: tests begin in this order, two at a time on two CPUs.
fn in_turns(one: Vec<Trial>, other: Vec<Trial>) -> Vec<Trial> {
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut all = vec![];
    loop {
        let before = all.len();
        all.extend(one.next().into_iter().chain(other.next()));
        if all.len() == before {
            return all;
        }
    }
}

/// This program again, as root, with the images of who called it.
fn as_root() -> Command {
    let mut command = Command::new("sudo");
    command.arg("env");
    for name in ["HOME", "PATH", "BERTH_IMAGE_DIR"] {
        if let Ok(value) = std::env::var(name) {
            command.arg(format!("{name}={value}"));
        }
    }
    command.args(std::env::args_os());
    command
}

fn trial(
    name: &'static str,
    test: Test,
    worlds: &Arc<Worlds>,
    which: for<'a> fn(&'a Worlds) -> &'a World,
) -> Trial {
    let worlds = worlds.clone();
    Trial::test(name, move || {
        test(which(&worlds));
        Ok(())
    })
}
