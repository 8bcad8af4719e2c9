//! VMs that are shared: by their owners, and with those who come for them.

use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Refusal,
    call::{Call, Nothing, account},
    reply::{Done, Shown},
    shapes::{AcceptShare, Page, Share, ShareTerms},
    vms::Which,
};

/// With whom which VM is shared.
#[derive(Deserialize, IntoParams)]
pub(crate) struct WhichShare {
    /// `vm-0` for one of your own; `vm-0.alice.koding` or any of its host names for any.
    vm: String,
    /// The name of an account.
    account: String,
}

pub(crate) async fn list(call: Call<Which>) -> Result<Shown<Page<Share>>, Refusal> {
    let name = call.vm(&call.path.vm)?;
    let shares = call.caller.acting.shares(&name).await?;
    Ok(Shown(Page::whole(shares.into_iter().map(Share::from).collect())))
}

pub(crate) async fn share(call: Call<WhichShare, Nothing, ShareTerms>) -> Result<Shown<Share>, Refusal> {
    let (name, with) = (call.vm(&call.path.vm)?, account(&call.path.account)?);
    let ShareTerms { sudo, until } = call.body;
    let terms = berth_control::ShareTerms { sudo, until };
    Ok(Shown(call.caller.acting.share_vm(&name, &with, terms).await?.into()))
}

pub(crate) async fn take_back(call: Call<WhichShare>) -> Result<Done, Refusal> {
    let (name, from) = (call.vm(&call.path.vm)?, account(&call.path.account)?);
    call.caller.acting.unshare_vm(&name, &from).await?;
    Ok(Done)
}

pub(crate) async fn with_me(call: Call) -> Result<Shown<Page<Share>>, Refusal> {
    let shares = call.caller.acting.shared_with_me().await?;
    Ok(Shown(Page::whole(shares.into_iter().map(Share::from).collect())))
}

pub(crate) async fn accept(call: Call<Which, Nothing, AcceptShare>) -> Result<Shown<Share>, Refusal> {
    let (name, acting) = (call.vm(&call.path.vm)?, &call.caller.acting);
    let share = match call.body.accepted {
        true => acting.accept_share(&name).await?,
        false => acting.leave_share(&name).await?,
    };
    Ok(Shown(share.into()))
}

pub(crate) async fn leave(call: Call<Which>) -> Result<Done, Refusal> {
    let name = call.vm(&call.path.vm)?;
    call.caller.acting.leave_share(&name).await?;
    Ok(Done)
}
