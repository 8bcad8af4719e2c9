//! `berth admin account …`

use berth_control::{AccountInfo, Limits, LinkFor, OwnLimits, Role};
use berth_model::AccountName;
use serde_json::{Value, json};

use super::{Context, confirm, misfit};
use crate::{
    admin::wire::{AccountLimits, Answer, Failure, FailureKind, Request},
    cli::{
        AccountArgs, InviteArgs, LimitsArgs, LinkArgs, NameForArgs, RemoveAccountArgs, RoleArgs,
        SshConfigArgs,
    },
    output::{Table, day, moment},
    ssh_config,
};

/// The database holds no larger number, and nobody has as much.
const UNLIMITED: u64 = i64::MAX as u64;

pub(crate) fn add(context: &Context<'_>, args: &AccountArgs) -> Result<(), Failure> {
    let Answer::Account(account) = context.ask(&Request::AccountAdd { name: args.account.clone() })? else {
        return Err(misfit());
    };
    let name = &account.name;
    let next = format!(
        "Next: berth admin key add {name} FILE, then berth admin vm add {name}; or berth admin account link {name} for the website"
    );
    context.output.result(&account, &format!("The account {name} is added. {next}"))
}

pub(crate) fn list(context: &Context<'_>) -> Result<(), Failure> {
    let Answer::Accounts(accounts) = context.ask(&Request::AccountList {})? else { return Err(misfit()) };
    let mut table = Table::new(["NAME", "KEYS", "VMS", "ADDED", "ROLE"]);
    for AccountInfo { name, created, keys, vms, role, blocked } in &accounts {
        let role = if blocked.is_some() { "blocked" } else { role.as_str() };
        table.row([name.to_string(), keys.to_string(), vms.to_string(), day(*created), role.to_owned()]);
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

pub(crate) fn link(context: &Context<'_>, args: &LinkArgs) -> Result<(), Failure> {
    let what = if args.reset { LinkFor::Reset } else { LinkFor::LogIn };
    let Answer::Link { address } = context.ask(&Request::AccountLink { name: args.account.clone(), what })?
    else {
        return Err(misfit());
    };
    let name = &args.account;
    context.output.note(&if args.reset {
        format!("Whoever opens this link within a day sets the password of {name}. It works once.")
    } else {
        format!("Whoever opens this link within ten minutes is logged in as {name}. It works once.")
    });
    context.output.result(&json!({ "link": address }), &address)
}

pub(crate) fn invite(context: &Context<'_>, args: &InviteArgs) -> Result<(), Failure> {
    let role = if args.operator { Role::Operator } else { Role::Member };
    let request = Request::AccountInvite { name: args.account.clone(), role, note: args.note.clone() };
    let Answer::Invited { invitation, address } = context.ask(&request)? else { return Err(misfit()) };
    let until = moment(invitation.expires);
    context.output.note(&format!("Whoever opens this link makes the account. It works once, until {until}."));
    context.output.result(&json!({ "invitation": invitation, "link": address }), &address)
}

pub(crate) fn role(context: &Context<'_>, args: &RoleArgs) -> Result<(), Failure> {
    let request = Request::AccountSetRole { name: args.account.clone(), role: args.role.into() };
    let Answer::Account(account) = context.ask(&request)? else { return Err(misfit()) };
    let text = match account.role {
        Role::Operator => format!("{} runs this Berth now: the website has /ops for them.", account.name),
        Role::Member => format!("{} is a member now.", account.name),
    };
    context.output.result(&account, &text)
}

pub(crate) fn block(context: &Context<'_>, args: &AccountArgs, blocked: bool) -> Result<(), Failure> {
    let request = Request::AccountBlock { name: args.account.clone(), blocked };
    let Answer::Account(account) = context.ask(&request)? else { return Err(misfit()) };
    let name = &account.name;
    let text = if blocked {
        format!(
            "{name} is blocked: its connections and sessions have ended, and its VMs go to sleep. Let it in again: \
             berth admin account unblock {name}"
        )
    } else {
        format!("{name} is let in again.")
    };
    context.output.result(&account, &text)
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
