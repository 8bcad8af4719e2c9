//! A terminal in a VM, on the website.

use berth_model::VmName;
use berth_store::AuditKind;

use crate::{Acting, Entry, Purpose, SessionKey, error::ConnectError, error::Error};

impl Acting {
    /// Whether they may open a shell in `vm`, as its owner or a guest: operators may not for being that.
    ///
    /// # Errors
    /// There is no such VM, or none that they may enter; the store fails.
    pub async fn enter_shell(&self, vm: &VmName) -> Result<Entry, Error> {
        self.control.enter_shell(&self.actor, vm).await
    }

    /// What the terminal's connection logs in with, see [`crate::Control::session_key`]. Written down as a terminal that
    /// was opened.
    ///
    /// # Errors
    /// As there.
    pub async fn terminal_key(&self, entry: &Entry) -> Result<SessionKey, ConnectError> {
        let key = self.control.session_key(entry, Purpose::Terminal).await?;
        let vm = entry.vm();
        self.note(AuditKind::TerminalOpened, &vm.owner, vm.to_string(), String::new()).await;
        Ok(key)
    }
}
