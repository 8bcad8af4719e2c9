//! How long a page takes with many VMs in the store. Measures, and asserts only that the pages come.
//!
//! `cargo test --release -p berth-web --test site -- --ignored --nocapture many`

use std::{
    fmt::Write as _,
    io::Write as _,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use berth_control::{Actor, Limits, Role};
use berth_model::{Secret, VmId};
use berth_store::{NewVm, Store};
use ssh_key::{Algorithm, LineEnding, PrivateKey};
use time::OffsetDateTime;

use crate::world::{World, account, key};

const ACCOUNTS: usize = 2000;
const VMS_EACH: usize = 5;
const RUNS: usize = 60;

const PAGES: [&str; 15] = [
    "/",
    "/vms/vm-0",
    "/account",
    "/account/keys",
    "/account/sessions",
    "/account/activity",
    "/team",
    "/team?q=member-19",
    "/ops",
    "/ops?q=99",
    "/ops/accounts/member-0042",
    "/ops/vms",
    "/ops/vms?state=off&after=vm-0.member-1900.koding",
    "/ops/connections",
    "/ops/health",
];

/// A store in a file, as a server has it, with all these accounts and VMs.
async fn filled(folder: &std::path::Path) -> Store {
    let team = "koding".parse().unwrap();
    let store = Store::open(&folder.join("berth.db"), &team).await.unwrap();
    let now = OffsetDateTime::now_utc();
    let host_key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let host_key = host_key.to_openssh(LineEnding::LF).unwrap().to_string();
    for number in 0..ACCOUNTS {
        let owner = account(&format!("member-{number:04}"));
        store.add_account(&owner, now).await.unwrap();
        for _ in 0..VMS_EACH {
            let new = NewVm {
                id: VmId::random(),
                owner: owner.clone(),
                team: team.clone(),
                cpus: 2,
                memory: 1 << 30,
                disk: 10 << 30,
                host_key: Secret::new(host_key.clone()),
                limits: Limits::NONE,
            };
            store.add_vm(&new, now).await.unwrap();
        }
    }
    store
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(at).map_or(0.0, Duration::as_secs_f64) * 1000.0
}

#[tokio::test]
#[ignore = "measures for some minutes"]
async fn many_vms() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::with("https://koding.com", filled(folder.path()).await).await;
    let alice = account("member-0000");
    world.control.add_keys(&alice, &key("alice"), None).await.unwrap();
    world.control.acting(Actor::host()).set_role(&alice, Role::Operator).await.unwrap();
    let mut browser = world.logged_in("member-0000").await;
    let mut table = String::from("page | p50 ms | p99 ms\n");
    for path in PAGES {
        let mut times = vec![];
        for _ in 0..RUNS {
            let began = Instant::now();
            assert_eq!(browser.get(path).await.status, StatusCode::OK, "{path}");
            times.push(began.elapsed());
        }
        times.sort_unstable();
        let _ = writeln!(table, "{path} | {:.1} | {:.1}", percentile(&times, 50), percentile(&times, 99));
    }
    let _ = write!(std::io::stdout(), "{} VMs, {RUNS} runs\n{table}", ACCOUNTS * VMS_EACH);
}
