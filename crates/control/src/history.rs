//! What a VM has used in the last hour: the samples that the idle policy takes anyway, kept in memory alone.
//!
//! A server that starts anew begins without any, and while a VM is asleep or off there are none: whoever draws them shows
//! a gap there.
//!
//! Concurrency: one [`History`] a VM under a short lock; its supervisor writes, pages read.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use berth_engine::Usage;
use berth_model::VmName;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{Control, error::Error};

/// So long samples are kept.
pub const HISTORY: Duration = Duration::from_secs(3600);
/// Samples that come faster are left out, so that there are at most 120.
const SPACING: Duration = Duration::from_secs(30);

/// What a VM used up to a moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was taken.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The share of all its CPUs since the sample before, from 0 to 1; `None` for the first one after it began to run.
    pub cpu: Option<f64>,
    /// Bytes a second that it read from and wrote to its disk since the sample before; `None` as there.
    pub disk: Option<f64>,
    /// Bytes of the host's memory that it held.
    pub memory: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    samples: VecDeque<Sample>,
    /// What the counters said at the last sample of this run.
    last: Option<(OffsetDateTime, Usage)>,
}

impl History {
    /// It begins to run: the counters begin at zero.
    pub(crate) fn begin(&self) {
        self.lock().last = None;
    }

    /// Notes what its counters say at this moment.
    pub(crate) fn note(&self, at: OffsetDateTime, usage: Usage, cpus: u32) {
        let mut inner = self.lock();
        let before = inner.last.filter(|(before, _)| *before <= at);
        if before.is_some_and(|(before, _)| at - before < SPACING) {
            return;
        }
        inner.last = Some((at, usage));
        let rates = before.map(|(before, used)| {
            let seconds = (at - before).as_seconds_f64();
            let cpu = usage.cpu.saturating_sub(used.cpu).as_secs_f64() / seconds / f64::from(cpus.max(1));
            (cpu.min(1.0), usage.disk.saturating_sub(used.disk) as f64 / seconds)
        });
        let (cpu, disk) = rates.unzip();
        // A clock that was set back must not leave samples of the future.
        inner.samples.retain(|sample| sample.at < at && at - sample.at <= HISTORY);
        inner.samples.push_back(Sample { at, cpu, disk, memory: usage.memory });
    }

    /// The samples that are not too old, the oldest first.
    pub(crate) fn samples(&self, now: OffsetDateTime) -> Vec<Sample> {
        self.lock().samples.iter().filter(|sample| now - sample.at <= HISTORY).copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    /// What a VM has used in the last hour, the oldest sample first; about one a minute while it runs, none while it does
    /// not.
    ///
    /// # Errors
    /// There is no such VM.
    pub fn history(&self, vm: &VmName) -> Result<Vec<Sample>, Error> {
        let handle = self.handle(vm).ok_or_else(|| Error::NoSuchVm(vm.to_string()))?;
        Ok(handle.history.samples(self.settings.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds)
    }

    fn usage(cpu: u64, disk: u64) -> Usage {
        Usage { cpu: Duration::from_secs(cpu), disk, memory: 7 }
    }

    #[test]
    fn rates_are_of_the_time_between_two_samples_of_one_run() {
        let history = History::default();
        history.begin();
        history.note(at(0), usage(1, 100), 2);
        history.note(at(10), usage(40, 999), 2);
        history.note(at(60), usage(61, 6100), 2);
        history.begin();
        history.note(at(200), usage(3, 50), 2);
        let cpus: Vec<_> = history.samples(at(200)).iter().map(|sample| (sample.cpu, sample.disk)).collect();
        assert_eq!(cpus, [(None, None), (Some(0.5), Some(100.0)), (None, None)]);
    }

    #[test]
    fn an_hour_is_kept_and_so_many_samples() {
        let history = History::default();
        for second in 0..20_000 {
            history.note(at(second), usage(second.unsigned_abs(), 0), 1);
        }
        assert!(history.lock().samples.len() <= 121);
        let samples = history.samples(at(20_000));
        assert!(samples.iter().all(|sample| sample.at >= at(20_000 - 3600)));
        assert!(samples.iter().all(|sample| sample.cpu == Some(1.0)));
        assert!(history.samples(at(30_000)).is_empty());
    }

    #[test]
    fn a_clock_that_is_set_back_begins_anew() {
        let history = History::default();
        history.note(at(1000), usage(1, 0), 1);
        history.note(at(500), usage(2, 0), 1);
        let samples = history.samples(at(1000));
        assert_eq!(samples.len(), 1);
        assert_eq!((samples[0].at, samples[0].cpu), (at(500), None));
    }
}
