//! Two results side by side, without a verdict: the gate's statistics, symmetrical.
//!
//! Exchanging the sides turns every difference and inverts every ratio; nothing else changes. Results of different
//! suites are compared on the scenarios that they share, with a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::decide::{effect_text, value_text};
use super::evidence::{Case, Evidence};
use super::flips;
use super::measure::{Metric, hours, measure};
use super::paired::pair;
use super::report::{Flip, Side};
use super::text::{FLIP_HEADINGS, flip_cells, share_words, side_words, table};
use crate::score::summary::times;
use crate::statistics::poisson::{Rate, rate_of};
use crate::statistics::proportion::Proportion;
use crate::statistics::survival::{Quantile, Times};
use crate::statistics::{Interval, TAIL_95};
use crate::suite::outcome::Mode;

/// Version of [`Comparison`].
pub const COMPARISON_VERSION: u32 = 1;

/// Names the group of a case.
type GroupOf<'a> = &'a dyn Fn(&Case) -> String;

/// Two results side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// [`COMPARISON_VERSION`].
    pub version: u32,
    /// What makes the comparison weaker than it looks, in plain words.
    pub warnings: Vec<String>,
    /// The first result.
    pub first: Side,
    /// The second.
    pub second: Side,
    /// The metrics that both have cases for.
    pub metrics: Vec<Contrast>,
    /// Each scenario of either.
    pub scenarios: Vec<Row>,
    /// Each class of scenarios on each application.
    pub groups: Vec<Row>,
    /// Two replays: every case whose answer or alarms differ.
    pub flips: Vec<Flip>,
}

/// How two results differ in one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contrast {
    /// Which.
    pub metric: Metric,
    /// The first result's value.
    pub first: f64,
    /// The second's.
    pub second: f64,
    /// Second − first (AC@1, false alarms), or second / first (times).
    pub effect: f64,
    /// Its 95 % interval.
    pub interval: Interval,
    /// Two-sided chance of an effect at least as large if there is none. Not adjusted: nothing is decided by it.
    pub p: f64,
    /// Number of pairs, or of the smaller side's runs.
    pub case_count: usize,
}

/// One line of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The scenario, or class and application.
    pub name: String,
    /// The first result's part.
    pub first: Cell,
    /// The second's.
    pub second: Cell,
}

/// One result's part of a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cell {
    /// Right answers among the cases with a cause to name.
    pub right: Proportion,
    /// Times to root cause.
    pub time_to_root_cause: Times,
    /// Times to detect.
    pub time_to_detect: Times,
    /// False alarms, surges apart.
    pub false_alarms: Rate,
}

/// Puts two results side by side.
#[must_use]
pub fn compare(first: &Evidence, second: &Evidence) -> Comparison {
    let contrasts = measure(first, second, &Settings::default())
        .into_iter()
        .map(|one| Contrast {
            metric: one.metric,
            first: one.baseline,
            second: one.candidate,
            effect: one.effect,
            interval: one.shape.interval(TAIL_95, 1.0),
            p: one.chances.two_sided(),
            case_count: one.case_count,
        });
    let flips = match (first.mode, second.mode) {
        (Mode::Replay, Mode::Replay) => flips::flips(&pair(first, second)),
        (Mode::Live, _) | (Mode::Replay, Mode::Live) => Vec::new(),
    };
    Comparison {
        version: COMPARISON_VERSION,
        warnings: warnings(first, second),
        first: Side::of(first),
        second: Side::of(second),
        metrics: contrasts.collect(),
        scenarios: rows(first, second, scenario),
        groups: rows(first, second, group),
        flips,
    }
}

/// One result for a terminal: how often its detector was right, how fast, how noisy.
#[must_use]
pub fn summary(evidence: &Evidence) -> String {
    let mut text = format!("{}\n", side_words(&Side::of(evidence)));
    let groups: [(&str, GroupOf<'_>); 2] = [("scenario", &scenario), ("class on application", &group)];
    for (heading, name) in groups {
        let rows: Vec<[String; 5]> = grouped(evidence, name)
            .into_iter()
            .map(|(name, cases)| {
                let [right, time_to_root_cause, time_to_detect, alarms] = cell_words(&cell(&cases));
                [name, right, time_to_root_cause, time_to_detect, alarms]
            })
            .collect();
        let _ = write!(text, "\n{}", table(&[heading, "right", "TTRC", "TTD", "alarms"], &rows));
    }
    text + NOTE
}

const NOTE: &str =
    "right: of how many, with the 95 % interval; times: Kaplan–Meier medians; alarms: in fault-free hours\n";

fn scenario(case: &Case) -> String {
    case.scenario.clone()
}

fn group(case: &Case) -> String {
    format!("{} on {}", case.class.as_deref().unwrap_or("no class"), case.app)
}

fn warnings(first: &Evidence, second: &Evidence) -> Vec<String> {
    let mut warnings = Vec::new();
    if first.digest != second.digest {
        warnings.push("the two are of different suites: only scenarios that both have are in the metrics".to_owned());
    }
    if first.mode != second.mode {
        warnings.push("one is of live runs, the other of a replay: they are compared as if independent".to_owned());
    }
    warnings
}

fn rows(first: &Evidence, second: &Evidence, name: fn(&Case) -> String) -> Vec<Row> {
    let (first, second) = (grouped(first, &name), grouped(second, &name));
    let names: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    let of = |groups: &BTreeMap<String, Vec<&Case>>, name: &str| cell(groups.get(name).map_or(&[], Vec::as_slice));
    names
        .into_iter()
        .map(|name| Row {
            name: name.clone(),
            first: of(&first, name),
            second: of(&second, name),
        })
        .collect()
}

fn grouped<'a>(evidence: &'a Evidence, name: &dyn Fn(&Case) -> String) -> BTreeMap<String, Vec<&'a Case>> {
    let mut groups: BTreeMap<String, Vec<&Case>> = BTreeMap::new();
    for case in &evidence.cases {
        groups.entry(name(case)).or_default().push(case);
    }
    groups
}

fn cell(cases: &[&Case]) -> Cell {
    let answers: Vec<_> = cases.iter().filter_map(|case| case.judged()).collect();
    let watched = || cases.iter().filter(|case| case.watched());
    Cell {
        right: Proportion::new(answers.iter().filter(|answer| answer.right()).count(), answers.len()),
        time_to_root_cause: times(answers.iter().map(|answer| answer.time_to_root_cause)),
        time_to_detect: times(answers.iter().map(|answer| answer.time_to_detect)),
        false_alarms: rate_of(
            watched().map(|case| case.false_alarms as usize).sum(),
            hours(watched().map(|case| case.fault_free_ms).sum()),
        ),
    }
}

/// The comparison for a terminal.
#[must_use]
pub fn text(comparison: &Comparison) -> String {
    let mut text = String::new();
    for warning in &comparison.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    for (name, side) in [("A", &comparison.first), ("B", &comparison.second)] {
        let _ = writeln!(text, "{name}  {}", side_words(side));
    }
    let contrasts: Vec<_> = comparison.metrics.iter().map(contrast_cells).collect();
    let _ = write!(
        text,
        "\n{}",
        table(
            &["metric", "A", "B", "B against A", "95 % interval", "p", "cases"],
            &contrasts
        )
    );
    for (heading, rows) in [
        ("scenario", &comparison.scenarios),
        ("class on application", &comparison.groups),
    ] {
        let rows: Vec<_> = rows.iter().map(row_cells).collect();
        let headings = [
            heading, "A right", "B right", "A TTRC", "B TTRC", "A TTD", "B TTD", "A alarms", "B alarms",
        ];
        let _ = write!(text, "\n{}", table(&headings, &rows));
    }
    text += NOTE;
    if !comparison.flips.is_empty() {
        let _ = write!(
            text,
            "\n{}",
            table(
                &FLIP_HEADINGS,
                &comparison.flips.iter().map(flip_cells).collect::<Vec<_>>()
            )
        );
    }
    text
}

fn contrast_cells(contrast: &Contrast) -> [String; 7] {
    let effect = |value: f64| effect_text(contrast.metric, value);
    [
        contrast.metric.name().to_owned(),
        value_text(contrast.metric, contrast.first),
        value_text(contrast.metric, contrast.second),
        effect(contrast.effect),
        format!(
            "{} to {}",
            effect(contrast.interval.low),
            effect(contrast.interval.high)
        ),
        format!("{:.3}", contrast.p),
        contrast.case_count.to_string(),
    ]
}

fn row_cells(row: &Row) -> [String; 9] {
    let ([a1, a2, a3, a4], [b1, b2, b3, b4]) = (cell_words(&row.first), cell_words(&row.second));
    [row.name.clone(), a1, b1, a2, b2, a3, b3, a4, b4]
}

/// Right answers, time to root cause, time to detect, false alarms.
fn cell_words(cell: &Cell) -> [String; 4] {
    [
        if cell.right.of == 0 {
            "–".to_owned()
        } else {
            share_words(&cell.right)
        },
        median_words(&cell.time_to_root_cause),
        median_words(&cell.time_to_detect),
        format!("{} in {:.2} h", cell.false_alarms.count, cell.false_alarms.hours),
    ]
}

fn median_words(times: &Times) -> String {
    match times.median {
        _ if times.count == 0 => "–".to_owned(),
        Quantile::At { after_ns } => format!("{:.1} s", after_ns as f64 / 1e9),
        Quantile::Beyond { observed_for_ns } => format!("> {:.1} s", observed_for_ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::sample::{suite, times as repeated};

    /// Fifteen cases on each side; the second is slower, and right in fewer of them.
    fn two(mode: Mode) -> (Evidence, Evidence) {
        let of = |right: usize, seconds: f64| {
            let told = repeated(right, &format!("a fault ✓ {seconds}"))
                + &repeated(8 - right, "a fault ✗")
                + &repeated(4, &format!("b fault ✓ {}", seconds + 0.3))
                + &repeated(3, "n none !1");
            Evidence::of(&suite(mode, &told))
        };
        (of(8, 1.0), of(5, 1.4))
    }

    #[test]
    fn exchanged_sides_turn_every_effect_and_change_nothing_else() {
        for mode in [Mode::Live, Mode::Replay] {
            let (first, second) = two(mode);
            let (there, back) = (compare(&first, &second), compare(&second, &first));
            assert_eq!(there.metrics.len(), 4);
            for (there, back) in there.metrics.iter().zip(&back.metrics) {
                let turned = match there.metric {
                    Metric::Accuracy | Metric::FalseAlarms => [-back.effect, -back.interval.high, -back.interval.low],
                    Metric::TimeToRootCause | Metric::TimeToDetect => {
                        [back.effect, back.interval.high, back.interval.low].map(f64::recip)
                    }
                };
                let found = [there.effect, there.interval.low, there.interval.high];
                let near = |(a, b): (f64, f64)| (a - b).abs() < 0.02 * a.abs().max(1.0);
                assert!(found.into_iter().zip(turned).all(near), "{mode:?} {there:?} {back:?}");
                assert!((there.p - back.p).abs() < 0.02, "{mode:?} {there:?} {back:?}");
            }
        }
    }

    #[test]
    fn every_scenario_and_group_stands_side_by_side() {
        let (first, second) = two(Mode::Replay);
        let comparison = compare(&first, &second);
        let names: Vec<_> = comparison.scenarios.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "n"]);
        let row = &comparison.scenarios[0];
        assert_eq!(
            (row.first.right.hits, row.second.right.hits, row.second.right.of),
            (8, 5, 8)
        );
        assert_eq!(comparison.groups.len(), 1);
        assert_eq!(
            (comparison.groups[0].name.as_str(), comparison.groups[0].first.right.of),
            ("cache on shop", 12)
        );
        assert_eq!(comparison.flips.len(), 3);
        assert!(text(&comparison).contains("cache on shop"));
    }

    #[test]
    fn what_differs_beside_the_detector_is_said() {
        let (first, mut second) = two(Mode::Live);
        second.digest = "other".to_owned();
        assert_eq!(compare(&first, &second).warnings.len(), 1);
    }
}
