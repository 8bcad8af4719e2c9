//! Which VM a member means: the only file that makes an [`OwnVm`], and what the pages act on is one; or an
//! [`EnterableVm`], for a terminal.

use berth_control::{ShareInfo, Status, VmInfo};
use berth_model::VmName;

use crate::{problem::Problem, visitor::Member};

/// A VM of the member who asked for it.
pub(crate) struct OwnVm {
    info: VmInfo,
}

impl OwnVm {
    /// The VM that is meant by its label or its full name. One that does not exist and one of somebody else are the
    /// same page that is not there.
    ///
    /// # Errors
    /// There is none; or it cannot be found out now.
    pub(crate) async fn find(member: &Member, asked: &str) -> Result<Self, Problem> {
        let yours = member.acting.vms(Some(member.account())).await?;
        let meant = yours.into_iter().find(|vm| vm.name.label() == asked || vm.name.to_string() == asked);
        meant.map(|info| Self { info }).ok_or_else(Problem::missing)
    }

    pub(crate) fn name(&self) -> &VmName {
        &self.info.name
    }

    pub(crate) fn info(&self) -> &VmInfo {
        &self.info
    }
}

/// A VM that the member who asked for it may enter: one of theirs, one that they share, or one of the team.
pub(crate) enum EnterableVm {
    Own(OwnVm),
    Shared(ShareInfo),
    /// One of the team.
    Team(VmInfo),
}

impl EnterableVm {
    /// As [`OwnVm::find`]; a VM that is shared is meant by its full name alone.
    ///
    /// # Errors
    /// There is none; or it cannot be found out now.
    pub(crate) async fn find(member: &Member, asked: &str) -> Result<Self, Problem> {
        let is_meant = |vm: &VmInfo| vm.name.label() == asked || vm.name.to_string() == asked;
        if let Some(vm) = member.acting.team_vms().await?.into_iter().find(is_meant) {
            return Ok(Self::Team(vm));
        }
        let shared = member.acting.shared_with_me().await?.into_iter();
        let meant =
            shared.filter(|share| share.accepted.is_some()).find(|share| share.vm.to_string() == asked);
        match meant {
            Some(share) => Ok(Self::Shared(share)),
            None => OwnVm::find(member, asked).await.map(Self::Own),
        }
    }

    pub(crate) fn name(&self) -> &VmName {
        match self {
            Self::Own(vm) => vm.name(),
            Self::Shared(share) => &share.vm,
            Self::Team(vm) => &vm.name,
        }
    }

    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Own(vm) => vm.info().status,
            Self::Shared(share) => share.status,
            Self::Team(vm) => vm.status,
        }
    }

    /// How the member calls it.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Own(vm) => vm.name().label(),
            Self::Shared(share) => share.vm.to_string(),
            Self::Team(vm) => vm.name.label(),
        }
    }

    /// Where the website tells of it.
    pub(crate) fn page(&self) -> String {
        match self {
            Self::Own(vm) => format!("/vms/{}", vm.name().label()),
            Self::Shared(_) => "/#shared".to_owned(),
            Self::Team(_) => "/#team".to_owned(),
        }
    }
}
