//! The crates depend on each other as ARCHITECTURE.md draws it, and no more.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Crates of tests only: any test may use them, no product code may.
const TEST_ONLY: [&str; 2] = ["testkit", "fuzz"];

type Edges = BTreeMap<String, BTreeSet<String>>;

fn short(name: &str) -> String {
    name.strip_prefix("berth-").unwrap_or("app").to_owned()
}

fn drawn() -> Edges {
    let text = include_str!("../../../ARCHITECTURE.md");
    let block =
        text.split("```edges\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of edges");
    let edge = |line: &str| {
        let (from, to) = line.split_once("->").expect("an arrow");
        (from.trim().to_owned(), to.split_whitespace().map(str::to_owned).collect())
    };
    block.lines().map(edge).collect()
}

fn real() -> Edges {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata");
    let ours = |name: &str| name == "berth" || name.starts_with("berth-");
    let mut edges = Edges::new();
    for package in metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| !TEST_ONLY.contains(&short(&package.name).as_str()))
    {
        let to = package.dependencies.iter().filter(|dependency| ours(&dependency.name));
        let to = to.filter(|dependency| dependency.kind != DependencyKind::Development);
        edges.insert(short(&package.name), to.map(|dependency| short(&dependency.name)).collect());
    }
    edges
}

#[test]
fn the_edges_are_those_that_are_drawn() {
    assert_eq!(real(), drawn());
}
