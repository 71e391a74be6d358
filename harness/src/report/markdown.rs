//! Markdown summaries of a run and of a suite, fit for a comment on a pull request.
//!
//! Bounded: what does not fit is left out whole, section by section from the least important, and said to be missing.

use std::fmt::Write as _;

use super::suite::SuiteView;
use super::suite::comparison::Comparison;
use super::suite::confusion::Confusion;
use super::suite::group::Group;
use super::text::{self, markdown};
use super::view::RunView;
use crate::gate;
use crate::score::summary::Summary;

/// Longest text: a comment on GitHub holds 65,536 characters, and something may stand around ours.
pub const CHARACTERS_MAX: usize = 64_000;
/// Rows of a table of cases; the pages and JUnit hold them all.
const ROWS_MAX: usize = 100;

/// A summary of one run.
#[must_use]
pub fn run(view: &RunView) -> String {
    let mut head = format!(
        "## {} {}\n\n**{}** · {}\n\nTruth: {}\n",
        sign_of(&view.verdict),
        markdown(&view.scenario),
        markdown(&view.verdict),
        markdown(&view.headline),
        markdown(&view.truth)
    );
    let _ = writeln!(
        head,
        "\n<sub>run {} · seed {} · version {}</sub>",
        markdown(&view.run),
        view.seed,
        markdown(&view.version)
    );
    let mut columns = vec!["measure"];
    columns.extend(view.answers.iter().map(|answer| answer.detector.as_str()));
    let measures: Vec<Vec<String>> = view
        .measures
        .iter()
        .map(|measure| {
            std::iter::once(measure.name.to_owned())
                .chain(measure.values.clone())
                .collect()
        })
        .collect();
    let answers = view.answers.iter().map(|answer| {
        let first = answer.candidates.first();
        let said = first.map_or_else(|| "nothing".to_owned(), |one| one.text.clone());
        let evidence = first.map(|one| one.evidence.join("; ")).unwrap_or_default();
        vec![answer.detector.clone(), answer.score.clone(), said, evidence]
    });
    let answers: Vec<Vec<String>> = answers.collect();
    bounded(vec![
        head,
        table(&columns, &measures),
        table(&["detector", "judged", "first suspect", "evidence"], &answers),
    ])
}

/// A summary of a suite.
#[must_use]
pub fn suite(view: &SuiteView) -> String {
    let verdict = text::verdict(view.verdict).to_uppercase();
    let mut head = format!(
        "## {} {}\n\n**{verdict}** · {}\n\n",
        text::verdict_sign(view.verdict),
        markdown(&view.suite),
        markdown(&view.headline),
    );
    // Of a digest its beginning tells two suites apart; the page has it whole.
    let short = |name: &str, value: &str| {
        value
            .chars()
            .take(if name == "digest" { 12 } else { 100 })
            .collect::<String>()
    };
    let facts: Vec<String> = view
        .facts
        .iter()
        .map(|(name, value)| format!("{name} {}", markdown(&short(name, value))))
        .collect();
    let _ = writeln!(
        head,
        "<sub>{} · version {}</sub>",
        facts.join(" · "),
        markdown(&view.version)
    );
    let mut parts = vec![head];
    parts.extend(view.gate.as_ref().map(gate::markdown::markdown));
    parts.push(overall(view));
    parts.extend(view.comparison.as_ref().map(comparison));
    parts.push(folded(
        "Each scenario",
        &groups("scenario", &view.scenarios, &view.detectors),
    ));
    parts.push(folded(
        "Each class and application",
        &groups("class × app", &view.classes, &view.detectors),
    ));
    parts.push(folded("Scenarios × trials", &matrix(view)));
    parts.push(folded("Mechanisms: true × said", &confusion(&view.confusion)));
    parts.push(invalid(view));
    parts.push(folded("Seeds", &seeds(&view.scenarios)));
    bounded(parts)
}

fn sign_of(verdict: &str) -> &'static str {
    match verdict {
        "PASS" => "✓",
        "FAIL" => "✗",
        _ => "?",
    }
}

/// As many parts as fit, in their order; the last line names what is missing.
fn bounded(parts: Vec<String>) -> String {
    const NOTE: &str = "\n<sub>More did not fit here; `report.html` and `junit.xml` hold everything.</sub>\n";
    let room = CHARACTERS_MAX - NOTE.len();
    let mut whole = String::new();
    let mut characters = 0;
    let mut left_out = false;
    for part in parts.into_iter().filter(|part| !part.trim().is_empty()) {
        let length = part.chars().count() + 2;
        if characters + length > room {
            left_out = true;
            continue;
        }
        characters += length;
        if !whole.is_empty() {
            whole.push('\n');
        }
        whole += part.trim_end();
        whole.push('\n');
    }
    if left_out {
        whole += NOTE;
    }
    whole
}

/// A table; every cell is escaped here. Nothing without rows.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let row = |cells: &mut dyn Iterator<Item = String>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
    let mut text = row(&mut head.iter().map(|name| markdown(name)));
    text += &row(&mut head.iter().map(|_| "---".to_owned()));
    for cells in rows.iter().take(ROWS_MAX) {
        text += &row(&mut cells.iter().map(|cell| markdown(cell)));
    }
    if rows.len() > ROWS_MAX {
        let _ = writeln!(text, "\n{} more rows are in the report.", rows.len() - ROWS_MAX);
    }
    text
}

fn folded(title: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    // GitHub reads Markdown within HTML only after an empty line.
    format!(
        "<details><summary>{}</summary>\n\n{body}\n</details>\n",
        text::markup(title)
    )
}

const FIGURES: [&str; 6] = [
    "valid",
    "right at rank 1",
    "TTD median",
    "TTRC median",
    "decoys",
    "false alarms",
];

fn figures(summary: &Summary) -> [String; 6] {
    [
        format!("{}/{}", summary.valid.hits, summary.valid.of),
        text::proportion(&summary.correct),
        text::quantile(summary.time_to_detect.median),
        text::quantile(summary.time_to_root_cause.median),
        summary.decoys.hits.to_string(),
        format!("{} in {:.2} h", summary.false_alarms.count, summary.false_alarms.hours),
    ]
}

fn overall(view: &SuiteView) -> String {
    let mut head = vec!["detector"];
    head.extend(FIGURES);
    head.extend(["AC@1", "MRR"]);
    let row = |(name, summary): (&String, &Summary)| -> Vec<String> {
        let means = [text::optional(summary.ac_at_1), text::optional(summary.mrr)];
        std::iter::once(name.clone())
            .chain(figures(summary))
            .chain(means)
            .collect()
    };
    let rows: Vec<Vec<String>> = view.detectors.iter().zip(&view.overall).map(row).collect();
    table(&head, &rows)
}

fn groups(what: &str, groups: &[Group], detectors: &[String]) -> String {
    let rivals: Vec<String> = detectors.iter().skip(1).map(|name| format!("{name} right")).collect();
    let mut head = vec![what];
    head.extend(FIGURES);
    head.extend(rivals.iter().map(String::as_str));
    let row = |group: &Group| -> Vec<String> {
        let own = group.summaries.first().map(figures).into_iter().flatten();
        let rivals = group
            .summaries
            .iter()
            .skip(1)
            .map(|rival| text::proportion(&rival.correct));
        std::iter::once(group.name.clone()).chain(own).chain(rivals).collect()
    };
    let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
    table(&head, &rows)
}

fn matrix(view: &SuiteView) -> String {
    let rows: Vec<Vec<String>> = view
        .matrix
        .iter()
        .map(|row| {
            let cells: Vec<String> = row.cells.iter().map(|cell| cell.outcome.text()).collect();
            vec![row.scenario.clone(), row.truth.clone(), cells.join(" · ")]
        })
        .collect();
    table(&["scenario", "truth", "trials"], &rows)
}

fn confusion(confusion: &Confusion) -> String {
    let mut head = vec!["true ↓ said →"];
    head.extend(confusion.said.iter().map(String::as_str));
    let row = |truth: &String| -> Vec<String> {
        let count = |said: &String| confusion.counts.get(&(truth.clone(), said.clone()));
        let cell = |said: &String| {
            count(said).map_or_else(|| "·".to_owned(), |count| format!("{}/{}", count.right, count.runs))
        };
        std::iter::once(truth.clone())
            .chain(confusion.said.iter().map(cell))
            .collect()
    };
    let rows: Vec<Vec<String>> = confusion.truths.iter().map(row).collect();
    match table(&head, &rows) {
        rows if rows.is_empty() => rows,
        rows => format!("{rows}\nright / runs in each cell\n"),
    }
}

fn invalid(view: &SuiteView) -> String {
    let rows: Vec<Vec<String>> = view
        .invalid
        .iter()
        .map(|case| {
            vec![
                case.name.clone(),
                case.class.name().to_owned(),
                case.findings.clone(),
                case.attempts.clone(),
            ]
        })
        .collect();
    let failures: Vec<Vec<String>> = view
        .failures
        .iter()
        .map(|(name, failure)| vec![name.clone(), failure.clone()])
        .collect();
    let invalid = table(&["case", "class", "findings", "invalid attempts"], &rows);
    folded("Runs that do not count, or were repeated", &invalid)
        + &folded("The detector failed", &table(&["case", "how"], &failures))
}

fn comparison(comparison: &Comparison) -> String {
    let mut body = format!("### Beside the baseline ({})\n\n", markdown(&comparison.detector));
    if !comparison.same_suite {
        body.push_str("✗ The two results asked for different cases.\n\n");
    }
    let flips: Vec<Vec<String>> = comparison
        .flips
        .iter()
        .map(|flip| {
            let sign = if flip.gained { "▲ gained" } else { "▼ lost" };
            vec![
                flip.name.clone(),
                flip.before.clone(),
                flip.after.clone(),
                sign.to_owned(),
            ]
        })
        .collect();
    body + &match table(&["case", "baseline", "now", "change"], &flips) {
        rows if rows.is_empty() => "No case changed sides.\n".to_owned(),
        rows => rows,
    }
}

fn seeds(groups: &[Group]) -> String {
    let rows: Vec<Vec<String>> = groups
        .iter()
        .map(|group| {
            let seeds: Vec<String> = group.seeds.iter().map(ToString::to_string).collect();
            vec![group.name.clone(), seeds.join(", ")]
        })
        .collect();
    table(&["scenario", "seeds"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out_whole_and_said_to_be_missing() {
        let long = "x".repeat(CHARACTERS_MAX);
        let text = bounded(vec!["a".to_owned(), long, "b".to_owned()]);
        assert!(text.starts_with("a\n\nb\n") && text.contains("did not fit"), "{text}");
        assert!(!bounded(vec!["a".to_owned()]).contains("did not fit"));
        let full = bounded(vec!["ä".repeat(CHARACTERS_MAX - 200); 3]);
        assert!(full.chars().count() <= CHARACTERS_MAX);
    }

    #[test]
    fn cells_of_others_stay_in_their_cells() {
        let text = table(&["a"], &[vec!["x | y\nz".to_owned()]]);
        assert_eq!(text, "| a |\n| --- |\n| x \\| y z |\n");
        let rows = vec![vec!["r".to_owned()]; ROWS_MAX + 3];
        assert!(table(&["a"], &rows).ends_with("\n3 more rows are in the report.\n"));
    }
}
