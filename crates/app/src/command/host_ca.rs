//! `berth admin host-ca …`

use serde_json::json;

use super::{Context, misfit};
use crate::{
    admin::wire::{Answer, Failure, Request},
    cli::HostCaCommand,
    output::{Table, day},
};

pub(crate) fn run(context: &Context<'_>, command: HostCaCommand) -> Result<(), Failure> {
    let (request, next) = match command {
        HostCaCommand::List => (Request::HostCaList {}, ""),
        HostCaCommand::Add => (
            Request::HostCaAdd {},
            "Members are told of both now. When they have the new lines (ssh GATEWAY config), have it sign: \
             berth admin host-ca use FINGERPRINT",
        ),
        HostCaCommand::Use(args) => (
            Request::HostCaUse { fingerprint: args.fingerprint },
            "The gateway shows the new certificate from now on, a VM that runs in a moment, another one when it starts \
             or wakes. When members have the new lines, forget the former one: berth admin host-ca remove FINGERPRINT",
        ),
        HostCaCommand::Remove(args) => (Request::HostCaRemove { fingerprint: args.fingerprint }, ""),
    };
    let Answer::HostCas(all) = context.ask(&request)? else { return Err(misfit()) };
    let mut table = Table::new(["FINGERPRINT", "STATE", "ADDED", "KEY"]);
    for ca in &all {
        let state = if ca.signs { "signs" } else { "trusted" };
        table.row([ca.fingerprint.clone(), state.to_owned(), day(ca.made), ca.public_key.clone()]);
    }
    context.output.table(&json!({ "host_cas": all }), &table, "")?;
    if !next.is_empty() {
        context.output.note(next);
    }
    Ok(())
}
