//! What a VM used in the last hour, as small drawings with words. Where it was asleep, or nothing is known, there is a gap.

use std::fmt::Write;

use berth_control::{HISTORY, Sample};
use time::{OffsetDateTime, macros::format_description};

use crate::words::size;

/// The size of a drawing in its own units.
pub(crate) const WIDTH: f64 = 240.0;
pub(crate) const HEIGHT: f64 = 48.0;
/// Samples that are further apart than this many seconds are not joined.
const GAP: f64 = 150.0;
/// The least that the top of the drawing of the disk stands for, in bytes a second: a quiet disk is to look quiet.
const QUIET_DISK: f64 = 1024.0 * 1024.0;

/// One drawing.
#[derive(Debug, PartialEq)]
pub(crate) struct Plot {
    pub(crate) name: &'static str,
    /// The value of now, where it is known, and the largest.
    pub(crate) words: String,
    /// The line, and the area below it, as an SVG path.
    pub(crate) line: String,
    pub(crate) area: String,
    pub(crate) points: Vec<Point>,
}

/// What is told of one sample to whoever points there.
#[derive(Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: String,
    pub(crate) width: String,
    pub(crate) words: String,
}

/// One value.
struct Value {
    at: OffsetDateTime,
    value: f64,
    /// It is joined with the one before.
    joined: bool,
}

/// The drawings of CPU, memory and disk; none where nothing is known. `memory` is how much the VM has.
pub(crate) fn plots(samples: &[Sample], memory: u64, now: OffsetDateTime) -> Vec<Plot> {
    let cpu = values(samples, |sample| sample.cpu);
    let held = values(samples, |sample| Some(sample.memory as f64));
    let disk = values(samples, |sample| sample.disk);
    let most = disk.iter().map(|value| value.value).fold(QUIET_DISK, f64::max);
    let drawn = [
        draw("CPU", &cpu, 1.0, now, |share| format!("{:.0} %", share * 100.0)),
        draw("Memory", &held, memory as f64, now, |bytes| size(bytes as u64)),
        draw("Disk", &disk, most, now, |rate| format!("{}/s", size(rate as u64))),
    ];
    drawn.into_iter().flatten().collect()
}

/// The values that are known. The first one of a run, of which no rate is known, begins a new stretch.
fn values(samples: &[Sample], of: impl Fn(&Sample) -> Option<f64>) -> Vec<Value> {
    let mut values: Vec<Value> = vec![];
    for sample in samples {
        if let Some(value) = of(sample) {
            let near = |before: &Value| (sample.at - before.at).as_seconds_f64() <= GAP;
            let joined = sample.cpu.is_some() && values.last().is_some_and(near);
            values.push(Value { at: sample.at, value, joined });
        }
    }
    values
}

fn draw(
    name: &'static str,
    values: &[Value],
    top: f64,
    now: OffsetDateTime,
    say: impl Fn(f64) -> String,
) -> Option<Plot> {
    let last = values.last()?;
    let most = values.iter().max_by(|one, other| one.value.total_cmp(&other.value))?;
    let x = |at: OffsetDateTime| {
        let age = (now - at).as_seconds_f64() / HISTORY.as_secs_f64();
        WIDTH * (1.0 - age.clamp(0.0, 1.0))
    };
    let y = |value: f64| HEIGHT - (HEIGHT - 2.0) * (value / top.max(1.0e-9)).clamp(0.0, 1.0) - 1.0;
    let (mut line, mut area) = (String::new(), String::new());
    for stretch in stretches(values) {
        let (Some(first), Some(last)) = (stretch.first(), stretch.last()) else { continue };
        // Writing to a String does not fail.
        let _ = write!(area, "M{:.1} {HEIGHT}", x(first.at));
        for (i, value) in stretch.iter().enumerate() {
            let _ =
                write!(line, "{}{:.1} {:.1}", if i == 0 { 'M' } else { 'L' }, x(value.at), y(value.value));
            let _ = write!(area, "L{:.1} {:.1}", x(value.at), y(value.value));
        }
        if stretch.len() == 1 {
            line += "h0";
        }
        let _ = write!(area, "L{:.1} {HEIGHT}Z", x(last.at));
    }
    let most = format!("at most {}", say(most.value));
    let of_now = (now - last.at).as_seconds_f64() <= GAP;
    let words = if of_now { format!("{}, {most}", say(last.value)) } else { most };
    Some(Plot { name, words, line, area, points: points(values, x, say) })
}

/// What belongs together without a gap.
fn stretches(values: &[Value]) -> impl Iterator<Item = &[Value]> {
    values.chunk_by(|_, next| next.joined)
}

fn points(values: &[Value], x: impl Fn(OffsetDateTime) -> f64, say: impl Fn(f64) -> String) -> Vec<Point> {
    const HALF: f64 = WIDTH / 120.0;
    let point = |value: &Value| Point {
        x: format!("{:.1}", x(value.at) - HALF),
        width: format!("{:.1}", 2.0 * HALF),
        words: format!("{}: {}", clock(value.at), say(value.value)),
    };
    values.iter().map(point).collect()
}

fn clock(at: OffsetDateTime) -> String {
    at.to_offset(time::UtcOffset::UTC).format(format_description!("[hour]:[minute] UTC")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::{Duration, macros::datetime};

    const NOW: OffsetDateTime = datetime!(2026-11-22 18:00 UTC);

    fn sample(minutes_ago: i64, cpu: Option<f64>) -> Sample {
        let at = NOW - Duration::minutes(minutes_ago);
        Sample { at, cpu, disk: cpu.map(|cpu| cpu * 1e6), memory: 512 << 20 }
    }

    #[test]
    fn nothing_known_is_nothing_drawn() {
        assert_eq!(plots(&[], 1 << 30, NOW), []);
        let one = plots(&[sample(0, None)], 1 << 30, NOW);
        assert_eq!(one.iter().map(|plot| plot.name).collect::<Vec<_>>(), ["Memory"]);
        assert_eq!(one[0].line, "M240.0 24.0h0");
    }

    #[test]
    fn a_value_stands_where_its_time_and_size_say() {
        let drawn = plots(&[sample(60, Some(0.0)), sample(59, Some(1.0))], 1 << 30, NOW);
        let cpu = &drawn[0];
        assert_eq!(cpu.line, "M0.0 47.0L4.0 1.0");
        assert_eq!(cpu.area, "M0.0 48L0.0 47.0L4.0 1.0L4.0 48Z");
        assert_eq!(cpu.words, "at most 100 %");
        assert_eq!(cpu.points[1].words, "17:01 UTC: 100 %");
        assert_eq!(drawn[1].words, "at most 512 MB");
        let now = plots(&[sample(5, Some(1.0)), sample(1, Some(0.1))], 1 << 30, NOW);
        assert_eq!(
            (now[0].words.as_str(), now[2].words.as_str()),
            ("10 %, at most 100 %", "98 KB/s, at most 977 KB/s")
        );
    }

    #[test]
    fn a_sleep_and_an_unknown_time_are_gaps() {
        let samples = [
            sample(50, None),
            sample(49, Some(0.5)),
            // Woken within the same minutes.
            sample(47, None),
            sample(46, Some(0.5)),
            // Nothing known for a while.
            sample(10, Some(0.5)),
        ];
        let drawn = plots(&samples, 1 << 30, NOW);
        assert_eq!(drawn[0].line.matches('M').count(), 3, "{}", drawn[0].line);
        assert_eq!(drawn[1].line.matches('M').count(), 3, "{}", drawn[1].line);
    }

    #[test]
    fn values_beyond_the_edges_stay_inside() {
        let odd = Sample {
            at: NOW + Duration::minutes(5),
            cpu: Some(f64::NAN),
            disk: Some(-1.0),
            memory: u64::MAX,
        };
        for plot in plots(&[odd], 0, NOW) {
            assert!(plot.line.starts_with("M240.0 "), "{}", plot.line);
        }
    }
}
