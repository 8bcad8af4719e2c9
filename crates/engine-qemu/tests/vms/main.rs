//! The engine with real VMs. Boots are slow where there is no KVM, so most of what is to be seen is seen in the life of
//! one VM; each test is a list of steps.
//!
//! This program is the shim too, as `berth` is: a test starts VMs whose shim is `<this program> vm-shim`. That takes a
//! main function of its own. Arguments choose tests by a part of their name.
//!
//! The image is the newest in `BERTH_IMAGE_DIR`, or in `~/.cache/berth/images`; a missing one is an error.

mod bench;
mod broken_boot;
mod forks;
mod kills;
mod life;
mod neighbours;
mod promises;
mod rebuild;
mod sleep;
mod traffic;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

const TESTS: &[(&str, fn())] = &[
    ("life", || run(life::life())),
    ("broken_boot", || run(broken_boot::broken_boot())),
    ("sleep", || run(sleep::sleep())),
    ("forks", || run(forks::forks())),
    ("neighbours", || run(neighbours::neighbours())),
    ("promises", || run(promises::promises())),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == "vm-shim") {
        kills::arm(&mut arguments);
        return berth_engine_qemu::shim::run(arguments);
    }
    let wanted: Vec<String> =
        arguments.filter_map(|word| word.into_string().ok()).filter(|word| !word.starts_with('-')).collect();
    let mut failed = false;
    for (name, test) in TESTS {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        println!("test {name}");
        let started = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        failed |= !passed;
        println!("test {name} ... {} ({:.1?})", if passed { "ok" } else { "FAILED" }, started.elapsed());
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(test);
}
