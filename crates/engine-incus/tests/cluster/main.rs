//! The engine with a real cluster: three members, each in namespaces of its own, which `cluster.sh` starts here.
//!
//! This program starts the cluster, and then itself once more on the cluster's network, where the tests run. Arguments
//! choose tests by a part of their name. `make test-cluster` runs it; without `BERTH_CLUSTER_TESTS` it does nothing, since what
//! pulls plugs takes minutes. It needs root, Incus, and the image for containers in `BERTH_IMAGE_DIR` (or in
//! `~/.cache/berth/images`); what is missing is an error that says what to do. `BERTH_TEST_CLUSTER=BASE:NAME` takes a
//! cluster that runs.

#![expect(clippy::indexing_slicing, reason = "a test may fail in any way")]

mod bench;
mod members;
mod suite;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Instant,
};

use bench::Cluster;

/// Fails by panicking.
type Test = fn(&Cluster);

const TESTS: &[(&str, Test)] = &[
    ("conformance", |cluster| run(suite::conforms(cluster))),
    ("through_the_api", |cluster| run(suite::through_the_api(cluster))),
    ("open_connections", |cluster| run(suite::open_connections(cluster))),
    ("home_is_kept", |cluster| run(suite::home_is_kept(cluster))),
    ("interrupted", |cluster| run(suite::interrupted(cluster))),
    ("members", |cluster| run(members::members(cluster))),
    ("half_way", |cluster| run(members::half_way(cluster))),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if std::env::var_os("BERTH_CLUSTER_TESTS").is_none() {
        println!("The tests with a cluster are run by make test-cluster.");
        return ExitCode::SUCCESS;
    }
    let Some(cluster) = Cluster::entered() else {
        return bench::start_and_enter(&wanted);
    };
    let mut failed = false;
    for (name, test) in TESTS {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        println!("test {name}");
        let started = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(|| test(&cluster))).is_ok();
        failed |= !passed;
        println!("test {name} ... {} ({:.1?})", if passed { "ok" } else { "FAILED" }, started.elapsed());
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(test);
}
