//! What is a file's own: permissions, damage, a full disk. SQLite only; what holds for a server too is in `opened`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{alice, at, koding, run};
use crate::{Role, Store, StoreError, sql};

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("berth.db");
    (folder, path)
}

async fn open(path: &Path) -> Result<Store, StoreError> {
    Store::open(path, &koding()).await
}

/// Runs `sql` in a transaction, which is dropped where that fails, as in every call.
async fn write(store: &Store, sql: &'static str) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    run(&mut tx, sql).await?;
    Ok(tx.commit().await?)
}

#[tokio::test]
async fn what_a_killed_process_had_written_is_there() {
    let (_folder, path) = place();
    let store = open(&path).await.unwrap();
    store.add_account(&alice(), at(1)).await.unwrap();
    // Nothing is closed: what is in the write-ahead log has to be found.
    let other = open(&path).await.unwrap();
    assert!(other.account_exists(&alice()).await.unwrap());
}

#[tokio::test]
async fn durability_is_full() {
    let (_folder, path) = place();
    let store = open(&path).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let mut pragmas = vec![];
    for pragma in ["PRAGMA synchronous", "PRAGMA foreign_keys"] {
        pragmas.push(sql::query_scalar::<i64>(pragma).fetch_one(&mut tx).await.unwrap());
    }
    assert_eq!(pragmas, [2, 1], "FULL and ON");
    let mode: String = sql::query_scalar("PRAGMA journal_mode").fetch_one(&mut tx).await.unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_full_disk_stops_writing_only_until_there_is_room() {
    // One row of one table: on such a statement SQLite takes back the whole transaction, not only the statement.
    const FILL: &str = "INSERT INTO filler VALUES (zeroblob(10000))";
    let (_folder, path) = place();
    let store = open(&path).await.unwrap();
    write(&store, "CREATE TABLE filler (filling BLOB)").await.unwrap();
    for round in 1..=2 {
        // To SQLite a full disk, and no fewer pages than there are.
        write(&store, "PRAGMA max_page_count = 1").await.unwrap();
        let error = write(&store, FILL).await.unwrap_err();
        assert!(matches!(error, StoreError::DiskFull), "round {round}: {error:?}");

        write(&store, "PRAGMA max_page_count = 100000").await.unwrap();
        write(&store, FILL).await.unwrap();
        let rows: i64 =
            sql::query_scalar("SELECT COUNT(*) FROM filler").fetch_one(store.reader()).await.unwrap();
        assert_eq!(rows, round, "nothing of what was refused is there");
    }
    store.add_account(&alice(), at(0)).await.unwrap();
    let mut tx = store.write().await.unwrap();
    for (pragma, value) in [("PRAGMA synchronous", 2), ("PRAGMA foreign_keys", 1)] {
        let found: i64 = sql::query_scalar(pragma).fetch_one(&mut tx).await.unwrap();
        assert_eq!(found, value, "{pragma}, of the connection that came instead");
    }
}

#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    let (folder, path) = place();
    let modes = || {
        let mut modes: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().permissions().mode() & 0o777)
            .collect();
        modes.sort_unstable();
        modes
    };
    let store = open(&path).await.unwrap();
    store.add_account(&alice(), at(0)).await.unwrap();
    assert_eq!(modes(), [0o600; 3], "the database, its log and the log's index");
    store.close().await;

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let _store = open(&path).await.unwrap();
    assert!(modes().iter().all(|mode| *mode == 0o600));
}

#[tokio::test]
async fn a_missing_folder_is_told_with_the_path() {
    let (_folder, path) = place();
    let path = path.join("deeper").join("berth.db");
    let error = open(&path).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    );
    assert!(error.to_string().contains(path.to_str().unwrap()));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_kept() {
    let (_folder, path) = place();
    let text = "This is a letter, not a database. ".repeat(100);
    fs::write(&path, &text).unwrap();
    let error = open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_database_with_any_page_damaged_is_refused_and_kept() {
    const PAGE: usize = 4096;
    let (_folder, path) = place();
    let store = open(&path).await.unwrap();
    store.add_account(&alice(), at(0)).await.unwrap();
    store.close().await;
    let sound = fs::read(&path).unwrap();
    for page in 1..sound.len() / PAGE {
        let mut damaged = sound.clone();
        damaged[page * PAGE..][..PAGE].fill(0xa5);
        fs::write(&path, &damaged).unwrap();
        let error = open(&path).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "page {page}: {error:?}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
}

#[tokio::test]
async fn of_the_accounts_from_before_there_were_roles_the_oldest_is_the_operator() {
    let (_folder, path) = place();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let before = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::migrate!().run_to(2, &before).await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO names (name, kind) VALUES ('carol', 'account'), ('bob', 'account'), ('alice', 'account');
         INSERT INTO accounts (name, created_at, removed_at) VALUES ('carol', 0, 9);
         INSERT INTO accounts (name, created_at) VALUES ('bob', 1), ('alice', 2)",
    )
    .execute(&before)
    .await
    .unwrap();
    before.close().await;
    let store = open(&path).await.unwrap();
    store.add_account(&"dave".parse().unwrap(), at(0)).await.unwrap();
    let accounts = store.accounts().await.unwrap();
    let roles: Vec<_> = accounts.iter().map(|row| (row.name.as_str(), row.role)).collect();
    assert_eq!(roles, [("alice", Role::Member), ("bob", Role::Operator), ("dave", Role::Member)]);
}

#[tokio::test]
async fn a_copy_is_whole_while_others_write_and_is_its_owners_alone() {
    let (folder, path) = place();
    let store = open(&path).await.unwrap();
    store.add_account(&alice(), at(1)).await.unwrap();
    let copy = folder.path().join("copy.db");
    // A transaction that is under way is not in it, and does not hold it up.
    let mut tx = store.write().await.unwrap();
    run(&mut tx, "DELETE FROM names").await.unwrap_err();
    store.copy_to(&copy).await.unwrap();
    drop(tx);
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(store.copy_to(&copy).await, Err(StoreError::File { .. })), "nothing is replaced");
    let accounts = store.accounts().await.unwrap();
    let copied = open(&copy).await.unwrap();
    assert_eq!(copied.accounts().await.unwrap(), accounts);
}
