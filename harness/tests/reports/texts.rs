//! JUnit and Markdown of a suite, whole, as they are shown to others: a change of them is to be seen in a review.

use expect_test::expect_file;
use gauntlet_harness::report::suite::{Beside, view};
use gauntlet_harness::report::{junit, markdown};

use crate::fixture::{gate_report, older_suite, suite};

#[test]
fn junit_of_a_suite() {
    let text = junit::suite(&suite());
    expect_file!["../data/suite.junit.xml"].assert_eq(&text);
}

#[test]
fn markdown_of_a_suite() {
    let (now, before, gate) = (suite(), older_suite(), gate_report());
    let beside = Beside {
        baseline: Some(&before),
        gate: Some(&gate),
    };
    let text = markdown::suite(&view(&now, beside));
    expect_file!["../data/suite.md"].assert_eq(&text);
}

#[test]
fn a_huge_suite_still_fits_into_a_comment() {
    let mut suite = suite();
    let cases = suite.cases.clone();
    // Few of a long name rather than many: each has its bootstrap.
    let padding = "x".repeat(500);
    for copy in 0..40 {
        suite.cases.extend(cases.iter().cloned().map(|mut case| {
            case.scenario = format!("{}-{copy}-{padding}", case.scenario);
            case
        }));
    }
    let text = markdown::suite(&view(&suite, Beside::default()));
    assert!(
        text.chars().count() <= markdown::CHARACTERS_MAX,
        "{}",
        text.chars().count()
    );
    assert!(
        text.contains("did not fit") || text.contains("more rows"),
        "nothing says that something is missing"
    );
}

#[test]
fn an_empty_suite_is_no_pass() {
    let mut suite = suite();
    suite.cases.clear();
    let view = view(&suite, Beside::default());
    assert_eq!(view.verdict, gauntlet_harness::score::verdict::Verdict::Inconclusive);
    assert!(markdown::suite(&view).contains("INCONCLUSIVE"));
    assert!(junit::suite(&suite).contains("errors=\"1\""));
}
