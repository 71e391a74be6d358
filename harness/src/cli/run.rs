//! `gauntlet run`: selects scenarios, runs their trials one after the other, prints results, decides the exit code.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;

use super::scenario::{CATALOGUE, rendered};
use super::{Exit, Format, RunArgs, TargetKind};
use crate::app::App;
use crate::clock::monotonic_ns;
use crate::plan::Seed;
use crate::report::console::Console;
use crate::report::{html, junit, summary, view};
use crate::run::directory::{create, write_whole};
use crate::run::lock::{LOCK_PATH, LockError, RunLock};
use crate::run::result::RunResult;
use crate::run::{Programs, RunError, RunOrder, execute};
use crate::scenario::model::Scenario;
use crate::score::verdict::Verdict;

/// One scenario that was asked for, with its application.
struct Case {
    scenario: Scenario,
    app: App,
}

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
    let TargetKind::Local = args.target;
    let asked = match crate::detectors::spec::resolve(&args.detector) {
        Ok(asked) => asked,
        Err(errors) => {
            eprintln!("{}", rendered(&errors));
            return Ok(Exit::InvalidScenario);
        }
    };
    let gauntlet = std::env::current_exe().context("failed to find this program's own file")?;
    let programs = Programs::beside(gauntlet, asked);
    if !nix::unistd::geteuid().is_root() {
        eprintln!("gauntlet: the local target needs root (namespaces, cgroups, eBPF); run it with sudo");
        return Ok(Exit::CannotHere);
    }
    let _lock = if args.no_lock {
        None
    } else {
        match RunLock::acquire(Path::new(LOCK_PATH)) {
            Ok(lock) => Some(lock),
            Err(error @ LockError::Held { .. }) => {
                eprintln!("gauntlet: {error}");
                return Ok(Exit::CannotHere);
            }
            Err(error @ LockError::Io { .. }) => return Err(error.into()),
        }
    };
    let first_seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let ended = run_all(&cases, &programs, args, first_seed)?;
    Ok(conclude(&ended, args.format))
}

fn select(names: &[String]) -> Result<Vec<Case>, Vec<String>> {
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    for name in names {
        match crate::scenario::load(name, Path::new(CATALOGUE)) {
            Ok(scenario) => match load_app(&scenario.app, name) {
                Ok(app) => cases.push(Case { scenario, app }),
                Err(error) => problems.push(crate::doctor::error_chain(&error)),
            },
            Err(errors) => problems.push(rendered(&errors)),
        }
    }
    if problems.is_empty() { Ok(cases) } else { Err(problems) }
}

/// An application that a scenario file names by path is looked for beside that file first.
fn load_app(app: &str, scenario: &str) -> Result<App, crate::app::AppError> {
    let beside = Path::new(scenario).parent().map(|directory| directory.join(app));
    match beside {
        Some(path) if crate::scenario::catalogue::is_path(app) && path.is_file() => {
            crate::app::load(&path.display().to_string())
        }
        _ => crate::app::load(app),
    }
}

fn run_all(cases: &[Case], programs: &Programs, args: &RunArgs, first_seed: u64) -> anyhow::Result<Vec<Ended>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let cancel = runtime.block_on(async { watch_signals() })?;
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
                programs: programs.clone(),
            };
            announce(&order, args.trials);
            let mut console = Console::new(monotonic_ns());
            let outcome = runtime.block_on(execute(&order, &mut console, cancel.clone()));
            console.finish();
            report(&order, &outcome, args.format)?;
            let stop = matches!(outcome, Err(RunError::Interrupted | RunError::CannotHere(_)));
            ended.push(Ended {
                scenario: case.scenario.name.clone(),
                seed,
                directory,
                outcome,
            });
            if stop {
                break 'cases;
            }
        }
    }
    Ok(ended)
}

/// True from the first Ctrl-C or SIGTERM on. A second one ends the process at once; agents and warden clean up.
fn watch_signals() -> std::io::Result<tokio::sync::watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (sender, receiver) = tokio::sync::watch::channel(false);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        for count in 1.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if count > 1 || sender.send(true).is_err() {
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
        }
    });
    Ok(receiver)
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

fn report(order: &RunOrder, outcome: &Result<RunResult, RunError>, format: Format) -> anyhow::Result<()> {
    match outcome {
        Ok(result) => {
            let shown = view::view(order, result);
            write_whole(&order.directory.join("report.html"), html::page(&shown).as_bytes())?;
            write_whole(&order.directory.join("junit.xml"), junit::junit(result).as_bytes())?;
            if format == Format::Human {
                println!("{}", summary::text(&shown));
                println!("report  {}", order.directory.join("report.html").display());
            }
        }
        Err(error) => eprintln!("gauntlet: {}", crate::doctor::error_chain(error)),
    }
    Ok(())
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
    match results(ended)
        .iter()
        .map(|result| result.detector.judgement.verdict)
        .max()
    {
        None => Exit::NothingSelected,
        Some(Verdict::Pass) => Exit::Pass,
        Some(Verdict::Inconclusive) => Exit::Inconclusive,
        Some(Verdict::Fail) => Exit::FellShort,
    }
}
