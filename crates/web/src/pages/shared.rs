//! The part of "Your environments" about VMs of others, and what is done there: accept, leave.

use axum::response::Response;
use berth_control::ShareInfo;
use berth_model::VmName;

use crate::{
    fields::Fields,
    problem::Problem,
    views::kind,
    visitor::Member,
    words::{Moment, go},
};

/// A VM of somebody else.
pub(crate) struct SharedView {
    pub(crate) vm: String,
    pub(crate) owner: String,
    pub(crate) kind: &'static str,
    pub(crate) word: String,
    pub(crate) accepted: bool,
    pub(crate) sudo: bool,
    /// Until when, or until when they can accept.
    pub(crate) until: Option<Moment>,
    pub(crate) command: String,
}

impl From<ShareInfo> for SharedView {
    fn from(info: ShareInfo) -> Self {
        Self {
            vm: info.vm.to_string(),
            owner: info.vm.owner.to_string(),
            kind: kind(info.status),
            word: info.status.to_string(),
            accepted: info.accepted.is_some(),
            sudo: info.sudo,
            until: info.accept_by.or(info.until).map(Moment::new),
            // The user in it is the one who asks, and not the owner.
            command: format!("ssh {}@{}", info.account, info.host),
        }
    }
}

/// Those that are shared with a member, and those that they were asked for.
pub(crate) async fn of(member: &Member) -> Result<Vec<SharedView>, Problem> {
    Ok(member.acting.shared_with_me().await?.into_iter().map(SharedView::from).collect())
}

pub(crate) async fn accept(member: Member, fields: Fields) -> Result<Response, Problem> {
    member.acting.accept_share(&vm(&fields)?).await?;
    Ok(go("/#shared"))
}

pub(crate) async fn leave(member: Member, fields: Fields) -> Result<Response, Problem> {
    member.acting.leave_share(&vm(&fields)?).await?;
    Ok(go("/"))
}

/// Which one is meant. What is no name is as missing as what is not shared.
fn vm(fields: &Fields) -> Result<VmName, Problem> {
    fields.get("vm").parse().map_err(|_| Problem::missing())
}
