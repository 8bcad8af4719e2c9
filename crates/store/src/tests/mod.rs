//! The rules, tried through the public API on every kind of database: [`stores`] is the one place that lists them.

mod accounts;
mod audit;
mod disks;
mod host_cas;
mod keys;
mod limits;
mod log_in;
mod oidc;
mod opened;
mod opening;
mod passkeys;
mod place;
mod ports;
mod postgres;
mod schema;
mod shares;
mod team_cas;
mod tokens;
mod vms;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_model::{AccountName, PublicKey, Secret, TeamName, VmId};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime, macros::datetime};

use crate::{Limits, NewKey, NewVm, Store, sql::Tx};

/// An empty store, and what has to live as long.
struct TestStore {
    store: Store,
    _folder: Option<TempDir>,
    _database: Option<postgres::Database>,
}

impl std::ops::Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// An empty store of every kind.
async fn stores() -> [TestStore; 3] {
    let folder = tempfile::tempdir().unwrap();
    let in_file = Store::open(&folder.path().join("berth.db"), &koding()).await.unwrap();
    let in_memory = Store::in_memory(&koding()).await.unwrap();
    let (on_server, database) = postgres::store().await;
    [
        TestStore { store: in_file, _folder: Some(folder), _database: None },
        TestStore { store: in_memory, _folder: None, _database: None },
        TestStore { store: on_server, _folder: None, _database: Some(database) },
    ]
}

/// The same with the accounts alice and bob.
async fn stores_with_accounts() -> [TestStore; 3] {
    let stores = stores().await;
    for store in &stores {
        store.add_account(&alice(), at(0)).await.unwrap();
        store.add_account(&bob(), at(0)).await.unwrap();
    }
    stores
}

/// So many seconds after the beginning of the test.
fn at(seconds: i64) -> OffsetDateTime {
    datetime!(2026-03-01 10:00:00.125 UTC) + Duration::seconds(seconds)
}

fn koding() -> TeamName {
    "koding".parse().unwrap()
}

fn alice() -> AccountName {
    "alice".parse().unwrap()
}

fn bob() -> AccountName {
    "bob".parse().unwrap()
}

/// A different ed25519 key for every number. Not every 32 bytes are a point on the curve, so the first that are one.
fn public_key(number: u8) -> PublicKey {
    let line = |salt: u8| {
        let mut blob = Vec::new();
        blob.extend(11_u32.to_be_bytes());
        blob.extend(b"ssh-ed25519");
        blob.extend(32_u32.to_be_bytes());
        blob.extend([number, salt].repeat(16));
        format!("ssh-ed25519 {}", STANDARD.encode(blob))
    };
    (0..=u8::MAX).find_map(|salt| PublicKey::from_openssh(&line(salt)).ok()).unwrap()
}

fn new_key(number: u8) -> NewKey {
    NewKey { key: public_key(number), options: Default::default(), comment: String::new(), label: None }
}

/// A VM to be, whose host key is told from others by `host_key`.
fn new_vm(owner: AccountName, host_key: &str) -> NewVm {
    NewVm {
        id: VmId::random(),
        owner,
        team: koding(),
        cpus: 2,
        memory: 1 << 30,
        disk: 10 << 30,
        host_key: Secret::new(host_key.to_owned()),
        limits: Limits::NONE,
    }
}

/// Runs statements, several at once, in a transaction.
async fn run(tx: &mut Tx, sql: &'static str) -> Result<(), sqlx::Error> {
    match tx {
        Tx::Sqlite(tx) => sqlx::raw_sql(sql).execute(&mut **tx).await.map(drop),
        Tx::Postgres(tx) => sqlx::raw_sql(sql).execute(&mut **tx).await.map(drop),
    }
}
