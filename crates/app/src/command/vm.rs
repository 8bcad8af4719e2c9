//! `berth admin vm …`

use berth_control::{Grown, Home, Status, VmInfo};
use serde_json::json;
use time::OffsetDateTime;

use super::{Context, confirm, misfit};
use crate::{
    admin::wire::{Answer, Failure, FailureKind, Request},
    cli::{
        AddVmArgs, AlwaysOnArgs, ListVmsArgs, RebuildVmArgs, RemoveVmArgs, ResizeVmArgs, SnoozeArgs,
        StartVmArgs, Switch, VmArgs,
    },
    config::Size,
    output::{Table, moment, span},
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
    let now = OffsetDateTime::now_utc();
    let mut table = Table::new(["VM", "STATE", "WHY", "LABEL"]);
    for vm in &vms {
        let label = vm.title.as_ref().map(ToString::to_string).unwrap_or_default();
        table.row([vm.host.clone(), vm.status.to_string(), in_short(vm, now), label]);
    }
    let empty =
        format!("No VMs yet. Add one: berth admin vm add {}", args.account.as_deref().unwrap_or("ACCOUNT"));
    context.output.table(&json!({ "vms": vms }), &table, &empty)
}

/// What there is to say of a VM's state in a few words; `berth admin vm why` says it in full.
fn in_short(vm: &VmInfo, now: OffsetDateTime) -> String {
    let VmInfo { status, reason, asleep_since, always_on, snoozed_until, sleeps_at, .. } = vm;
    if let Some(reason) = reason {
        return reason.clone();
    }
    match (status, asleep_since, snoozed_until, sleeps_at) {
        (Status::Asleep, Some(since), ..) => format!("for {}", span(now - *since)),
        (Status::Asleep, None, ..) => "new".into(),
        (Status::Running, ..) if *always_on => "always-on".into(),
        (Status::Running, _, Some(until), _) => format!("snoozed for {} more", span(*until - now)),
        (Status::Running, _, None, Some(at)) => format!("sleeps in {}", span(*at - now)),
        _ => String::new(),
    }
}

pub(crate) fn start(context: &Context<'_>, args: &StartVmArgs) -> Result<(), Failure> {
    let StartVmArgs { vm, from_disk, yes } = args;
    if *from_disk && show(context, vm)?.status == Status::Asleep {
        let lost = format!(
            "This starts {vm} from its disk. What its sleep has kept is lost: open shells, running programs, and what \
             they have not saved. Files stay."
        );
        confirm::typed(context, &lost, vm, *yes, "Nothing was done, and it is asleep as before.")?;
    }
    let request = Request::VmStart { vm: vm.clone(), from_disk: *from_disk };
    let vm = started(context, vm, &request)?;
    context.output.result(&vm, &format!("{} is {}.", vm.host, vm.status))
}

pub(crate) fn wake(context: &Context<'_>, args: &VmArgs) -> Result<(), Failure> {
    let vm = started(context, &args.vm, &Request::VmWake { vm: args.vm.clone() })?;
    context.output.result(&vm, &format!("{} is {}.", vm.host, vm.status))
}

fn started(context: &Context<'_>, vm: &str, request: &Request) -> Result<VmInfo, Failure> {
    let answer = context.ask(request).inspect_err(|failure| {
        // The console of one that could not be woken is of its last boot, and says nothing of the wake.
        let booted = || show(context, vm).is_ok_and(|vm| vm.status != Status::Asleep);
        if failure.kind == FailureKind::Unavailable && booted() {
            show_console(context, vm);
        }
    })?;
    match answer {
        Answer::Vm(vm) => Ok(vm),
        _ => Err(misfit()),
    }
}

fn show(context: &Context<'_>, vm: &str) -> Result<VmInfo, Failure> {
    match context.ask(&Request::VmShow { vm: vm.to_owned() })? {
        Answer::Vm(vm) => Ok(vm),
        _ => Err(misfit()),
    }
}

pub(crate) fn sleep(context: &Context<'_>, args: &VmArgs) -> Result<(), Failure> {
    let Answer::Vm(vm) = context.ask(&Request::VmSleep { vm: args.vm.clone() })? else {
        return Err(misfit());
    };
    context.output.result(&vm, &format!("{} is {}.", vm.host, vm.status))
}

pub(crate) fn why(context: &Context<'_>, args: &VmArgs) -> Result<(), Failure> {
    let vm = show(context, &args.vm)?;
    context.output.result(&vm, &vm.why)
}

pub(crate) fn always_on(context: &Context<'_>, args: &AlwaysOnArgs) -> Result<(), Failure> {
    let on = args.switch == Switch::On;
    let Answer::Vm(vm) = context.ask(&Request::VmAlwaysOn { vm: args.vm.clone(), on })? else {
        return Err(misfit());
    };
    let text = if on {
        format!(
            "{} is always-on: it starts with the server, does not sleep, and is started again when it stops.",
            vm.host
        )
    } else {
        format!("{} is not always-on any more: it sleeps when nobody uses it.", vm.host)
    };
    context.output.result(&vm, &text)
}

pub(crate) fn snooze(context: &Context<'_>, args: &SnoozeArgs) -> Result<(), Failure> {
    let request = Request::VmSnooze { vm: args.vm.clone(), seconds: args.time.as_secs() };
    let Answer::Vm(vm) = context.ask(&request)? else { return Err(misfit()) };
    let host = &vm.host;
    let text = match (vm.snoozed_until, vm.status) {
        (None, _) => format!("{host} is not kept awake any more: it sleeps when nobody uses it."),
        (Some(until), Status::Running) => format!("{host} stays awake until {}.", moment(until)),
        (Some(until), status) => {
            format!("{host} is {status}; once it is awake it stays so until {}.", moment(until))
        }
    };
    context.output.result(&vm, &text)
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

pub(crate) fn rebuild(context: &Context<'_>, args: &RebuildVmArgs) -> Result<(), Failure> {
    let RebuildVmArgs { vm, home, yes } = args;
    let (home, lost) = match home.keep_home {
        true => (
            Home::Keep,
            "Everything below /home stays. What was installed or changed elsewhere on its disk is lost",
        ),
        false => (Home::Discard, "Everything on its disk is lost, its home too"),
    };
    let what = format!(
        "This gives {vm} a new disk. {lost}, and what runs in it ends: also what a sleep has kept, open shells and \
         running programs."
    );
    confirm::typed(context, &what, vm, *yes, "Nothing was done.")?;
    let Answer::Vm(vm) = context.ask(&Request::VmRebuild { vm: vm.clone(), home })? else {
        return Err(misfit());
    };
    let kept = if home == Home::Keep { ", its home as it was" } else { "" };
    context.output.result(&vm, &format!("{} is rebuilt{kept}. It is {}.", vm.host, vm.status))
}

pub(crate) fn resize(context: &Context<'_>, args: &ResizeVmArgs) -> Result<(), Failure> {
    let request = Request::VmResize { vm: args.vm.clone(), disk: args.disk.bytes() };
    let Answer::Resized { vm, room } = context.ask(&request)? else { return Err(misfit()) };
    let when = match room {
        Grown::Now => "and its file system with it",
        Grown::AtStart => "which its file system takes up when it next runs",
        Grown::AtBoot => "which its file system takes up at its next boot: its guest agent did not do it",
    };
    let text = format!("{} has a disk of {}, {when}.", vm.host, Size::of(vm.disk));
    context.output.result(&json!({ "vm": vm, "room": room }), &text)
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
