//! Shards put together again.

use std::path::{Path, PathBuf};

use super::support::{play_in, small_plan};
use crate::check::validity::Class;
use crate::suite::merge::{MergeError, Part, merge, read_part};
use crate::suite::outcome::Shard;
use crate::suite::plan::SuitePlan;
use crate::suite::store::read_result;

/// The shards of a plan, played in directories below `home`.
fn played(plan: &SuitePlan, home: &Path, count: u32) -> Vec<Part> {
    let shard = |index| {
        let directory = home.join(format!("shard-{index}"));
        play_in(&directory, plan, Some(Shard { index, count }), |_, _| Ok(Class::Valid));
        let mut part = read_part(&directory).expect("a shard's directory");
        for case in &mut part.result.cases {
            case.directory = Some(PathBuf::from("runs/a"));
        }
        part
    };
    (1..=count).map(shard).collect()
}

#[test]
fn shards_make_the_result_of_the_whole_in_any_order() {
    let home = tempfile::tempdir().expect("a directory");
    let plan = small_plan(3);
    play_in(&home.path().join("whole"), &plan, None, |_, _| Ok(Class::Valid));
    let whole = read_result(&home.path().join("whole"))
        .expect("readable")
        .expect("written");
    let mut parts = played(&plan, home.path(), 5);
    parts.reverse();
    let mut merged = merge(&parts, home.path()).expect("shards of one suite");
    assert_eq!(merged.missing, []);
    for case in &mut merged.result.cases {
        let directory = case.directory.take().expect("it has one");
        assert!(
            directory.is_relative() && directory.ends_with("runs/a"),
            "{directory:?}"
        );
    }
    assert_eq!(merged.result, whole);
    // Seen from elsewhere, the run directories are named in full.
    let elsewhere = merge(&parts, Path::new("/nonexistent")).expect("shards of one suite");
    let directory = elsewhere.result.cases[0].directory.clone().expect("it has one");
    assert!(directory.starts_with(home.path()), "{directory:?}");
}

#[test]
fn what_no_shard_has_is_missing() {
    let home = tempfile::tempdir().expect("a directory");
    let plan = small_plan(1);
    let mut parts = played(&plan, home.path(), 3);
    parts.remove(1);
    let merged = merge(&parts, home.path()).expect("shards of one suite");
    let missing: Vec<String> = merged.missing.iter().map(ToString::to_string).collect();
    assert_eq!(missing, ["placebo trial 1"]);
    assert_eq!((merged.result.planned_count, merged.result.cases.len()), (4, 3));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let parts = played(&small_plan(1), home.path(), 2);
    let twice = [parts[0].clone(), parts[1].clone(), parts[0].clone()];
    let error = merge(&twice, home.path()).expect_err("one shard twice");
    assert!(
        matches!(&error, MergeError::Twice { key, .. } if key.scenario == "none"),
        "{error}"
    );
    let differs = |change: &dyn Fn(&mut Part), wanted: &str| {
        let mut other = parts[1].clone();
        change(&mut other);
        match merge(&[parts[0].clone(), other], home.path()) {
            Err(MergeError::Differ { what, .. }) => assert_eq!(what, wanted),
            unexpected => panic!("{wanted}: {unexpected:?}"),
        }
    };
    differs(&|part| part.header.digest.push('0'), "digest");
    differs(&|part| part.result.mode = crate::suite::outcome::Mode::Replay, "mode");
    differs(&|part| part.header.detector_program.insert(0, '0'), "detector program");
    differs(&|part| part.result.version += 1, "version");
    let nothing = read_part(home.path()).expect_err("no suite's directory");
    assert!(nothing.to_string().contains("suite-plan.json"), "{nothing}");
}
