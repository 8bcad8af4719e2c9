//! What people decide about sleep: put a VM to sleep, keep it awake, ask why.

use std::{sync::Arc, time::Duration};

use berth_model::{AccountName, VmName};
use berth_store::{OwnLimits, VmRow};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use crate::{
    Control, Limits,
    connect::Progress,
    error::Error,
    idle::{Reason, Use},
    lifecycle::{Refusal, State},
    supervisor::{Handle, Tools},
    why::{Known, Outlook, SleptFor, sentence},
};

/// The longest that a VM can be told to stay awake for; who needs more marks it always-on.
const LONGEST_SNOOZE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A VM that is asked to sleep is asked again for so long, if somebody is logging in to it or leaving it.
const CONNECTION_ENDS_WITHIN: Duration = Duration::from_secs(6);
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// A page of the site that somebody has open and is logged in on: their VMs stay awake until it is dropped.
pub struct SiteOpen {
    account: AccountName,
    tools: Arc<Tools>,
}

impl Drop for SiteOpen {
    fn drop(&mut self) {
        if self.tools.presence.leave(&self.account) {
            for handle in self.tools.handles.filter(|vm| vm.owner == self.account) {
                handle.activity.note(crate::idle::UseKind::Site);
            }
        }
    }
}

impl Control {
    /// Puts a VM to sleep at once, whatever holds it awake, and waits until it sleeps.
    ///
    /// # Errors
    /// It is off or starting, it is always-on, somebody is connecting to it in this moment, or the engine cannot.
    pub async fn sleep_vm(&self, vm: &VmName) -> Result<(), Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        let row = self.row(&handle).await?;
        if row.always_on {
            return Err(Error::AlwaysOn(vm.clone()));
        }
        let began = Instant::now();
        loop {
            match handle.sleep().await {
                Ok(()) => return Ok(()),
                // What was said last on a connection that just ended is still on its way.
                Err(Refusal::InUse) if began.elapsed() < CONNECTION_ENDS_WITHIN => sleep(TRY_AGAIN).await,
                Err(Refusal::NotRunning) => return Err(Error::NotRunning(vm.clone())),
                Err(refusal) => return Err(Error::refused(vm, refusal)),
            }
        }
    }

    /// Starts a VM from its disk and gives up what a sleep has kept in its memory: for one that cannot be woken. A VM
    /// that is not asleep is started as ever.
    ///
    /// # Errors
    /// As those of [`Control::start_vm`].
    pub async fn boot_vm(&self, vm: &VmName, progress: mpsc::Sender<Progress>) -> Result<(), Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        self.bring_up_by(&handle, &progress, handle.boot())
            .await
            .map_err(|refusal| Error::refused(vm, refusal))
    }

    /// Has a VM start with the server, never sleep, and be started again when it stops by itself; or no more. One that
    /// is off or asleep starts.
    ///
    /// # Errors
    /// There is no such VM; the store fails.
    pub async fn set_always_on(&self, vm: &VmName, always_on: bool) -> Result<(), Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        self.store.set_always_on(handle.id, always_on).await?;
        if always_on {
            self.store.set_turned_off(handle.id, false).await?;
        }
        self.policy_changed(&handle).await
    }

    /// Keeps a VM awake for this long from now, at most a week; zero for no longer. It does not wake one.
    ///
    /// # Errors
    /// It is longer than a week; there is no such VM; the store fails.
    pub async fn snooze_vm(&self, vm: &VmName, time: Duration) -> Result<(), Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        if time > LONGEST_SNOOZE {
            return Err(Error::TooLong);
        }
        // One that is taken back ends now: the time until it sleeps counts from here.
        let until = self.settings.clock.now() + time;
        self.store.set_snoozed(handle.id, Some(until)).await?;
        self.policy_changed(&handle).await
    }

    /// Why a VM is awake, or when and why it fell asleep: one sentence.
    ///
    /// # Errors
    /// There is no such VM; the store fails.
    pub async fn why(&self, vm: &VmName) -> Result<String, Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        let row = self.row(&handle).await?;
        Ok(self.sentence(&row, &handle))
    }

    /// Keeps the VMs of an account awake for as long as what is given lives: it has the site open.
    #[must_use]
    pub fn site_open(&self, account: &AccountName) -> SiteOpen {
        self.tools.presence.enter(account);
        SiteOpen { account: account.clone(), tools: self.tools.clone() }
    }

    /// What an account may have: what is set for it alone, and what holds for it in all.
    ///
    /// # Errors
    /// There is no such account; the store fails.
    pub async fn limits(&self, account: &AccountName) -> Result<(OwnLimits, Limits), Error> {
        let own = self.store.limits(account).await?;
        Ok((own, own.or(self.settings.limits)))
    }

    /// Sets what an account may have. What it has already stays.
    ///
    /// # Errors
    /// There is no such account; the store fails.
    pub async fn set_limits(&self, account: &AccountName, limits: OwnLimits) -> Result<(), Error> {
        Ok(self.store.set_limits(account, limits).await?)
    }

    pub(crate) fn sentence(&self, row: &VmRow, handle: &Handle) -> String {
        let kept = row.slept.as_ref();
        let slept_for = kept.and_then(|noted| serde_json::from_str::<SleptFor>(&noted.what).ok());
        let used = handle.activity.used().or_else(|| kept_use(row));
        let mut sentence = sentence(&Known {
            label: row.name.label(),
            name: row.name.to_string(),
            queued: handle.queued().borrow().as_ref(),
            now: self.settings.clock.now(),
            state: &handle.state(),
            outlook: &self.outlook(handle),
            used: used.as_ref(),
            slept: kept.zip(slept_for.as_ref()).map(|(noted, why)| (noted.at, why)),
            sleep_after: self.settings.idle.sleep_after,
        });
        if let (State::Asleep { failed: None }, Some(words)) =
            (handle.state(), self.engine.capabilities().of_its_sleep())
        {
            sentence += &format!(" {words}");
        }
        if let Some(reason) = handle.not_rebuilt() {
            sentence += &format!(" It could not be rebuilt: {reason}. It has the disk that it had.");
        }
        sentence
    }

    /// What the idle policy said last, with what has happened since.
    pub(crate) fn outlook(&self, handle: &Handle) -> Outlook {
        let said = handle.outlook();
        let (Some(used), Some(after)) = (handle.activity.used(), self.settings.idle.sleep_after) else {
            return said;
        };
        let connected =
            matches!(said, Outlook::Stays(Reason::Connecting)) && !handle.activity.is_connecting();
        match said {
            Outlook::Sleeps { since, .. } if used.at > since => {
                Outlook::Sleeps { since: used.at, at: used.at + after }
            }
            _ if connected => Outlook::Sleeps { since: used.at, at: used.at + after },
            said => said,
        }
    }

    async fn policy_changed(&self, handle: &Handle) -> Result<(), Error> {
        let row = self.row(handle).await?;
        handle.set_policy(self.policy_of(&row).await?).await;
        Ok(())
    }

    pub(crate) async fn row(&self, handle: &Handle) -> Result<VmRow, Error> {
        let row = self.store.vm(&handle.name).await?;
        row.filter(|row| row.id == handle.id).ok_or_else(|| match handle.state() {
            State::Removed => Error::BeingRemoved(handle.name.clone()),
            _ => Error::NoSuchVm(handle.name.to_string()),
        })
    }
}

fn kept_use(row: &VmRow) -> Option<Use> {
    let noted = row.used.as_ref()?;
    Some(Use { at: noted.at, what: serde_json::from_str(&noted.what).ok()? })
}
