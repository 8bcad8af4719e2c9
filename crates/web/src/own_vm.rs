//! Which VM of their own a member means: the only file that makes an [`OwnVm`], and what the pages act on is one.

use berth_control::VmInfo;
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
