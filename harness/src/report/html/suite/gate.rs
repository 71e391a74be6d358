//! What the gate found, as tables: verdict and reasons, metrics, limits, changed cases and scenarios, the two sides.
//!
//! The words and figures are those of the gate's own texts; nothing is decided or rounded anew here.

use super::super::document::verdict as verdict_line;
use super::super::table::{Cell, Tone, pairs, table};
use crate::gate::report::{Flip, FlipKind, GateReport, MetricReport};
use crate::gate::text::{
    FLIP_HEADINGS, HEADINGS, NOTE, SCENARIO_HEADINGS, changed, flip_cells, further_words, metric_cells, scenario_cells,
    side_words, verdict_word,
};
use crate::report::text::{self, markup};
use crate::score::verdict::Verdict;

/// The part of the page.
pub(super) fn gate(report: &GateReport) -> String {
    let name = verdict_word(report.verdict);
    let (reason, more) = match report.reasons.split_first() {
        Some((first, more)) => (first.as_str(), more),
        None => ("", &[][..]),
    };
    let mut html = String::from("<h3>The gate</h3>");
    html += &verdict_line(name, text::verdict_sign(report.verdict), reason);
    let further = report.further.as_ref().map(further_words);
    let items: Vec<String> = more.iter().cloned().chain(further).collect();
    if !items.is_empty() {
        let items: String = items.iter().map(|one| format!("<li>{}</li>", markup(one))).collect();
        html += &format!("<ul>{items}</ul>");
    }
    let metrics: Vec<Vec<Cell>> = report.metrics.iter().map(metric).collect();
    let mut head = HEADINGS;
    head.swap(0, 1);
    head[1] = "decision";
    let limits: Vec<Vec<Cell>> = report
        .limits
        .iter()
        .map(|one| {
            vec![
                one.limit.name().into(),
                decision(one.verdict),
                one.reason.as_str().into(),
            ]
        })
        .collect();
    let flips: Vec<Vec<Cell>> = report.flips.iter().map(flip).collect();
    let mut flip_head = FLIP_HEADINGS;
    flip_head.swap(0, 1);
    flip_head[1] = "change";
    let scenarios: Vec<Vec<Cell>> = changed(report)
        .map(|row| scenario_cells(row).map(Cell::from).into())
        .collect();
    let sides = [("baseline", &report.baseline), ("candidate", &report.candidate)];
    let sides = sides.map(|(name, side)| (name.to_owned(), side_words(side)));
    html += "<div class=\"figures\">";
    html += &table(&format!("Metrics; {}", NOTE.trim()), &head, &metrics);
    html += "</div>";
    html += &table("Hard limits", &["limit", "decision", "why"], &limits);
    html += &table("Cases whose answer or alarms changed", &flip_head, &flips);
    html += &table(
        "Scenarios whose share of right answers changed, with 95 % intervals",
        &SCENARIO_HEADINGS,
        &scenarios,
    );
    html + &pairs("What was compared", &sides)
}

/// The metric's name is the row's heading; the decision follows it, before the figures it is made of.
fn metric(report: &MetricReport) -> Vec<Cell> {
    let [_, name, figures @ ..] = metric_cells(report);
    let cells = [name.into(), decision(report.verdict).titled(report.reason.as_str())];
    cells.into_iter().chain(figures.map(Cell::from)).collect()
}

fn flip(flip: &Flip) -> Vec<Cell> {
    let [kind, case, more @ ..] = flip_cells(flip);
    let (sign, tone) = match flip.kind {
        FlipKind::Lost | FlipKind::Noisier => ("▼", Tone::Bad),
        FlipKind::Gained | FlipKind::Quieter => ("▲", Tone::Good),
    };
    let cells = [case.into(), Cell::toned(format!("{sign} {kind}"), tone)];
    cells.into_iter().chain(more.map(Cell::from)).collect()
}

fn decision(verdict: Verdict) -> Cell {
    let tone = match verdict {
        Verdict::Pass => Tone::Good,
        Verdict::Inconclusive => Tone::Plain,
        Verdict::Fail => Tone::Bad,
    };
    Cell::toned(
        format!("{} {}", text::verdict_sign(verdict), verdict_word(verdict)),
        tone,
    )
}
