//! `gauntlet replay`: reads recordings, feeds them to a detector, prints and writes what it is worth.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::recordings::read;
use super::{Exit, Format, ReplayArgs};
use crate::detectors::spec::{SpecSource, through_shell};
use crate::recording::Recording;
use crate::recording::directory::Salvage;
use crate::replay::outcome::{put_in_order, suite_result};
use crate::replay::process::WITHIN;
use crate::replay::{ReplayDetector, Replayed, all_cores, replay_all};
use crate::report::summary;
use crate::run::directory::write_json;
use crate::run::result::RunResult;
use crate::suite::glob::matches;

/// Replays what was asked for.
///
/// # Errors
/// When the harness itself fails, or the result cannot be written.
pub fn replay(args: &ReplayArgs) -> anyhow::Result<Exit> {
    let jobs = args.jobs.map_or_else(all_cores, usize::from);
    let mode = if args.salvage { Salvage::Yes } else { Salvage::No };
    let mut recordings = match read(&args.runs, mode, jobs) {
        Ok(recordings) => recordings,
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("gauntlet: {problem}"));
            return Ok(Exit::InvalidScenario);
        }
    };
    let is_asked_for = |name: &str| args.scenario.is_empty() || args.scenario.iter().any(|glob| matches(glob, name));
    recordings.retain(|recording| is_asked_for(&recording.evidence.plan.scenario.name));
    put_in_order(&mut recordings);
    if recordings.is_empty() {
        eprintln!(
            "gauntlet: no recording is of a scenario named {}",
            args.scenario.join(" or ")
        );
        return Ok(Exit::NothingSelected);
    }
    let began = Instant::now();
    let replayed = {
        let bar = progress(recordings.len());
        replay_all(&recordings, &detector(args)?, jobs, &|| bar.inc(1))
    };
    let replayed = match replayed {
        Ok(replayed) => replayed,
        Err(error) => {
            eprintln!("gauntlet: {error}");
            return Ok(Exit::CannotHere);
        }
    };
    eprintln!("{}", speed(&recordings, began.elapsed(), jobs));
    if let Some(out) = &args.out {
        write_json(out, &suite_result(&name(&args.runs), &recordings, &replayed))?;
    }
    let exit = Exit::of_verdicts(replayed.iter().map(|one| one.result.detector.judgement.verdict));
    match args.format {
        Format::Human => print(&replayed),
        Format::Json => println!("{}", as_json(&recordings, &replayed, exit)),
    }
    Ok(exit)
}

/// The detector that replays are to be made with.
///
/// # Errors
/// When this program's own file cannot be found.
pub(super) fn replayed_by(source: &SpecSource, within: Duration) -> anyhow::Result<ReplayDetector> {
    let (program, arguments) = match source {
        SpecSource::Ours => (our_detector()?, Vec::new()),
        SpecSource::Program(program) => (program.clone(), Vec::new()),
        SpecSource::Exec(command) => through_shell(command),
        SpecSource::Alertmanager(_) => unreachable!("the command line takes no alerts for a replay"),
    };
    Ok(ReplayDetector {
        program,
        arguments,
        is_own: *source == SpecSource::Ours,
        within,
    })
}

fn detector(args: &ReplayArgs) -> anyhow::Result<ReplayDetector> {
    let source = args.detector.as_ref().map_or(&SpecSource::Ours, |spec| &spec.source);
    let within = args
        .within
        .map_or(WITHIN, |seconds| Duration::from_secs(seconds.into()));
    replayed_by(source, within)
}

/// Of one argument its own name, since that is what two results of the same corpus share.
fn name(runs: &[PathBuf]) -> String {
    match runs {
        [one] => one
            .canonicalize()
            .unwrap_or_else(|_| one.clone())
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into(),
        _ => "replay".to_owned(),
    }
}

/// The program of our detector, which lies beside this one.
///
/// # Errors
/// When this program's own file cannot be found.
fn our_detector() -> anyhow::Result<PathBuf> {
    let gauntlet = std::env::current_exe().context("failed to find this program's own file")?;
    Ok(gauntlet.with_file_name("gauntlet-detector"))
}

fn progress(count: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} replayed, {eta} left").expect("a template");
    ProgressBar::new(count as u64).with_style(style)
}

fn speed(recordings: &[Recording], took: Duration, jobs: usize) -> String {
    let recorded_s: f64 = recordings.iter().map(|recording| recording.span.seconds()).sum();
    let took_s = took.as_secs_f64();
    let times = recorded_s / took_s;
    format!(
        "{recorded_s:.0} s of run time in {took_s:.2} s: {times:.0} × real time (recordings: {}, jobs: {jobs})",
        recordings.len()
    )
}

fn results(replayed: &[Replayed]) -> Vec<&RunResult> {
    replayed.iter().map(|one| &one.result).collect()
}

fn print(replayed: &[Replayed]) {
    println!("{}", summary::table(&results(replayed)));
    for one in replayed {
        let run = format!("{} seed {}", one.result.scenario, one.result.seed);
        if let Some(failure) = one.failure() {
            println!("{run}: the detector failed: {failure}");
        }
        for finding in &one.result.validity.findings {
            println!("{run}: {finding}");
        }
    }
}

fn as_json(recordings: &[Recording], replayed: &[Replayed], exit: Exit) -> Value {
    let run = |(recording, one): (&Recording, &Replayed)| {
        let mut run = json!({
            "scenario": one.result.scenario,
            "seed": one.result.seed,
            "recording": recording.digest,
            "statementsDigest": one.statements_digest,
            "failure": one.failure(),
        });
        if let (Some(run), Value::Object(more)) = (run.as_object_mut(), summary::result_json(&one.result)) {
            run.extend(more);
        }
        run
    };
    let runs: Vec<Value> = recordings.iter().zip(replayed).map(run).collect();
    let summary = summary::summary_json(&results(replayed));
    json!({"version": 1, "exit": exit.code(), "runs": runs, "summary": summary})
}
