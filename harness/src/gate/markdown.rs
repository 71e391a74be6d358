//! Gate reports as Markdown: a comment on a pull request.
//!
//! Every cell is escaped, and long lists are cut with a count of what was cut, because a comment has a size limit.

use std::fmt::Write as _;

use super::report::GateReport;
use super::text::{
    FLIP_HEADINGS, HEADINGS, SCENARIO_HEADINGS, changed, counted, flip_cells, further_words, metric_cells,
    scenario_cells, side_words, verdict_word,
};
use crate::score::verdict::Verdict;

/// Most rows of one list: with the longest rows and reasons the comment then stays under GitHub's 65,536 bytes.
const ROW_COUNT_MAX: usize = 80;

/// Most reasons.
const REASON_COUNT_MAX: usize = 20;

/// Most bytes of one cell, escapes included.
const CELL_BYTES_MAX: usize = 160;

/// Most bytes of one reason, escapes included.
const REASON_BYTES_MAX: usize = 400;

/// The comment. Same report, same text.
#[must_use]
pub fn markdown(report: &GateReport) -> String {
    let sign = match report.verdict {
        Verdict::Pass => "✅",
        Verdict::Inconclusive => "❔",
        Verdict::Fail => "❌",
    };
    let mut text = format!("### {sign} Detection gate: {}\n\n", verdict_word(report.verdict));
    for reason in report.reasons.iter().take(REASON_COUNT_MAX) {
        let _ = writeln!(text, "- {}", escaped(reason, REASON_BYTES_MAX));
    }
    if report.reasons.len() > REASON_COUNT_MAX {
        let _ = writeln!(text, "- … and {} more", report.reasons.len() - REASON_COUNT_MAX);
    }
    if let Some(further) = &report.further {
        let _ = writeln!(text, "- {}", further_words(further));
    }
    if !report.metrics.is_empty() {
        text += "\n";
        text += &table(&HEADINGS, report.metrics.iter().map(metric_cells));
    }
    details(
        &mut text,
        &counted(report.flips.len(), "change"),
        &FLIP_HEADINGS,
        report.flips.iter().map(flip_cells).collect(),
    );
    let rows: Vec<_> = changed(report).map(scenario_cells).collect();
    details(
        &mut text,
        &counted(rows.len(), "changed scenario"),
        &SCENARIO_HEADINGS,
        rows,
    );
    for (name, side) in [("Baseline", &report.baseline), ("Candidate", &report.candidate)] {
        let _ = write!(
            text,
            "\n<sub>{name}: {}</sub>\n",
            escaped(&side_words(side), REASON_BYTES_MAX)
        );
    }
    text
}

/// A list that is opened by a click; nothing if it has no rows.
fn details<const N: usize>(text: &mut String, summary: &str, headings: &[&str; N], rows: Vec<[String; N]>) {
    if rows.is_empty() {
        return;
    }
    let cut = rows.len().saturating_sub(ROW_COUNT_MAX);
    let body = table(headings, rows.into_iter().take(ROW_COUNT_MAX));
    let _ = write!(text, "\n<details><summary>{summary}</summary>\n\n{body}");
    if cut > 0 {
        let _ = writeln!(text, "\n… and {cut} more");
    }
    *text += "\n</details>\n";
}

fn table<const N: usize>(headings: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut text = format!("| {} |\n|{}\n", headings.join(" | "), " --- |".repeat(N));
    for row in rows {
        let _ = writeln!(
            text,
            "| {} |",
            row.map(|cell| escaped(&cell, CELL_BYTES_MAX)).join(" | ")
        );
    }
    text
}

/// Text that Markdown shows as it is, on one line, cut if it takes more than `bytes_max`.
fn escaped(text: &str, bytes_max: usize) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if escaped.len() >= bytes_max {
            escaped.push('…');
            break;
        }
        match character {
            '\n' | '\r' => escaped.push(' '),
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            // A mention would send a message to whoever has that name.
            '@' => escaped += "@\u{200b}",
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '~' => {
                escaped.push('\\');
                escaped.push(character);
            }
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::evidence::Evidence;
    use crate::gate::{Settings, gate};
    use crate::suite::outcome::Mode;
    use crate::suite::sample::{suite, times};

    #[test]
    fn nothing_that_a_detector_says_is_markup() {
        assert_eq!(
            escaped("a|b\n<img> @me *x*", 99),
            "a\\|b &lt;img&gt; @\u{200b}me \\*x\\*"
        );
        assert_eq!(escaped("<<<<", 8), "&lt;&lt;…");
    }

    #[test]
    fn the_longest_comment_is_one_that_github_takes() {
        let before = Evidence::of(&suite(
            Mode::Replay,
            &times(500, "a-scenario-with-a-long-name fault ✓ 1"),
        ));
        let mut after = Evidence::of(&suite(Mode::Replay, &times(500, "a-scenario-with-a-long-name fault ✗")));
        for case in &mut after.cases {
            case.failure = Some("<>&|".repeat(100));
        }
        let text = markdown(&gate(&before, &after, &Settings::default()));
        assert!(text.starts_with("### ❌ Detection gate: FAIL\n"));
        assert!(text.contains("… and 420 more"), "{text}");
        assert!(text.len() < 65_536, "{} bytes", text.len());
    }
}
