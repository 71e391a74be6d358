//! JUnit XML of a run, as CI systems show it: one test case per scenario, skipped where no VALID run could decide.

use std::fmt::Write as _;

use crate::run::result::RunResult;
use crate::score::verdict::Verdict;

/// The file's text.
#[must_use]
pub fn junit(result: &RunResult) -> String {
    let judgement = &result.detector.judgement;
    let (failures, skipped) = match judgement.verdict {
        Verdict::Pass => (0, 0),
        Verdict::Inconclusive => (0, 1),
        Verdict::Fail => (1, 0),
    };
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a run")]
    let seconds = result.moments.end_ns.saturating_sub(result.moments.started_ns) as f64 / 1e9;
    let reasons: Vec<String> = judgement
        .findings
        .iter()
        .map(|finding| finding.reason.clone())
        .collect();
    let reasons = escape(&reasons.join("; "));
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let name = escape(&format!("{} seed {}", result.scenario, result.seed));
    let _ = writeln!(
        text,
        "<testsuites tests=\"1\" failures=\"{failures}\" skipped=\"{skipped}\" time=\"{seconds:.3}\">\n  \
         <testsuite name=\"gauntlet\" tests=\"1\" failures=\"{failures}\" skipped=\"{skipped}\" time=\"{seconds:.3}\">\n    \
         <testcase classname=\"{}\" name=\"{name}\" time=\"{seconds:.3}\">",
        escape(&result.app),
    );
    match judgement.verdict {
        Verdict::Pass => {}
        Verdict::Inconclusive => drop(writeln!(text, "      <skipped message=\"{reasons}\"/>")),
        Verdict::Fail => drop(writeln!(text, "      <failure message=\"{reasons}\"/>")),
    }
    text + "    </testcase>\n  </testsuite>\n</testsuites>\n"
}

fn escape(text: &str) -> String {
    let kept = text
        .chars()
        .filter(|&character| character >= ' ' || character == '\n' || character == '\t');
    let text: String = kept.collect();
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
