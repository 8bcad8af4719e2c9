//! `berth admin vm …`

use serde_json::json;

use super::{Context, confirm, misfit};
use crate::{
    admin::wire::{Answer, Failure, FailureKind, Request},
    cli::{AddVmArgs, ListVmsArgs, RemoveVmArgs, VmArgs},
    output::Table,
};

/// So much of a console is shown when a VM does not start; `berth admin vm log` shows the rest.
const LOG_LINES: usize = 20;

pub(crate) fn add(context: &Context<'_>, args: &AddVmArgs) -> Result<(), Failure> {
    let Answer::Vm(vm) = context.ask(&Request::VmAdd { account: args.account.clone() })? else {
        return Err(misfit());
    };
    context.output.result(&vm, &vm.host)
}

pub(crate) fn list(context: &Context<'_>, args: &ListVmsArgs) -> Result<(), Failure> {
    let Answer::Vms(vms) = context.ask(&Request::VmList { account: args.account.clone() })? else {
        return Err(misfit());
    };
    let mut table = Table::new(["VM", "STATE", "WHY"]);
    for vm in &vms {
        table.row([vm.host.clone(), vm.status.to_string(), vm.reason.clone().unwrap_or_default()]);
    }
    let empty =
        format!("No VMs yet. Add one: berth admin vm add {}", args.account.as_deref().unwrap_or("ACCOUNT"));
    context.output.table(&json!({ "vms": vms }), &table, &empty)
}

pub(crate) fn start(context: &Context<'_>, args: &VmArgs) -> Result<(), Failure> {
    let Answer::Vm(vm) = context.ask(&Request::VmStart { vm: args.vm.clone() }).inspect_err(|failure| {
        if failure.kind == FailureKind::Unavailable {
            show_console(context, &args.vm);
        }
    })?
    else {
        return Err(misfit());
    };
    context.output.result(&vm, &format!("{} is {}.", vm.host, vm.status))
}

/// The last thing that a VM that does not start has said. Why there is nothing to show is no second failure.
fn show_console(context: &Context<'_>, vm: &str) {
    let Ok(Answer::Log { text }) = context.ask(&Request::VmLog { vm: vm.to_owned() }) else { return };
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
    if !end.is_empty() {
        context
            .output
            .note(&format!("The end of its console (berth admin vm log {vm} has more):\n{}", end.join("\n")));
    }
}

pub(crate) fn stop(context: &Context<'_>, args: &VmArgs) -> Result<(), Failure> {
    let Answer::Vm(vm) = context.ask(&Request::VmStop { vm: args.vm.clone() })? else { return Err(misfit()) };
    context.output.result(&vm, &format!("{} is {}.", vm.host, vm.status))
}

pub(crate) fn remove(context: &Context<'_>, args: &RemoveVmArgs) -> Result<(), Failure> {
    let what = format!("This removes the VM {} with everything on its disk.", args.vm);
    confirm::removal(context, &what, &args.vm, args.yes)?;
    let Answer::Removed { name } = context.ask(&Request::VmRemove { vm: args.vm.clone() })? else {
        return Err(misfit());
    };
    context.output.result(&json!({ "removed": name }), &format!("{name} is removed."))
}

pub(crate) fn log(context: &Context<'_>, args: &VmArgs) -> Result<(), Failure> {
    let Answer::Log { text } = context.ask(&Request::VmLog { vm: args.vm.clone() })? else {
        return Err(misfit());
    };
    context.output.result(&json!({ "log": text }), text.trim_end())
}
