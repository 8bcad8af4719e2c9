//! VMs that belong to the team.

use super::{
    Refusal,
    call::{Call, Nothing},
    reply::{Made, Shown},
    shapes::{NewVm, Page, Vm},
};

pub(crate) async fn list(call: Call) -> Result<Shown<Page<Vm>>, Refusal> {
    let vms = call.caller.acting.team_vms().await?;
    Ok(Shown(Page::whole(vms.into_iter().map(Vm::from).collect())))
}

pub(crate) async fn add(call: Call<Nothing, Nothing, NewVm>) -> Result<Made<Vm>, Refusal> {
    Ok(Made(call.caller.acting.add_team_vm().await?.into()))
}
