//! What templates show, as plain data made from what control says.

use berth_control::{KeyInfo, Status, VmInfo};
use std::time::Duration;

use time::OffsetDateTime;

use crate::{
    visitor::Member,
    words::{Moment, about, size},
};

/// A VM.
pub(crate) struct VmView {
    pub(crate) label: String,
    /// What its owner calls it.
    pub(crate) title: Option<String>,
    pub(crate) name: String,
    pub(crate) owner: String,
    /// It belongs to the team, and to no account.
    pub(crate) of_team: bool,
    pub(crate) path: String,
    pub(crate) names: Vec<String>,
    pub(crate) command: String,
    /// The state, as a class of the style sheet and as a word.
    pub(crate) kind: &'static str,
    pub(crate) word: String,
    pub(crate) why: String,
    /// What waking it is like, where it does not run.
    pub(crate) wake: Option<String>,
    /// It could not be woken: only a person can decide to give up its memory.
    pub(crate) stuck: bool,
    /// What went wrong with the last thing that was asked of it.
    pub(crate) wrong: Option<String>,
    /// The position of its switch: a VM that sleeps is on.
    pub(crate) on: bool,
    /// It is on its way off, where no switch helps.
    pub(crate) busy_ending: bool,
    pub(crate) can_wake: bool,
    pub(crate) can_sleep: bool,
    pub(crate) can_snooze: bool,
    pub(crate) snoozed: bool,
    pub(crate) always_on: bool,
    pub(crate) connections: usize,
    pub(crate) cpus: u32,
    pub(crate) memory: String,
    pub(crate) disk: String,
    pub(crate) host_key: String,
    pub(crate) created: Moment,
}

impl VmView {
    pub(crate) fn new(info: &VmInfo) -> Self {
        let label = info.name.label();
        let running = info.status == Status::Running;
        let snoozed = info.snoozed_until.is_some_and(|until| until > OffsetDateTime::now_utc());
        Self {
            path: format!("/vms/{label}"),
            name: info.name.to_string(),
            label,
            title: info.title.as_ref().map(ToString::to_string),
            owner: info.name.owner.to_string(),
            of_team: info.name.is_of_team(),
            names: info.names.clone(),
            command: format!("ssh {}", info.host),
            kind: kind(info.status),
            word: info.status.to_string(),
            why: why(info),
            wake: wake(info),
            stuck: is_stuck(info),
            wrong: None,
            on: matches!(info.status, Status::Running | Status::Asleep | Status::Waking | Status::Starting),
            busy_ending: matches!(info.status, Status::Stopping | Status::Rebuilding | Status::Removing),
            can_wake: info.status == Status::Asleep,
            can_sleep: running && !info.always_on,
            can_snooze: (running || snoozed) && !info.always_on,
            snoozed,
            always_on: info.always_on,
            connections: info.connections,
            cpus: info.cpus,
            memory: size(info.memory),
            disk: size(info.disk),
            host_key: info.host_key.clone(),
            created: Moment::new(info.created),
        }
    }

    /// One of the team, in which the member has a user of their own.
    pub(crate) fn of_team(info: &VmInfo, member: &Member) -> Self {
        Self { command: format!("ssh {}@{}", member.account(), info.host), ..Self::new(info) }
    }
}

/// The states of VMs, as they are chosen from.
pub(crate) const STATES: [Status; 9] = [
    Status::Running,
    Status::Asleep,
    Status::Waking,
    Status::Starting,
    Status::Stopping,
    Status::Off,
    Status::Failed,
    Status::Rebuilding,
    Status::Removing,
];

pub(crate) fn kind(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::Asleep => "asleep",
        Status::Waking => "waking",
        Status::Starting => "starting",
        Status::Stopping => "stopping",
        Status::Off => "off",
        Status::Failed => "failed",
        Status::Rebuilding => "rebuilding",
        Status::Removing => "removing",
    }
}

/// Whether it sleeps and could not be woken.
pub(crate) fn is_stuck(info: &VmInfo) -> bool {
    info.status == Status::Asleep && info.reason.is_some()
}

/// Control's sentence, but without the operator's command for what the owner has a button for.
fn why(info: &VmInfo) -> String {
    match info.reason.as_ref().filter(|_| is_stuck(info)) {
        Some(reason) => format!("{} is asleep: {reason}. Nothing on its disk was lost.", info.name.label()),
        None => info.why.clone(),
    }
}

fn wake(info: &VmInfo) -> Option<String> {
    let takes = info.start_takes_ms.map(|millis| about(Duration::from_millis(millis)));
    let or = |words: &str| takes.clone().unwrap_or_else(|| words.to_owned());
    match info.status {
        Status::Asleep if is_stuck(info) => None,
        Status::Asleep => Some(format!("That takes {}, and its programs are as they were.", or("a moment"))),
        Status::Off | Status::Failed => Some(format!("A boot takes {}.", or("some seconds"))),
        Status::Starting | Status::Waking => takes.map(|takes| format!("That takes {takes}.")),
        Status::Running | Status::Stopping | Status::Rebuilding | Status::Removing => None,
    }
}

/// An ssh key.
pub(crate) struct KeyView {
    pub(crate) id: String,
    pub(crate) label: String,
    pub(crate) algorithm: String,
    pub(crate) fingerprint: String,
    pub(crate) comment: String,
    pub(crate) options: String,
    pub(crate) added: Moment,
    pub(crate) expires: Option<Moment>,
    pub(crate) expired: bool,
    pub(crate) used: Option<(Moment, String)>,
}

impl KeyView {
    pub(crate) fn new(key: &KeyInfo) -> Self {
        Self {
            id: key.id.clone(),
            label: key.label.clone(),
            algorithm: key.algorithm.clone(),
            fingerprint: key.fingerprint.to_string(),
            comment: key.comment.clone(),
            options: key.options.clone(),
            added: Moment::new(key.added),
            expires: key.expires.map(Moment::new),
            expired: key.expires.is_some_and(|at| at <= OffsetDateTime::now_utc()),
            used: key.last_used.as_ref().map(|used| (Moment::new(used.at), used.from.to_string())),
        }
    }
}

/// Whether the newest key has been seen at the gateway.
pub(crate) enum FirstUse {
    NoKey,
    Waiting(String),
    Seen { label: String, at: Moment, from: String },
}

impl FirstUse {
    /// Of the key that was added last.
    pub(crate) fn of(keys: &[KeyInfo]) -> Self {
        let Some(newest) = keys.iter().max_by_key(|key| key.added) else { return Self::NoKey };
        match &newest.last_used {
            None => Self::Waiting(newest.label.clone()),
            Some(used) => Self::Seen {
                label: newest.label.clone(),
                at: Moment::new(used.at),
                from: used.from.to_string(),
            },
        }
    }
}
