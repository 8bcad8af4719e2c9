//! What people do with VMs and keys: may they, and who was it.
//!
//! [`Control`] does what it is asked. An [`Acting`] asks it in somebody's name: it refuses what is not theirs, in the
//! words for what does not exist, and writes down what they did.

use std::{sync::Arc, time::Duration};

use berth_model::{AccountName, VmName};
use berth_store::{AuditId, AuditKind, OwnLimits, Scope};
use tokio::sync::mpsc;

use crate::{
    AddedKey, AuditInfo, Control, KeyInfo, Progress, VmInfo, actor::Actor, error::Error, web_error::WebError,
};

/// Somebody who acts. See the module.
#[derive(Clone)]
pub struct Acting {
    pub(crate) control: Arc<Control>,
    pub(crate) actor: Actor,
}

impl Control {
    /// Acts in somebody's name.
    #[must_use]
    pub fn acting(self: &Arc<Self>, actor: Actor) -> Acting {
        Acting { control: self.clone(), actor }
    }
}

impl Acting {
    /// Who acts.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Refuses what is for operators.
    pub(crate) fn must_be_operator(&self, what: Scope) -> Result<(), WebError> {
        if self.actor.operates(what) { Ok(()) } else { Err(WebError::Missing) }
    }

    /// Refuses somebody else's account.
    pub(crate) fn must_be_for(&self, what: Scope, account: &AccountName) -> Result<(), Error> {
        self.actor.may(what, account, || Error::NoSuchAccount(account.clone()))
    }

    pub(crate) fn must_be_for_vm(&self, what: Scope, vm: &VmName) -> Result<(), Error> {
        self.actor.may(what, &vm.owner, || Error::NoSuchVm(vm.to_string()))
    }

    pub(crate) async fn note(&self, kind: AuditKind, account: &AccountName, subject: String, detail: String) {
        self.control.note(&self.actor, kind, account, subject, detail).await;
    }

    pub(crate) async fn note_vm(&self, kind: AuditKind, vm: &VmName, detail: &str) {
        self.note(kind, &vm.owner, vm.to_string(), detail.to_owned()).await;
    }

    /// Does a change and writes it down. Whoever asked for it may go away half-way, and with them the future that waits
    /// here: what is changed is written down all the same.
    ///
    /// A server that is being replaced changes nothing: two that do would not know of each other.
    pub(crate) async fn to_the_end<T, E, F>(&self, work: impl FnOnce(Self) -> F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let (control, work) = (self.control.clone(), work(self.clone()));
        let change = async move {
            let Some(_changing) = control.may_change().await else { return Err(Error::Replaced.into()) };
            // So that the trail tells of the log-in first.
            control.tools.ledger.written().await;
            work.await
        };
        self.control.to_the_end(change).await
    }

    /// The same for what waits for a VM, for as long as that takes: a server that ends does not wait for it.
    pub(crate) async fn to_the_end_of_wait<T, E, F>(&self, work: impl FnOnce(Self) -> F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        if self.control.may_change().await.is_none() {
            return Err(Error::Replaced.into());
        }
        let closing = self.control.closing.clone();
        let work = closing.run_until_cancelled_owned(work(self.clone()));
        match self.control.to_the_end(work).await {
            Some(done) => done,
            // Whoever waits here ends with the server.
            None => std::future::pending().await,
        }
    }

    /// As [`Control::keys`].
    ///
    /// # Errors
    /// As there; somebody else's account is one that does not exist.
    pub async fn keys(&self, account: &AccountName) -> Result<Vec<KeyInfo>, Error> {
        self.must_be_for(Scope::KeysRead, account)?;
        self.control.keys(account).await
    }

    /// As [`Control::add_keys`].
    ///
    /// # Errors
    /// As there; somebody else's account is one that does not exist.
    pub async fn add_keys(
        &self,
        account: &AccountName,
        pasted: &str,
        label: Option<&str>,
    ) -> Result<Vec<AddedKey>, Error> {
        self.must_be_for(Scope::KeysWrite, account)?;
        let (account, pasted, label) = (account.clone(), pasted.to_owned(), label.map(str::to_owned));
        self.to_the_end(|acting| async move {
            let judged = acting.control.add_keys(&account, &pasted, label.as_deref()).await?;
            for key in &judged {
                if let AddedKey::Added { key } = key {
                    acting.note_key(AuditKind::KeyAdded, &account, key).await;
                }
            }
            Ok(judged)
        })
        .await
    }

    /// As [`Control::rename_key`].
    ///
    /// # Errors
    /// As there; somebody else's account is one that does not exist.
    pub async fn rename_key(
        &self,
        account: &AccountName,
        which: &str,
        label: &str,
    ) -> Result<KeyInfo, Error> {
        self.must_be_for(Scope::KeysWrite, account)?;
        let (account, which, label) = (account.clone(), which.to_owned(), label.to_owned());
        self.to_the_end(|acting| async move {
            let key = acting.control.rename_key(&account, &which, &label).await?;
            acting.note_key(AuditKind::KeyRenamed, &account, &key).await;
            Ok(key)
        })
        .await
    }

    /// As [`Control::remove_key`].
    ///
    /// # Errors
    /// As there; somebody else's account is one that does not exist.
    pub async fn remove_key(&self, account: &AccountName, which: &str) -> Result<KeyInfo, Error> {
        self.must_be_for(Scope::KeysWrite, account)?;
        let (account, which) = (account.clone(), which.to_owned());
        self.to_the_end(|acting| async move {
            let key = acting.control.remove_key(&account, &which).await?;
            acting.note_key(AuditKind::KeyRemoved, &account, &key).await;
            Ok(key)
        })
        .await
    }

    async fn note_key(&self, kind: AuditKind, account: &AccountName, key: &KeyInfo) {
        self.note(kind, account, key.fingerprint.to_string(), key.label.clone()).await;
    }

    /// As [`Control::activity`].
    ///
    /// # Errors
    /// As there; somebody else's account is one that does not exist.
    pub async fn activity(
        &self,
        account: &AccountName,
        before: Option<AuditId>,
    ) -> Result<Vec<AuditInfo>, Error> {
        self.must_be_for(Scope::AccountRead, account)?;
        self.control.activity_of(account, before).await
    }

    /// As [`Control::vms`]; all, where operators ask for no account's, and one's own, where members do.
    ///
    /// # Errors
    /// As there; somebody else's account is one that does not exist.
    pub async fn vms(&self, owner: Option<&AccountName>) -> Result<Vec<VmInfo>, Error> {
        let all = self.actor.operates(Scope::VmsRead);
        let owner = if all { owner } else { owner.or(self.actor.name()) };
        if let Some(owner) = owner {
            self.must_be_for(Scope::VmsRead, owner)?;
        }
        self.control.vms(owner).await
    }

    /// As [`Control::find_vm`], among those that are not somebody else's.
    ///
    /// # Errors
    /// As there.
    pub async fn find_vm(&self, name: &str) -> Result<VmName, Error> {
        let vm = self.control.find_vm(name).await?;
        let missing = |_| Error::NoSuchVm(name.to_owned());
        self.must_be_at_home_in(Scope::VmsRead, &vm).map_err(|error| match error {
            Error::NotInScope(_) => error,
            error => missing(error),
        })?;
        Ok(vm)
    }

    /// As [`Control::add_vm`].
    ///
    /// # Errors
    /// As there; somebody else's account is one that does not exist.
    pub async fn add_vm(&self, owner: &AccountName) -> Result<VmInfo, Error> {
        self.must_be_for(Scope::VmsWrite, owner)?;
        self.add_vm_of(owner).await
    }

    pub(crate) async fn add_vm_of(&self, owner: &AccountName) -> Result<VmInfo, Error> {
        let owner = owner.clone();
        self.to_the_end(|acting| async move {
            let vm = acting.control.add_vm(&owner).await?;
            acting.note_vm(AuditKind::VmAdded, &vm.name, "").await;
            Ok(vm)
        })
        .await
    }

    /// As [`Control::start_vm`].
    ///
    /// # Errors
    /// As there; somebody else's VM is one that does not exist. So it is with all that follow.
    pub async fn start_vm(&self, vm: &VmName, progress: mpsc::Sender<Progress>) -> Result<(), Error> {
        self.must_be_at_home_in(Scope::VmsWrite, vm)?;
        let vm = vm.clone();
        self.to_the_end_of_wait(|acting| async move {
            acting.control.start_vm(&vm, progress).await?;
            acting.note_vm(AuditKind::VmStarted, &vm, "").await;
            Ok(())
        })
        .await
    }

    /// As [`Control::boot_vm`].
    ///
    /// # Errors
    /// As there.
    pub async fn boot_vm(&self, vm: &VmName, progress: mpsc::Sender<Progress>) -> Result<(), Error> {
        self.must_be_for_vm(Scope::VmsWrite, vm)?;
        let vm = vm.clone();
        self.to_the_end_of_wait(|acting| async move {
            acting.control.boot_vm(&vm, progress).await?;
            acting.note_vm(AuditKind::VmStarted, &vm, "from its disk").await;
            Ok(())
        })
        .await
    }

    /// As [`Control::stop_vm`].
    ///
    /// # Errors
    /// As there.
    pub async fn stop_vm(&self, vm: &VmName) -> Result<(), Error> {
        self.must_be_for_vm(Scope::VmsWrite, vm)?;
        let vm = vm.clone();
        self.to_the_end_of_wait(|acting| async move {
            acting.control.stop_vm(&vm).await?;
            acting.note_vm(AuditKind::VmStopped, &vm, "").await;
            Ok(())
        })
        .await
    }

    /// As [`Control::sleep_vm`].
    ///
    /// # Errors
    /// As there.
    pub async fn sleep_vm(&self, vm: &VmName) -> Result<(), Error> {
        self.must_be_for_vm(Scope::VmsWrite, vm)?;
        let vm = vm.clone();
        self.to_the_end_of_wait(|acting| async move {
            acting.control.sleep_vm(&vm).await?;
            acting.note_vm(AuditKind::VmSlept, &vm, "").await;
            Ok(())
        })
        .await
    }

    /// As [`Control::set_always_on`].
    ///
    /// # Errors
    /// As there.
    pub async fn set_always_on(&self, vm: &VmName, always_on: bool) -> Result<(), Error> {
        self.must_be_for_vm(Scope::VmsWrite, vm)?;
        let vm = vm.clone();
        self.to_the_end(|acting| async move {
            acting.control.set_always_on(&vm, always_on).await?;
            acting.note_vm(AuditKind::VmAlwaysOn, &vm, if always_on { "on" } else { "off" }).await;
            Ok(())
        })
        .await
    }

    /// As [`Control::snooze_vm`].
    ///
    /// # Errors
    /// As there.
    pub async fn snooze_vm(&self, vm: &VmName, time: Duration) -> Result<(), Error> {
        self.must_be_for_vm(Scope::VmsWrite, vm)?;
        let vm = vm.clone();
        self.to_the_end(|acting| async move {
            acting.control.snooze_vm(&vm, time).await?;
            acting.note_vm(AuditKind::VmSnoozed, &vm, &format!("{} s", time.as_secs())).await;
            Ok(())
        })
        .await
    }

    /// As [`Control::why`].
    ///
    /// # Errors
    /// As there.
    pub async fn why(&self, vm: &VmName) -> Result<String, Error> {
        self.must_be_at_home_in(Scope::VmsRead, vm)?;
        self.control.why(vm).await
    }

    /// As [`Control::boot_log`].
    ///
    /// # Errors
    /// As there.
    pub async fn boot_log(&self, vm: &VmName) -> Result<String, Error> {
        self.must_be_for_vm(Scope::VmsRead, vm)?;
        self.control.boot_log(vm).await
    }

    /// As [`Control::remove_vm`].
    ///
    /// # Errors
    /// As there.
    pub async fn remove_vm(&self, vm: &VmName) -> Result<(), Error> {
        self.must_be_for_vm(Scope::VmsWrite, vm)?;
        let vm = vm.clone();
        self.to_the_end(|acting| async move {
            acting.control.remove_vm(&vm).await?;
            acting.note_vm(AuditKind::VmRemoved, &vm, "").await;
            Ok(())
        })
        .await
    }

    /// As [`Control::limits`], together with what the account has set for it alone.
    ///
    /// # Errors
    /// As there; somebody else's account is one that does not exist.
    pub async fn limits(&self, account: &AccountName) -> Result<(OwnLimits, crate::Limits), Error> {
        self.must_be_for(Scope::AccountRead, account)?;
        self.control.limits(account).await
    }
}
