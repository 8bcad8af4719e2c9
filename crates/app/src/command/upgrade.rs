//! `berth admin upgrade`

use super::{Context, misfit};
use crate::admin::wire::{Answer, Failure, Request, Upgraded};

pub(crate) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let Answer::Upgraded(upgraded) = context.ask(&Request::Upgrade {})? else { return Err(misfit()) };
    let Upgraded { serves, left, connections } = upgraded;
    let rest = match connections {
        0 => "nobody is connected by it".to_owned(),
        1 => "it has one connection into a VM, and ends when that does".to_owned(),
        more => format!("it has {more} connections into VMs, and ends when they do"),
    };
    context
        .output
        .result(&upgraded, &format!("Process {serves} serves now. Process {left} has left: {rest}."))
}
