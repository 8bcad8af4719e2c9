//! Lists and sentences about VMs and keys. Pure.

use berth_control::{KeyInfo, ShareInfo, Status, VmInfo, span};
use berth_model::Fingerprint;
use time::{Duration, OffsetDateTime};
use unicode_width::UnicodeWidthStr;

use crate::text::in_one_line;

/// VMs that are named in the greeting.
const NAMED: usize = 5;

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For a terminal: a heading, and columns.
    Columns,
    /// For a pipe: cells between tabs.
    Tabs,
}

/// `Hello alice. vm-0 is running, vm-1 has been asleep for 3 h. Type help.`
pub(super) fn greeting(account: &str, vms: &[VmInfo], now: OffsetDateTime) -> String {
    let mut said: Vec<String> = vms.iter().take(NAMED).map(|vm| clause(vm, now)).collect();
    match vms.len().saturating_sub(NAMED) {
        0 => {}
        1 => said.push("and there is one more".to_owned()),
        more => said.push(format!("and there are {more} more")),
    }
    let vms = if said.is_empty() { "You have no VM yet: new makes one".to_owned() } else { said.join(", ") };
    format!("Hello {account}. {vms}. Type help.\n")
}

/// `vm-1 has been asleep for 3 h`
fn clause(vm: &VmInfo, now: OffsetDateTime) -> String {
    let label = vm.name.label();
    match (vm.status, vm.asleep_since) {
        (Status::Asleep, Some(since)) => format!("{label} has been asleep for {}", span(now - since)),
        (Status::Failed, _) => format!("{label} has failed"),
        (Status::Rebuilding, _) => format!("{label} is being rebuilt"),
        (Status::Removing, _) => format!("{label} is being removed"),
        (status, _) => format!("{label} is {status}"),
    }
}

/// The VMs, a line for each: one's own, the team's, and those of others, which are shared with the person.
pub(super) fn vms(
    vms: &[VmInfo],
    team: &[VmInfo],
    shared: &[ShareInfo],
    now: OffsetDateTime,
    form: Form,
) -> String {
    if vms.is_empty() && team.is_empty() && shared.is_empty() {
        return "You have no VM yet. Make one: new\n".to_owned();
    }
    let rows = vms.iter().chain(team).map(|vm| {
        let state = match vm.asleep_since.filter(|_| vm.status == Status::Asleep) {
            Some(since) => format!("asleep for {}", span(now - since)),
            None => vm.status.to_string(),
        };
        let title = vm.title.as_ref().map(ToString::to_string).unwrap_or_default();
        [vm.name.label(), state, vm.host.clone(), title]
    });
    let of_others = shared.iter().map(|share| {
        let (owner, name) = (&share.vm.owner, share.vm.short());
        let (state, what) = match share.accepted {
            Some(_) => (share.status.to_string(), format!("{owner} shares it with you")),
            None => ("asked".to_owned(), format!("{owner} asks you to share it: accept {name}")),
        };
        [name, state, share.host.clone(), what]
    });
    table(["NAME", "STATE", "HOST", "TITLE"], rows.chain(of_others), form)
}

/// With whom VMs are shared, a line for each account and VM.
pub(super) fn shares(shares: &[ShareInfo], form: Form) -> String {
    if shares.is_empty() {
        return "It is shared with nobody. Share a VM: share VM NAME\n".to_owned();
    }
    let rows = shares.iter().map(|share| {
        let state = if share.accepted.is_some() { "accepted" } else { "asked" };
        let sudo = if share.sudo { "yes" } else { "no" };
        let until = share.until.map(minute).unwrap_or_default();
        [share.vm.label(), share.account.to_string(), state.to_owned(), sudo.to_owned(), until]
    });
    table(["NAME", "ACCOUNT", "STATE", "SUDO", "UNTIL"], rows, form)
}

/// The keys, a line for each; the one that opened this connection is marked.
pub(super) fn keys(keys: &[KeyInfo], used: &Fingerprint, form: Form) -> String {
    let rows = keys.iter().map(|key| {
        let last = match &key.last_used {
            _ if key.fingerprint == *used => "now".to_owned(),
            Some(last) => format!("{} from {}", minute(last.at), last.from),
            None => "never".to_owned(),
        };
        let expires = key.expires.map_or_else(|| "never".to_owned(), day);
        let Key { label, algorithm, fingerprint } = Key::of(key);
        [label, algorithm, fingerprint, day(key.added), expires, last]
    });
    table(["NAME", "TYPE", "FINGERPRINT", "ADDED", "EXPIRES", "LAST USED"], rows, form)
}

struct Key {
    label: String,
    algorithm: String,
    fingerprint: String,
}

impl Key {
    fn of(key: &KeyInfo) -> Self {
        Self {
            label: key.label.clone(),
            algorithm: key.algorithm.clone(),
            fingerprint: key.fingerprint.to_string(),
        }
    }
}

fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>, form: Form) -> String {
    let rows: Vec<[String; N]> = rows.map(|row| row.map(|cell| in_one_line(&cell))).collect();
    match form {
        Form::Tabs => rows.iter().map(|row| row.join("\t") + "\n").collect(),
        Form::Columns => {
            let head = head.map(str::to_owned);
            let mut widths = [0; N];
            for row in std::iter::once(&head).chain(&rows) {
                for (width, cell) in widths.iter_mut().zip(row) {
                    *width = cell.width().max(*width);
                }
            }
            let line = |row: &[String; N]| {
                let cells = row.iter().zip(widths).map(|(cell, width)| {
                    let blanks = width.saturating_sub(cell.width());
                    format!("{cell}{:blanks$}", "")
                });
                cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
            };
            std::iter::once(&head).chain(&rows).map(line).collect()
        }
    }
}

/// A day, in UTC.
pub(super) fn day(at: OffsetDateTime) -> String {
    at.to_offset(time::UtcOffset::UTC).date().to_string()
}

pub(super) fn minute(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}

/// Whether something is over soon.
pub(super) fn is_soon(expires: OffsetDateTime, now: OffsetDateTime) -> bool {
    expires - now < Duration::days(14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_for_people_and_for_pipes() {
        let rows = || {
            [["vm-0".to_owned(), "a\tb\u{1b}[2J".to_owned()], ["猫".to_owned(), String::new()]].into_iter()
        };
        assert_eq!(table(["NAME", "TITLE"], rows(), Form::Columns), "NAME  TITLE\nvm-0  a?b?[2J\n猫\n");
        assert_eq!(table(["NAME", "TITLE"], rows(), Form::Tabs), "vm-0\ta?b?[2J\n猫\t\n");
    }

    #[test]
    fn times_are_said_in_utc() {
        let at = time::macros::datetime!(2026-03-01 01:05 +02:00);
        assert_eq!((day(at), minute(at)), ("2026-02-28".into(), "2026-02-28 23:05 UTC".into()));
    }

    #[test]
    fn without_a_vm_the_greeting_says_how_to_get_one() {
        let now = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(
            greeting("alice", &[], now),
            "Hello alice. You have no VM yet: new makes one. Type help.\n"
        );
    }
}
