//! The keys of the installation that sign certificates of hosts.

use berth_model::Secret;
use time::OffsetDateTime;

use crate::{
    Store, StoreError,
    convert::{time, to_millis},
    sql::{self, Tx},
};

/// So many keys are trusted at once: the one that signs, and the one before or after it.
pub const MAX_HOST_CAS: usize = 2;

/// A key that signs certificates of hosts, or did, or will.
#[derive(Clone, Debug)]
pub struct HostCaRow {
    /// What names it.
    pub id: i64,
    /// The private key, in OpenSSH's format.
    pub private_key: Secret<String>,
    /// It is the one that signs.
    pub signs: bool,
    /// When it was made.
    pub made_at: OffsetDateTime,
}

impl Store {
    /// The installation's keys in the order in which they were made, with `new` as the first where it had none. Two
    /// servers that ask at once get the same.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn host_cas(
        &self,
        new: &Secret<String>,
        at: OffsetDateTime,
    ) -> Result<Vec<HostCaRow>, StoreError> {
        let mut tx = self.write().await?;
        let mut rows = rows(&mut tx).await?;
        if rows.is_empty() {
            rows.push(insert(&mut tx, new, 1, true, at).await?);
        }
        tx.commit().await?;
        Ok(rows)
    }

    /// Adds a key that does not sign; `false` where there are [`MAX_HOST_CAS`].
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn add_host_ca(&self, new: &Secret<String>, at: OffsetDateTime) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let rows = rows(&mut tx).await?;
        if rows.len() >= MAX_HOST_CAS {
            return Ok(false);
        }
        let id = rows.last().map_or(1, |row| row.id + 1);
        insert(&mut tx, new, id, rows.is_empty(), at).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Has this key sign, and no other; `false` where there is none of that id.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn use_host_ca(&self, id: i64) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        sql::query("UPDATE host_cas SET signs = 0 WHERE signs = 1").execute(&mut tx).await?;
        let used = sql::query("UPDATE host_cas SET signs = 1 WHERE id = $1").bind(id).execute(&mut tx);
        if used.await?.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Removes a key; `false` where there is none of that id, or it is the one that signs.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn remove_host_ca(&self, id: i64) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let removed = sql::query("DELETE FROM host_cas WHERE id = $1 AND signs = 0").bind(id);
        let removed = removed.execute(&mut tx).await?.rows_affected() > 0;
        tx.commit().await?;
        Ok(removed)
    }
}

async fn rows(tx: &mut Tx) -> Result<Vec<HostCaRow>, StoreError> {
    let rows: Vec<(i64, String, i64, i64)> =
        sql::query_as("SELECT id, private_key, signs, made_at FROM host_cas ORDER BY id")
            .fetch_all(&mut *tx)
            .await?;
    let row = |(id, key, signs, made_at)| {
        let made_at = time("time of a host CA", made_at)?;
        Ok(HostCaRow { id, private_key: Secret::new(key), signs: signs == 1, made_at })
    };
    rows.into_iter().map(row).collect()
}

async fn insert(
    tx: &mut Tx,
    key: &Secret<String>,
    id: i64,
    signs: bool,
    made_at: OffsetDateTime,
) -> Result<HostCaRow, StoreError> {
    sql::query("INSERT INTO host_cas (id, private_key, signs, made_at) VALUES ($1, $2, $3, $4)")
        .bind(id)
        .bind(key.expose())
        .bind(i64::from(signs))
        .bind(to_millis(made_at))
        .execute(&mut *tx)
        .await?;
    Ok(HostCaRow { id, private_key: key.clone(), signs, made_at })
}
