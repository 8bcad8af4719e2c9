//! All that is SQLite's own: opening the file, pragmas, transactions that write, error codes.
//!
//! One connection writes, others read: SQLite has one writer at a time anyway, waiting in our queue is fair and costs
//! no thread, and with a write-ahead log a reader waits for nobody.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use berth_model::TeamName;
use sqlx::{
    Connection, Sqlite, SqliteConnection, SqlitePool, Transaction,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::StoreError;

static MIGRATIONS: Migrator = sqlx::migrate!();

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

/// The database. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Store {
    writer: SqlitePool,
    reader: SqlitePool,
}

impl Store {
    /// Opens the database at `path`, makes it or brings it up to date, and ensures that `default_team` exists.
    ///
    /// The file is readable by its owner only, from before anything is in it; its folder must exist.
    ///
    /// # Errors
    /// [`StoreError::File`], [`StoreError::Damaged`], [`StoreError::Newer`] and [`StoreError::Foreign`] where the file
    /// cannot be used, which leave it as it was; [`StoreError::TeamNameTaken`].
    pub async fn open(path: &Path, default_team: &TeamName) -> Result<Self, StoreError> {
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
        let store = Self { writer, reader };
        store.prepare(path, default_team).await?;
        Ok(store)
    }

    /// A database in memory that ends with its last clone. For tests.
    ///
    /// # Errors
    /// [`StoreError::Database`] where SQLite does not start.
    pub async fn in_memory(default_team: &TeamName) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new().in_memory(true).foreign_keys(true);
        // Every connection would have a database of its own.
        let only = pool(1).connect_with(options).await?;
        let store = Self { writer: only.clone(), reader: only };
        store.prepare(Path::new(":memory:"), default_team).await?;
        Ok(store)
    }

    /// Waits for calls under way and closes the file. Later calls fail.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// How many bytes the database takes, its journal aside.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn size(&self) -> Result<u64, StoreError> {
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&self.reader).await?;
        let size: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&self.reader).await?;
        Ok(pages.saturating_mul(size).unsigned_abs())
    }

    /// Writes the database as it is at one moment, whole, into a new file that only its owner may read. Whoever writes
    /// meanwhile waits for nothing. Not for one in memory. A file that an error or a crash leaves is no database to be used.
    ///
    /// # Errors
    /// [`StoreError::File`] where there is a file already or none can be made; [`StoreError::DiskFull`].
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let unmade = |source| StoreError::File { path: path.to_owned(), source };
        let made = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await;
        drop(made.map_err(unmade)?);
        let target = path.to_str().ok_or_else(|| unmade(std::io::ErrorKind::InvalidFilename.into()))?;
        // A connection of its own: the writer's would have everybody wait, and a reader's may not write, here neither.
        let options = self.writer.connect_options();
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let copied = sqlx::query("VACUUM INTO ?").bind(target).execute(&mut connection).await;
        connection.close().await?;
        copied?;
        let synced = async { tokio::fs::File::open(path).await?.sync_all().await };
        synced.await.map_err(unmade)
    }

    /// What tells of every change from now on, also of those that other processes make. Not for a database in memory.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn changes(&self) -> Result<Changes, StoreError> {
        let mut connection = SqliteConnection::connect_with(&self.writer.connect_options()).await?;
        let seen = data_version(&mut connection).await?;
        Ok(Changes { connection, seen })
    }

    /// Brings a copy of the database at `path` up to date, to see whether that can be done: what is there stays as it is. The
    /// copy is made beside it, and deleted.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn rehearse(path: &Path, copy: &Path, default_team: &TeamName) -> Result<(), StoreError> {
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT);
        let opening = |error| opening_error(error, path);
        let pool = pool(1).connect_with(options).await.map_err(opening)?;
        let original = Self { writer: pool.clone(), reader: pool };
        let copied = original.copy_to(copy).await;
        original.close().await;
        let opened = match copied {
            Ok(()) => Self::open(copy, default_team).await,
            Err(error) => Err(error),
        };
        let done = match opened {
            Ok(store) => {
                store.close().await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        for end in ["", "-wal", "-shm"] {
            let mut name = copy.as_os_str().to_owned();
            name.push(end);
            // What stays is a waste of room and nothing worse.
            let _ = tokio::fs::remove_file(name).await;
        }
        done
    }

    async fn prepare(&self, path: &Path, default_team: &TeamName) -> Result<(), StoreError> {
        MIGRATIONS.run(&self.writer).await.map_err(|error| migration_error(error, path))?;
        self.ensure_team(default_team).await
    }

    /// A transaction that may write. The write lock is taken at once: one that begins by reading would fail, not wait,
    /// if another process wrote in between.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Where a single statement that only reads is run.
    pub(crate) fn reader(&self) -> &SqlitePool {
        &self.reader
    }
}

/// Whether anything has changed in a database. See [`Store::changes`].
#[derive(Debug)]
pub struct Changes {
    connection: SqliteConnection,
    seen: i64,
}

impl Changes {
    /// Whether anybody, in this process or another, has changed anything since this was last asked.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn any(&mut self) -> Result<bool, StoreError> {
        let now = data_version(&mut self.connection).await?;
        Ok(std::mem::replace(&mut self.seen, now) != now)
    }
}

/// Counts what other connections have committed (SQLite, PRAGMA data_version).
async fn data_version(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await?)
}

/// The version of the schema that this program writes. It reads older ones, and none that is newer.
#[must_use]
pub fn schema_version() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// What the database reports, where nothing more is known about it.
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match (&error, result_code(&error)) {
            (sqlx::Error::PoolTimedOut, _) | (_, Some(SQLITE_BUSY)) => Self::Busy,
            (_, Some(SQLITE_FULL)) => Self::DiskFull,
            _ => Self::Database(error),
        }
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
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    Ok(())
}

fn opening_error(error: sqlx::Error, path: &Path) -> StoreError {
    match result_code(&error) {
        Some(SQLITE_CORRUPT | SQLITE_NOTADB) => StoreError::Damaged { path: path.to_owned() },
        _ => error.into(),
    }
}

fn migration_error(error: MigrateError, path: &Path) -> StoreError {
    let path: PathBuf = path.to_owned();
    match error {
        MigrateError::VersionMissing(version) if version > schema_version() => StoreError::Newer { path },
        MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) => StoreError::Foreign { path },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            opening_error(error, &path)
        }
        error => StoreError::Database(sqlx::Error::Migrate(Box::new(error))),
    }
}

/// SQLite's primary result code.
fn result_code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}
