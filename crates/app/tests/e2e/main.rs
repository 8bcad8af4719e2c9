//! Berth from outside: the real binary, real VMs, the OpenSSH of this machine.
//!
//! All of it happens in a network namespace of its own, whose /etc/hosts names the hosts, with the gateway on port 22 and
//! a home folder whose `~/.ssh/config` is the tutorial's. Boots are slow without KVM, so the tests share one server and
//! its VMs: most run side by side on `leeolayvar`'s vm-0, those that pull a plug run alone ([`World::alone`]).
//!
//! Needs root (for the namespace) and an image; a missing one is an error that says what to do.
// So that clippy sees the helpers as the tests that they are.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "these tests run what a person would")]

mod features;
mod isolation;
mod lifecycle;
mod load;
mod refusals;
mod terminal;
mod tutorial;
mod world;

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    sync::Arc,
};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::world::World;

/// A test: fails by panicking.
type Test = fn(&World);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if !arguments.list && !rustix::process::geteuid().is_root() {
        let error = as_root().exec();
        eprintln!("These tests need root, for a network namespace, and sudo does not run: {error}");
        return ExitCode::FAILURE;
    }
    let tests =
        [tutorial::TESTS, features::TESTS, refusals::TESTS, isolation::TESTS, load::TESTS, lifecycle::TESTS];
    let tests: Vec<_> = tests.into_iter().flatten().copied().collect();
    let world = if arguments.list { None } else { Some(Arc::new(World::new())) };
    let trials = tests.into_iter().map(|(name, test)| trial(name, test, world.clone())).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if conclusion.has_failed()
        && let Some(world) = &world
    {
        world.print_log();
    }
    drop(world);
    conclusion.exit_code()
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

fn trial(name: &'static str, test: Test, world: Option<Arc<World>>) -> Trial {
    Trial::test(name, move || {
        let world = world.ok_or_else(|| Failed::from("no world was made for a listing"))?;
        test(&world);
        Ok(())
    })
}
