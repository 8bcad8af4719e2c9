//! The key of the installation that signs certificates for log-ins to VMs.

use berth_model::Secret;
use time::OffsetDateTime;

use crate::{Store, StoreError, convert::to_millis, sql};

impl Store {
    /// The installation's key: `new` where it had none, and otherwise the one that it has. Two servers that ask at once
    /// get the same.
    ///
    /// # Errors
    /// Only those of the database itself.
    pub async fn user_ca(
        &self,
        new: &Secret<String>,
        at: OffsetDateTime,
    ) -> Result<Secret<String>, StoreError> {
        let mut tx = self.write().await?;
        sql::query(
            "INSERT INTO user_ca (id, private_key, made_at) VALUES (1, $1, $2) ON CONFLICT DO NOTHING",
        )
        .bind(new.expose())
        .bind(to_millis(at))
        .execute(&mut tx)
        .await?;
        let key = sql::query_scalar("SELECT private_key FROM user_ca").fetch_one(&mut tx).await?;
        tx.commit().await?;
        Ok(Secret::new(key))
    }
}
