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
    expect![[r##"
        # What a detector answered, case by case: `gauntlet gate --baseline` compares with it.
        # Written by `gauntlet baseline save`; a changed line is a changed answer.
        apiVersion: gauntlet/v1
        kind: Baseline
        metadata:
          name: sample
        spec:
          digest: "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"
          mode: replay
          detector: "gauntlet-detector 0.1.0"
          planned: 3
          cases:
          - {scenario: cache-crash, trial: 1, seed: 11, recording: "67315af8ad733730", app: shop, class: cache, arm: fault, validity: VALID, ac1: 1, rank: 1, ttd: 0.400s, ttrc: 1.200s, falseAlarms: 0, faultFree: 30.000s, said: "cache: network.filter"}
          - {scenario: cache-crash, trial: 2, seed: "18446744073709551615", recording: "1ca7f56970b60d64", app: shop, class: cache, arm: fault, validity: VALID, ac1: 0, rank: absent, ttd: 0.400s, ttrc: not in 15.000s, falseAlarms: 0, faultFree: 30.000s, said: "web: app.slow", failure: "exit status: 1, \"out of memory\""}
          - {scenario: none, trial: 1, seed: 11, recording: "d762b6eaeeeb4df2", app: shop, class: cache, arm: none, validity: VALID, falseAlarms: 1, faultFree: 30.000s}
    "##]].assert_eq(&write(&evidence()));
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
    check_refused(
        &text,
        &expect![[r#"
        main.baseline.yaml: 4 problems
          × `reply` is not possible here
            ╭─[main.baseline.yaml:9:9]
          8 │   digest: "d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"
          9 │   mode: reply
            ·         ──┬──
            ·           ╰── here
         10 │   detector: "gauntlet-detector 0.1.0"
            ╰────
          help: did you mean `replay`?
          × `soon` is no duration
            ╭─[main.baseline.yaml:13:170]
         12 │   cases:
         13 │   - {scenario: cache-crash, trial: 1, seed: 11, recording: "67315af8ad733730", app: shop, class: cache, arm: fault, validity: VALID, ac1: 1, rank: 1, ttd: 0.400s, ttrc: soon, falseAlarms: 0, faultFree: 30.000s, said: "cache: network.filter"}
            ·                                                                                                                                                                          ──┬─
            ·                                                                                                                                                                            ╰── here
         14 │   - {scenario: cache-crash, trial: 2, seed: "18446744073709551615", recording: "1ca7f56970b60d64", app: shop, class: cache, arm: fault, validity: VALID, ac1: 0, ttd: 0.400s, ttrc: not in 15.000s, falseAlarms: 0, faultFree: 30.000s, said: "web: app.slow", failure: "exit status: 1, \"out of memory\""}
            ╰────
          help: a number and us, ms, s or m, for example `200ms`
          × an answer has ac1, rank, ttd, ttrc; lacking: rank
            ╭─[main.baseline.yaml:14:6]
         13 │   - {scenario: cache-crash, trial: 1, seed: 11, recording: "67315af8ad733730", app: shop, class: cache, arm: fault, validity: VALID, ac1: 1, rank: 1, ttd: 0.400s, ttrc: soon, falseAlarms: 0, faultFree: 30.000s, said: "cache: network.filter"}
         14 │   - {scenario: cache-crash, trial: 2, seed: "18446744073709551615", recording: "1ca7f56970b60d64", app: shop, class: cache, arm: fault, validity: VALID, ac1: 0, ttd: 0.400s, ttrc: not in 15.000s, falseAlarms: 0, faultFree: 30.000s, said: "web: app.slow", failure: "exit status: 1, \"out of memory\""}
            ·      ────┬───
            ·          ╰── here
         15 │   - {scenario: none, trial: 1, seed: 11, recording: "d762b6eaeeeb4df2", app: shop, class: cache, arm: none, validity: VALID, falseAlarm: 1, faultFree: 30.000s}
            ╰────
          help: write all four, or none where no cause was to be named
          × `case` has no field `falseAlarm`
            ╭─[main.baseline.yaml:15:126]
         14 │   - {scenario: cache-crash, trial: 2, seed: "18446744073709551615", recording: "1ca7f56970b60d64", app: shop, class: cache, arm: fault, validity: VALID, ac1: 0, ttd: 0.400s, ttrc: not in 15.000s, falseAlarms: 0, faultFree: 30.000s, said: "web: app.slow", failure: "exit status: 1, \"out of memory\""}
         15 │   - {scenario: none, trial: 1, seed: 11, recording: "d762b6eaeeeb4df2", app: shop, class: cache, arm: none, validity: VALID, falseAlarm: 1, faultFree: 30.000s}
            ·                                                                                                                              ─────┬────
            ·                                                                                                                                   ╰── here
            ╰────
          help: did you mean `falseAlarms`?
    "#]],
    );
}

#[test]
fn what_is_no_baseline_is_refused() {
    check_refused(
        "apiVersion: gauntlet/v2\nkind: Scenario\n",
        &expect![[r#"
        main.baseline.yaml: 4 problems
          × `baseline` lacks `metadata`
           ╭─[main.baseline.yaml:1:1]
         1 │ apiVersion: gauntlet/v2
           · ─────┬────
           ·      ╰── here
         2 │ kind: Scenario
           ╰────
          help: add `metadata: {name: nightly}`
          × `baseline` lacks `spec`
           ╭─[main.baseline.yaml:1:1]
         1 │ apiVersion: gauntlet/v2
           · ─────┬────
           ·      ╰── here
         2 │ kind: Scenario
           ╰────
          help: add `spec: {…}`
          × `gauntlet/v2` is not possible here
           ╭─[main.baseline.yaml:1:13]
         1 │ apiVersion: gauntlet/v2
           ·             ─────┬─────
           ·                  ╰── here
         2 │ kind: Scenario
           ╰────
          help: did you mean `gauntlet/v1`?
          × `Scenario` is not possible here
           ╭─[main.baseline.yaml:2:7]
         1 │ apiVersion: gauntlet/v2
         2 │ kind: Scenario
           ·       ────┬───
           ·           ╰── here
           ╰────
          help: one of: Baseline
    "#]],
    );
}
