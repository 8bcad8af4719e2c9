//! VMs that belong to their team: made by operators, entered by every member as a user of their own.
//!
//! What stands in the place of their owner is [`AccountName::of_teams`], which is nobody: so everything that is their
//! owner's to do is an operator's, and what members may is said here and in `access::may_enter`. Every account is in the
//! default team, and in no other, as all these VMs are.

use std::sync::Arc;

use berth_model::{AccountName, VmName};
use berth_store::{Limits, Role, Scope};

use crate::{Control, VmInfo, acting::Acting, error::Error, supervisor::Handle, web_error::WebError};

impl Control {
    /// The limits that hold where nothing is set for an owner alone; what operators make for the team has none.
    pub(crate) fn limits_of_owner(&self, owner: &AccountName) -> Limits {
        if owner.is_of_teams() { Limits::NONE } else { self.settings.limits }
    }

    /// The VMs of the team, by number.
    pub(crate) async fn team_vms(&self) -> Result<Vec<VmInfo>, Error> {
        self.vms(Some(&AccountName::of_teams())).await
    }

    /// Has the VMs of the team hear who is a member, and what role they have.
    pub(crate) async fn members_changed(self: &Arc<Self>) {
        let handles: Vec<Handle> = self.handles_where(VmName::is_of_team);
        crate::keys::push_to(&handles).await;
    }
}

impl Acting {
    /// Makes a VM for the team; for operators. It is off, and its disk is made at its first start.
    ///
    /// # Errors
    /// [`WebError::Missing`] for members; the store fails.
    pub async fn add_team_vm(&self) -> Result<VmInfo, WebError> {
        self.must_be_operator(Scope::OpsWrite)?;
        Ok(self.add_vm_of(&AccountName::of_teams()).await?)
    }

    /// The VMs of the team, by number; for every member.
    ///
    /// # Errors
    /// The token is for other things; the store fails.
    pub async fn team_vms(&self) -> Result<Vec<VmInfo>, Error> {
        if let Some(account) = self.actor.name() {
            self.must_be_for(Scope::VmsRead, account)?;
        }
        self.control.team_vms().await
    }

    /// Refuses what is neither for who may enter a VM by what it is (its owner, every member for one of the team) nor for
    /// operators: to see how it does, and to bring it up.
    pub(crate) fn must_be_at_home_in(&self, what: Scope, vm: &VmName) -> Result<(), Error> {
        match self.actor.name() {
            Some(account) if vm.is_of_team() => self.must_be_for(what, account),
            _ => self.must_be_for_vm(what, vm),
        }
    }
}

/// Whether a member is root in the VMs of the team when they want to: who runs this Berth, since whoever is root there
/// reads what all others do.
pub(crate) fn has_sudo(role: Role) -> bool {
    role == Role::Operator
}
