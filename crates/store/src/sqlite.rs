//! All that is SQLite's own: opening the file, pragmas, transactions that write, error codes.
//!
//! One connection writes, others read: SQLite has one writer at a time anyway, waiting in our queue is fair and costs
//! no thread, and with a write-ahead log a reader waits for nobody.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use sqlx::{
    Connection, Sqlite, SqliteConnection, SqlitePool, Transaction,
    error::DatabaseError as _,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteError, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    StoreError,
    database::{Kind, migration_error},
};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!();

/// So long another process may keep the file locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// So long a call waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;

// Primary result codes: https://www.sqlite.org/rescode.html
const SQLITE_BUSY: i32 = 5;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_NOTADB: i32 = 26;

/// Opens the file, makes it or brings it up to date: the one connection that writes, and those that read.
pub(crate) async fn open(path: &Path) -> Result<(SqlitePool, SqlitePool), StoreError> {
    make_private(path).await.map_err(|source| StoreError::File { path: path.to_owned(), source })?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT);
    let opening = |error| opening_error(error, path);
    let writer = replaced_when_stuck(pool(1)).connect_with(options.clone()).await.map_err(opening)?;
    check_file(&writer, path).await?;
    let reader = pool(READERS).connect_lazy_with(options.pragma("query_only", "ON"));
    let migrated = MIGRATIONS.run(&writer).await;
    migrated.map_err(|error| migration_error(error, path.display().to_string(), opening))?;
    Ok((writer, reader))
}

/// One in memory: every connection would have a database of its own, so there is one.
pub(crate) async fn in_memory() -> Result<SqlitePool, StoreError> {
    let options = SqliteConnectOptions::new().in_memory(true).foreign_keys(true);
    let only = pool(1).connect_with(options).await?;
    let migrated = MIGRATIONS.run(&only).await;
    migrated.map_err(|error| migration_error(error, ":memory:".to_owned(), StoreError::from))?;
    Ok(only)
}

/// Bytes, the journal aside.
pub(crate) async fn size(pool: &SqlitePool) -> Result<i64, StoreError> {
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(pool).await?;
    let size: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(pool).await?;
    Ok(pages.saturating_mul(size))
}

/// Makes an empty file that only its owner may read, where there is none.
pub(crate) async fn make_new(path: &Path) -> Result<(), StoreError> {
    let made = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await;
    made.map(drop).map_err(|source| StoreError::File { path: path.to_owned(), source })
}

/// Writes the database into a new file. See [`crate::Store::copy_to`].
pub(crate) async fn copy_to(pool: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    make_new(path).await?;
    let unmade = |source| StoreError::File { path: path.to_owned(), source };
    let target = path.to_str().ok_or_else(|| unmade(std::io::ErrorKind::InvalidFilename.into()))?;
    // A connection of its own: the writer's would have everybody wait, and a reader's may not write, here neither.
    let mut connection = SqliteConnection::connect_with(&pool.connect_options()).await?;
    let copied = sqlx::query("VACUUM INTO ?").bind(target).execute(&mut connection).await;
    connection.close().await?;
    copied?;
    let synced = async { tokio::fs::File::open(path).await?.sync_all().await };
    synced.await.map_err(unmade)
}

/// What is in the file at one moment. It is not written to, nor brought up to date.
pub(crate) async fn snapshot(path: &Path) -> Result<Transaction<'static, Sqlite>, StoreError> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
    let pool = pool(1).connect_with(options).await.map_err(|error| opening_error(error, path))?;
    check_file(&pool, path).await?;
    Ok(pool.begin().await?)
}

/// Writes the database at `path` into a new file. What is at `path` stays as it is.
pub(crate) async fn copy_file(path: &Path, copy: &Path) -> Result<(), StoreError> {
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT);
    let original = pool(1).connect_with(options).await.map_err(|error| opening_error(error, path))?;
    let copied = copy_to(&original, copy).await;
    original.close().await;
    copied
}

/// Removes a copy, and what SQLite keeps beside it. What stays is a waste of room and nothing worse.
pub(crate) async fn remove(copy: &Path) {
    for end in ["", "-wal", "-shm"] {
        let mut name = copy.as_os_str().to_owned();
        name.push(end);
        let _ = tokio::fs::remove_file(name).await;
    }
}

/// A transaction that may write. The write lock is taken at once: one that begins by reading would fail, not wait, if
/// another process wrote in between.
pub(crate) async fn write(pool: &SqlitePool) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    pool.begin_with("BEGIN IMMEDIATE").await
}

/// Whether anything has changed.
#[derive(Debug)]
pub(crate) struct Changes {
    connection: SqliteConnection,
    seen: i64,
}

impl Changes {
    pub(crate) async fn of(pool: &SqlitePool) -> Result<Self, StoreError> {
        let mut connection = SqliteConnection::connect_with(&pool.connect_options()).await?;
        let seen = data_version(&mut connection).await?;
        Ok(Self { connection, seen })
    }

    pub(crate) async fn any(&mut self) -> Result<bool, StoreError> {
        let now = data_version(&mut self.connection).await?;
        Ok(std::mem::replace(&mut self.seen, now) != now)
    }
}

/// Counts what other connections have committed (SQLite, PRAGMA data_version).
async fn data_version(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await?)
}

/// What SQLite means by an error; nothing for those of others.
pub(crate) fn kind(error: &sqlx::Error) -> Option<Kind> {
    match result_code(error)? {
        SQLITE_BUSY => Some(Kind::Busy),
        SQLITE_FULL => Some(Kind::DiskFull),
        _ => None,
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(TURN_TIMEOUT)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
}

/// After some errors (a full disk, failed I/O, no memory) SQLite rolls back by itself. sqlx's own rollback then fails,
/// and its connection counts as in a transaction for ever: none can be begun on it. Such a one is closed and opened
/// anew.
///
/// Asked before a turn, not after: the rollback of a dropped transaction is queued, and sqlx waits for it only after
/// its `after_release`. Not for a database in memory, which would end with its connection.
fn replaced_when_stuck(pool: SqlitePoolOptions) -> SqlitePoolOptions {
    pool.before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
}

/// The file holds private host keys. SQLite gives its journals the same permissions.
async fn make_private(path: &Path) -> std::io::Result<()> {
    let file = tokio::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .await?;
    if file.metadata().await?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(PermissionsExt::from_mode(0o600)).await?;
    }
    Ok(())
}

/// Refuses what is damaged, and what belongs to another program, before anything is written.
async fn check_file(writer: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    let opening = |error| opening_error(error, path);
    let verdict: String =
        sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(writer).await.map_err(opening)?;
    if verdict != "ok" {
        return Err(StoreError::Damaged { path: path.to_owned() });
    }
    let (tables, ours): (i64, i64) = sqlx::query_as(
        "SELECT COUNT(*), COUNT(*) FILTER (WHERE name = '_sqlx_migrations') FROM sqlite_master",
    )
    .fetch_one(writer)
    .await
    .map_err(opening)?;
    if tables > 0 && ours == 0 {
        return Err(StoreError::Foreign { database: path.display().to_string() });
    }
    Ok(())
}

fn opening_error(error: sqlx::Error, path: &Path) -> StoreError {
    match result_code(&error) {
        Some(SQLITE_CORRUPT | SQLITE_NOTADB) => StoreError::Damaged { path: path.to_owned() },
        _ => error.into(),
    }
}

/// SQLite's primary result code.
fn result_code(error: &sqlx::Error) -> Option<i32> {
    let error = error.as_database_error()?.try_downcast_ref::<SqliteError>()?;
    let extended: i32 = error.code()?.parse().ok()?;
    Some(extended & 0xff)
}
