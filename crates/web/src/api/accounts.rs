//! Accounts, for operators.

use berth_control::OwnLimits;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Refusal,
    call::{Call, Nothing, account},
    reply::{Done, Made, Shown},
    shapes::{
        Account, Block, LimitsSet, Link, NewAccount, NewLink, NewVm, OwnAmounts, Page, Paging, SetRole, Vm,
        page,
    },
};

/// Which account.
#[derive(Deserialize, IntoParams)]
pub(crate) struct Which {
    /// The account's name.
    pub(crate) account: String,
}

pub(crate) async fn list(call: Call<Nothing, Paging>) -> Result<Shown<Page<Account>>, Refusal> {
    let accounts = call.caller.acting.accounts().await?;
    Ok(Shown(page(accounts, &call.query, |account| account.name.clone())?))
}

pub(crate) async fn add(call: Call<Nothing, Nothing, NewAccount>) -> Result<Done, Refusal> {
    let name = call.body.name.parse().map_err(|error| Refusal::invalid(format!("name: {error}")))?;
    call.caller.acting.add_account(&name).await?;
    Ok(Done)
}

pub(crate) async fn show(call: Call<Which>) -> Result<Shown<Account>, Refusal> {
    Ok(Shown(call.caller.acting.account(&account(&call.path.account)?).await?.into()))
}

pub(crate) async fn remove(call: Call<Which>) -> Result<Done, Refusal> {
    call.caller.acting.remove_account(&account(&call.path.account)?).await?;
    Ok(Done)
}

pub(crate) async fn set_role(call: Call<Which, Nothing, SetRole>) -> Result<Done, Refusal> {
    call.caller.acting.set_role(&account(&call.path.account)?, call.body.role.into()).await?;
    Ok(Done)
}

pub(crate) async fn block(call: Call<Which, Nothing, Block>) -> Result<Done, Refusal> {
    let name = account(&call.path.account)?;
    if call.body.blocked {
        call.caller.acting.block_account(&name).await?;
    } else {
        call.caller.acting.unblock_account(&name).await?;
    }
    Ok(Done)
}

pub(crate) async fn limits(call: Call<Which>) -> Result<Shown<LimitsSet>, Refusal> {
    let limits = call.caller.acting.limits(&account(&call.path.account)?).await?;
    Ok(Shown(limits.into()))
}

pub(crate) async fn set_limits(call: Call<Which, Nothing, OwnAmounts>) -> Result<Done, Refusal> {
    call.caller.acting.set_limits(&account(&call.path.account)?, OwnLimits::from(call.body)).await?;
    Ok(Done)
}

pub(crate) async fn make_link(call: Call<Which, Nothing, NewLink>) -> Result<Made<Link>, Refusal> {
    let name = account(&call.path.account)?;
    let link = call.caller.acting.make_link(&name, call.body.purpose.into()).await?;
    Ok(Made(Link { url: link.expose().clone() }))
}

pub(crate) async fn list_vms(call: Call<Which, Paging>) -> Result<Shown<Page<Vm>>, Refusal> {
    let vms = call.caller.acting.vms(Some(&account(&call.path.account)?)).await?;
    Ok(Shown(page(vms, &call.query, |vm| vm.name.clone())?))
}

pub(crate) async fn add_vm(call: Call<Which, Nothing, NewVm>) -> Result<Made<Vm>, Refusal> {
    let made = call.caller.acting.add_vm(&account(&call.path.account)?).await?;
    Ok(Made(made.into()))
}
