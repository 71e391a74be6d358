//! JUnit XML as CI systems show it: a run is one test case; a suite has a test suite for each scenario and a test case
//! for each trial. What could not be decided is skipped, what went wrong beside the detector is an error.

use std::fmt::Write as _;

use super::suite::{case, case_name};
use super::summary::{rank, reached_s};
use super::text::{markup, seconds_of};
use crate::check::validity::{Class, Validity};
use crate::run::result::RunResult;
use crate::score::Score;
use crate::score::verdict::{Judgement, Verdict};
use crate::suite::outcome::{CaseResult, SuiteResult};

/// A test case, ready to be written.
struct TestCase {
    class: String,
    name: String,
    seconds: Option<f64>,
    state: State,
    properties: Vec<(&'static str, String)>,
    /// What is shown to those who open it.
    output: String,
}

/// What a CI system shows.
enum State {
    Passed,
    /// The detector fell short.
    Failed(String),
    /// No VALID run could decide.
    Skipped(String),
    /// The run itself went wrong, in a way that must not be overlooked.
    Error(String),
}

struct TestSuite {
    name: String,
    cases: Vec<TestCase>,
}

/// The file's text for one run.
#[must_use]
pub fn junit(result: &RunResult) -> String {
    let judgement = &result.detector.judgement;
    let suite = TestSuite {
        name: result.scenario.clone(),
        cases: vec![TestCase {
            class: format!("{}.{}", result.app, result.scenario),
            name: format!("{} trial {} seed {}", result.scenario, result.trial, result.seed),
            seconds: Some(seconds_of(
                result.moments.end_ns.saturating_sub(result.moments.started_ns),
            )),
            state: state(judgement, &result.validity),
            properties: properties(&result.detector.score, &result.validity, result.seed),
            output: reasons(judgement),
        }],
    };
    document("gauntlet", &[suite])
}

/// The file's text for a suite.
#[must_use]
pub fn suite(result: &SuiteResult) -> String {
    let mut suites: Vec<TestSuite> = Vec::new();
    for case in &result.cases {
        let test = suite_case(case);
        match suites.iter_mut().find(|suite| suite.name == case.scenario) {
            Some(suite) => suite.cases.push(test),
            None => suites.push(TestSuite {
                name: case.scenario.clone(),
                cases: vec![test],
            }),
        }
    }
    let missing = result.planned_count.saturating_sub(result.cases.len());
    if missing > 0 {
        // A suite that was interrupted must not look like a smaller one.
        suites.push(TestSuite {
            name: "planned and never ended".to_owned(),
            cases: vec![TestCase {
                class: result.suite.clone(),
                name: format!("{missing} of {} cases", result.planned_count),
                seconds: None,
                state: State::Error("the suite was interrupted".to_owned()),
                properties: Vec::new(),
                output: String::new(),
            }],
        });
    }
    document(&result.suite, &suites)
}

fn suite_case(result: &CaseResult) -> TestCase {
    let judgement = &result.detector.judgement;
    let mut properties = properties(&result.detector.score, &result.validity, result.seed.0);
    let digest = result.recording.iter().map(|digest| ("recording", digest.clone()));
    properties.extend(digest);
    for rival in &result.rivals {
        let verdict = super::text::verdict(rival.judgement.verdict);
        properties.push(("rival", format!("{} {verdict}", rival.name)));
    }
    TestCase {
        class: format!("{}.{}", result.app, result.scenario),
        name: case_name(result),
        seconds: None,
        state: state(judgement, &result.validity),
        properties,
        output: case::story(result),
    }
}

fn reasons(judgement: &Judgement) -> String {
    let reasons: Vec<&str> = judgement
        .findings
        .iter()
        .map(|finding| finding.reason.as_str())
        .collect();
    reasons.join("; ")
}

fn state(judgement: &Judgement, validity: &Validity) -> State {
    let findings = || format!("{}: {}", validity.class.name(), validity.findings.join("; "));
    match (validity.class, judgement.verdict) {
        // Something is still wrong on the machine, or with us.
        (Class::Residue | Class::HarnessError, _) => State::Error(findings()),
        (Class::LostEvidence | Class::Silent | Class::NotInjected | Class::Unstable, _) => State::Skipped(findings()),
        (Class::Valid, Verdict::Pass) => State::Passed,
        (Class::Valid, Verdict::Fail) => State::Failed(failures(judgement)),
        (Class::Valid, Verdict::Inconclusive) => State::Skipped(reasons(judgement)),
    }
}

/// Only what was not kept: a long message hides it.
fn failures(judgement: &Judgement) -> String {
    let failed = judgement
        .findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Fail);
    let reasons: Vec<&str> = failed.map(|finding| finding.reason.as_str()).collect();
    reasons.join("; ")
}

fn properties(score: &Score, validity: &Validity, seed: u64) -> Vec<(&'static str, String)> {
    let mut properties = vec![
        ("detector", score.detector.clone()),
        ("seed", seed.to_string()),
        ("validity", validity.class.name().to_owned()),
        ("falseAlarms", score.false_alarms.episodes_ns.len().to_string()),
    ];
    if let Some(answer) = &score.answer {
        let seconds =
            |time| reached_s(time).map_or_else(|| "not reached".to_owned(), |seconds| format!("{seconds:.3}"));
        properties.push(("ttdSeconds", seconds(&answer.time_to_detect)));
        properties.push(("ttrcSeconds", seconds(&answer.time_to_root_cause)));
        let rank = rank(answer.full.rank).map_or_else(|| "absent".to_owned(), |rank| rank.to_string());
        properties.push(("rank", rank));
    }
    properties
}

/// Counts of a set of test cases, as attributes.
fn counts<'a>(cases: impl Iterator<Item = &'a TestCase>) -> String {
    let (mut tests, mut failures, mut errors, mut skipped, mut seconds) = (0, 0, 0, 0, 0.0);
    for case in cases {
        tests += 1;
        seconds += case.seconds.unwrap_or(0.0);
        match case.state {
            State::Passed => (),
            State::Failed(_) => failures += 1,
            State::Error(_) => errors += 1,
            State::Skipped(_) => skipped += 1,
        }
    }
    format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"{seconds:.3}\"")
}

fn document(name: &str, suites: &[TestSuite]) -> String {
    let all = counts(suites.iter().flat_map(|suite| &suite.cases));
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"{}\" {all}>\n",
        markup(name)
    );
    for suite in suites {
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" {}>",
            markup(&suite.name),
            counts(suite.cases.iter())
        );
        suite.cases.iter().for_each(|case| write_case(&mut text, case));
        text.push_str("  </testsuite>\n");
    }
    text + "</testsuites>\n"
}

fn write_case(text: &mut String, case: &TestCase) {
    let time = case
        .seconds
        .map(|seconds| format!(" time=\"{seconds:.3}\""))
        .unwrap_or_default();
    let _ = writeln!(
        text,
        "    <testcase classname=\"{}\" name=\"{}\"{time}>",
        markup(&case.class),
        markup(&case.name)
    );
    if !case.properties.is_empty() {
        text.push_str("      <properties>\n");
        for (name, value) in &case.properties {
            let _ = writeln!(text, "        <property name=\"{name}\" value=\"{}\"/>", markup(value));
        }
        text.push_str("      </properties>\n");
    }
    let _ = match &case.state {
        State::Passed => Ok(()),
        State::Failed(why) => writeln!(
            text,
            "      <failure type=\"limit\" message=\"{0}\">{1}</failure>",
            markup(why),
            markup(&case.output)
        ),
        State::Error(why) => writeln!(text, "      <error type=\"run\" message=\"{}\"/>", markup(why)),
        State::Skipped(why) => writeln!(text, "      <skipped message=\"{}\"/>", markup(why)),
    };
    if !case.output.is_empty() {
        let _ = writeln!(text, "      <system-out>{}</system-out>", markup(&case.output));
    }
    text.push_str("    </testcase>\n");
}
