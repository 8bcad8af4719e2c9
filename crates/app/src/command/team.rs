//! `berth admin team …`

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_model::MAX_KRL;
use serde_json::json;

use super::{Context, key, misfit};
use crate::{
    admin::wire::{Answer, Failure, Request},
    cli::{TeamCaCommand, TeamCommand, TeamVmCommand},
    output::{Table, day, moment},
};

pub(crate) fn run(context: &Context<'_>, command: &TeamCommand) -> Result<(), Failure> {
    match command {
        TeamCommand::Ca(command) => ca(context, command),
        TeamCommand::Vm(TeamVmCommand::Add) => {
            let Answer::Vm(vm) = context.ask(&Request::TeamVmAdd {})? else { return Err(misfit()) };
            context.output.result(&vm, &vm.host)
        }
    }
}

fn ca(context: &Context<'_>, command: &TeamCaCommand) -> Result<(), Failure> {
    let (request, next) = match command {
        TeamCaCommand::List => (Request::TeamCaList {}, ""),
        TeamCaCommand::Add(args) => (
            Request::TeamCaAdd { pasted: key::read(&args.file)?, label: args.label.clone() },
            "Sign for a member: ssh-keygen -s CA -I ID -n ACCOUNT -V +8h KEY.pub",
        ),
        TeamCaCommand::Remove(args) => (Request::TeamCaRemove { which: args.ca.clone() }, ""),
        TeamCaCommand::Revoke(args) => {
            let file = key::read_bytes(&args.file, MAX_KRL as u64)?;
            (Request::TeamCaRevoke { krl: STANDARD.encode(file) }, "")
        }
    };
    let Answer::TeamCas(all) = context.ask(&request)? else { return Err(misfit()) };
    let mut table = Table::new(["NAME", "FINGERPRINT", "ADDED", "KEY"]);
    for ca in &all.cas {
        table.row([ca.label.clone(), ca.fingerprint.clone(), day(ca.added), ca.public_key.clone()]);
    }
    let empty = "No CA is trusted: members come by the keys on their accounts. Trust one: berth admin team ca add FILE";
    context.output.table(&json!(all), &table, empty)?;
    if let Some(krl) = all.krl {
        context.output.note(&format!(
            "Revoked, by the list that was loaded {}: {} parts about CAs, {} keys.",
            moment(krl.loaded),
            krl.authorities,
            krl.keys
        ));
    }
    if !next.is_empty() {
        context.output.note(next);
    }
    Ok(())
}
