//! What was measured, and how it is told.

use std::time::Duration;

use serde::Serialize;

use crate::output::Table;

/// Everything that was measured, in the order in which it is told.
#[derive(Debug, Default)]
pub(super) struct Figures(Vec<Series>);

#[derive(Debug)]
struct Series {
    metric: &'static str,
    unit: Unit,
    samples: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Unit {
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "MB")]
    Megabytes,
}

/// One line of the result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figure {
    metric: &'static str,
    unit: Unit,
    runs: usize,
    p50: f64,
    p99: f64,
}

impl Figures {
    /// Adds one run of something that takes time.
    pub(super) fn took(&mut self, metric: &'static str, time: Duration) {
        self.add(metric, Unit::Milliseconds, time.as_secs_f64() * 1e3);
    }

    /// Adds one run of something that takes room.
    pub(super) fn has(&mut self, metric: &'static str, bytes: u64) {
        self.add(metric, Unit::Megabytes, bytes as f64 / 1e6);
    }

    fn add(&mut self, metric: &'static str, unit: Unit, sample: f64) {
        match self.0.iter_mut().find(|series| series.metric == metric) {
            Some(series) => series.samples.push(sample),
            None => self.0.push(Series { metric, unit, samples: vec![sample] }),
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> Vec<Figure> {
        self.0.iter().map(Series::figure).collect()
    }

    /// For people.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(["", "RUNS", "P50", "P99"]);
        for Figure { metric, unit, runs, p50, p99 } in self.json() {
            let words = |value: f64| match unit {
                Unit::Milliseconds => format!("{value:.0} ms"),
                Unit::Megabytes => format!("{value:.0} MB"),
            };
            table.row([metric.to_owned(), runs.to_string(), words(p50), words(p99)]);
        }
        table
    }
}

impl Series {
    fn figure(&self) -> Figure {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        Figure {
            metric: self.metric,
            unit: self.unit,
            runs: sorted.len(),
            p50: rounded(percentile(&sorted, 50)),
            p99: rounded(percentile(&sorted, 99)),
        }
    }
}

/// The smallest sample that at least so many in a hundred do not exceed.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let sorted: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!((percentile(&sorted, 50), percentile(&sorted, 99)), (10.0, 20.0));
        let sorted: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!((percentile(&sorted, 50), percentile(&sorted, 99)), (100.0, 198.0));
        assert_eq!((percentile(&[7.0], 50), percentile(&[7.0], 99)), (7.0, 7.0));
    }

    #[test]
    fn for_programs_it_is_an_array() {
        let mut figures = Figures::default();
        for ms in [40, 10, 20] {
            figures.took("sleep", Duration::from_millis(ms));
        }
        figures.has("a fresh VM asleep, on disk", 123_456_789);
        let text = serde_json::to_string(&figures.json()).unwrap();
        assert_eq!(
            text,
            r#"[{"metric":"sleep","unit":"ms","runs":3,"p50":20.0,"p99":40.0},{"metric":"a fresh VM asleep, on disk","unit":"MB","runs":1,"p50":123.5,"p99":123.5}]"#
        );
    }
}
