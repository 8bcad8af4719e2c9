//! The seam between the two databases: one text of each statement, what is bound to it, and what runs it.
//!
//! A statement says `$1`, `$2` and so on, which both databases take. A column is a whole number or a text, and nothing
//! else, so what is bound is one of the two; rows are read by `sqlx::FromRow`, whose derived implementations are of every
//! database. Which database it is, is decided where a statement is run, and nowhere before.

use std::{convert::identity, marker::PhantomData};

use sqlx::{
    Arguments, AssertSqlSafe, Encode, FromRow, PgConnection, PgPool, Postgres, SqlSafeStr, SqlStr, Sqlite,
    SqliteConnection, SqlitePool, Transaction, Type,
    postgres::{PgArguments, PgQueryResult, PgRow},
    sqlite::{SqliteArguments, SqliteQueryResult, SqliteRow},
};

use crate::postgres::{self, answered};

/// Connections of one kind.
#[derive(Clone, Debug)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    /// Waits for what is under way. Later calls fail.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// A transaction that may write. Dropped, it has changed nothing.
pub(crate) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Tx {
    /// Has all of it be on disk.
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx) => Box::pin(tx.commit()).await,
            Self::Postgres(tx) => Box::pin(answered(tx.commit())).await,
        }
    }
}

/// What a statement is run on.
pub(crate) enum On<'a> {
    SqlitePool(&'a SqlitePool),
    Sqlite(&'a mut SqliteConnection),
    PostgresPool(&'a PgPool),
    Postgres(&'a mut PgConnection),
}

impl<'a> From<&'a Pool> for On<'a> {
    fn from(pool: &'a Pool) -> Self {
        match pool {
            Pool::Sqlite(pool) => Self::SqlitePool(pool),
            Pool::Postgres(pool) => Self::PostgresPool(pool),
        }
    }
}

impl<'a> From<&'a mut Tx> for On<'a> {
    fn from(tx: &'a mut Tx) -> Self {
        match tx {
            Tx::Sqlite(tx) => Self::Sqlite(tx),
            Tx::Postgres(tx) => Self::Postgres(tx),
        }
    }
}

/// What stands in a column, and can be bound to a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Integer(Option<i64>),
    Text(Option<String>),
}

/// PostgreSQL has no texts with a NUL in them. So that no stranger's can make a change fail, neither do we.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Integer(number)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(without_nul(text)))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text.map(without_nul))
    }
}

impl From<&Option<String>> for Value {
    fn from(text: &Option<String>) -> Self {
        text.clone().into()
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        text.map(str::to_owned).into()
    }
}

/// What a row of either database can be read as.
pub(crate) trait Record:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T> Record for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// A statement whose rows, if it has any, nobody reads.
pub(crate) struct Query {
    sql: SqlStr,
    values: Vec<Value>,
}

/// A statement whose rows are read.
pub(crate) struct QueryAs<T> {
    query: Query,
    row: PhantomData<fn() -> T>,
}

/// A statement whose rows have one column.
pub(crate) struct QueryScalar<T>(QueryAs<(T,)>);

pub(crate) fn query(sql: impl SqlSafeStr) -> Query {
    Query { sql: sql.into_sql_str(), values: vec![] }
}

pub(crate) fn query_as<T: Record>(sql: impl SqlSafeStr) -> QueryAs<T> {
    QueryAs { query: query(sql), row: PhantomData }
}

pub(crate) fn query_scalar<T>(sql: impl SqlSafeStr) -> QueryScalar<T>
where
    (T,): Record,
{
    QueryScalar(query_as(sql))
}

/// Runs a statement on whichever database it is: `run!(query, on, function of sqlx, method of what that makes, what becomes of
/// its answer)`.
macro_rules! run {
    ($query:expr, $on:expr, $make:ident, $method:ident, $answer:expr) => {{
        let Query { sql, values } = $query;
        // In boxes: who calls would have room for each of them on its stack, and so would who calls that.
        match $on.into() {
            On::SqlitePool(pool) => {
                let made = sqlx::$make(sql, arguments::<SqliteArguments>(values)?);
                Box::pin(made.$method(pool)).await.map($answer)
            }
            On::Sqlite(one) => {
                let made = sqlx::$make(sql, arguments::<SqliteArguments>(values)?);
                Box::pin(made.$method(one)).await.map($answer)
            }
            On::PostgresPool(pool) => {
                let mut one = Box::pin(postgres::acquire(pool)).await?;
                let made = sqlx::$make(sql, arguments::<PgArguments>(values)?);
                Box::pin(answered(made.$method(&mut *one))).await.map($answer)
            }
            On::Postgres(one) => {
                let made = sqlx::$make(sql, arguments::<PgArguments>(values)?);
                Box::pin(answered(made.$method(one))).await.map($answer)
            }
        }
    }};
}

fn arguments<A: Arguments>(values: Vec<Value>) -> Result<A, sqlx::Error>
where
    Option<i64>: Encode<'static, A::Database> + Type<A::Database>,
    Option<String>: Encode<'static, A::Database> + Type<A::Database>,
{
    let mut arguments = A::default();
    for value in values {
        match value {
            Value::Integer(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// What came of a statement.
#[derive(Debug)]
pub(crate) struct Done(u64);

impl Done {
    pub(crate) fn rows_affected(&self) -> u64 {
        self.0
    }
}

impl From<SqliteQueryResult> for Done {
    fn from(done: SqliteQueryResult) -> Self {
        Self(done.rows_affected())
    }
}

impl From<PgQueryResult> for Done {
    fn from(done: PgQueryResult) -> Self {
        Self(done.rows_affected())
    }
}

impl Query {
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    pub(crate) async fn execute(self, on: impl Into<On<'_>>) -> Result<Done, sqlx::Error> {
        run!(self, on, query_with, execute, Done::from)
    }

    /// Whether there is a row.
    pub(crate) async fn fetch_optional(self, on: impl Into<On<'_>>) -> Result<Option<()>, sqlx::Error> {
        QueryAs { query: self, row: PhantomData }.fetch_optional(on).await
    }
}

impl<T: Record> QueryAs<T> {
    pub(crate) fn bind(self, value: impl Into<Value>) -> Self {
        Self { query: self.query.bind(value), ..self }
    }

    pub(crate) async fn fetch_all(self, on: impl Into<On<'_>>) -> Result<Vec<T>, sqlx::Error> {
        run!(self.query, on, query_as_with, fetch_all, identity)
    }

    pub(crate) async fn fetch_optional(self, on: impl Into<On<'_>>) -> Result<Option<T>, sqlx::Error> {
        run!(self.query, on, query_as_with, fetch_optional, identity)
    }

    pub(crate) async fn fetch_one(self, on: impl Into<On<'_>>) -> Result<T, sqlx::Error> {
        run!(self.query, on, query_as_with, fetch_one, identity)
    }
}

impl<T> QueryScalar<T>
where
    (T,): Record,
{
    pub(crate) fn bind(self, value: impl Into<Value>) -> Self {
        Self(self.0.bind(value))
    }

    pub(crate) async fn fetch_all(self, on: impl Into<On<'_>>) -> Result<Vec<T>, sqlx::Error> {
        Ok(self.0.fetch_all(on).await?.into_iter().map(|(value,)| value).collect())
    }

    pub(crate) async fn fetch_optional(self, on: impl Into<On<'_>>) -> Result<Option<T>, sqlx::Error> {
        Ok(self.0.fetch_optional(on).await?.map(|(value,)| value))
    }

    pub(crate) async fn fetch_one(self, on: impl Into<On<'_>>) -> Result<T, sqlx::Error> {
        Ok(self.0.fetch_one(on).await?.0)
    }
}

/// A statement that is put together from parts. What is no constant is bound.
pub(crate) struct Builder {
    sql: String,
    values: Vec<Value>,
}

impl Builder {
    pub(crate) fn new(sql: &'static str) -> Self {
        Self { sql: sql.to_owned(), values: vec![] }
    }

    pub(crate) fn push(&mut self, sql: &'static str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    pub(crate) fn push_bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.sql.push('$');
        self.sql.push_str(&self.values.len().to_string());
        self
    }

    /// That what is before it is this. `IS NOT DISTINCT FROM`, which says the same, finds nothing by an index of PostgreSQL's.
    pub(crate) fn push_is(&mut self, value: Option<impl Into<Value>>) -> &mut Self {
        match value {
            Some(value) => self.push(" = ").push_bind(value),
            None => self.push(" IS NULL"),
        }
    }

    /// These with commas between them.
    pub(crate) fn push_list<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) -> &mut Self {
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                self.push(", ");
            }
            self.push_bind(value);
        }
        self
    }

    /// One whose rows nobody reads.
    pub(crate) fn statement(self) -> Query {
        Query { sql: AssertSqlSafe(self.sql).into_sql_str(), values: self.values }
    }

    pub(crate) fn build<T: Record>(self) -> QueryAs<T> {
        QueryAs { query: self.statement(), row: PhantomData }
    }
}
