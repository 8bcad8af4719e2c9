//! `[idle]`: when VMs that nobody uses go to sleep.

use std::time::Duration;

use berth_control::IdleRules;
use serde::{Deserialize, Serialize};

use super::{
    Problem,
    size::{MIB, Size},
    span::Span,
    word,
};

const MIN_SLEEP_AFTER: Span = Span(Duration::from_secs(1));
/// All CPUs of the largest VM.
const MAX_BUSY_CPU: u32 = 25_500;

/// The settings of the idle policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Idle {
    /// How long after its last use a VM goes to sleep; none for never.
    #[serde(with = "word::never")]
    pub(crate) sleep_after: Option<Span>,
    /// A guest whose CPUs together are busier than this is at work: percent of one CPU.
    pub(crate) busy_cpu: u32,
    /// A guest that reads and writes more than this in a minute is at work.
    pub(crate) busy_disk: Size,
}

impl Default for Idle {
    fn default() -> Self {
        Self { sleep_after: Some(Span(Duration::from_secs(20 * 60))), busy_cpu: 20, busy_disk: Size(8 * MIB) }
    }
}

impl Idle {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = vec![];
        if self.sleep_after.is_some_and(|after| after < MIN_SLEEP_AFTER) {
            let message = format!("Give at least \"{MIN_SLEEP_AFTER}\", or \"never\".");
            problems.push(Problem::new("idle.sleep_after", message));
        }
        if !(1..=MAX_BUSY_CPU).contains(&self.busy_cpu) {
            let message = format!("Give percent of one CPU, 1 to {MAX_BUSY_CPU}: an idle guest is not at 0.");
            problems.push(Problem::new("idle.busy_cpu", message));
        }
        problems
    }

    pub(super) fn rules(&self) -> IdleRules {
        IdleRules {
            sleep_after: self.sleep_after.map(Span::duration),
            busy_cpu: f64::from(self.busy_cpu) / 100.0,
            busy_disk: self.busy_disk.bytes(),
        }
    }
}
