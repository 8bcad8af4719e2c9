//! Ids that are never given out twice.

use crate::{
    StoreError,
    sql::{self, Tx},
};

/// The next id of a table; until the transaction ends, nobody else gets one.
pub(crate) async fn next_id(tx: &mut Tx, table: &'static str) -> Result<i64, StoreError> {
    Ok(sql::query_scalar("UPDATE id_counters SET used = used + 1 WHERE name = $1 RETURNING used")
        .bind(table)
        .fetch_one(&mut *tx)
        .await?)
}
