//! Two matrices: scenarios × trials, and true mechanisms × said ones.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::super::super::suite::MatrixRow;
use super::super::super::suite::case::{CaseOutcome, SIGNS};
use super::super::super::suite::confusion::Confusion;
use super::super::super::text::markup;
use super::super::table::{Cell, Tone, table};

/// Scenarios × trials.
pub(super) fn matrix(rows: &[MatrixRow]) -> String {
    let trials: BTreeSet<u32> = rows.iter().flat_map(|row| &row.cells).map(|cell| cell.trial).collect();
    let names: Vec<String> = trials.iter().map(|trial| format!("trial {trial}")).collect();
    let mut head = vec!["scenario", "truth"];
    head.extend(names.iter().map(String::as_str));
    let cells = |row: &MatrixRow| -> Vec<Cell> {
        let truth = Cell::toned(row.truth.as_str(), Tone::Quiet);
        let trial = |trial: &u32| {
            let cells: Vec<_> = row.cells.iter().filter(|cell| cell.trial == *trial).collect();
            let Some(first) = cells.first() else {
                return Cell::toned("", Tone::Quiet);
            };
            // Recordings of several campaigns may share a trial's number.
            let texts: Vec<String> = cells.iter().map(|cell| cell.outcome.text()).collect();
            let stories: Vec<&str> = cells.iter().map(|cell| cell.story.as_str()).collect();
            let same = cells.iter().all(|cell| tone(&cell.outcome) == tone(&first.outcome));
            let tone = if same { tone(&first.outcome) } else { Tone::Plain };
            Cell::toned(texts.join(" · "), tone).titled(stories.join("\n"))
        };
        std::iter::once(Cell::from(row.scenario.as_str()).titled(row.class.as_str()))
            .chain([truth])
            .chain(trials.iter().map(trial))
            .collect()
    };
    let rows: Vec<Vec<Cell>> = rows.iter().map(cells).collect();
    let mut html = format!(
        "<div class=\"matrix\">{}</div><p class=\"key\">",
        table("What came of each trial", &head, &rows)
    );
    for (sign, meaning) in SIGNS {
        let _ = write!(html, "<span><b>{sign}</b> {}</span> ", markup(meaning));
    }
    html + "</p>"
}

const fn tone(outcome: &CaseOutcome) -> Tone {
    match outcome {
        CaseOutcome::Right {
            within_limits: true, ..
        }
        | CaseOutcome::Quiet => Tone::Good,
        CaseOutcome::Right {
            within_limits: false, ..
        } => Tone::Plain,
        CaseOutcome::Wrong { .. } | CaseOutcome::Silent | CaseOutcome::Alarmed { .. } => Tone::Bad,
        CaseOutcome::Invalid { .. } => Tone::Quiet,
    }
}

/// True mechanisms × said ones.
pub(super) fn confusion(confusion: &Confusion) -> String {
    let mut head = vec!["true ↓ · said →"];
    head.extend(confusion.said.iter().map(String::as_str));
    let row = |truth: &String| -> Vec<Cell> {
        let cell = |said: &String| {
            let Some(count) = confusion.counts.get(&(truth.clone(), said.clone())) else {
                return Cell::toned("·", Tone::Quiet);
            };
            match (count.right, count.runs - count.right) {
                (right, 0) => Cell::toned(format!("✓ {right}"), Tone::Good),
                (0, wrong) => Cell::toned(format!("✗ {wrong}"), Tone::Bad),
                (right, wrong) => Cell::from(format!("✓ {right} ✗ {wrong}")),
            }
        };
        std::iter::once(Cell::from(truth.as_str()))
            .chain(confusion.said.iter().map(cell))
            .collect()
    };
    let rows: Vec<Vec<Cell>> = confusion.truths.iter().map(row).collect();
    let caption = "Number of runs by true mechanism and by that of rank 1; ✓ right, ✗ wrong (a right mechanism at a wrong place is wrong)";
    format!("<div class=\"matrix\">{}</div>", table(caption, &head, &rows))
}
