//! A VM's disk: how large it is to be, and that it is replaced by a new one.

use berth_model::{AccountName, VmId};
use time::OffsetDateTime;

use crate::{
    Limits, Store, StoreError,
    accounts::lock_account,
    convert::{number, saturate, to_millis},
    limits, sql,
    words::words,
};

words! {
    /// What becomes of a VM's home when it gets a new disk.
    Rebuild {
        /// It is on the new disk too.
        KeepHome = "keep_home",
        /// It goes with the old one.
        DiscardHome = "discard_home",
    }
}

impl Store {
    /// Writes down that a VM is to have a disk of so many bytes, if that is more than it has. `false`, and nothing is
    /// done, where it is less or the VM is being removed.
    ///
    /// # Errors
    /// [`StoreError::NoSuchAccount`]; [`StoreError::OverLimit`] where its account would have more than it may, `limits`
    /// being what holds where the operator has set nothing for it alone.
    pub async fn grow_disk(
        &self,
        id: VmId,
        owner: &AccountName,
        disk: u64,
        limits: Limits,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        lock_account(&mut tx, owner).await?;
        let has: Option<i64> = sql::query_scalar(
            "SELECT disk FROM vms WHERE id = $1 AND owner = $2 AND removing_at IS NULL AND removed_at IS NULL",
        )
        .bind(id.to_string())
        .bind(owner.as_str())
        .fetch_optional(&mut tx)
        .await?;
        let has: Option<u64> = has.map(|has| number("VM's disk", has)).transpose()?;
        let Some(more) = has.and_then(|has| disk.checked_sub(has)) else { return Ok(false) };
        limits::check_disk(&mut tx, owner, limits, more).await?;
        sql::query("UPDATE vms SET disk = $2, generation = generation + 1 WHERE id = $1")
            .bind(id.to_string())
            .bind(saturate(disk))
            .execute(&mut tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Writes down that a VM is to have a new disk. `false`, and nothing is done, where that is so already or the VM is
    /// being removed.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn begin_rebuilding(&self, id: VmId, what: Rebuild) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let begun = sql::query(
            "UPDATE vms SET rebuilding = $2, generation = generation + 1
             WHERE id = $1 AND rebuilding IS NULL AND removing_at IS NULL AND removed_at IS NULL",
        )
        .bind(id.to_string())
        .bind(what.as_str())
        .execute(&mut tx)
        .await?;
        tx.commit().await?;
        Ok(begun.rows_affected() > 0)
    }

    /// Writes down that a VM has its new disk, since `at`: what was known of its guest is not true of this one. Or, with
    /// `None`, that it keeps the old one after all.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn end_rebuilding(&self, id: VmId, at: Option<OffsetDateTime>) -> Result<(), StoreError> {
        let end = match at {
            Some(at) => sql::query(
                "UPDATE vms SET rebuilding = NULL, rebuilt_at = $2, slept_at = NULL, slept_for = NULL,
                                identification = NULL, generation = generation + 1
                 WHERE id = $1 AND rebuilding IS NOT NULL",
            )
            .bind(id.to_string())
            .bind(to_millis(at)),
            None => sql::query(
                "UPDATE vms SET rebuilding = NULL, generation = generation + 1
                 WHERE id = $1 AND rebuilding IS NOT NULL",
            )
            .bind(id.to_string()),
        };
        let mut tx = self.write().await?;
        end.execute(&mut tx).await?;
        Ok(tx.commit().await?)
    }
}
