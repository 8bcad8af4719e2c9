//! `berth admin vm share`, `unshare` and `shares`

use berth_control::ShareInfo;
use serde_json::json;

use super::{Context, misfit};
use crate::{
    admin::wire::{Answer, Failure, Request},
    cli::{ShareVmArgs, UnshareVmArgs, VmArgs},
    output::{Table, moment},
};

pub(crate) fn share(context: &Context<'_>, args: &ShareVmArgs) -> Result<(), Failure> {
    let request = Request::VmShare {
        vm: args.vm.clone(),
        account: args.account.clone(),
        sudo: args.sudo,
        seconds: args.time.map(|time| time.as_secs()),
    };
    let Answer::Share(share) = context.ask(&request)? else { return Err(misfit()) };
    let ShareInfo { vm, account, .. } = &share;
    let text = match share.accept_by {
        Some(by) => format!("{account} was asked to share {vm}, and can accept until {}.", moment(by)),
        None => format!("{account} shares {vm}, now on other terms. Connections that were open have ended."),
    };
    context.output.result(&share, &text)
}

pub(crate) fn unshare(context: &Context<'_>, args: &UnshareVmArgs) -> Result<(), Failure> {
    let request = Request::VmUnshare { vm: args.vm.clone(), account: args.account.clone() };
    let Answer::Share(share) = context.ask(&request)? else { return Err(misfit()) };
    let text = format!("{} is not shared with {} any more. Their home in it stays.", share.vm, share.account);
    context.output.result(&share, &text)
}

pub(crate) fn shares(context: &Context<'_>, args: &VmArgs) -> Result<(), Failure> {
    let Answer::Shares(shares) = context.ask(&Request::VmShares { vm: args.vm.clone() })? else {
        return Err(misfit());
    };
    let mut table = Table::new(["ACCOUNT", "STATE", "SUDO", "UNTIL"]);
    for share in &shares {
        let state = if share.accepted.is_some() { "accepted" } else { "asked" };
        let sudo = if share.sudo { "yes" } else { "no" };
        let until = share.until.map(moment).unwrap_or_default();
        table.row([share.account.to_string(), state.to_owned(), sudo.to_owned(), until]);
    }
    let empty = format!("It is shared with nobody. Share it: berth admin vm share {} ACCOUNT", args.vm);
    context.output.table(&json!({ "shares": shares }), &table, &empty)
}
