//! Copies to be kept elsewhere: of what the server remembers.

use std::path::Path;

use berth_store::{AuditKind, Scope};

use crate::{Acting, WebError, error::Error};

impl Acting {
    /// Copies the database as it is now into a new file: for operators. Who has it has all keys that are in it. Written down.
    ///
    /// # Errors
    /// For others there is none; the file cannot be made, and then what is there of it is no database.
    pub async fn copy_database(&self, into: &Path) -> Result<(), WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        let into = into.to_owned();
        self.to_the_end(|acting| async move {
            acting.control.store.copy_to(&into).await.map_err(Error::from)?;
            let event = acting.actor.event_of_nobody(AuditKind::BackupMade, "the database".to_owned());
            acting.control.note_event(event).await;
            Ok(())
        })
        .await
    }
}
