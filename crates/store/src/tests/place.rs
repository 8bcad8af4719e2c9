//! All of one database in another, and what the two kinds of tables have in common.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::{TestStore, alice, at, koding, new_key, new_vm, postgres, run, schema, stores_with_accounts};
use crate::{
    AuditEntry, AuditKind, AuditQuery, NewAudit, Place, Store, StoreError, Way, database::schema_version,
    place::TABLES, sql,
};

/// More lines than are copied at once.
const LINES: usize = 1100;

impl TestStore {
    /// Where it is; nothing where it is in memory.
    fn place(&self) -> Option<Place> {
        let file = self._folder.as_ref().map(|folder| Place::File(folder.path().join("berth.db")));
        file.or_else(|| self._database.as_ref().map(|database| Place::Server(database.server())))
    }
}

fn new_file() -> (TempDir, Place) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::File(folder.path().join("copy.db"));
    (folder, place)
}

fn line(number: usize) -> AuditEntry {
    NewAudit {
        kind: AuditKind::KeyAdded,
        account: Some(alice()),
        actor: None,
        way: Way::Host,
        address: None,
        subject: format!("Ärger mit 'Nr. {number}' \u{1f600} \" \\ \0"),
        detail: String::new(),
    }
    .into()
}

/// Something in every table that people can fill.
async fn fill(store: &Store) {
    store.add_key(&alice(), &new_key(1), at(0)).await.unwrap();
    let vm = store.add_vm(&new_vm(alice(), "key of a host\nwith lines"), at(0)).await.unwrap();
    store.set_port(vm.id, 8080, Some(crate::PortAccess::Public), at(1)).await.unwrap();
    store.members().await.unwrap();
    store.user_ca(&berth_model::Secret::new("private".to_owned()), at(1)).await.unwrap();
    let mut tx = store.write().await.unwrap();
    run(&mut tx, schema::LOG_IN).await.unwrap();
    run(&mut tx, "UPDATE id_counters SET used = 9 WHERE name = 'audit'").await.unwrap();
    tx.commit().await.unwrap();
    let lines: Vec<_> = (0..LINES).map(line).collect();
    store.add_audits(&lines, at(2)).await.unwrap();
}

async fn seen(store: &Store) -> String {
    let query = AuditQuery::default();
    format!(
        "{:?} {:?} {:?} {:?} {:?}",
        store.accounts().await.unwrap(),
        store.keys(&alice()).await.unwrap(),
        store
            .vms(None)
            .await
            .unwrap()
            .iter()
            .map(|vm| (&vm.name, vm.host_key.expose().clone()))
            .collect::<Vec<_>>(),
        store.members().await.unwrap(),
        store.audit(&query).await.unwrap(),
    )
}

#[tokio::test]
async fn all_goes_to_the_other_kind_of_database_and_back() {
    for store in stores_with_accounts().await {
        let Some(place) = store.place() else { continue };
        fill(&store).await;
        let seen_before = seen(&store).await;
        let (database, (_folder, file)) = (postgres::empty().await, new_file());
        let server = Place::Server(database.server());
        let copied = place.copy_to(&server).await.unwrap();
        assert_eq!(
            copied.tables.iter().find(|(table, _)| *table == "audit"),
            Some(&("audit", LINES as u64)),
            "old lines are cleared away"
        );
        assert_eq!(server.copy_to(&file).await.unwrap(), copied);
        for place in [place, server, file] {
            let copy = place.open(&koding()).await.unwrap();
            assert_eq!(seen(&copy).await, seen_before, "{place}");
            // Ids go on where they were.
            copy.add_audits(&[line(0)], at(3)).await.unwrap();
            let last = copy.audit(&AuditQuery::default()).await.unwrap().remove(0).id;
            assert_eq!(last.to_string(), (9 + LINES + 1).to_string());
            copy.close().await;
        }
    }
}

#[tokio::test]
async fn nothing_is_copied_to_where_something_is() {
    for store in stores_with_accounts().await {
        let Some(place) = store.place() else { continue };
        let used = postgres::empty().await;
        Store::connect(&used.server(), &koding()).await.unwrap().add_account(&alice(), at(0)).await.unwrap();
        let refused = place.copy_to(&Place::Server(used.server())).await.unwrap_err();
        assert!(matches!(refused, StoreError::NotEmpty { .. }), "{refused:?}");
        let (_folder, file) = new_file();
        place.copy_to(&file).await.unwrap();
        let refused = place.copy_to(&file).await.unwrap_err();
        assert!(matches!(refused, StoreError::File { .. }), "{refused:?}");
        assert!(
            file.open(&koding()).await.unwrap().account_exists(&alice()).await.unwrap(),
            "it is still there"
        );
    }
}

#[tokio::test]
async fn one_that_is_not_up_to_date_is_not_copied_nor_changed() {
    for store in stores_with_accounts().await {
        let Some(place) = store.place() else { continue };
        let mut tx = store.write().await.unwrap();
        run(&mut tx, "UPDATE _sqlx_migrations SET version = version - 1000").await.unwrap();
        tx.commit().await.unwrap();
        let (_folder, file) = new_file();
        let refused = place.copy_to(&file).await.unwrap_err();
        assert!(matches!(refused, StoreError::Older { .. }), "{refused:?}");
        let Place::File(path) = file else { unreachable!() };
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_copy_for_a_backup_is_a_file_whatever_it_is_a_copy_of() {
    for store in stores_with_accounts().await {
        if store.place().is_none() {
            continue;
        }
        fill(&store).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.db");
        store.copy_to(&path).await.unwrap();
        let files: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(files, ["copy.db"], "all of it is in the one file");
        let copy = Store::open(&path, &koding()).await.unwrap();
        assert_eq!(seen(&copy).await, seen(&store).await);
    }
}

/// The columns of every table: their types, whether they may be nothing, and what they are where nobody says.
type Columns = BTreeMap<(String, String), (String, i64, Option<String>)>;

async fn columns(store: &TestStore) -> Columns {
    let of_sqlite = "SELECT tables.name, columns.name, columns.type, columns.\"notnull\", columns.dflt_value
        FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'";
    let of_postgres = "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), upper(data_type),
            CAST(CASE WHEN is_nullable = 'NO' THEN 1 ELSE 0 END AS BIGINT), replace(column_default, '::text', '')
        FROM information_schema.columns WHERE table_schema = current_schema()";
    let sql = if store._database.is_some() { of_postgres } else { of_sqlite };
    let rows: Vec<(String, String, String, i64, Option<String>)> =
        sql::query_as(sql).fetch_all(store.reader()).await.unwrap();
    let rows = rows.into_iter().filter(|(table, ..)| table != "_sqlx_migrations");
    rows.map(|(table, column, what, needed, usual)| ((table, column), (what, needed, usual))).collect()
}

#[tokio::test]
async fn both_kinds_have_the_same_tables_and_columns_and_all_of_them_are_copied() {
    let [in_file, in_memory, on_server] = stores_with_accounts().await;
    let expected = columns(&in_file).await;
    assert_eq!(columns(&in_memory).await, expected);
    assert_eq!(columns(&on_server).await, expected);
    let mut tables: Vec<_> = expected.keys().map(|(table, _)| table.as_str()).collect();
    tables.dedup();
    let mut copied = TABLES.map(|(table, _)| table);
    copied.sort_unstable();
    assert_eq!(copied.as_slice(), tables);
    let newest = crate::postgres::MIGRATIONS.iter().map(|migration| migration.version).max();
    assert_eq!(
        newest,
        Some(schema_version()),
        "a migration of one kind has one of the same number of the other"
    );
}

#[tokio::test]
async fn both_kinds_have_the_same_indexes() {
    let [in_file, _, on_server] = stores_with_accounts().await;
    let of_sqlite = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name";
    let of_postgres = "SELECT CAST(indexname AS TEXT) FROM pg_indexes
        WHERE schemaname = current_schema() AND indexname NOT LIKE '%_key' AND indexname NOT LIKE '%_pkey'
        ORDER BY indexname";
    let sqlite: Vec<String> = sql::query_scalar(of_sqlite).fetch_all(in_file.reader()).await.unwrap();
    let postgres: Vec<String> = sql::query_scalar(of_postgres).fetch_all(on_server.reader()).await.unwrap();
    assert_eq!(sqlite, postgres);
}
