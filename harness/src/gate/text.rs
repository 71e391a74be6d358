//! Gate reports for a terminal.

use std::fmt::Write as _;

use super::decide::{effect_text, short, value_text};
use super::report::{Flip, Further, GateReport, MetricReport, ScenarioRow, Side};
use crate::score::verdict::Verdict;
use crate::statistics::proportion::Proportion;

/// The whole report, with every flip.
#[must_use]
pub fn text(report: &GateReport) -> String {
    let mut text = format!("gate {}\n", verdict_word(report.verdict));
    for reason in &report.reasons {
        let _ = writeln!(text, "  {reason}");
    }
    if let Some(further) = &report.further {
        let _ = writeln!(text, "  {}", further_words(further));
    }
    text += "\n";
    for (name, side) in [("baseline", &report.baseline), ("candidate", &report.candidate)] {
        let _ = writeln!(text, "{name:<10} {}", side_words(side));
    }
    if !report.metrics.is_empty() {
        text += "\n";
        text += &table(&HEADINGS, &report.metrics.iter().map(metric_cells).collect::<Vec<_>>());
        text += NOTE;
    }
    for limit in &report.limits {
        let _ = writeln!(
            text,
            "{:<13} {}: {}",
            verdict_word(limit.verdict),
            limit.limit.name(),
            limit.reason
        );
    }
    if !report.flips.is_empty() {
        let _ = writeln!(text, "\n{}", counted(report.flips.len(), "change"));
        text += &table(&FLIP_HEADINGS, &report.flips.iter().map(flip_cells).collect::<Vec<_>>());
    }
    let changed: Vec<_> = changed(report).map(scenario_cells).collect();
    if !changed.is_empty() {
        text += "\n";
        text += &table(&SCENARIO_HEADINGS, &changed);
    }
    text
}

/// Headings of [`metric_cells`].
pub(crate) const HEADINGS: [&str; 9] = [
    "",
    "metric",
    "baseline",
    "candidate",
    "effect",
    "90 % interval",
    "margin",
    "p (Holm)",
    "cases",
];

/// Headings of [`flip_cells`].
pub(crate) const FLIP_HEADINGS: [&str; 5] = ["", "case", "recording", "before", "now"];

/// Headings of [`scenario_cells`].
pub(crate) const SCENARIO_HEADINGS: [&str; 3] = ["scenario", "baseline", "candidate"];

/// What the figures of [`HEADINGS`] are.
pub(crate) const NOTE: &str = "AC@1: mean over scenarios; times: geometric mean, cut where watching ended\n\n";

/// `PASS`, `INCONCLUSIVE` or `FAIL`.
#[must_use]
pub const fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "PASS",
        Verdict::Inconclusive => "INCONCLUSIVE",
        Verdict::Fail => "FAIL",
    }
}

/// What would decide.
pub(crate) fn further_words(further: &Further) -> String {
    match further {
        Further::Cases { count } => format!("about {count} more cases like these would decide"),
        Further::MoreThan { count } => format!("not even {count} more cases like these would decide"),
    }
}

/// Who, on what, and how much of it counts.
pub(crate) fn side_words(side: &Side) -> String {
    let invalid: Vec<String> = side
        .classes
        .iter()
        .filter(|(class, _)| **class != crate::check::validity::Class::Valid)
        .map(|(class, count)| format!("{count} {}", class.name()))
        .collect();
    let mut words = format!(
        "{} on {} ({}, {}): {} of {} cases VALID",
        side.detector,
        side.suite,
        super::baseline::mode_word(side.mode),
        short(&side.digest),
        side.valid.hits,
        side.valid.of
    );
    if !invalid.is_empty() {
        let _ = write!(words, " ({})", invalid.join(", "));
    }
    words
}

/// One row of the table of metrics.
pub(crate) fn metric_cells(report: &MetricReport) -> [String; 9] {
    let effect = |value: f64| effect_text(report.metric, value);
    let chance = |p: f64| {
        if p < 0.001 {
            "< .001".to_owned()
        } else {
            format!("{p:.3}")
        }
    };
    [
        verdict_word(report.verdict).to_owned(),
        report.metric.name().to_owned(),
        value_text(report.metric, report.baseline),
        value_text(report.metric, report.candidate),
        effect(report.effect),
        format!("{} to {}", effect(report.interval.low), effect(report.interval.high)),
        effect(report.margin),
        format!("{} ({})", chance(report.p), chance(report.p_adjusted)),
        report.case_count.to_string(),
    ]
}

/// One row of the table of flips.
pub(crate) fn flip_cells(flip: &Flip) -> [String; 5] {
    [
        flip.kind.name().to_owned(),
        format!("{} #{}", flip.scenario, flip.trial),
        flip.recording.clone(),
        flip.before.clone(),
        flip.after.clone(),
    ]
}

/// Scenarios whose share of right answers changed.
pub(crate) fn changed(report: &GateReport) -> impl Iterator<Item = &ScenarioRow> {
    report
        .scenarios
        .iter()
        .filter(|row| row.baseline.share() != row.candidate.share())
}

/// One row of the table of scenarios.
pub(crate) fn scenario_cells(row: &ScenarioRow) -> [String; 3] {
    [
        row.scenario.clone(),
        share_words(&row.baseline),
        share_words(&row.candidate),
    ]
}

/// A share with its 95 % interval.
#[must_use]
pub(super) fn share_words(share: &Proportion) -> String {
    format!(
        "{}/{} ({:.0}–{:.0} %)",
        share.hits,
        share.of,
        share.low * 100.0,
        share.high * 100.0
    )
}

/// `1 change`, `2 changes`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Columns as wide as their widest cell, two spaces apart.
pub(super) fn table<const N: usize>(headings: &[&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let body = rows
        .iter()
        .map(|row| line(std::array::from_fn(|column| row[column].as_str())));
    std::iter::once(line(*headings)).chain(body).collect()
}
