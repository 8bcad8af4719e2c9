//! Why a VM is awake, or when and why it fell asleep: in one sentence.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, macros::format_description};

use crate::{
    idle::{Reason, Use, UseKind},
    lifecycle::State,
    room::Queued,
    status::{Status, shown},
};

/// What the idle policy said last of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Outlook {
    /// It has not been asked yet.
    #[default]
    Unknown,
    /// It stays awake.
    Stays(Reason),
    /// It sleeps then, unless it is used.
    Sleeps { since: OffsetDateTime, at: OffsetDateTime },
    /// It is always-on, has failed so often in a row, and is started again then.
    StartsAgain { failures: u32, at: OffsetDateTime },
}

/// Why a VM was put to sleep. Kept in the database: variants are added, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub(crate) enum SleptFor {
    /// Nothing had happened in it since then.
    Idle {
        #[serde(with = "time::serde::rfc3339")]
        since: OffsetDateTime,
    },
    /// Another VM needed its memory, and nobody used it.
    GaveWay,
    /// By hand.
    Asked,
    /// Something that a later version knows.
    #[serde(other)]
    Other,
}

/// All that the sentence is made of.
pub(crate) struct Known<'a> {
    pub(crate) label: String,
    /// `vm-0.alice.koding`, for commands.
    pub(crate) name: String,
    /// What it waits for, if it waits for memory on the host.
    pub(crate) queued: Option<&'a Queued>,
    pub(crate) now: OffsetDateTime,
    pub(crate) state: &'a State,
    pub(crate) outlook: &'a Outlook,
    pub(crate) used: Option<&'a Use>,
    pub(crate) slept: Option<(OffsetDateTime, &'a SleptFor)>,
    /// How long without a use puts it to sleep.
    pub(crate) sleep_after: Option<Duration>,
}

/// The sentence. Times are UTC.
pub(crate) fn sentence(known: &Known<'_>) -> String {
    let label = &known.label;
    if let Some(Queued { ahead, reason }) = known.queued {
        let place = match ahead {
            0 => "It is next.".to_owned(),
            ahead => format!("{ahead} came before it."),
        };
        return format!("{label} waits for memory on this host: {reason}. {place}");
    }
    match known.state {
        State::Running | State::FallingAsleep { .. } => awake(known),
        State::Asleep { failed: Some(reason) } => format!(
            "{label} is asleep and could not be woken: {reason}. Nothing on its disk was lost. Its owner on its page, or \
             the operator, can give up what is in its memory and start it from its disk: berth admin vm start --from-disk {}",
            known.name
        ),
        State::Asleep { failed: None } => asleep(known),
        State::Off { .. } => off(known),
        State::Starting => format!("{label} is starting."),
        State::Waking => format!("{label} is waking."),
        State::Stopping { .. } => format!("{label} is stopping."),
        State::Rebuilding { .. } => {
            format!("{label} is being rebuilt: it gets a new disk. Whoever connects waits until it has it.")
        }
        State::Removing { .. } | State::Removed => format!("{label} is being removed."),
    }
}

fn awake(known: &Known<'_>) -> String {
    let label = &known.label;
    match known.outlook {
        Outlook::Stays(reason) => format!("{label} is awake because {}.", because(reason, known.now)),
        Outlook::Sleeps { since, at } => {
            let used = known.used.map_or("nothing has happened in it yet".to_owned(), |used| {
                format!("{} {} ago", did(&used.what), span(known.now - *since))
            });
            let left = *at - known.now;
            if left <= time::Duration::ZERO {
                format!("{label} is awake because {used}, and goes to sleep now.")
            } else {
                format!("{label} is awake because {used}; unused, it goes to sleep in {}.", span(left))
            }
        }
        Outlook::Unknown | Outlook::StartsAgain { .. } => match known.sleep_after {
            Some(after) => format!(
                "{label} is awake, and goes to sleep when nobody has used it for {}.",
                span(time::Duration::try_from(after).unwrap_or(time::Duration::MAX))
            ),
            None => format!("{label} is awake: no VM sleeps on this server."),
        },
    }
}

fn because(reason: &Reason, now: OffsetDateTime) -> String {
    match reason {
        Reason::AlwaysOn => "it is always-on".to_owned(),
        Reason::NeverSleeps => "no VM sleeps on this server".to_owned(),
        Reason::Site { since } => format!("its owner has the website open, for {} now", span(now - *since)),
        Reason::Connecting => "somebody is connecting to it".to_owned(),
        Reason::Snooze { until } => format!("it was told to stay awake until {}", clock_time(*until, now)),
        Reason::Lease(lease) => {
            let since = span(now - OffsetDateTime::from(lease.since));
            let until = lease.until.map(|until| format!(", until {}", clock_time(until.into(), now)));
            format!("keepawake has held it for {since}{}: {}", until.unwrap_or_default(), lease.what)
        }
    }
}

/// A use, as a clause that "5 min ago" may follow.
fn did(what: &UseKind) -> String {
    match what {
        UseKind::Started => "it was started".to_owned(),
        UseKind::Connection { by, port: 22 } => format!("{by} used ssh"),
        UseKind::Connection { by, port } => format!("{by} used its port {port}"),
        UseKind::Work => "its programs were at work".to_owned(),
        UseKind::Lease { what } => format!("keepawake ended ({what})"),
        UseKind::Site => "its owner closed the website".to_owned(),
        UseKind::Snooze => "the time for which it was to stay awake ended".to_owned(),
        UseKind::AlwaysOn => "it was always-on".to_owned(),
        UseKind::Other => "it was used".to_owned(),
    }
}

fn asleep(known: &Known<'_>) -> String {
    let label = &known.label;
    let Some((at, why)) = known.slept else {
        return format!(
            "{label} is asleep: it is new, and nobody has used it yet. It wakes when it is used."
        );
    };
    let ago = span(known.now - at);
    let why = match why {
        SleptFor::Idle { since } => {
            format!("nothing had happened in it for {}", span(at - *since))
        }
        SleptFor::GaveWay => "another VM needed its memory and nobody used it".to_owned(),
        SleptFor::Asked => "it was told to".to_owned(),
        SleptFor::Other => "nobody used it".to_owned(),
    };
    format!(
        "{label} fell asleep {ago} ago, at {}, because {why}. It wakes when it is used.",
        clock_time(at, known.now)
    )
}

fn off(known: &Known<'_>) -> String {
    let label = &known.label;
    match known.outlook {
        Outlook::StartsAgain { failures, at } => {
            let times = if *failures == 1 { "once".to_owned() } else { format!("{failures} times in a row") };
            let left = span(*at - known.now);
            format!("{label} is always-on and has stopped {times}; it is started again in {left}.")
        }
        _ => match shown(known.state) {
            (Status::Failed, Some(reason)) => {
                format!(
                    "{label} has failed: {reason}. It starts when somebody connects; nothing on its disk was lost."
                )
            }
            (_, Some(reason)) => format!("{label} is off: {reason}. It starts when somebody connects."),
            (_, None) => format!("{label} is off, and starts when somebody connects."),
        },
    }
}

/// A time of day for people, with its date when that is not today's.
pub(crate) fn clock_time(at: OffsetDateTime, now: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let words = if at.date() == now.to_offset(time::UtcOffset::UTC).date() {
        at.format(format_description!("[hour]:[minute] UTC"))
    } else {
        at.format(format_description!("[year]-[month]-[day] [hour]:[minute] UTC"))
    };
    words.unwrap_or_default()
}

/// A span of time in one unit, as a person would say it: `45 s`, `5 min`, `3 h`, `2 days`.
#[must_use]
pub fn span(length: time::Duration) -> String {
    let seconds = length.whole_seconds().max(0);
    match seconds {
        0..=1 => "1 s".to_owned(),
        2..=99 => format!("{seconds} s"),
        100..=5399 => format!("{} min", (seconds + 30) / 60),
        5400..=172_799 => format!("{} h", (seconds + 1800) / 3600),
        _ => format!("{} days", (seconds + 43_200) / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use berth_engine::Lease;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-22 14:22 UTC);

    fn known<'a>(state: &'a State, outlook: &'a Outlook, used: Option<&'a Use>) -> Known<'a> {
        let sleep_after = Some(Duration::from_secs(1200));
        let (label, name) = ("vm-0".into(), "vm-0.alice.koding".into());
        Known { label, name, queued: None, now: NOW, state, outlook, used, slept: None, sleep_after }
    }

    fn minutes(count: i64) -> time::Duration {
        time::Duration::minutes(count)
    }

    #[test]
    fn one_sentence_for_a_vm_that_is_awake() {
        let lease = Lease {
            what: "make test".into(),
            since: (NOW - minutes(3)).into(),
            until: Some((NOW + minutes(30)).into()),
        };
        let typed = Use { at: NOW - minutes(3), what: UseKind::Connection { by: "alice".into(), port: 22 } };
        let sleeps = |in_minutes| Outlook::Sleeps { since: NOW - minutes(3), at: NOW + minutes(in_minutes) };
        let cases = [
            (Outlook::Stays(Reason::AlwaysOn), "vm-0 is awake because it is always-on."),
            (
                Outlook::Stays(Reason::Site { since: NOW - minutes(120) }),
                "vm-0 is awake because its owner has the website open, for 2 h now.",
            ),
            (
                Outlook::Stays(Reason::Snooze { until: NOW + minutes(8) }),
                "vm-0 is awake because it was told to stay awake until 14:30 UTC.",
            ),
            (
                Outlook::Stays(Reason::Lease(lease)),
                "vm-0 is awake because keepawake has held it for 3 min, until 14:52 UTC: make test.",
            ),
            (
                sleeps(17),
                "vm-0 is awake because alice used ssh 3 min ago; unused, it goes to sleep in 17 min.",
            ),
            (sleeps(0), "vm-0 is awake because alice used ssh 3 min ago, and goes to sleep now."),
            (Outlook::Unknown, "vm-0 is awake, and goes to sleep when nobody has used it for 20 min."),
        ];
        for (outlook, expected) in cases {
            assert_eq!(sentence(&known(&State::Running, &outlook, Some(&typed))), expected);
        }
    }

    #[test]
    fn one_sentence_for_a_vm_that_is_not() {
        let asleep = State::Asleep { failed: None };
        let mut of = known(&asleep, &Outlook::Unknown, None);
        assert_eq!(
            sentence(&of),
            "vm-0 is asleep: it is new, and nobody has used it yet. It wakes when it is used."
        );
        let idle = SleptFor::Idle { since: NOW - minutes(60 + 180) };
        of.slept = Some((NOW - minutes(180), &idle));
        assert_eq!(
            sentence(&of),
            "vm-0 fell asleep 3 h ago, at 11:22 UTC, because nothing had happened in it for 60 min. It wakes when it \
             is used."
        );
        let failed = State::Asleep { failed: Some("its saved memory is cut short".into()) };
        let words = sentence(&known(&failed, &Outlook::Unknown, None));
        assert!(words.starts_with("vm-0 is asleep and could not be woken: its saved memory is cut short."));
        assert!(words.ends_with("berth admin vm start --from-disk vm-0.alice.koding"), "{words}");
        let queued = Queued { ahead: 0, reason: "1 MB of the 1 MB are taken".into() };
        let waits = Known { queued: Some(&queued), ..known(&State::Starting, &Outlook::Unknown, None) };
        assert_eq!(
            sentence(&waits),
            "vm-0 waits for memory on this host: 1 MB of the 1 MB are taken. It is next."
        );
        assert_eq!(clock_time(NOW - minutes(24 * 60), NOW), "2026-11-21 14:22 UTC");
        let off = State::Off { ended: None };
        let again = Outlook::StartsAgain { failures: 3, at: NOW + minutes(5) };
        assert_eq!(
            sentence(&known(&off, &again, None)),
            "vm-0 is always-on and has stopped 3 times in a row; it is started again in 5 min."
        );
    }

    #[test]
    fn why_it_slept_is_kept_as_text() {
        let why = SleptFor::Idle { since: NOW };
        let text = serde_json::to_string(&why).unwrap();
        assert_eq!(text, r#"{"because":"idle","since":"2026-11-22T14:22:00Z"}"#);
        assert_eq!(serde_json::from_str::<SleptFor>(&text).unwrap(), why);
        assert_eq!(serde_json::from_str::<SleptFor>(r#"{"because":"moon"}"#).unwrap(), SleptFor::Other);
    }

    #[test]
    fn spans_in_one_unit() {
        for (seconds, words) in [
            (-5, "1 s"),
            (0, "1 s"),
            (45, "45 s"),
            (300, "5 min"),
            (5399, "90 min"),
            (5400, "2 h"),
            (259_200, "3 days"),
        ] {
            assert_eq!(span(time::Duration::seconds(seconds)), words);
        }
    }
}
