//! What owners and their guests do with VMs that are shared.

use berth_model::{AccountName, VmName};
use berth_store::{AuditKind, Scope};

use crate::{
    acting::Acting,
    error::Error,
    sharing::{ShareInfo, ShareTerms},
};

impl Acting {
    /// Asks `account` to share a VM, which they have a week to accept; or changes the terms of who shares it already,
    /// which ends their connections where the VM is.
    ///
    /// # Errors
    /// There is no such account, or it is blocked; it is the VM's owner; the time is over already; the VM is shared with as
    /// many as it can be; the store fails. Somebody else's VM is one that does not exist.
    pub async fn share_vm(
        &self,
        vm: &VmName,
        account: &AccountName,
        terms: ShareTerms,
    ) -> Result<ShareInfo, Error> {
        self.must_be_for_vm(Scope::VmsWrite, vm)?;
        let (vm, account) = (vm.clone(), account.clone());
        self.to_the_end(|acting| async move {
            let share = acting.control.share(&vm, &account, terms).await?;
            acting.note_share(AuditKind::VmShared, &share, &terms.words(&account)).await;
            Ok(share)
        })
        .await
    }

    /// With whom a VM is shared, and who was asked, by name.
    ///
    /// # Errors
    /// The store fails. Somebody else's VM is one that does not exist.
    pub async fn shares(&self, vm: &VmName) -> Result<Vec<ShareInfo>, Error> {
        self.must_be_for_vm(Scope::VmsRead, vm)?;
        self.control.shares_of(vm).await
    }

    /// Takes a VM back from `account`, whether it has accepted or not. Their connections into it end at once, and their
    /// keys are out of the running VM when this returns; their home in it stays.
    ///
    /// # Errors
    /// It is not shared with them; the store fails. Somebody else's VM is one that does not exist.
    pub async fn unshare_vm(&self, vm: &VmName, account: &AccountName) -> Result<ShareInfo, Error> {
        self.must_be_for_vm(Scope::VmsWrite, vm)?;
        self.end_share(AuditKind::VmUnshared, vm, account.clone()).await
    }

    /// The VMs of others that the actor's account shares or was asked to share, by name; none for somebody on the server
    /// itself.
    ///
    /// # Errors
    /// The token is for other things; the store fails.
    pub async fn shared_with_me(&self) -> Result<Vec<ShareInfo>, Error> {
        let Some(account) = self.actor.name() else { return Ok(vec![]) };
        self.must_be_for(Scope::VmsRead, account)?;
        self.control.shared_with(account).await
    }

    /// Accepts to share a VM: from now on its name, and the account's keys, let into it as a user of the account's name.
    ///
    /// # Errors
    /// Nobody has asked the actor's account, or not any more, which is as if there were no such VM; the store fails.
    pub async fn accept_share(&self, vm: &VmName) -> Result<ShareInfo, Error> {
        let account = self.guest(vm)?;
        let vm = vm.clone();
        self.to_the_end(|acting| async move {
            let share = acting.control.accept(&vm, &account).await?;
            acting.note_share(AuditKind::ShareAccepted, &share, account.as_str()).await;
            Ok(share)
        })
        .await
    }

    /// Leaves a VM that is shared with the actor's account, or does not accept it.
    ///
    /// # Errors
    /// It is not shared with them, which is as if there were no such VM; the store fails.
    pub async fn leave_share(&self, vm: &VmName) -> Result<ShareInfo, Error> {
        let account = self.guest(vm)?;
        self.end_share(AuditKind::ShareLeft, vm, account).await.map_err(|error| match error {
            Error::NotShared { vm, .. } => Error::NoSuchVm(vm.to_string()),
            error => error,
        })
    }

    async fn end_share(&self, how: AuditKind, vm: &VmName, account: AccountName) -> Result<ShareInfo, Error> {
        let vm = vm.clone();
        self.to_the_end(|acting| async move {
            let share = acting.control.end_share(&vm, &account).await?;
            acting.note_share(how, &share, account.as_str()).await;
            Ok(share)
        })
        .await
    }

    /// Whose account acts; on the server itself nobody's does.
    fn guest(&self, vm: &VmName) -> Result<AccountName, Error> {
        let account = self.actor.name().ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        self.must_be_for(Scope::VmsWrite, account)?;
        Ok(account.clone())
    }

    /// A line for the owner and one for the guest: each reads their own.
    async fn note_share(&self, kind: AuditKind, share: &ShareInfo, detail: &str) {
        for account in [&share.vm.owner, &share.account] {
            self.note(kind, account, share.vm.to_string(), detail.to_owned()).await;
        }
    }
}
