//! `berth admin account …`

use berth_control::{AccountInfo, Limits, OwnLimits};
use berth_model::AccountName;
use serde_json::{Value, json};

use super::{Context, confirm, misfit};
use crate::{
    admin::wire::{AccountLimits, Answer, Failure, FailureKind, Request},
    cli::{AccountArgs, LimitsArgs, NameForArgs, RemoveAccountArgs, SshConfigArgs},
    output::{Table, day},
    ssh_config,
};

/// The database holds no larger number, and nobody has as much.
const UNLIMITED: u64 = i64::MAX as u64;

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

pub(crate) fn limits(context: &Context<'_>, args: &LimitsArgs) -> Result<(), Failure> {
    let LimitsArgs { account, vms, cpus, memory, disk, default } = args;
    let limits = OwnLimits { vms: *vms, cpus: *cpus, memory: *memory, disk: *disk };
    let request = if *default || limits != OwnLimits::default() {
        Request::AccountSetLimits { name: account.clone(), limits, afresh: *default }
    } else {
        Request::AccountLimits { name: account.clone() }
    };
    let Answer::Limits(AccountLimits { account, own, limits, has }) = context.ask(&request)? else {
        return Err(misfit());
    };
    let count = |limit: u32| if limit == Limits::NONE.vms { "unlimited".into() } else { limit.to_string() };
    let size = |limit: u64| if limit >= UNLIMITED { "unlimited".into() } else { gib(limit) };
    let set_for = |own: bool| if own { "for this account" } else { "for all" }.to_owned();
    let mut table = Table::new(["", "HAS", "MAY HAVE", "SET"]);
    table.row(["VMs".into(), has.vms.to_string(), count(limits.vms), set_for(own.vms.is_some())]);
    table.row(["CPUs".into(), has.cpus.to_string(), count(limits.cpus), set_for(own.cpus.is_some())]);
    table.row(["memory".into(), gib(has.memory), size(limits.memory), set_for(own.memory.is_some())]);
    table.row(["disk".into(), gib(has.disk), size(limits.disk), set_for(own.disk.is_some())]);
    let own = json!({
        "vms": own.vms.map(|limit| number(limit.into())), "cpus": own.cpus.map(|limit| number(limit.into())),
        "memory": own.memory.map(number), "disk": own.disk.map(number),
    });
    let in_all = json!({
        "vms": number(limits.vms.into()), "cpus": number(limits.cpus.into()),
        "memory": number(limits.memory), "disk": number(limits.disk),
    });
    let value = json!({ "account": account, "limits": in_all, "own": own, "has": has });
    context.output.table(&value, &table, "")
}

/// A limit in JSON: a number, or `"unlimited"`.
fn number(limit: u64) -> Value {
    if limit == u64::from(Limits::NONE.vms) || limit >= UNLIMITED { json!("unlimited") } else { json!(limit) }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)).replace(".0 GiB", " GiB")
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
