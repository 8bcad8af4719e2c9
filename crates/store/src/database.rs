//! The database itself: opened, copied, asked what it is; which of the two it is is decided here.

use std::path::Path;

use berth_model::TeamName;
use sqlx::migrate::MigrateError;

use crate::{
    Server, StoreError, place, postgres,
    sql::{Pool, Tx},
    sqlite,
};

/// The database. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Store {
    writer: Pool,
    reader: Pool,
}

impl Store {
    /// Opens the SQLite database at `path`, makes it or brings it up to date, and ensures that `default_team` exists.
    ///
    /// The file is readable by its owner only, from before anything is in it; its folder must exist.
    ///
    /// # Errors
    /// [`StoreError::File`], [`StoreError::Damaged`], [`StoreError::Newer`] and [`StoreError::Foreign`] where the file
    /// cannot be used, which leave it as it was; [`StoreError::TeamNameTaken`].
    pub async fn open(path: &Path, default_team: &TeamName) -> Result<Self, StoreError> {
        Self::unprepared_in(path).await?.with(default_team).await
    }

    /// Opens the PostgreSQL database on `server`, which must exist, brings it up to date, and ensures that `default_team`
    /// exists. Once it is open, a server that goes away and comes back is found again.
    ///
    /// # Errors
    /// [`StoreError::Server`], [`StoreError::Newer`] and [`StoreError::Foreign`] where the database cannot be used, which
    /// leave it as it was; [`StoreError::TeamNameTaken`].
    pub async fn connect(server: &Server, default_team: &TeamName) -> Result<Self, StoreError> {
        Self::unprepared_on(server).await?.with(default_team).await
    }

    /// A database in memory that ends with its last clone. For tests.
    ///
    /// # Errors
    /// [`StoreError::Database`] where SQLite does not start.
    pub async fn in_memory(default_team: &TeamName) -> Result<Self, StoreError> {
        let only = Pool::Sqlite(sqlite::in_memory().await?);
        Self { writer: only.clone(), reader: only }.with(default_team).await
    }

    /// As [`Store::open`], without a team.
    pub(crate) async fn unprepared_in(path: &Path) -> Result<Self, StoreError> {
        let (writer, reader) = Box::pin(sqlite::open(path)).await?;
        Ok(Self { writer: Pool::Sqlite(writer), reader: Pool::Sqlite(reader) })
    }

    /// As [`Store::connect`], without a team.
    pub(crate) async fn unprepared_on(server: &Server) -> Result<Self, StoreError> {
        let (writer, reader) = Box::pin(postgres::open(server)).await?;
        Ok(Self { writer: Pool::Postgres(writer), reader: Pool::Postgres(reader) })
    }

    async fn with(self, default_team: &TeamName) -> Result<Self, StoreError> {
        self.ensure_team(default_team).await?;
        Ok(self)
    }

    /// Waits for calls under way and ends the connections. Later calls fail.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// How many bytes the database takes, its journal aside.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn size(&self) -> Result<u64, StoreError> {
        let bytes = match &self.reader {
            Pool::Sqlite(pool) => sqlite::size(pool).await?,
            Pool::Postgres(_) => postgres::size(&self.reader).await?,
        };
        Ok(bytes.unsigned_abs())
    }

    /// Writes the database as it is at one moment, whole, into a new SQLite file that only its owner may read. Whoever
    /// writes meanwhile waits for nothing. Not for one in memory. A file that an error or a crash leaves is no database to
    /// be used.
    ///
    /// # Errors
    /// [`StoreError::File`] where there is a file already or none can be made; [`StoreError::DiskFull`].
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        match &self.writer {
            Pool::Sqlite(pool) => Box::pin(sqlite::copy_to(pool, path)).await,
            Pool::Postgres(pool) => {
                sqlite::make_new(path).await?;
                let mut from = Tx::Postgres(
                    Box::pin(postgres::snapshot(pool.connect_options().as_ref().clone())).await?,
                );
                Box::pin(place::copy_to_file(&mut from, path)).await.map(drop)
            }
        }
    }

    /// What tells of every change from now on, also of those that other processes make. Not for a database in memory.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn changes(&self) -> Result<Changes, StoreError> {
        Ok(Changes(match &self.writer {
            Pool::Sqlite(pool) => Watch::Sqlite(sqlite::Changes::of(pool).await?),
            Pool::Postgres(_) => Watch::Postgres(postgres::Changes::of(&self.reader).await?),
        }))
    }

    /// Brings a copy of the SQLite database at `path` up to date, to see whether that can be done: what is there stays as it
    /// is. The copy is made beside it, and deleted.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) async fn rehearse(
        path: &Path,
        copy: &Path,
        default_team: &TeamName,
    ) -> Result<(), StoreError> {
        let copied = sqlite::copy_file(path, copy).await;
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
        sqlite::remove(copy).await;
        done
    }

    /// A transaction that may write, and the only one: everybody else's begins when it has ended.
    pub(crate) async fn write(&self) -> Result<Tx, StoreError> {
        Ok(match &self.writer {
            Pool::Sqlite(pool) => Tx::Sqlite(Box::pin(sqlite::write(pool)).await?),
            Pool::Postgres(pool) => Tx::Postgres(Box::pin(postgres::write(pool)).await?),
        })
    }

    /// Where a single statement that only reads is run.
    pub(crate) fn reader(&self) -> &Pool {
        &self.reader
    }
}

/// Whether anything has changed in a database. See [`Store::changes`].
#[derive(Debug)]
pub struct Changes(Watch);

#[derive(Debug)]
enum Watch {
    Sqlite(sqlite::Changes),
    Postgres(postgres::Changes),
}

impl Changes {
    /// Whether anybody, in this process or another, may have changed anything since this was last asked. So it is, too,
    /// while a database server does not answer.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn any(&mut self) -> Result<bool, StoreError> {
        match &mut self.0 {
            Watch::Sqlite(changes) => changes.any().await,
            Watch::Postgres(changes) => changes.any().await,
        }
    }
}

/// The version of the schema that this program writes. It reads older ones, and none that is newer.
#[must_use]
pub fn schema_version() -> i64 {
    sqlite::MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// What is wrong with a database that cannot be brought up to date. `other` is for what the database itself reports.
pub(crate) fn migration_error(
    error: MigrateError,
    database: String,
    other: impl FnOnce(sqlx::Error) -> StoreError,
) -> StoreError {
    match error {
        MigrateError::VersionMissing(version) if version > schema_version() => StoreError::Newer { database },
        MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) => {
            StoreError::Foreign { database }
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => other(error),
        error => StoreError::Database(sqlx::Error::Migrate(Box::new(error))),
    }
}

/// What the database reports, where nothing more is known about it.
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut => Self::Busy,
            // SQLite's errors of the file system are its own.
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) => Self::Away(error),
            _ => match sqlite::kind(&error).or_else(|| postgres::kind(&error)) {
                Some(Kind::Busy) => Self::Busy,
                Some(Kind::DiskFull) => Self::DiskFull,
                Some(Kind::Away) => Self::Away(error),
                None => Self::Database(error),
            },
        }
    }
}

/// What a database's code for an error means, as far as something depends on that.
pub(crate) enum Kind {
    Busy,
    DiskFull,
    Away,
}
