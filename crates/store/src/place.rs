//! Where a database is, and all that is in one copied to another.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use berth_model::TeamName;
use sqlx::{
    AssertSqlSafe, Column as _, FromRow, Row as _, TypeInfo as _, postgres::PgRow, sqlite::SqliteRow,
};

use crate::{
    Server, Store, StoreError,
    database::schema_version,
    postgres,
    sql::{self, Builder, On, Tx, Value},
    sqlite,
};

/// Every table and its key, each after those that it refers to. A test compares them with what the migrations make.
pub(crate) const TABLES: [(&str, &str); 20] = [
    ("names", "name"),
    ("teams", "name"),
    ("accounts", "name"),
    ("id_counters", "name"),
    ("keys", "id"),
    ("vms", "id"),
    ("passwords", "account"),
    ("login_sessions", "id"),
    ("links", "id"),
    ("audit", "id"),
    ("tokens", "id"),
    ("passkeys", "id"),
    ("oidc_identities", "id"),
    ("port_access", "vm, port"),
    ("user_ca", "id"),
    ("host_cas", "id"),
    ("shares", "vm, account"),
    ("team_cas", "id"),
    ("team_krls", "team"),
    ("guest_uids", "account"),
];
/// In these the migrations write something.
const BEGUN_WITH: [&str; 4] = ["names", "teams", "accounts", "id_counters"];
/// So many rows are read at once.
const PAGE: i64 = 500;
/// So many values one statement can take in both databases.
const MOST_VALUES: usize = 8000;

/// Where a database is.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file of SQLite's.
    File(PathBuf),
    /// A database on a PostgreSQL server.
    Server(Server),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(server) => server.fmt(f),
        }
    }
}

impl Place {
    /// Opens it.
    ///
    /// # Errors
    /// As [`Store::open`] and [`Store::connect`].
    pub async fn open(&self, default_team: &TeamName) -> Result<Store, StoreError> {
        match self {
            Self::File(path) => Store::open(path, default_team).await,
            Self::Server(server) => Store::connect(server, default_team).await,
        }
    }

    /// Brings a database up to date and takes that back, to see whether it can be done: what is there stays as it is. Of a file
    /// a copy is made for that at `copy`, and deleted.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub async fn rehearse(&self, copy: &Path, default_team: &TeamName) -> Result<(), StoreError> {
        match self {
            Self::File(path) => Store::rehearse(path, copy, default_team).await,
            Self::Server(server) => postgres::rehearse(server).await,
        }
    }

    /// Copies all that is in the database here, as it is at one moment, to another place, where there is nothing yet: no
    /// file, or a database without tables, or one of Berth's that was never used. Then compares every row with what it
    /// was, and only if all are the same is anything there. What is here stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Older`] where this program has not brought the one here up to date; [`StoreError::NotEmpty`],
    /// [`StoreError::File`] and [`StoreError::Foreign`] where there is something already; [`StoreError::Differs`]; those
    /// of opening both.
    pub async fn copy_to(&self, to: &Self) -> Result<Copied, StoreError> {
        let mut from = self.snapshot().await?;
        match to {
            Self::File(path) => {
                sqlite::make_new(path).await?;
                let copied = copy_to_file(&mut from, path).await;
                if copied.is_err() {
                    sqlite::remove(path).await;
                }
                copied
            }
            Self::Server(server) => {
                let target = Store::unprepared_on(server).await?;
                let copied = copy(&mut from, &target, to).await;
                target.close().await;
                copied
            }
        }
    }

    /// What is here at one moment.
    async fn snapshot(&self) -> Result<Tx, StoreError> {
        let database = self.to_string();
        let mut tx = match self {
            Self::File(path) => Tx::Sqlite(sqlite::snapshot(path).await?),
            Self::Server(server) => Tx::Postgres(postgres::snapshot_on(server).await?),
        };
        let version: Option<i64> =
            sql::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(&mut tx).await?;
        match version {
            Some(version) if version == schema_version() => Ok(tx),
            Some(version) if version > schema_version() => Err(StoreError::Newer { database }),
            _ => Err(StoreError::Older { database }),
        }
    }
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Tables, and how many rows are in each.
    pub tables: Vec<(&'static str, u64)>,
}

impl Copied {
    /// How many rows there are in all.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|(_, rows)| rows).sum()
    }
}

/// Copies all that a transaction sees into an empty file.
pub(crate) async fn copy_to_file(from: &mut Tx, path: &Path) -> Result<Copied, StoreError> {
    let target = Store::unprepared_in(path).await?;
    let copied = copy(from, &target, &Place::File(path.to_owned())).await;
    // With its last connection the journal goes into the file.
    target.close().await;
    let synced = async { tokio::fs::File::open(path).await?.sync_all().await };
    synced.await.map_err(|source| StoreError::File { path: path.to_owned(), source })?;
    copied
}

async fn copy(from: &mut Tx, target: &Store, place: &Place) -> Result<Copied, StoreError> {
    let mut to = target.write().await?;
    refuse_used(&mut to, place).await?;
    for (table, _) in TABLES.iter().rev() {
        sql::query(AssertSqlSafe(format!("DELETE FROM {table}"))).execute(&mut to).await?;
    }
    for (table, key) in TABLES {
        let mut after = None;
        loop {
            let rows = page(from, table, key, after.as_ref()).await?;
            let Some(last) = rows.last().cloned() else { break };
            insert(&mut to, table, &rows).await?;
            after = Some(last);
        }
    }
    let mut copied = Copied { tables: vec![] };
    for (table, key) in TABLES {
        copied.tables.push((table, compare(from, &mut to, table, key).await?));
    }
    to.commit().await?;
    Ok(copied)
}

async fn refuse_used(to: &mut Tx, place: &Place) -> Result<(), StoreError> {
    let not_empty = || StoreError::NotEmpty { database: place.to_string() };
    for (table, _) in TABLES.iter().filter(|(table, _)| !BEGUN_WITH.contains(table)) {
        let used = sql::query(AssertSqlSafe(format!("SELECT 1 FROM {table} LIMIT 1")));
        if used.fetch_optional(&mut *to).await?.is_some() {
            return Err(not_empty());
        }
    }
    match sql::query("SELECT 1 FROM accounts WHERE name <> 'shared'").fetch_optional(&mut *to).await? {
        Some(()) => Err(not_empty()),
        None => Ok(()),
    }
}

/// How many rows there are, where they are the same on both sides.
async fn compare(
    from: &mut Tx,
    to: &mut Tx,
    table: &'static str,
    key: &'static str,
) -> Result<u64, StoreError> {
    let (mut after, mut count) = (None, 0);
    loop {
        let rows = page(from, table, key, after.as_ref()).await?;
        if rows != page(to, table, key, after.as_ref()).await? {
            return Err(StoreError::Differs { table });
        }
        let Some(last) = rows.last() else { return Ok(count) };
        count += rows.len() as u64;
        after = Some(last.clone());
    }
}

/// The first rows after this one, in the order of the key.
async fn page(
    tx: &mut Tx,
    table: &'static str,
    key: &'static str,
    after: Option<&Row>,
) -> Result<Vec<Row>, StoreError> {
    let mut sql = Builder::new("SELECT * FROM ");
    sql.push(table);
    if let Some(after) = after {
        let values = key.split(", ").filter_map(|column| after.get(column));
        sql.push(" WHERE (").push(key).push(") > (").push_list(values.cloned()).push(")");
    }
    sql.push(" ORDER BY ").push(key).push(" LIMIT ").push_bind(PAGE);
    Ok(sql.build().fetch_all(On::from(tx)).await?)
}

async fn insert(tx: &mut Tx, table: &'static str, rows: &[Row]) -> Result<(), StoreError> {
    let Some(first) = rows.first() else { return Ok(()) };
    let names: Vec<&str> = first.0.iter().map(|(name, _)| name.as_str()).collect();
    for rows in rows.chunks((MOST_VALUES / names.len().max(1)).max(1)) {
        let mut count = 0;
        let row = |row: &Row| {
            let marks = row.0.iter().map(|_| {
                count += 1;
                format!("${count}")
            });
            format!("({})", marks.collect::<Vec<_>>().join(", "))
        };
        let marks = rows.iter().map(row).collect::<Vec<_>>().join(", ");
        let sql = format!("INSERT INTO {table} ({}) VALUES {marks}", names.join(", "));
        let values = rows.iter().flat_map(|row| row.0.iter().map(|(_, value)| value.clone()));
        values.fold(sql::query(AssertSqlSafe(sql)), sql::Query::bind).execute(&mut *tx).await?;
    }
    Ok(())
}

/// A row of any table: its columns in the order of their names, which is the same everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row(Vec<(String, Value)>);

impl Row {
    fn get(&self, column: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == column).map(|(_, value)| value)
    }
}

/// Reads a column as what it was declared to be.
macro_rules! read_rows {
    ($($row:ty),*) => {
        $(impl<'r> FromRow<'r, $row> for Row {
            fn from_row(row: &'r $row) -> Result<Self, sqlx::Error> {
                let mut columns = vec![];
                for column in row.columns() {
                    let value = match column.type_info().name() {
                        "TEXT" => row.try_get::<Option<String>, _>(column.ordinal())?.into(),
                        _ => row.try_get::<Option<i64>, _>(column.ordinal())?.into(),
                    };
                    columns.push((column.name().to_owned(), value));
                }
                columns.sort_by(|(one, _), (other, _): &(String, Value)| one.cmp(other));
                Ok(Self(columns))
            }
        })*
    };
}
read_rows!(SqliteRow, PgRow);
