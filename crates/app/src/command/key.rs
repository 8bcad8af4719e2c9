//! `berth admin key …`

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use berth_control::{AddedKey, KeyInfo};
use berth_model::VmName;
use serde_json::json;

use super::{Context, misfit};
use crate::{
    admin::wire::{Answer, Failure, FailureKind, Request},
    cli::{AccountArgs, AddKeyArgs, RemoveKeyArgs},
    output::{Table, day, moment},
};

/// More than any paste of keys that is taken; the server says what is too long.
const MAX_FILE: u64 = 128 * 1024;

pub(crate) fn add(context: &Context<'_>, args: &AddKeyArgs) -> Result<(), Failure> {
    let pasted = read(&args.file)?;
    let request = Request::KeyAdd { account: args.account.clone(), pasted, label: args.label.clone() };
    let Answer::AddedKeys { keys, behind } = context.ask(&request)? else { return Err(misfit()) };
    let lines: Vec<String> = keys.iter().map(|key| told(&args.account, key)).collect();
    let refused = keys.iter().any(|key| matches!(key, AddedKey::Refused { .. }));
    context.output.result(&json!({ "keys": keys, "behind": behind }), &lines.join("\n"))?;
    tell_behind(context, &behind);
    if refused { Err(Failure::already_told()) } else { Ok(()) }
}

fn told(account: &str, key: &AddedKey) -> String {
    match key {
        AddedKey::Added { key } => format!("Added to {account}: {} {}", key.algorithm, key.fingerprint),
        AddedKey::AlreadyThere { fingerprint } => format!("{account} has this key already: {fingerprint}"),
        AddedKey::Refused { reason } => format!("Not added: {reason}"),
    }
}

pub(crate) fn read(file: &Path) -> Result<String, Failure> {
    let bytes = read_bytes(file, MAX_FILE)?;
    String::from_utf8(bytes).map_err(|_| {
        let name = name_of(file);
        Failure::new(FailureKind::Invalid, format!("{name} is not text. Give the file that ends in .pub."))
    })
}

/// A file, or standard input for `-`, of so many bytes at most.
pub(crate) fn read_bytes(file: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let name = name_of(file);
    let input =
        |error: io::Error| Failure::new(FailureKind::Invalid, format!("{name} cannot be read: {error}."));
    if is_piped(file) {
        io::stdin().lock().take(most + 1).read_to_end(&mut bytes).map_err(input)?;
    } else {
        File::open(file).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(input)?;
    }
    if bytes.len() as u64 > most {
        return Err(Failure::new(
            FailureKind::Invalid,
            format!("{name} is longer than {} KiB.", most / 1024),
        ));
    }
    Ok(bytes)
}

fn is_piped(file: &Path) -> bool {
    file == Path::new("-")
}

fn name_of(file: &Path) -> String {
    if is_piped(file) { "Standard input".to_owned() } else { file.display().to_string() }
}

pub(crate) fn list(context: &Context<'_>, args: &AccountArgs) -> Result<(), Failure> {
    let account = &args.account;
    let Answer::Keys(keys) = context.ask(&Request::KeyList { account: account.clone() })? else {
        return Err(misfit());
    };
    let mut table = Table::new(["ID", "NAME", "TYPE", "FINGERPRINT", "ADDED", "EXPIRES", "LAST USED"]);
    for key in &keys {
        let KeyInfo { id, label, algorithm, fingerprint, added, expires, last_used, .. } = key;
        let used = last_used
            .as_ref()
            .map_or_else(|| "never".into(), |used| format!("{} from {}", moment(used.at), used.from));
        let expires = expires.map_or_else(|| "never".into(), day);
        table.row([
            id.clone(),
            label.clone(),
            algorithm.clone(),
            fingerprint.to_string(),
            day(*added),
            expires,
            used,
        ]);
    }
    let empty = format!("{account} has no keys yet. Add one: berth admin key add {account} FILE");
    context.output.table(&json!({ "keys": keys }), &table, &empty)
}

pub(crate) fn remove(context: &Context<'_>, args: &RemoveKeyArgs) -> Result<(), Failure> {
    let RemoveKeyArgs { account, which } = args;
    let request = Request::KeyRemove { account: account.clone(), which: which.clone() };
    let Answer::RemovedKey { key, behind } = context.ask(&request)? else { return Err(misfit()) };
    let text = format!("Removed from {account}: {} {}", key.algorithm, key.fingerprint);
    context.output.result(&json!({ "removed": key, "behind": behind }), &text)?;
    tell_behind(context, &behind);
    Ok(())
}

/// What the operator has to know of VMs that do not listen. Those that are asleep or off take the keys as they wake.
fn tell_behind(context: &Context<'_>, behind: &[VmName]) {
    for vm in behind {
        context.output.note(&format!(
            "{vm} runs but does not answer, so the sshd in it does not know of this yet; it is tried on. The gateway \
             knows already."
        ));
    }
}
