//! When a VM goes to sleep: the whole policy, as one pure function of what is known at a moment.
//!
//! ```text
//!   a reason holds ──────────────────────────────────────────► Stay
//!   the last one ended …  20 min before now ─► Sleep    (everyone inside was told five minutes before: Warn)
//!                      …  less              ─► Idle
//! ```
//!
//! **Reasons** hold a VM awake for as long as they last: it is always-on, its owner has the site open, somebody is
//! connecting, it is snoozed, or a program inside holds a lease (`keepawake`). **Uses** are moments: a key typed, a
//! request, a minute of work. The clock runs from the last use or the end of the last reason. An open connection is
//! neither: it survives sleep. Nor is a keepalive (see `activity`).
//!
//! A VM that was woken without being used, for a keepalive or the end of a connection, *dozes*: it goes back to sleep as
//! soon as that is done.

use std::time::Duration;

use berth_engine::Lease;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// How long before falling asleep everyone inside is told, where the timeout is long enough.
const WARN_BEFORE: Duration = Duration::from_secs(5 * 60);
/// How long a VM that was woken without being used stays awake at least: what it was woken for takes less.
const DOZE: Duration = Duration::from_secs(5);
/// A VM that was used within this time is in use: it does not give way to others.
const IN_USE: Duration = Duration::from_secs(2 * 60);
/// How often a VM is looked at while it is awake: so old may the news of its work and its leases be.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What the operator decided about sleep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IdleRules {
    /// How long after the last use, or the end of the last reason, a VM goes to sleep; `None` for never.
    pub sleep_after: Option<Duration>,
    /// A guest whose CPUs together are busy for more than this part of one CPU is working.
    pub busy_cpu: f64,
    /// A guest that reads and writes more bytes a minute than this is working.
    pub busy_disk: u64,
}

impl Default for IdleRules {
    fn default() -> Self {
        Self { sleep_after: Some(Duration::from_secs(20 * 60)), busy_cpu: 0.2, busy_disk: 8 << 20 }
    }
}

impl IdleRules {
    /// How long before falling asleep everyone inside is told.
    #[must_use]
    pub fn warn_before(&self) -> Duration {
        self.sleep_after.map_or(WARN_BEFORE, |after| WARN_BEFORE.min(after / 4))
    }

    /// How often a VM is looked at while it is awake: a few times in each timeout, so that work is seen in time.
    pub(crate) fn look_every(&self) -> Duration {
        self.sleep_after.map_or(LOOK_EVERY, |after| LOOK_EVERY.min(after / 4))
    }

    /// Whether this much of the CPU and the disk in this time is work.
    pub(crate) fn is_work(&self, cpu: Duration, disk: u64, time: Duration) -> bool {
        let seconds = time.as_secs_f64().max(1.0);
        cpu.as_secs_f64() / seconds > self.busy_cpu || disk as f64 / seconds * 60.0 > self.busy_disk as f64
    }
}

/// A moment at which somebody or something used a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Use {
    pub(crate) at: OffsetDateTime,
    pub(crate) what: UseKind,
}

/// What a VM was used for. Kept in the database: variants are added, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "use", rename_all = "snake_case")]
pub(crate) enum UseKind {
    /// It was made or started by hand.
    Started,
    /// Bytes went through a connection that are no keepalives.
    Connection { by: String, port: u16 },
    /// Its CPUs or its disk were busy.
    Work,
    /// A program inside held it awake until then.
    Lease { what: String },
    /// Its owner had the site open until then.
    Site,
    /// It was held awake by hand until then.
    Snooze,
    /// It was always-on until then.
    AlwaysOn,
    /// Something that a later version knows.
    #[serde(other)]
    Other,
}

/// All that the policy knows of a VM that runs.
#[derive(Debug, Clone)]
pub(crate) struct Facts<'a> {
    pub(crate) now: OffsetDateTime,
    pub(crate) rules: IdleRules,
    /// Since when it runs.
    pub(crate) awake_since: OffsetDateTime,
    pub(crate) always_on: bool,
    /// Since when its owner has the site open.
    pub(crate) site_since: Option<OffsetDateTime>,
    /// Somebody is connecting in this moment.
    pub(crate) connecting: bool,
    pub(crate) snoozed_until: Option<OffsetDateTime>,
    pub(crate) used: Option<Use>,
    /// What holds it awake from within, where the guest was just asked.
    pub(crate) leases: Option<&'a [Lease]>,
    /// A program inside held it awake when it was last judged: whether one still does is asked each time.
    pub(crate) leased: bool,
    /// When everyone inside was last told that it goes to sleep.
    pub(crate) warned: Option<OffsetDateTime>,
    /// When it was last put to sleep.
    pub(crate) slept: Option<OffsetDateTime>,
}

/// Why a VM stays awake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    AlwaysOn,
    /// Sleep is switched off on this server.
    NeverSleeps,
    Site {
        since: OffsetDateTime,
    },
    Connecting,
    Snooze {
        until: OffsetDateTime,
    },
    Lease(Lease),
}

/// What is to be done with a VM that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It stays awake; look again at `look`.
    Stay { why: Reason, look: OffsetDateTime },
    /// Nothing holds it awake, and its time is not over.
    Idle { since: OffsetDateTime, sleeps_at: OffsetDateTime, look: OffsetDateTime },
    /// It depends on the leases: ask the guest, then judge again.
    Ask,
    /// Tell everyone inside now that it sleeps at `sleeps_at`, then judge again.
    Warn { since: OffsetDateTime, sleeps_at: OffsetDateTime },
    /// Its time is over.
    Sleep { since: OffsetDateTime },
}

/// The policy.
pub(crate) fn judge(facts: &Facts<'_>) -> Verdict {
    let soon = facts.now + facts.rules.look_every();
    let stay = |why| Verdict::Stay { why, look: soon };
    if let Some(reason) = held_from_outside(facts) {
        let look = match reason {
            Reason::Snooze { until } => until.min(soon),
            _ => soon,
        };
        return Verdict::Stay { why: reason, look };
    }
    let Some(sleep_after) = facts.rules.sleep_after else { return stay(Reason::NeverSleeps) };
    let since = idle_since(facts);
    let warn_before = facts.rules.warn_before();
    // It slept through this very pause already, everyone was told, and nobody has used it since.
    let dozes = facts.slept.is_some_and(|slept| slept >= since);
    let sleeps_at = match (dozes, warned_in(facts, since)) {
        (true, _) => facts.awake_since + DOZE,
        (false, Some(warned)) => (since + sleep_after).max(warned + warn_before),
        (false, None) => (since + sleep_after).max(facts.now + warn_before),
    };
    let decides_at =
        if dozes || warned_in(facts, since).is_some() { sleeps_at } else { sleeps_at - warn_before };
    let held = facts.leases.map(|leases| held_from_within(leases, facts.now));
    let let_go = !facts.leased || matches!(held, Some(None));
    if facts.now < decides_at && let_go {
        return Verdict::Idle { since, sleeps_at, look: decides_at.min(soon) };
    }
    match held {
        None => Verdict::Ask,
        Some(Some(reason)) => stay(reason),
        Some(None) if facts.now >= sleeps_at => Verdict::Sleep { since },
        Some(None) => Verdict::Warn { since, sleeps_at },
    }
}

/// Whether a VM may be put to sleep before its time because another one needs its memory: nothing holds it awake, and
/// nobody has used it for a while.
pub(crate) fn gives_way(facts: &Facts<'_>) -> bool {
    let held = held_from_outside(facts)
        .or_else(|| facts.leases.and_then(|leases| held_from_within(leases, facts.now)));
    held.is_none() && facts.now - idle_since(facts) >= IN_USE
}

fn held_from_outside(facts: &Facts<'_>) -> Option<Reason> {
    if facts.always_on {
        return Some(Reason::AlwaysOn);
    }
    if let Some(since) = facts.site_since {
        return Some(Reason::Site { since });
    }
    if facts.connecting {
        return Some(Reason::Connecting);
    }
    facts.snoozed_until.filter(|until| *until > facts.now).map(|until| Reason::Snooze { until })
}

fn held_from_within(leases: &[Lease], now: OffsetDateTime) -> Option<Reason> {
    let holds = |lease: &&Lease| lease.until.is_none_or(|until| OffsetDateTime::from(until) > now);
    leases.iter().find(holds).cloned().map(Reason::Lease)
}

/// When the last use was, or the last reason ended.
pub(crate) fn idle_since(facts: &Facts<'_>) -> OffsetDateTime {
    let used = facts.used.as_ref().map_or(facts.awake_since, |used| used.at);
    // A snooze that is in the future has not ended yet; what lies ahead otherwise is a clock that was set back.
    let snoozed = facts.snoozed_until.filter(|until| *until <= facts.now);
    used.max(snoozed.unwrap_or(used)).min(facts.now)
}

/// The warning of this pause, if it went out.
fn warned_in(facts: &Facts<'_>, since: OffsetDateTime) -> Option<OffsetDateTime> {
    facts.warned.filter(|warned| *warned >= since)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);
    const MINUTE: Duration = Duration::from_secs(60);

    fn minutes(count: i64) -> OffsetDateTime {
        NOON + time::Duration::minutes(count)
    }

    fn seconds(count: i64) -> OffsetDateTime {
        NOON + time::Duration::seconds(count)
    }

    fn used_at(at: OffsetDateTime) -> Use {
        Use { at, what: UseKind::Work }
    }

    fn lease(until: Option<OffsetDateTime>) -> Lease {
        Lease { what: "make test".into(), since: minutes(-60).into(), until: until.map(Into::into) }
    }

    /// Runs since an hour before noon, was used at noon, and it is `now`.
    fn facts(used: &Use, now: OffsetDateTime) -> Facts<'static> {
        Facts {
            now,
            rules: IdleRules::default(),
            awake_since: minutes(-60),
            always_on: false,
            site_since: None,
            connecting: false,
            snoozed_until: None,
            used: Some(used.clone()),
            leases: None,
            leased: false,
            warned: None,
            slept: None,
        }
    }

    fn stay(why: Reason, look: OffsetDateTime) -> Verdict {
        Verdict::Stay { why, look }
    }

    fn idle(sleeps_at: OffsetDateTime, look: OffsetDateTime) -> Verdict {
        Verdict::Idle { since: NOON, sleeps_at, look }
    }

    #[test]
    fn the_policy_case_by_case() {
        let used = &used_at(NOON);
        let none: &[Lease] = &[];
        let held = [lease(None)];
        let over = [lease(Some(minutes(14)))];
        let ends = [lease(Some(minutes(30)))];
        let at = |now| facts(used, now);
        let cases: Vec<(&str, Facts<'_>, Verdict)> = vec![
            ("just used", at(seconds(1)), idle(minutes(20), seconds(61))),
            (
                "looked at shortly before the warning",
                at(seconds(14 * 60 + 30)),
                idle(minutes(20), minutes(15)),
            ),
            ("five minutes before: what does the guest say?", at(minutes(15)), Verdict::Ask),
            (
                "nothing: everyone is told",
                Facts { leases: Some(none), ..at(minutes(15)) },
                Verdict::Warn { since: NOON, sleeps_at: minutes(20) },
            ),
            (
                "a program holds it",
                Facts { leases: Some(&held), ..at(minutes(15)) },
                stay(Reason::Lease(lease(None)), minutes(16)),
            ),
            (
                "a lease that ends later holds it",
                Facts { leases: Some(&ends), ..at(minutes(15)) },
                stay(Reason::Lease(lease(Some(minutes(30)))), minutes(16)),
            ),
            (
                "a lease that is over does not",
                Facts { leases: Some(&over), ..at(minutes(15)) },
                Verdict::Warn { since: NOON, sleeps_at: minutes(20) },
            ),
            (
                "told, and the time runs",
                Facts { warned: Some(minutes(15)), ..at(minutes(16)) },
                idle(minutes(20), minutes(17)),
            ),
            (
                "the time is over: ask once more",
                Facts { warned: Some(minutes(15)), ..at(minutes(20)) },
                Verdict::Ask,
            ),
            (
                "and it sleeps",
                Facts { warned: Some(minutes(15)), leases: Some(none), ..at(minutes(20)) },
                Verdict::Sleep { since: NOON },
            ),
            ("held a minute ago: and now?", Facts { leased: true, ..at(minutes(1)) }, Verdict::Ask),
            (
                "still",
                Facts { leased: true, leases: Some(&held), ..at(minutes(1)) },
                stay(Reason::Lease(lease(None)), minutes(2)),
            ),
            (
                "no more",
                Facts { leased: true, leases: Some(none), ..at(minutes(1)) },
                idle(minutes(20), minutes(2)),
            ),
            (
                "a lease that was taken after the warning holds it",
                Facts { warned: Some(minutes(15)), leases: Some(&held), ..at(minutes(20)) },
                stay(Reason::Lease(lease(None)), minutes(21)),
            ),
            (
                "a warning of an earlier pause does not count",
                Facts { warned: Some(minutes(-5)), leases: Some(none), ..at(minutes(15)) },
                Verdict::Warn { since: NOON, sleeps_at: minutes(20) },
            ),
            (
                "told late (the server was away): five minutes all the same",
                Facts { leases: Some(none), ..at(minutes(40)) },
                Verdict::Warn { since: NOON, sleeps_at: minutes(45) },
            ),
            (
                "told late, and not over",
                Facts { warned: Some(minutes(40)), leases: Some(none), ..at(minutes(44)) },
                idle(minutes(45), minutes(45)),
            ),
            ("always-on", Facts { always_on: true, ..at(minutes(90)) }, stay(Reason::AlwaysOn, minutes(91))),
            (
                "the owner has the site open",
                Facts { site_since: Some(minutes(3)), ..at(minutes(90)) },
                stay(Reason::Site { since: minutes(3) }, minutes(91)),
            ),
            (
                "somebody connects",
                Facts { connecting: true, ..at(minutes(90)) },
                stay(Reason::Connecting, minutes(91)),
            ),
            (
                "snoozed",
                Facts { snoozed_until: Some(minutes(95)), ..at(minutes(90)) },
                stay(Reason::Snooze { until: minutes(95) }, minutes(91)),
            ),
            (
                "snoozed for seconds more",
                Facts { snoozed_until: Some(seconds(10)), ..at(seconds(1)) },
                stay(Reason::Snooze { until: seconds(10) }, seconds(10)),
            ),
            (
                "the clock runs from the end of a snooze",
                Facts { snoozed_until: Some(minutes(90)), ..at(minutes(91)) },
                Verdict::Idle { since: minutes(90), sleeps_at: minutes(110), look: minutes(92) },
            ),
            (
                "woken without a use: it dozes",
                Facts { awake_since: minutes(60), slept: Some(minutes(20)), ..at(minutes(60)) },
                idle(seconds(3605), seconds(3605)),
            ),
            (
                "and sleeps at once, without a warning",
                Facts {
                    awake_since: minutes(60),
                    slept: Some(minutes(20)),
                    leases: Some(none),
                    ..at(seconds(3605))
                },
                Verdict::Sleep { since: NOON },
            ),
            (
                "one that was used after its sleep does not doze",
                Facts { awake_since: minutes(-1), slept: Some(minutes(-30)), ..at(minutes(10)) },
                idle(minutes(20), minutes(11)),
            ),
            (
                "never used: from when it came up",
                Facts { used: None, awake_since: NOON, ..at(minutes(1)) },
                idle(minutes(20), minutes(2)),
            ),
            (
                "a use in the future (the clock was set back) is one now",
                at(minutes(-10)),
                Verdict::Idle { since: minutes(-10), sleeps_at: minutes(10), look: minutes(-9) },
            ),
            (
                "sleep is switched off",
                Facts { rules: IdleRules { sleep_after: None, ..IdleRules::default() }, ..at(minutes(90)) },
                stay(Reason::NeverSleeps, minutes(91)),
            ),
            (
                "a short timeout warns a quarter before",
                Facts {
                    rules: IdleRules { sleep_after: Some(MINUTE), ..IdleRules::default() },
                    leases: Some(none),
                    ..at(seconds(45))
                },
                Verdict::Warn { since: NOON, sleeps_at: minutes(1) },
            ),
        ];
        for (case, facts, expected) in cases {
            assert_eq!(judge(&facts), expected, "{case}");
        }
    }

    #[test]
    fn a_vm_in_use_does_not_give_way() {
        let used = &used_at(NOON);
        let at = |now| Facts { leases: Some(&[]), ..facts(used, now) };
        assert!(!gives_way(&at(seconds(119))));
        assert!(gives_way(&at(seconds(120))));
        assert!(!gives_way(&Facts { always_on: true, ..at(minutes(90)) }));
        assert!(!gives_way(&Facts {
            leases: Some(&[lease(None)]),
            warned: Some(minutes(15)),
            ..at(minutes(90))
        }));
        let never = IdleRules { sleep_after: None, ..IdleRules::default() };
        assert!(gives_way(&Facts { rules: never, ..at(minutes(90)) }));
    }

    #[test]
    fn work_is_more_than_an_idle_guest_does() {
        let rules = IdleRules::default();
        let busy = |cpu_ms, disk| rules.is_work(Duration::from_millis(cpu_ms), disk, MINUTE);
        assert!(!busy(0, 0) && !busy(11_000, 7 << 20));
        assert!(busy(13_000, 0), "a fifth of a CPU");
        assert!(busy(0, 9 << 20), "more than 8 MiB in a minute");
        assert!(rules.is_work(Duration::from_secs(1), 0, Duration::ZERO), "no division by zero");
    }

    #[test]
    fn what_a_later_version_kept_can_be_read() {
        let kept = r#"{"at":"2026-11-22T12:00:00Z","what":{"use":"telepathy"}}"#;
        // The database keeps the moment and the kind apart.
        assert!(serde_json::from_str::<serde_json::Value>(kept).is_ok());
        assert_eq!(serde_json::from_str::<UseKind>(r#"{"use":"telepathy"}"#).unwrap(), UseKind::Other);
        let by = UseKind::Connection { by: "alice".into(), port: 22 };
        let text = serde_json::to_string(&by).unwrap();
        assert_eq!(text, r#"{"use":"connection","by":"alice","port":22}"#);
        assert_eq!(serde_json::from_str::<UseKind>(&text).unwrap(), by);
    }
}
