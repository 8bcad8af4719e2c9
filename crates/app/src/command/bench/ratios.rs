//! What was measured of Berth and of a peer, side by side.

use serde::Serialize;

use crate::output::Table;

/// Everything that was measured, in the order in which it is told.
#[derive(Debug)]
pub(crate) struct Ratios {
    /// What the peer is called.
    peer: &'static str,
    pairs: Vec<Pair>,
}

/// The runs of one metric.
#[derive(Debug)]
struct Pair {
    metric: String,
    unit: &'static str,
    berth: Vec<f64>,
    peer: Vec<f64>,
}

/// Whose run it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Berth,
    Peer,
}

/// One after the other, the peer first.
pub(super) const BOTH: [Whose; 2] = [Whose::Peer, Whose::Berth];

/// What there is of both.
pub(super) struct Both<P> {
    pub(super) berth: P,
    pub(super) peer: P,
}

impl<P> Both<P> {
    pub(super) fn of(&self, whose: Whose) -> &P {
        match whose {
            Whose::Berth => &self.berth,
            Whose::Peer => &self.peer,
        }
    }
}

/// Whose turn it is, in the order of so many runs of both.
pub(super) fn turns(runs: u32) -> impl Iterator<Item = Whose> {
    (0..runs).flat_map(|_| BOTH)
}

/// One line of the result: medians, and Berth's divided by the peer's.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    metric: String,
    unit: &'static str,
    berth: Option<f64>,
    peer: Option<f64>,
    ratio: Option<f64>,
}

impl Ratios {
    pub(super) fn with(peer: &'static str) -> Self {
        Self { peer, pairs: vec![] }
    }

    /// What somebody is called.
    pub(super) fn name(&self, whose: Whose) -> &'static str {
        match whose {
            Whose::Berth => "BERTH",
            Whose::Peer => self.peer,
        }
    }

    /// Adds one run.
    pub(super) fn add(&mut self, metric: &str, unit: &'static str, whose: Whose, value: f64) {
        let at = self.pairs.iter().position(|pair| pair.metric == metric).unwrap_or_else(|| {
            self.pairs.push(Pair { metric: metric.to_owned(), unit, berth: vec![], peer: vec![] });
            self.pairs.len() - 1
        });
        let Some(pair) = self.pairs.get_mut(at) else { return };
        match whose {
            Whose::Berth => pair.berth.push(value),
            Whose::Peer => pair.peer.push(value),
        }
    }

    /// For programs.
    pub(crate) fn json(&self) -> Vec<Ratio> {
        self.pairs.iter().map(Pair::ratio).collect()
    }

    /// For people.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new(["", "BERTH", self.peer, "RATIO"]);
        for Ratio { metric, unit, berth, peer, ratio } in self.json() {
            let value = |value: Option<f64>| {
                value.map_or_else(String::new, |value| format!("{} {unit}", short(value)))
            };
            table.row([metric, value(berth), value(peer), ratio.map(short).unwrap_or_default()]);
        }
        table
    }
}

impl Pair {
    fn ratio(&self) -> Ratio {
        let (berth, peer) = (median(&self.berth), median(&self.peer));
        let ratio = berth.zip(peer).filter(|(_, peer)| *peer > 0.0).map(|(berth, peer)| berth / peer);
        Ratio { metric: self.metric.clone(), unit: self.unit, berth, peer, ratio }
    }
}

/// The middle one, or the mean of the two that are; nothing of nothing.
fn median(runs: &[f64]) -> Option<f64> {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(*upper);
    }
    sorted.get(sorted.len() / 2 - 1).map(|lower| f64::midpoint(*lower, *upper))
}

/// Three figures are more than two runs agree in.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_side_by_side() {
        let mut ratios = Ratios::with("SSHD");
        for (whose, values) in [(Whose::Peer, [2.0, 100.0, 4.0]), (Whose::Berth, [1.0, 9.0, 3.0])] {
            for value in values {
                ratios.add("round trip", "µs", whose, value);
            }
        }
        ratios.add("memory of a tunnel, of 10,000", "kB", Whose::Berth, 12.345);
        assert_eq!(
            serde_json::to_string(&ratios.json()).unwrap(),
            r#"[{"metric":"round trip","unit":"µs","berth":3.0,"peer":4.0,"ratio":0.75},{"metric":"memory of a tunnel, of 10,000","unit":"kB","berth":12.345,"peer":null,"ratio":null}]"#
        );
        assert_eq!(median(&[1.0, 2.0, 4.0, 3.0]), Some(2.5));
        assert_eq!(
            ["123.4", "12.34", "1.234", "0.1234"].map(|v| short(v.parse().unwrap())),
            ["123", "12.3", "1.23", "0.123"]
        );
    }
}
