//! A session in one's own VM that the gateway opens for an ssh client.

use berth_store::AuditKind;

use crate::{Acting, Entry, Purpose, SessionKey, error::ConnectError};

impl Acting {
    /// What the gateway's first connection into a VM logs in with for a client, see [`crate::Control::session_key`].
    /// Written down as an ssh session that was opened. Further connections for the same client ask for their key there.
    ///
    /// # Errors
    /// As there.
    pub async fn direct_key(&self, entry: &Entry) -> Result<SessionKey, ConnectError> {
        let key = self.control.session_key(entry, Purpose::Direct).await?;
        self.note_direct(entry).await;
        Ok(key)
    }

    /// Writes down that an ssh session was opened for a client, by a connection that waited for it.
    pub async fn note_direct(&self, entry: &Entry) {
        let vm = entry.vm();
        self.note(AuditKind::SshOpened, &vm.owner, vm.to_string(), String::new()).await;
    }
}
