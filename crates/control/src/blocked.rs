//! The VMs of a blocked account: they sleep, and nothing of what was decided about them keeps them awake.
//!
//! Who lets nobody in to such an account are the store and the revocations; see `acting_accounts`. A VM of it runs only
//! where it was about to, or where an operator starts it by hand.

use std::{sync::Arc, time::Duration};

use berth_model::AccountName;
use berth_store::{StoreError, VmRow};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::{
    Control,
    error::Error,
    lifecycle::{Refusal, State},
    supervisor::{Handle, Policy},
};

/// How long after a try to put a VM to sleep it is looked at again.
const PAUSE: Duration = Duration::from_secs(1);
/// It has to stay asleep for so long: connections that are being ended may wake it once more.
const QUIET: Duration = Duration::from_secs(5);
/// How long it is tried.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

impl Control {
    /// What people have decided about a VM, as far as it counts: for a blocked account nothing does.
    pub(crate) async fn policy_of(&self, row: &VmRow) -> Result<Policy, StoreError> {
        Ok(match self.store.is_blocked(&row.name.owner).await? {
            true => Policy::default(),
            false => Policy { always_on: row.always_on, snoozed_until: row.snoozed_until },
        })
    }

    /// Has the idle policy of all of an account's VMs look again.
    pub(crate) async fn policies_changed(&self, account: &AccountName) -> Result<(), Error> {
        for row in self.store.vms(Some(account)).await? {
            if let Some(handle) = self.handle(&row.name).filter(|handle| handle.id == row.id) {
                handle.set_policy(self.policy_of(&row).await?).await;
            }
        }
        Ok(())
    }

    /// Puts the VMs of a blocked account to sleep, without waiting for it.
    pub(crate) async fn put_to_rest(self: &Arc<Self>, account: &AccountName) {
        for handle in self.handles_where(|vm| vm.owner == *account) {
            handle.set_policy(Policy::default()).await;
            self.rest(handle);
        }
    }

    /// Puts a VM of a blocked account to sleep, and sees to it that it stays so.
    fn rest(self: &Arc<Self>, handle: Handle) {
        let (control, closing) = (Arc::downgrade(self), self.closing.clone());
        self.tasks.spawn(closing.run_until_cancelled_owned(async move {
            let began = Instant::now();
            let mut quiet_since = None;
            while began.elapsed() < PATIENCE {
                match control.upgrade() {
                    Some(control) if control.store.is_blocked(&handle.name.owner).await.unwrap_or(true) => {}
                    _ => return,
                }
                match handle.state() {
                    State::Removed | State::Removing { .. } => return,
                    State::Off { .. } | State::Asleep { .. } => {
                        if quiet_since.get_or_insert_with(Instant::now).elapsed() >= QUIET {
                            info!(vm = %handle.name, "the VM of a blocked account is at rest");
                            return;
                        }
                    }
                    State::Running => {
                        quiet_since = None;
                        if let Err(refusal @ Refusal::Engine(_)) = handle.sleep().await {
                            warn!(vm = %handle.name, ?refusal, "the VM of a blocked account cannot sleep; trying again");
                        }
                    }
                    State::Starting
                    | State::Waking
                    | State::FallingAsleep { .. }
                    | State::Stopping { .. }
                    | State::Rebuilding { .. } => {
                        quiet_since = None;
                    }
                }
                sleep(PAUSE).await;
            }
            warn!(vm = %handle.name, "the VM of a blocked account still runs: stop it with berth admin vm stop");
        }));
    }
}
