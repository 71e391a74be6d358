//! Baseline files: written, read back, refused.

use expect_test::{Expect, expect};

use super::*;
use crate::suite::sample::suite;

fn evidence() -> Evidence {
    let mut evidence = Evidence::of(&suite(
        Mode::Replay,
        "cache-crash fault ✓ 1.2\ncache-crash fault ✗\nnone none !1",
    ));
    evidence.cases[1].seed.0 = u64::MAX;
    evidence.cases[1].failure = Some("exit status: 1, \"out of memory\"".to_owned());
    evidence
}

fn check_refused(text: &str, expected: &Expect) {
    expected.assert_eq(&read("main.baseline.yaml", text).expect_err("refused").render_plain());
}

#[test]
fn a_file_is_one_line_per_case() {
    expect![[r#""#]].assert_eq(&write(&evidence()));
}

#[test]
fn what_is_written_is_read_back() {
    let evidence = evidence();
    assert_eq!(read("x", &write(&evidence)).expect("readable"), evidence);
    let empty = Evidence {
        cases: Vec::new(),
        ..evidence
    };
    assert_eq!(read("x", &write(&empty)).expect("readable"), empty);
}

#[test]
fn names_that_yaml_would_take_for_something_else_are_quoted() {
    for name in ["1e5", "null", "no", "a b", "a: b", "é", ""] {
        assert!(scalar(name).starts_with('"'), "{name}");
    }
    assert_eq!(scalar("cache-crash"), "cache-crash");
}

#[test]
fn all_mistakes_are_reported_at_once_each_with_its_line() {
    let text = write(&evidence())
        .replace("mode: replay", "mode: reply")
        .replace("ttrc: 1.200s", "ttrc: soon")
        .replace("falseAlarms: 1", "falseAlarm: 1")
        .replace("rank: absent, ", "");
    check_refused(&text, &expect![[r#""#]]);
}

#[test]
fn what_is_no_baseline_is_refused() {
    check_refused("apiVersion: gauntlet/v2\nkind: Scenario\n", &expect![[r#""#]]);
}
