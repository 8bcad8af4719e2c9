//! A PostgreSQL server for all tests of this process, and a database of its own for each that asks.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use berth_model::Secret;
use berth_testkit::Postgres;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

use super::koding;
use crate::{Server, Store};

static POSTGRES: OnceCell<Postgres> = OnceCell::const_new();
static MADE: AtomicUsize = AtomicUsize::new(0);
/// Databases that no test uses any more.
static DONE_WITH: Mutex<Vec<String>> = Mutex::new(vec![]);

/// A database, which is removed when another one is made after its end.
pub(super) struct Database {
    name: String,
    postgres: &'static Postgres,
}

impl Database {
    pub(super) fn server(&self) -> Server {
        server(self.postgres, &self.name)
    }

    /// Ends all connections to it, as a server does that is started anew.
    pub(super) async fn end_connections(&self) {
        let name = &self.name;
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        run(self.postgres, [end]).await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        DONE_WITH.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.name));
    }
}

/// A store on PostgreSQL that nobody has used.
pub(super) async fn store() -> (Store, Database) {
    let database = made("TEMPLATE template_of_tests").await;
    (Store::connect(&database.server(), &koding()).await.unwrap(), database)
}

/// A database with nothing in it.
pub(super) async fn empty() -> Database {
    made("").await
}

async fn made(how: &str) -> Database {
    let postgres = POSTGRES.get_or_init(begin).await;
    let name = format!("test_{}", MADE.fetch_add(1, Ordering::Relaxed));
    let done_with = std::mem::take(&mut *DONE_WITH.lock().unwrap_or_else(PoisonError::into_inner));
    let mut connection = PgConnection::connect(&postgres.address("postgres")).await.unwrap();
    for name in done_with {
        // One whose connections do not end in time stays until the server ends.
        let _ = connection.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await;
    }
    let create = format!("CREATE DATABASE {name} {how}");
    for tries in 0.. {
        match connection.execute(AssertSqlSafe(create.clone())).await {
            // The template is looked at by a connection that is about to end. The server waits for that, five seconds.
            Err(error) if tries < 10 && is_in_use(&error) => {}
            made => {
                made.unwrap();
                break;
            }
        }
    }
    connection.close().await.unwrap();
    Database { name, postgres }
}

/// `object_in_use`: <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
fn is_in_use(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "55006")
}

async fn begin() -> Postgres {
    let postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    run(&postgres, ["CREATE DATABASE template_of_tests".to_owned()]).await;
    let server = server(&postgres, "template_of_tests");
    Store::connect(&server, &koding()).await.unwrap().close().await;
    postgres
}

fn server(postgres: &Postgres, database: &str) -> Server {
    Server::parse(&Secret::new(postgres.address(database))).unwrap()
}

async fn run(postgres: &Postgres, statements: impl IntoIterator<Item = String>) {
    let mut connection = PgConnection::connect(&postgres.address("postgres")).await.unwrap();
    for statement in statements {
        connection.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    connection.close().await.unwrap();
}
