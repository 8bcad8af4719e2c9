//! From SQLite to PostgreSQL and back, with a server that is used on both.

use std::fs;

use berth_testkit::Postgres;

use crate::world::World;

/// The configuration, with the database there.
fn configure(world: &World, url: Option<&str>) {
    let database = url.map(|url| format!("[database]\nurl = '{url}'\n")).unwrap_or_default();
    let text = format!("[ssh]\nlisten = ['127.0.0.1:0']\n[http]\nlisten = ['127.0.0.1:0']\n{database}");
    world.write("berth.toml", &text);
}

/// Whatever the ports are.
fn keys_of_hosts(world: &World) -> Vec<String> {
    let known = fs::read_to_string(world.state().join("known_hosts")).unwrap();
    known.lines().filter_map(|line| line.split(' ').next_back().map(str::to_owned)).collect()
}

#[test]
fn an_installation_moves_to_postgresql_and_back() {
    let postgres = Postgres::start();
    let url = postgres.address("postgres");
    let world = World::new();
    let server = world.serve();
    world.key_pair("id");
    world.run("admin account add alice").ok();
    world.run("admin key add alice id.pub").ok();
    world.run("admin vm add alice").ok();
    let told = world.run(&format!("admin migrate-store --to {url}")).refused();
    assert!(told.contains("A server runs") && told.contains("--trial"), "{told}");
    let trial = world.run("admin migrate-store --to trial.db --trial").ok();
    assert!(trial.contains("It was a trial"), "{trial}");
    let known = keys_of_hosts(&world);
    server.terminate();

    configure(&world, Some(&url));
    let refused = world.run("serve").refused();
    assert!(refused.contains("berth.db is there too. Copy it"), "{refused}");
    let file = world.state().join("berth.db");
    let there = world.json(&format!("admin migrate-store --from {} --to {url}", file.display()));
    assert!(there["rows"].as_u64().unwrap() > 10 && there["tables"]["keys"] == 1, "{there}");
    let told = world.run(&format!("admin migrate-store --from {} --to {url}", file.display())).refused();
    assert!(told.contains("is in use already"), "{told}");
    fs::rename(&file, world.path("old.db")).unwrap();

    let server = world.serve();
    assert!(!file.exists(), "nothing is in a file any more");
    assert_eq!(world.json("admin account list")["accounts"][0]["name"], "alice", "{}", server.log());
    world.run("admin account add bob").ok();
    assert_eq!(keys_of_hosts(&world), known);
    world.run("admin backup berth.tar").ok();
    configure(&world, None);
    let told = world.run("admin upgrade").refused();
    assert!(told.contains("names another database"), "{told}");
    server.terminate();
    let refused = world.run("serve").refused();
    assert!(refused.contains("This Berth worked with the database postgres"), "{refused}");

    let told = world.run(&format!("admin migrate-store --from {url} --to {}", file.display())).ok();
    assert!(told.contains("Take [database] out of the configuration"), "{told}");
    let server = world.serve();
    let accounts = world.json("admin account list");
    let names: Vec<_> =
        accounts["accounts"].as_array().unwrap().iter().map(|account| &account["name"]).collect();
    assert_eq!(names, ["alice", "bob"]);
    server.terminate();
}
