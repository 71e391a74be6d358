//! `gauntlet run`: selects scenarios, runs their trials one after the other, prints results, decides the exit code.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::live::{Locking, Session, programs, refused_on_local};
use super::scenario::{CATALOGUE, rendered};
use super::{Exit, Format, RunArgs};
use crate::clock::monotonic_ns;
use crate::plan::Seed;
use crate::report::console::Console;
use crate::report::view::RunView;
use crate::report::{files, summary};
use crate::run::directory::create;
use crate::run::result::RunResult;
use crate::run::{RunError, RunOrder, RunTarget};
use crate::suite::Chosen;
use crate::suite::choice::load_app;

/// A run that ended, with or without a result.
struct Ended {
    scenario: String,
    seed: u64,
    directory: PathBuf,
    outcome: Result<RunResult, RunError>,
}

/// Runs what was asked for.
///
/// # Errors
/// When the harness itself fails (a bug or an unusable output directory).
pub fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let cases = match select(&args.scenarios) {
        Ok(cases) => cases,
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
            return Ok(Exit::InvalidScenario);
        }
    };
    let place = match args.target.resolve() {
        Ok(place) => place,
        Err(refusal) => {
            eprintln!("gauntlet: {refusal}");
            return Ok(Exit::CannotHere);
        }
    };
    if place.is_local()
        && let Some(exit) = refused_on_local(cases.iter().map(|case| &case.scenario))
    {
        return Ok(exit);
    }
    let programs = match programs(&args.detector)? {
        Ok(programs) => programs,
        Err(exit) => return Ok(exit),
    };
    let session = match Session::open(programs, Locking::unless(args.no_lock))? {
        Ok(session) => session,
        Err(exit) => return Ok(exit),
    };
    let ready = match place.prepare(&session) {
        Ok(ready) => ready,
        Err(exit) => return Ok(exit),
    };
    let first_seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let ended = run_all(&cases, &session, args, &ready.target, first_seed);
    let exit = ended.map(|ended| conclude(&ended, args.format));
    let left = ready.leave(&session, exit.as_ref().map_or(Exit::Internal, |exit| *exit));
    exit.map(|_| left)
}

fn select(names: &[String]) -> Result<Vec<Chosen>, Vec<String>> {
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    for name in names {
        match crate::scenario::load(name, Path::new(CATALOGUE)) {
            Ok(scenario) => match load_app(&scenario.app, name) {
                Ok(app) => cases.push(Chosen { scenario, app }),
                Err(error) => problems.push(crate::doctor::error_chain(&error)),
            },
            Err(errors) => problems.push(rendered(&errors)),
        }
    }
    if problems.is_empty() { Ok(cases) } else { Err(problems) }
}

fn run_all(
    cases: &[Chosen],
    session: &Session,
    args: &RunArgs,
    target: &RunTarget,
    first_seed: u64,
) -> anyhow::Result<Vec<Ended>> {
    let mut ended = Vec::new();
    'cases: for case in cases {
        for trial in 1..=args.trials {
            let seed = first_seed.wrapping_add(u64::from(trial - 1));
            let directory = create(&args.out, &case.scenario.name, seed)?;
            let order = RunOrder {
                scenario: case.scenario.clone(),
                app: case.app.clone(),
                seed: Seed(seed),
                trial,
                directory: directory.clone(),
                programs: session.programs().clone(),
                target: target.clone(),
            };
            announce(&order, args.trials);
            let mut console = Console::new(monotonic_ns());
            let outcome = session.run(&order, &mut console);
            console.finish();
            report(&order, &outcome, args.format);
            let stop = matches!(outcome, Err(RunError::Interrupted | RunError::CannotHere(_)));
            ended.push(Ended {
                scenario: case.scenario.name.clone(),
                seed,
                directory,
                outcome: outcome.map(|(result, _)| result),
            });
            if stop {
                break 'cases;
            }
        }
    }
    Ok(ended)
}

fn announce(order: &RunOrder, trials: u32) {
    let run = order
        .directory
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let version = env!("CARGO_PKG_VERSION");
    eprintln!(
        "run {run} seed {} version {version} trial {}/{trials}",
        order.seed.0, order.trial
    );
    eprintln!("{}", order.scenario.title);
}

fn report(order: &RunOrder, outcome: &Result<(RunResult, Option<RunView>), RunError>, format: Format) {
    match outcome {
        Ok((_, Some(shown))) if format == Format::Human => {
            println!("{}", summary::text(shown));
            println!("report  {}", order.directory.join(files::PAGE).display());
        }
        Ok(_) => {}
        Err(error) => eprintln!("gauntlet: {}", crate::doctor::error_chain(error)),
    }
}

fn conclude(ended: &[Ended], format: Format) -> Exit {
    if format == Format::Human && ended.len() > 1 {
        println!("\n{}", summary::table(&results(ended)));
    }
    let exit = exit_of(ended);
    if format == Format::Json {
        let runs: Vec<_> = ended.iter().map(run_json).collect();
        let summary = summary::summary_json(&results(ended));
        println!(
            "{}",
            json!({"version": 1, "exit": exit.code(), "runs": runs, "summary": summary})
        );
    }
    exit
}

fn results(ended: &[Ended]) -> Vec<&RunResult> {
    ended.iter().filter_map(|one| one.outcome.as_ref().ok()).collect()
}

fn run_json(ended: &Ended) -> serde_json::Value {
    let mut value = json!({"scenario": ended.scenario, "seed": ended.seed, "directory": ended.directory});
    let more = match &ended.outcome {
        Ok(result) => summary::result_json(result),
        Err(error) => json!({
            "validity": "HARNESS_ERROR", "verdict": "inconclusive", "error": crate::doctor::error_chain(error),
            "ttdSeconds": null, "ttrcSeconds": null, "rank": null,
        }),
    };
    if let (Some(value), serde_json::Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}

fn exit_of(ended: &[Ended]) -> Exit {
    for one in ended {
        match &one.outcome {
            Err(RunError::Interrupted) => return Exit::Interrupted,
            Err(RunError::CannotHere(_)) => return Exit::CannotHere,
            Err(RunError::Target(_) | RunError::Directory { .. }) | Ok(_) => {}
        }
    }
    if ended.iter().any(|one| one.outcome.is_err()) {
        return Exit::TargetFailed;
    }
    Exit::of_verdicts(results(ended).iter().map(|result| result.detector.judgement.verdict))
}
