//! The website in a real browser, with real VMs behind it.

use std::{path::Path, process::Stdio};

use crate::{Test, run::Run, world::World};

pub(crate) const TESTS: &[(&str, Test)] = &[("website::the_whole_tutorial", tutorial)];

fn tutorial(world: &World) {
    let _guard = world.alone();
    world.configure("[idle]\nsleep_after = \"8 s\"\n");
    world.new_home("carol");
    let npm = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/npm");
    let installed = npm.join("node_modules/playwright-core").exists();
    assert!(installed, "the website's tools are missing: npm --prefix crates/web/npm ci");
    let script = npm.join("tutorial.mjs");
    let mut command =
        world.command("carol", &["timeout", "-k", "5", "400", "node", script.to_str().unwrap()]);
    command
        .env("BERTH", env!("CARGO_BIN_EXE_berth"))
        .env("BERTH_CONFIG", world.path("berth.toml"))
        .env("KNOWN_HOSTS", world.path("state/known_hosts"))
        .env("SITE", "http://koding.com");
    let told = Run::from(command.stdin(Stdio::null()).output().expect("ip netns exec runs")).ok();
    assert!(told.ends_with("done\n"), "{told}");
    world.admin(&["account", "remove", "carol", "--yes"]).ok();
}
