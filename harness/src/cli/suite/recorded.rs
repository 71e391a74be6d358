//! `gauntlet suite run --replay`: a suite's cases answered from recordings. No root, no lock, no target.

use std::path::{Path, PathBuf};

use super::SuiteRunArgs;
use super::run::{digest_of_program, open, play_through};
use crate::cli::Exit;
use crate::cli::live::watch_signals;
use crate::cli::recordings::read;
use crate::cli::replay::replayed_by;
use crate::detectors::spec::{DetectorSpec, SpecSource};
use crate::recording::directory::Salvage;
use crate::replay::process::WITHIN;
use crate::replay::suite::{RecordedRunner, RecordedSuite};
use crate::replay::{ReplayDetector, all_cores};
use crate::report::suite_console::SuiteConsole;
use crate::suite::outcome::Mode;
use crate::suite::plan::SuitePlan;

/// Answers the cases of `plan` from what lies at `recordings`.
///
/// # Errors
/// When the harness itself fails (a bug or an unusable output directory).
pub(super) fn run(args: &SuiteRunArgs, plan: &SuitePlan, recordings: &Path) -> anyhow::Result<Exit> {
    let Some(detector) = detector(&args.detector)? else {
        eprintln!(
            "gauntlet: with --replay there is one detector, under the name that it calls itself: `gauntlet`, PROGRAM or \
             exec:COMMAND"
        );
        return Ok(Exit::InvalidScenario);
    };
    let suite = match suite(plan, recordings) {
        Ok(suite) => suite,
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("gauntlet: {problem}"));
            return Ok(Exit::InvalidScenario);
        }
    };
    // A program without a slash is looked for when it is started; what tells it from others is then its name.
    let program = Some(detector.program.as_path()).filter(|program| detector.is_own || program.is_file());
    let digest = digest_of_program(&format!("{:?}", args.detector), program);
    let (directory, store) = match open(args, suite.plan(), Mode::Replay, digest)? {
        Ok(opened) => opened,
        Err(exit) => return Ok(exit),
    };
    let changed = suite.changed();
    if !changed.is_empty() {
        eprintln!(
            "gauntlet: warning: changed since it was recorded, and judged as it was then: {}",
            changed.join(", ")
        );
    }
    // Hears the signals while this thread replays.
    let signals = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let cancel = signals.block_on(async { watch_signals() })?;
    let part = suite.plan().part(args.selection.shard);
    let left = part.iter().filter(|case| store.ended(&case.key).is_none());
    let left = left.map(|case| case.key.clone()).collect();
    let mut runner = RecordedRunner::new(&suite, &detector, left, all_cores(), directory.clone(), cancel);
    play_through(args, suite.plan(), store, &mut runner, SuiteConsole::new(), &directory)
}

/// Ours, or the one program that is named; `None`: what is named cannot be replayed.
fn detector(specs: &[DetectorSpec]) -> anyhow::Result<Option<ReplayDetector>> {
    match specs {
        [] => replayed_by(&SpecSource::Ours, WITHIN).map(Some),
        [
            DetectorSpec {
                name: None,
                source: source @ (SpecSource::Ours | SpecSource::Program(_) | SpecSource::Exec(_)),
            },
        ] => replayed_by(source, WITHIN).map(Some),
        _ => Ok(None),
    }
}

/// The suite with its recordings, or all that is wrong, in words.
fn suite(plan: &SuitePlan, recordings: &Path) -> Result<RecordedSuite, Vec<String>> {
    let there = read(&[PathBuf::from(recordings)], Salvage::No, all_cores())?;
    RecordedSuite::choose(plan, there).map_err(|lacks| {
        let head = format!(
            "{} has too few recordings for suite {}; record these scenarios, or leave them out with --scenario, --class \
             or --label",
            recordings.display(),
            plan.suite
        );
        std::iter::once(head)
            .chain(lacks.iter().map(|lack| format!("  {lack}")))
            .collect()
    })
}
