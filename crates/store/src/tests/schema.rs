//! Impossible rows are refused by the database itself, whoever writes them.

use super::{alice, at, bob, new_key, new_vm, run, stores_with_accounts};
use crate::{NewShare, sql};

/// What somebody logs in with.
pub(super) const LOG_IN: &str = "
    INSERT INTO passwords (account, hash, set_at) VALUES ('alice', '$argon2id$v=19$', 0);
    INSERT INTO login_sessions (id, account, cookie_hash, way, created_at, proved_at, seen_at, address, user_agent)
    VALUES (1, 'alice', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', 'link', 0, 0, 0, '::1', '');
    INSERT INTO links (id, token_hash, purpose, account, made_at, expires_at)
    VALUES (1, 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', 'log_in', 'alice', 0, 1);
    INSERT INTO tokens (id, account, label, token_hash, scopes, made_at)
    VALUES (1, 'alice', 'ci', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', 'vms:read', 0);
    INSERT INTO audit (id, at, kind, way, subject, detail, last_at) VALUES (1, 0, 'log_in', 'ssh', '', '', 0);
    INSERT INTO host_cas (id, private_key, signs, made_at) VALUES (1, 'a', 1, 0), (2, 'b', 0, 0);
    INSERT INTO team_cas (id, team, public_key, fingerprint, label, added_at)
    VALUES (1, 'koding', 'ssh-ed25519 AAAA', 'SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', 'office', 0);
    INSERT INTO team_krls (team, krl, loaded_at) VALUES ('koding', 'AAAA', 0)";

/// Each is one change of a sound database to an impossible one.
const IMPOSSIBLE: &[&str] = &[
    "INSERT INTO names (name, kind) VALUES ('carol', 'person')",
    "INSERT INTO names (name, kind) VALUES ('Carol', 'account')",
    "INSERT INTO names (name, kind) VALUES ('c', 'account')",
    "INSERT INTO names (name, kind) VALUES ('alice', 'team')",
    "INSERT INTO accounts (name, created_at) VALUES ('nameless', 0)",
    "INSERT INTO accounts (name, created_at) VALUES ('koding', 0)",
    "INSERT INTO accounts (name, kind, created_at) VALUES ('koding', 'team', 0)",
    "INSERT INTO teams (name) VALUES ('alice')",
    "DELETE FROM names WHERE name = 'alice'",
    "DELETE FROM accounts WHERE name = 'alice'",
    "UPDATE accounts SET generation = -1",
    "UPDATE id_counters SET used = -1",
    "UPDATE keys SET id = 0",
    "UPDATE keys SET account = 'nobody-here'",
    "UPDATE keys SET public_key = 'ssh-ed25519'",
    "UPDATE keys SET fingerprint = 'SHA256:short'",
    "UPDATE keys SET fingerprint = 'MD5:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00'",
    "UPDATE keys SET label = ''",
    "UPDATE keys SET last_used_at = 1",
    "UPDATE keys SET last_used_from = '192.0.2.1'",
    "UPDATE keys SET last_used_at = 1, last_used_from = ''",
    "UPDATE keys SET comment = NULL",
    "UPDATE vms SET id = 'ABCDEFABCDEFABCD'",
    "UPDATE vms SET id = 'abc'",
    "UPDATE vms SET number = -1",
    "UPDATE vms SET number = 4294967296",
    "UPDATE vms SET number = 0 WHERE number = 1",
    "UPDATE vms SET host_key = ''",
    "UPDATE vms SET last_boot_ms = -1",
    "UPDATE vms SET last_wake_ms = -1",
    "UPDATE vms SET title = ''",
    "UPDATE vms SET title = '12345678901234567890123456789012345678901'",
    "UPDATE vms SET generation = -1",
    "UPDATE vms SET removed_at = 1",
    "UPDATE vms SET team = 'alice'",
    "UPDATE vms SET always_on = 2",
    "UPDATE vms SET turned_off = -1",
    "UPDATE vms SET used_for = ''",
    "UPDATE vms SET identification = 'OpenSSH'",
    "UPDATE vms SET rebuilding = 'maybe'",
    "UPDATE accounts SET max_vms = -1",
    "UPDATE accounts SET role = 'root'",
    "UPDATE passwords SET hash = 'hunter2'",
    "UPDATE passwords SET account = 'nobody-here'",
    "UPDATE login_sessions SET cookie_hash = 'abc'",
    "UPDATE login_sessions SET way = 'guess'",
    "UPDATE login_sessions SET account = 'nobody-here'",
    "UPDATE login_sessions SET address = ''",
    "UPDATE links SET purpose = 'invitation'",
    "UPDATE links SET account = NULL",
    "UPDATE links SET role = 'operator'",
    "UPDATE links SET preset_name = 'carol'",
    "UPDATE links SET expires_at = made_at",
    "UPDATE tokens SET label = ''",
    "UPDATE tokens SET scopes = ''",
    "UPDATE tokens SET expires_at = made_at",
    "UPDATE tokens SET last_used_at = 1",
    "UPDATE audit SET way = 'guess'",
    "UPDATE audit SET times = 0",
    "UPDATE audit SET last_at = -1",
    "UPDATE audit SET actor = ''",
    "UPDATE host_cas SET signs = 2 WHERE id = 2",
    "UPDATE team_cas SET team = 'alice'",
    "UPDATE team_cas SET label = ''",
    "UPDATE team_cas SET public_key = 'ssh-ed25519'",
    "UPDATE team_cas SET fingerprint = 'SHA256:short'",
    "UPDATE team_krls SET krl = ''",
    "UPDATE team_krls SET team = 'nobody-here'",
    "UPDATE host_cas SET signs = 1 WHERE id = 2",
    "UPDATE host_cas SET private_key = ''",
    "UPDATE audit SET sent = -1",
    "UPDATE audit SET received = -1",
    "UPDATE audit SET lasted_ms = -1",
    "INSERT INTO port_access (vm, port, access, set_at) SELECT id, 22, 'public', 0 FROM vms",
    "INSERT INTO port_access (vm, port, access, set_at) SELECT id, 65536, 'public', 0 FROM vms",
    "INSERT INTO port_access (vm, port, access, set_at) SELECT id, 80, 'everybody', 0 FROM vms",
    "INSERT INTO port_access (vm, port, access, set_at) VALUES ('0123456789abcdef', 80, 'public', 0)",
    "UPDATE shares SET sudo = 2",
    "UPDATE shares SET account = 'nobody-here'",
    "UPDATE shares SET accept_by = made_at",
    "UPDATE shares SET accepted_at = made_at - 1",
    "UPDATE shares SET accepted_at = accept_by + 1",
    "UPDATE shares SET ends_at = made_at",
    "UPDATE guest_uids SET uid = 1000",
    "UPDATE guest_uids SET uid = 60000",
    "INSERT INTO guest_uids (account, uid) SELECT 'alice', uid FROM guest_uids",
];

#[tokio::test]
async fn impossible_rows_are_refused() {
    for store in stores_with_accounts().await {
        store.add_key(&alice(), &new_key(1), at(0)).await.unwrap();
        store.add_vm(&new_vm(alice(), "a"), at(0)).await.unwrap();
        store.add_vm(&new_vm(alice(), "b"), at(0)).await.unwrap();
        let vm = store.add_vm(&new_vm(alice(), "c"), at(0)).await.unwrap().id;
        let share = NewShare { vm, account: bob(), sudo: true, accept_by: at(9), ends_at: None };
        store.share(&share, at(0)).await.unwrap();
        let mut tx = store.write().await.unwrap();
        run(&mut tx, LOG_IN).await.unwrap();
        tx.commit().await.unwrap();
        for sql in IMPOSSIBLE {
            let mut tx = store.write().await.unwrap();
            let done = sql::query(*sql).execute(&mut tx).await;
            let error = done.expect_err(sql);
            let kind = error.as_database_error().expect(sql).kind();
            assert_ne!(kind, sqlx::error::ErrorKind::Other, "{sql}: {error}");
        }
    }
}

#[tokio::test]
async fn the_same_changes_to_possible_rows_are_not_refused() {
    for store in stores_with_accounts().await {
        store.add_key(&alice(), &new_key(1), at(0)).await.unwrap();
        store.add_vm(&new_vm(alice(), "a"), at(0)).await.unwrap();
        for sql in [
            "INSERT INTO names (name, kind) VALUES ('carol', 'account')",
            "INSERT INTO accounts (name, created_at) VALUES ('carol', 0)",
            "UPDATE keys SET account = 'bob', label = 'x', last_used_at = 1, last_used_from = '192.0.2.1'",
            "UPDATE vms SET number = 4294967295, last_boot_ms = 0, removing_at = 1, removed_at = 1",
        ] {
            let mut tx = store.write().await.unwrap();
            sql::query(sql).execute(&mut tx).await.expect(sql);
            tx.commit().await.unwrap();
        }
    }
}
