//! Opening a database of either kind: made, found again, refused.

use std::task::Poll;

use tempfile::TempDir;

use super::{alice, at, koding, new_key, new_vm, postgres, run};
use crate::{Place, Store, StoreError, sql};

/// A place with nothing in it, and what has to live as long.
struct Empty {
    place: Place,
    _folder: Option<TempDir>,
    _database: Option<postgres::Database>,
}

impl Empty {
    async fn open(&self) -> Result<Store, StoreError> {
        self.place.open(&koding()).await
    }

    /// Runs `sql` in a new database, as somebody else would.
    async fn write_by_hand(&self, sql: &'static str) {
        let store = self.open().await.unwrap();
        let mut tx = store.write().await.unwrap();
        run(&mut tx, sql).await.unwrap();
        tx.commit().await.unwrap();
        store.close().await;
    }
}

/// One of each kind.
async fn places() -> [Empty; 2] {
    let folder = tempfile::tempdir().unwrap();
    let file = Place::File(folder.path().join("berth.db"));
    let database = postgres::empty().await;
    let server = Place::Server(database.server());
    [
        Empty { place: file, _folder: Some(folder), _database: None },
        Empty { place: server, _folder: None, _database: Some(database) },
    ]
}

#[tokio::test]
async fn all_is_there_after_reopening() {
    for empty in places().await {
        let store = empty.open().await.unwrap();
        store.add_account(&alice(), at(1)).await.unwrap();
        let key = store.add_key(&alice(), &new_key(1), at(2)).await.unwrap();
        let vm = store.add_vm(&new_vm(alice(), "host key"), at(3)).await.unwrap();
        let accounts = store.accounts().await.unwrap();
        store.close().await;
        assert!(store.accounts().await.is_err());

        let store = empty.open().await.unwrap();
        assert_eq!(store.accounts().await.unwrap(), accounts);
        assert_eq!(store.keys(&alice()).await.unwrap(), [key]);
        let again = store.vm(&vm.name).await.unwrap().unwrap();
        assert_eq!((again.id, again.host_key.expose().as_str()), (vm.id, "host key"));
        assert!(store.size().await.unwrap() > 10_000);
    }
}

#[tokio::test]
async fn two_processes_wait_for_each_other() {
    for empty in places().await {
        let (one, two) = (empty.open().await.unwrap(), empty.open().await.unwrap());
        one.add_account(&alice(), at(0)).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for store in [one, two] {
            for _ in 0..10 {
                let store = store.clone();
                tasks.spawn(async move {
                    store.add_vm(&new_vm(alice(), "a"), at(0)).await.unwrap().name.number.0
                });
            }
        }
        let mut numbers = tasks.join_all().await;
        numbers.sort_unstable();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn readers_cannot_write() {
    for empty in places().await {
        let store = empty.open().await.unwrap();
        assert!(sql::query("DELETE FROM teams").execute(store.reader()).await.is_err());
    }
}

#[tokio::test]
async fn a_change_by_another_process_is_seen() {
    for empty in places().await {
        let (one, two) = (empty.open().await.unwrap(), empty.open().await.unwrap());
        let mut changes = one.changes().await.unwrap();
        for (round, name) in ["alice", "bob"].into_iter().enumerate() {
            two.add_account(&name.parse().unwrap(), at(0)).await.unwrap();
            assert!(changes.any().await.unwrap(), "round {round}");
        }
    }
}

#[tokio::test]
async fn a_dropped_call_leaves_nothing_half_done_and_no_lock() {
    for empty in places().await {
        let store = empty.open().await.unwrap();
        store.add_account(&alice(), at(0)).await.unwrap();
        assert!(drop_calls(&store).await, "given time enough, the call is done");
    }
}

/// Drops a call after ever more polls, until one is done before that.
async fn drop_calls(store: &Store) -> bool {
    let alice = alice();
    for polls in 1..500 {
        let mut call = Box::pin(store.remove_account(&alice, at(1)));
        let mut polled = 0;
        std::future::poll_fn(|context| {
            polled += 1;
            match call.as_mut().poll(context) {
                Poll::Pending if polled < polls => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
        drop(call);
        // A change that was under way when it was dropped is over, one way or the other, before the next begins.
        let next = store.add_vm(&new_vm(alice.clone(), "a"), at(2)).await;
        let there = store.account_exists(&alice).await.unwrap();
        let marks: Vec<_> =
            store.vms(None).await.unwrap().iter().map(|vm| vm.removing_at.is_some()).collect();
        match next {
            Ok(_) => assert!(there && !marks.contains(&true), "after {polls} polls: {there}, {marks:?}"),
            Err(StoreError::NoSuchAccount { .. }) => {
                assert!(!there && !marks.contains(&false), "after {polls} polls: {there}, {marks:?}");
                return true;
            }
            Err(error) => panic!("after {polls} polls: {error:?}"),
        }
    }
    false
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    for empty in places().await {
        empty
            .write_by_hand(
                "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 SELECT 9999, 'of the future', TRUE, checksum, 0 FROM _sqlx_migrations LIMIT 1",
            )
            .await;
        let error = empty.open().await.unwrap_err();
        assert!(matches!(error, StoreError::Newer { .. }), "{error:?}");
        assert!(error.to_string().contains("newer Berth"));
        let rehearsed = rehearse(&empty).await.unwrap_err();
        assert!(matches!(rehearsed, StoreError::Newer { .. }), "{rehearsed:?}");
    }
}

#[tokio::test]
async fn a_database_with_another_history_is_refused() {
    for empty in places().await {
        // There never was a tenth.
        empty.write_by_hand("UPDATE _sqlx_migrations SET version = 10 WHERE version = 20").await;
        assert!(matches!(empty.open().await, Err(StoreError::Foreign { .. })));
        assert!(matches!(rehearse(&empty).await, Err(StoreError::Foreign { .. })));
    }
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_kept() {
    for empty in places().await {
        empty.write_by_hand("DROP TABLE _sqlx_migrations").await;
        assert!(matches!(empty.open().await, Err(StoreError::Foreign { .. })));
        assert!(
            matches!(empty.open().await, Err(StoreError::Foreign { .. })),
            "the first attempt made no table"
        );
    }
}

#[tokio::test]
async fn the_default_team_may_change_but_not_to_an_accounts_name() {
    for empty in places().await {
        let store = empty.open().await.unwrap();
        store.add_account(&alice(), at(0)).await.unwrap();
        store.remove_account(&alice(), at(1)).await.unwrap();
        store.close().await;
        let team = "alice".parse().unwrap();
        let error = empty.place.open(&team).await.unwrap_err();
        assert!(matches!(&error, StoreError::TeamNameTaken { team: taken } if *taken == team));
        empty.place.open(&"other".parse().unwrap()).await.unwrap();
        empty.open().await.unwrap();
    }
}

async fn rehearse(empty: &Empty) -> Result<(), StoreError> {
    let folder = tempfile::tempdir().unwrap();
    empty.place.rehearse(&folder.path().join("copy.db"), &koding()).await
}

#[tokio::test]
async fn what_is_rehearsed_stays_as_it_is() {
    for empty in places().await {
        empty.write_by_hand("INSERT INTO names (name, kind) VALUES ('carol', 'team')").await;
        rehearse(&empty).await.unwrap();
        assert!(empty.open().await.unwrap().name_is_taken(&"carol".parse().unwrap()).await.unwrap());
    }
    let database = postgres::empty().await;
    let server = Place::Server(database.server());
    server.rehearse("unused".as_ref(), &koding()).await.unwrap();
    let nowhere = Place::File("/nonexistent/copy.db".into());
    assert!(matches!(server.copy_to(&nowhere).await, Err(StoreError::Foreign { .. })), "no table was left");
}

#[tokio::test]
async fn connections_that_the_server_ends_are_replaced() {
    let (store, database) = postgres::store().await;
    for round in 0..3 {
        store.add_account(&format!("user-{round}").parse().unwrap(), at(round)).await.unwrap();
        database.end_connections().await;
        assert_eq!(store.count_accounts().await.unwrap() as i64, round + 1);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_with_its_address() {
    let address =
        berth_model::Secret::new("postgres:///berth?host=/nonexistent&user=berth&password=hush".to_owned());
    let error = Store::connect(&crate::Server::parse(&address).unwrap(), &koding()).await.unwrap_err();
    assert!(matches!(error, StoreError::Server { .. }), "{error:?}");
    assert!(error.to_string().contains("postgres:///berth?host=/nonexistent&user=berth"), "{error}");
    assert!(!format!("{error:?}").contains("hush"));
}
