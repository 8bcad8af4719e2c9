//! All that is PostgreSQL's own: the way to the server, transactions that write, error codes.
//!
//! One connection of each process writes, as in SQLite, and of all processes' one at a time: a transaction that writes
//! begins by taking a lock of its own ([`WRITES`]), so that what is counted or looked up in it stays so until it ends.
//! Without that lock the database would let two such transactions look at the same rows and both go on.

mod server;

use std::{io, time::Duration};

use sqlx::{
    Connection as _, PgConnection, PgPool, Postgres, Transaction,
    migrate::Migrator,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgDatabaseError, PgPoolOptions},
};
use tokio::time::timeout;

pub use self::server::{Server, ServerError};
use crate::{
    StoreError,
    database::{Kind, migration_error, schema_version},
    sql::{self, Pool},
};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("./migrations-postgres");

/// The advisory lock of whoever writes.
const WRITES: i64 = 0x6265_7274_6800;

/// So long a change waits for its turn, or for a server that is being started anew.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// So long who only reads does. A log-in reads more than once, and is to be told within its grace that it cannot be.
const READ_TIMEOUT: Duration = Duration::from_secs(3);
/// So long a server may take for an answer. It gives up by itself before (see [`SESSION`]), if it is alive.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// So long may a connection take to be as good as new after use.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
const READERS: u32 = 8;

/// What holds in every session. Transactions of a client that is gone do not keep others waiting, and what is committed is on
/// disk, whatever the server's own settings are.
const SESSION: [(&str, &str); 6] = [
    // What is counted when it is one's turn is what there is then.
    ("default_transaction_isolation", "read committed"),
    ("lock_timeout", "5s"),
    ("statement_timeout", "12s"),
    ("idle_in_transaction_session_timeout", "30s"),
    ("synchronous_commit", "on"),
    ("client_min_messages", "error"),
];
/// What bringing a database up to date may take.
const MIGRATING: [(&str, &str); 2] = [("lock_timeout", "30s"), ("statement_timeout", "0")];

/// Opens the database and brings it up to date: the one connection that writes, and those that read.
pub(crate) async fn open(server: &Server) -> Result<(PgPool, PgPool), StoreError> {
    let mut connection = connect(server).await?;
    check(&mut connection, server).await?;
    let migrated = MIGRATIONS.run(&mut connection).await;
    migrated.map_err(|error| migration_error(error, server.to_string(), |error| unopened(error, server)))?;
    // Nothing depends on a farewell.
    let _ = timeout(RELEASE_TIMEOUT, connection.close()).await;
    let options = server.options().clone().options(SESSION);
    let writer = pool(1, TURN_TIMEOUT).connect_lazy_with(options.clone());
    let reader = pool(READERS, READ_TIMEOUT)
        .connect_lazy_with(options.options([("default_transaction_read_only", "on")]));
    Ok((writer, reader))
}

/// Brings the database up to date in a transaction that is taken back.
pub(crate) async fn rehearse(server: &Server) -> Result<(), StoreError> {
    let mut connection = connect(server).await?;
    let mut applied: Vec<(i64, Vec<u8>)> = vec![];
    if check(&mut connection, server).await? {
        let query = sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations");
        applied = query.fetch_all(&mut connection).await.map_err(|error| unopened(error, server))?;
    }
    for (version, checksum) in &applied {
        let known = MIGRATIONS.iter().find(|migration| migration.version == *version);
        if known.is_none_or(|migration| *migration.checksum != **checksum) {
            let database = server.to_string();
            return Err(match *version > schema_version() {
                true => StoreError::Newer { database },
                false => StoreError::Foreign { database },
            });
        }
    }
    let mut tx = connection.begin().await?;
    for migration in MIGRATIONS.iter() {
        if applied.iter().all(|(version, _)| *version != migration.version) {
            let run = sqlx::raw_sql(migration.sql.clone()).execute(&mut *tx).await;
            run.map_err(|error| unopened(error, server))?;
        }
    }
    Ok(tx.rollback().await?)
}

/// What is in the database at one moment. It is not brought up to date.
pub(crate) async fn snapshot_on(server: &Server) -> Result<Transaction<'static, Postgres>, StoreError> {
    let mut connection = connect(server).await?;
    if !check(&mut connection, server).await? {
        return Err(StoreError::Foreign { database: server.to_string() });
    }
    Ok(snapshot(server.options().clone().options(SESSION)).await?)
}

/// What is in the database at one moment, by a connection of its own.
pub(crate) async fn snapshot(
    options: PgConnectOptions,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool(1, TURN_TIMEOUT).connect_lazy_with(options);
    let begun = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    answered(begun).await.map_err(|error| turn(error, &pool))
}

/// A connection that may take its time, to look at the database and to change its tables.
async fn connect(server: &Server) -> Result<PgConnection, StoreError> {
    let options = server.options().clone().options(SESSION).options(MIGRATING);
    let connected = answered(PgConnection::connect_with(&options)).await;
    connected.map_err(|error| unopened(error, server))
}

/// Refuses what belongs to another program or is too old, before anything is written; whether Berth has been here.
async fn check(connection: &mut PgConnection, server: &Server) -> Result<bool, StoreError> {
    let unfit = |why| Err(StoreError::Unfit { database: server.to_string(), why });
    let (version, encoding, schema, tables, ours): (i32, String, Option<String>, i64, i64) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int4, current_setting('server_encoding'), current_schema()::text,
                COUNT(tablename), COUNT(tablename) FILTER (WHERE tablename = '_sqlx_migrations')
         FROM (SELECT tablename FROM pg_tables WHERE schemaname = current_schema()) AS tables",
    )
    .fetch_one(connection)
    .await
    .map_err(|error| unopened(error, server))?;
    if version < 130_000 {
        return unfit("its PostgreSQL is older than 13.");
    }
    if encoding != "UTF8" {
        return unfit("its encoding is not UTF8. Create one WITH ENCODING 'UTF8' TEMPLATE template0.");
    }
    if schema.is_none() {
        return unfit("its user has no schema in it. GRANT USAGE, CREATE ON SCHEMA public to that user.");
    }
    if tables > 0 && ours == 0 {
        return Err(StoreError::Foreign { database: server.to_string() });
    }
    Ok(ours > 0)
}

fn unopened(error: sqlx::Error, server: &Server) -> StoreError {
    StoreError::Server { database: server.to_string(), error }
}

fn pool(connections: u32, wait: Duration) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(wait)
        // One that the server has closed, or that a dead machine was at the end of, is replaced before it is used.
        .test_before_acquire(true)
        .after_release(|connection, _| {
            Box::pin(async move { timely(RELEASE_TIMEOUT, connection.ping()).await.map(|()| true) })
        })
}

/// A connection to read with.
pub(crate) async fn acquire(pool: &PgPool) -> Result<PoolConnection<Postgres>, sqlx::Error> {
    pool.acquire().await.map_err(|error| turn(error, pool))
}

/// A transaction that may write: the only one of all processes'.
pub(crate) async fn write(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut tx = answered(pool.begin()).await.map_err(|error| turn(error, pool))?;
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(WRITES);
    answered(lock.execute(&mut *tx)).await?;
    Ok(tx)
}

/// Who waited in vain where there is no connection at all has waited for a server that is away.
fn turn(error: sqlx::Error, pool: &PgPool) -> sqlx::Error {
    match error {
        sqlx::Error::PoolTimedOut if pool.size() == 0 => sqlx::Error::Io(io::ErrorKind::TimedOut.into()),
        error => error,
    }
}

/// What a server answers, or that it does not. What is dropped by that is put in order, or closed, before it is used again.
pub(crate) async fn answered<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timely(ANSWER_TIMEOUT, answer).await
}

async fn timely<T>(
    within: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(within, answer).await.unwrap_or_else(|_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))
}

/// Bytes of the whole database, others' tables in it included.
pub(crate) async fn size(reader: &Pool) -> Result<i64, StoreError> {
    Ok(sql::query_scalar("SELECT pg_database_size(current_database())").fetch_one(reader).await?)
}

/// Whether anything may have changed.
#[derive(Debug)]
pub(crate) struct Changes {
    reader: Pool,
    seen: String,
}

impl Changes {
    pub(crate) async fn of(reader: &Pool) -> Result<Self, StoreError> {
        Ok(Self { reader: reader.clone(), seen: visible(reader).await? })
    }

    pub(crate) async fn any(&mut self) -> Result<bool, StoreError> {
        match visible(&self.reader).await {
            Ok(now) => Ok(std::mem::replace(&mut self.seen, now) != self.seen),
            Err(StoreError::Away(_) | StoreError::Busy) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Which transactions can be seen, of all on the server: another one after every change, and now and then without one.
async fn visible(reader: &Pool) -> Result<String, StoreError> {
    Ok(sql::query_scalar("SELECT CAST(pg_current_snapshot() AS TEXT)").fetch_one(reader).await?)
}

/// What PostgreSQL means by an error (Appendix A of its manual); nothing for those of others.
pub(crate) fn kind(error: &sqlx::Error) -> Option<Kind> {
    let error = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    match error.code() {
        // deadlock_detected, serialization_failure, lock_not_available, query_canceled
        "40P01" | "40001" | "55P03" | "57014" => Some(Kind::Busy),
        // disk_full
        "53100" => Some(Kind::DiskFull),
        // too_many_connections, connection_exception, operator_intervention, idle_in_transaction_session_timeout
        "53300" | "25P03" => Some(Kind::Away),
        code if code.starts_with("08") || code.starts_with("57P") => Some(Kind::Away),
        _ => None,
    }
}
