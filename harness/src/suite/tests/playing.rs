//! Playing: what is repeated and what is not, failures that end nothing but themselves, and the suite's directory.

use expect_test::expect;

use super::support::{header, open, play_in, small_plan};
use crate::check::validity::Class;
use crate::run::RunError;
use crate::score::verdict::Verdict;
use crate::suite::outcome::Shard;
use crate::suite::play::Ending;
use crate::suite::store::{Beginning, CASES_FILE, Store, StoreError, read_result};

#[test]
fn runs_that_do_not_count_are_repeated_with_another_seed_and_no_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let (ending, _, told) = play_in(directory.path(), &small_plan(1), None, |case, seed| {
        Ok(match (case.key.scenario.as_str(), seed.0) {
            ("none", 1) => Class::LostEvidence,
            // Invalid whatever the seed.
            ("surge", _) => Class::Silent,
            _ => Class::Valid,
        })
    });
    assert_eq!(ending, Ending::Complete);
    expect![[r#"
        none trial 1 seed 1 attempt 0
        none trial 1 repeated: LOST_EVIDENCE: made up
        none trial 1 seed 1000001 attempt 1
        none trial 1 ended VALID after 1 invalid: 1/4, 1 valid, 1 invalid runs, 1 pass, 0 fail
        placebo trial 1 seed 1 attempt 0
        placebo trial 1 ended VALID after 0 invalid: 2/4, 2 valid, 1 invalid runs, 2 pass, 0 fail
        surge trial 1 seed 1 attempt 0
        surge trial 1 repeated: SILENT: made up
        surge trial 1 seed 1000001 attempt 1
        surge trial 1 ended SILENT after 1 invalid: 3/4, 2 valid, 3 invalid runs, 2 pass, 0 fail
        cache-flush trial 1 seed 1 attempt 0
        cache-flush trial 1 ended VALID after 0 invalid: 4/4, 3 valid, 3 invalid runs, 2 pass, 0 fail
    "#]]
    .assert_eq(&(told.join("\n") + "\n"));
    let result = read_result(directory.path()).expect("readable").expect("written");
    let classes = |index: usize| -> Vec<Class> {
        result.cases[index]
            .invalid_attempts
            .iter()
            .map(|one| one.class)
            .collect()
    };
    assert_eq!(
        (result.cases[0].seed.0, classes(0)),
        (1_000_001, vec![Class::LostEvidence])
    );
    assert_eq!((result.cases[1].seed.0, classes(1)), (1, vec![]));
    assert_eq!((result.cases[2].seed.0, classes(2)), (1_000_001, vec![Class::Silent]));
    // The fault was not named: the detector fell short, which is no reason to try again.
    assert_eq!(result.cases[3].validity.class, Class::Valid);
    assert_ne!(result.cases[3].detector.judgement.verdict, Verdict::Pass);
    assert_eq!(classes(3), vec![]);
    assert_eq!(result.detector, "silent 1.0");
}

#[test]
fn a_run_that_fails_or_breaks_the_harness_loses_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let (ending, runs, _) = play_in(directory.path(), &small_plan(1), None, |case, _| {
        match case.key.scenario.as_str() {
            "none" => Err(RunError::Target("no postgres".to_owned())),
            "placebo" => panic!("index out of bounds"),
            _ => Ok(Class::Valid),
        }
    });
    assert_eq!(ending, Ending::Complete);
    assert_eq!(runs.len(), 6, "both were tried again: {runs:?}");
    let result = read_result(directory.path()).expect("readable").expect("written");
    let cases: Vec<String> = result
        .cases
        .iter()
        .map(|case| {
            format!(
                "{} {:?} {:?}",
                case.scenario, case.validity.findings, case.detector.judgement.verdict
            )
        })
        .collect();
    expect![[r#"
        none ["HARNESS_ERROR: the target failed: no postgres"] Inconclusive
        placebo ["HARNESS_ERROR: the harness broke: index out of bounds"] Inconclusive
        surge [] Pass
        cache-flush [] Inconclusive
    "#]]
    .assert_eq(&(cases.join("\n") + "\n"));
}

#[test]
fn an_interruption_keeps_what_ended_and_the_rest_is_played_later() {
    let whole = tempfile::tempdir().expect("a directory");
    let plan = small_plan(2);
    // Every first attempt of a placebo is invalid, so that an interruption falls between two attempts.
    let outcome = |scenario: &str, seed: u64| match (scenario, seed) {
        ("placebo", 1 | 2) => Class::Unstable,
        _ => Class::Valid,
    };
    play_in(whole.path(), &plan, None, |case, seed| {
        Ok(outcome(&case.key.scenario, seed.0))
    });
    let expected = read_result(whole.path()).expect("readable").expect("written");
    for stop_at in 0..10 {
        let directory = tempfile::tempdir().expect("a directory");
        let mut run_count = 0;
        let (ending, first, _) = play_in(directory.path(), &plan, None, |case, seed| {
            run_count += 1;
            if run_count > stop_at {
                return Err(RunError::Interrupted);
            }
            Ok(outcome(&case.key.scenario, seed.0))
        });
        assert_eq!(ending, Ending::Interrupted);
        let part = read_result(directory.path()).expect("readable").expect("written");
        assert_eq!(part.planned_count, 8);
        assert!(part.cases.len() < 8 && expected.cases.starts_with(&part.cases));
        let (ending, second, _) = play_in(directory.path(), &plan, None, |case, seed| {
            Ok(outcome(&case.key.scenario, seed.0))
        });
        assert_eq!(ending, Ending::Complete);
        assert_eq!(first.len() - 1 + second.len(), 10, "no run is made twice");
        assert_eq!(
            read_result(directory.path()).expect("readable").expect("written"),
            expected
        );
        // A suite that is complete is not run again.
        let (_, third, _) = play_in(directory.path(), &plan, None, |_, _| Err(RunError::Interrupted));
        assert!(third.is_empty());
    }
}

#[test]
fn a_machine_that_cannot_ends_the_suite_with_what_there_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let (ending, runs, _) = play_in(directory.path(), &small_plan(1), None, |case, _| {
        if case.key.scenario == "placebo" {
            return Err(RunError::CannotHere("no nft".to_owned()));
        }
        Ok(Class::Valid)
    });
    assert_eq!((ending, runs.len()), (Ending::CannotHere("no nft".to_owned()), 2));
    let result = read_result(directory.path()).expect("readable").expect("written");
    assert_eq!(result.cases.len(), 1);
}

#[test]
fn a_line_cut_short_anywhere_costs_its_own_run_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let plan = small_plan(1);
    let outcome = |seed: u64| if seed == 1 { Class::Unstable } else { Class::Valid };
    play_in(directory.path(), &plan, None, |_, seed| Ok(outcome(seed.0)));
    let expected = read_result(directory.path()).expect("readable").expect("written");
    let path = directory.path().join(CASES_FILE);
    let bytes = std::fs::read(&path).expect("readable");
    let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    for cut in (0..bytes.len()).step_by(251).chain([bytes.len() - 1]) {
        std::fs::write(&path, &bytes[..cut]).expect("written");
        let (ending, runs, _) = play_in(directory.path(), &plan, None, |_, seed| Ok(outcome(seed.0)));
        assert_eq!(ending, Ending::Complete);
        assert_eq!(runs.len(), 8 - lines(&bytes[..cut]), "cut at {cut}");
        assert_eq!(
            read_result(directory.path()).expect("readable").expect("written"),
            expected,
            "cut at {cut}"
        );
        assert_eq!(std::fs::read(&path).expect("readable"), bytes, "cut at {cut}");
    }
}

#[test]
fn a_damaged_line_is_told_and_nothing_is_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let plan = small_plan(1);
    play_in(directory.path(), &plan, None, |_, _| Ok(Class::Valid));
    let path = directory.path().join(CASES_FILE);
    let text = std::fs::read_to_string(&path).expect("readable");
    let damaged = text.replacen("placebo", "plac\"ebo", 1);
    std::fs::write(&path, &damaged).expect("written");
    let error = open(directory.path(), &plan, None).expect_err("damaged");
    assert!(matches!(error, StoreError::Damaged { line: 2, .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).expect("readable"), damaged);
}

#[test]
fn a_directory_is_gone_on_with_only_by_what_began_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (plan, other) = (small_plan(1), small_plan(2));
    let error = Store::open(
        directory.path(),
        header(&plan, None),
        &plan.part(None),
        Beginning::Refused,
    );
    assert!(matches!(error, Err(StoreError::NothingToResume { .. })), "{error:?}");
    let store = open(directory.path(), &plan, None).expect("begun");
    let busy = open(directory.path(), &plan, None).expect_err("in use");
    assert!(matches!(busy, StoreError::Busy { .. }), "{busy}");
    drop(store);
    let shard = Some(Shard { index: 1, count: 2 });
    let mut program = header(&plan, None);
    "another".clone_into(&mut program.detector_program);
    let refused = [
        open(directory.path(), &other, None),
        open(directory.path(), &plan, shard),
        Store::open(directory.path(), program, &plan.part(None), Beginning::Allowed),
    ];
    let place = directory.path().display().to_string();
    let texts: Vec<String> = refused
        .into_iter()
        .map(|refused| {
            let error = refused.expect_err("begun for something else");
            assert!(error.is_mistake(), "{error}");
            error.to_string().replace(&place, "DIR")
        })
        .collect();
    expect![[r#"
        DIR was begun with another suite, or other contents of its files: t 017807bedb84 there, t 990e2c51aced here; go on with that one, or choose another directory
        DIR was begun with another part of the suite: all there, shard 1/2 here; go on with that one, or choose another directory
        DIR was begun with another detector program: the silent o there, another here; go on with that one, or choose another directory
    "#]].assert_eq(&(texts.join("\n") + "\n"));
    Store::open(
        directory.path(),
        header(&plan, None),
        &plan.part(None),
        Beginning::Refused,
    )
    .expect("gone on with");
}
