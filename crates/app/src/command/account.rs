//! `berth admin account …`

use berth_control::AccountInfo;
use berth_model::AccountName;
use serde_json::json;

use super::{Context, confirm, misfit};
use crate::{
    admin::wire::{Answer, Failure, FailureKind, Request},
    cli::{AccountArgs, NameForArgs, RemoveAccountArgs, SshConfigArgs},
    output::{Table, day},
    ssh_config,
};

pub(crate) fn add(context: &Context<'_>, args: &AccountArgs) -> Result<(), Failure> {
    let Answer::Account(account) = context.ask(&Request::AccountAdd { name: args.account.clone() })? else {
        return Err(misfit());
    };
    let name = &account.name;
    let next = format!("Next: berth admin key add {name} FILE, then berth admin vm add {name}");
    context.output.result(&account, &format!("The account {name} is added. {next}"))
}

pub(crate) fn list(context: &Context<'_>) -> Result<(), Failure> {
    let Answer::Accounts(accounts) = context.ask(&Request::AccountList {})? else { return Err(misfit()) };
    let mut table = Table::new(["NAME", "KEYS", "VMS", "ADDED"]);
    for AccountInfo { name, created, keys, vms, .. } in &accounts {
        table.row([name.to_string(), keys.to_string(), vms.to_string(), day(*created)]);
    }
    context.output.table(
        &json!({ "accounts": accounts }),
        &table,
        "No accounts yet. Add one: berth admin account add NAME",
    )
}

pub(crate) fn remove(context: &Context<'_>, args: &RemoveAccountArgs) -> Result<(), Failure> {
    let name = &args.account;
    let what =
        format!("This removes the account {name}, its keys, and its VMs with everything on their disks.");
    confirm::removal(context, &what, name, args.yes)?;
    let Answer::Removed { name } = context.ask(&Request::AccountRemove { name: name.clone() })? else {
        return Err(misfit());
    };
    context.output.result(&json!({ "removed": name }), &format!("The account {name} is removed."))
}

pub(crate) fn ssh_config(context: &Context<'_>, args: &SshConfigArgs) -> Result<(), Failure> {
    let Answer::WayIn(way) = context.ask(&Request::AccountWayIn { name: args.account.clone() })? else {
        return Err(misfit());
    };
    let text = ssh_config::write(&way, &args.for_file, &args.identity)
        .map_err(|error| Failure::new(FailureKind::Invalid, error.to_string()))?;
    context.output.result(&json!({ "ssh_config": text, "website": way.website }), text.trim_end())
}

pub(crate) fn name_for(context: &Context<'_>, args: &NameForArgs) -> Result<(), Failure> {
    let name = AccountName::from_login_name(&args.login).ok_or_else(|| {
        Failure::new(
            FailureKind::Invalid,
            format!("No account name can be made from the login {:?}.", args.login),
        )
    })?;
    context.output.result(&json!({ "name": name }), name.as_str())
}
