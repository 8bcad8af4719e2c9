//! `berth admin audit`

use berth_control::{AUDIT_PAGE, AuditInfo, TrafficInfo};
use serde_json::json;

use super::{Context, misfit};
use crate::{
    admin::wire::{Answer, AuditSearch, Failure, Request},
    cli::AuditArgs,
    output::{Table, moment},
};

pub(crate) fn audit(context: &Context<'_>, args: &AuditArgs) -> Result<(), Failure> {
    let mut query = AuditSearch {
        about: args.about.clone(),
        by: args.by.clone(),
        kind: args.kind.clone(),
        text: args.text.clone(),
        seconds: args.last.map(|last| last.as_secs()),
        before: None,
    };
    let mut lines: Vec<AuditInfo> = vec![];
    while lines.len() < args.lines {
        let Answer::Audit(page) = context.ask(&Request::Audit { query: query.clone() })? else {
            return Err(misfit());
        };
        let last_page = page.len() < AUDIT_PAGE;
        query.before = page.last().map(|line| line.id);
        lines.extend(page);
        if last_page {
            break;
        }
    }
    lines.truncate(args.lines);
    let mut table = Table::new(["WHEN", "WHAT", "ACCOUNT", "BY", "FROM", "SUBJECT", "DETAIL"]);
    for line in &lines {
        table.row(cells(line));
    }
    context.output.table(&json!({ "audit": lines }), &table, "There is no such line in the audit trail.")
}

fn detail(line: &AuditInfo) -> String {
    match line.traffic {
        Some(TrafficInfo { sent, received, seconds }) => {
            format!("{}: {sent} bytes in, {received} out, {seconds} s", line.detail)
        }
        None => line.detail.clone(),
    }
}

fn cells(line: &AuditInfo) -> [String; 7] {
    let what =
        if line.times > 1 { format!("{} ({} times)", line.kind, line.times) } else { line.kind.to_string() };
    let by =
        line.actor.as_ref().map_or_else(|| line.way.to_string(), |actor| format!("{actor} ({})", line.way));
    [
        moment(line.last_at),
        what,
        line.account.as_ref().map(ToString::to_string).unwrap_or_default(),
        by,
        line.address.map(|address| address.to_string()).unwrap_or_default(),
        line.subject.clone(),
        detail(line),
    ]
}
