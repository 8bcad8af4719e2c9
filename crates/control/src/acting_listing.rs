//! What is listed and measured, for those who may see it.

use berth_model::{AccountName, Title, VmName};
use berth_store::{AccountsQuery, AuditKind, Scope};

use crate::{
    AccountInfo, ConnectionInfo, Health, Limits, Page, Sample, TeamMember, VmInfo, VmRoom, VmsQuery,
    acting::Acting, error::Error, web_error::WebError,
};

impl Acting {
    /// Has a VM be called so; `None` for nothing. Its address does not change by that.
    ///
    /// # Errors
    /// There is no such VM, or it is somebody else's; the store fails.
    pub async fn set_title(&self, vm: &VmName, title: Option<&Title>) -> Result<(), Error> {
        self.must_be_for_vm(Scope::VmsWrite, vm)?;
        let (vm, title) = (vm.clone(), title.cloned());
        self.to_the_end(|acting| async move {
            acting.control.set_title(&vm, title.as_ref()).await?;
            let detail = title.map(|title| title.to_string()).unwrap_or_default();
            acting.note_vm(AuditKind::VmTitled, &vm, &detail).await;
            Ok(())
        })
        .await
    }

    /// As [`crate::Control::history`].
    ///
    /// # Errors
    /// As there; somebody else's VM is one that does not exist.
    pub fn history(&self, vm: &VmName) -> Result<Vec<Sample>, Error> {
        self.must_be_for_vm(Scope::VmsRead, vm)?;
        self.control.history(vm)
    }

    /// As [`crate::Control::team`], for every member.
    ///
    /// # Errors
    /// As there.
    pub async fn team(
        &self,
        text: &str,
        after: Option<AccountName>,
        most: usize,
    ) -> Result<Page<TeamMember>, Error> {
        if let Some(name) = self.actor().name() {
            self.must_be_for(Scope::AccountRead, name)?;
        }
        self.control.team(text, after, most).await
    }

    /// As [`crate::Control::vms_page`]; for operators.
    ///
    /// # Errors
    /// As there; [`WebError::Missing`] for members.
    pub async fn vms_page(&self, query: &VmsQuery) -> Result<Page<VmInfo>, WebError> {
        self.must_be_operator(Scope::OpsRead)?;
        Ok(self.control.vms_page(query).await?)
    }

    /// As [`crate::Control::vm_room`]; for operators.
    ///
    /// # Errors
    /// [`WebError::Missing`] for members.
    pub fn vm_room(&self) -> Result<VmRoom, WebError> {
        self.must_be_operator(Scope::OpsRead)?;
        Ok(self.control.vm_room())
    }

    /// What an account may have for which nothing is set alone. That is no secret.
    #[must_use]
    pub fn limits_of_all(&self) -> Limits {
        self.control.settings().limits
    }

    /// As [`crate::Control::accounts_page`]; for operators.
    ///
    /// # Errors
    /// As there; [`WebError::Missing`] for members.
    pub async fn accounts_page(&self, query: &AccountsQuery) -> Result<Page<AccountInfo>, WebError> {
        self.must_be_operator(Scope::OpsRead)?;
        Ok(self.control.accounts_page(query).await?)
    }

    /// As [`crate::Control::account`]; for operators.
    ///
    /// # Errors
    /// As there; [`WebError::Missing`] for members.
    pub async fn account(&self, name: &AccountName) -> Result<AccountInfo, WebError> {
        self.must_be_operator(Scope::OpsRead)?;
        Ok(self.control.account(name).await?)
    }

    /// As [`crate::Control::connections`]; for operators.
    ///
    /// # Errors
    /// [`WebError::Missing`] for members.
    pub fn connections(&self, text: &str, most: usize) -> Result<(Vec<ConnectionInfo>, usize), WebError> {
        self.must_be_operator(Scope::OpsRead)?;
        Ok(self.control.connections(text, most))
    }

    /// As [`crate::Control::health`]; for operators.
    ///
    /// # Errors
    /// As there; [`WebError::Missing`] for members.
    pub async fn health(&self) -> Result<Health, WebError> {
        self.must_be_operator(Scope::OpsRead)?;
        Ok(self.control.health().await?)
    }
}
