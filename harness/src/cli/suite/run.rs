//! `gauntlet suite run`: a suite's cases, kept one by one, gone on with after an interruption. Here are live ones, and what
//! those from recordings ([`super::recorded`]) share with them.

use std::path::{Path, PathBuf};

use super::kubernetes::{self, ExecutorKind};
use super::{SuiteRunArgs, conclude, exit_of, recorded};
use crate::cli::Exit;
use crate::cli::live::{Locking, Session, programs, refused_on_local};
use crate::cli::recover::undo_all;
use crate::detectors::spec::AskedKind;
use crate::doctor::error_chain;
use crate::plan::Seed;
use crate::recording::directory::SEALED;
use crate::report::suite_console::SuiteConsole;
use crate::run::directory::{create, create_stamped};
use crate::run::environment::Environment;
use crate::run::{RunError, RunOrder, RunTarget};
use crate::suite::Chosen;
use crate::suite::case;
use crate::suite::outcome::{Mode, SuiteResult};
use crate::suite::plan::{PlannedCase, SuitePlan};
use crate::suite::play::{CaseRunner, Ending, Ran, play};
use crate::suite::store::{Beginning, Header, RUNS, Store, StoreError, short};

/// Directory in which suites get their directories, unless one is named.
const OUT: &str = "runs";

/// Runs what was asked for.
///
/// # Errors
/// When the harness itself fails (a bug or an unusable output directory).
pub(super) fn run(args: &SuiteRunArgs) -> anyhow::Result<Exit> {
    let plan = match args.selection.plan() {
        Ok(plan) => plan,
        Err(exit) => return Ok(exit),
    };
    if let Some(recordings) = &args.replay {
        return recorded::run(args, &plan, recordings);
    }
    match args.executor.executor {
        ExecutorKind::Kubernetes => return kubernetes::run(args, &plan),
        ExecutorKind::Local => {}
    }
    let place = match args.target.resolve() {
        Ok(place) => place,
        Err(refusal) => {
            eprintln!("gauntlet: {refusal}");
            return Ok(Exit::CannotHere);
        }
    };
    if place.is_local()
        && let Some(exit) = refused_on_local(plan.scenarios.iter().map(|chosen| &chosen.scenario))
    {
        return Ok(exit);
    }
    let programs = match programs(&args.detector)? {
        Ok(programs) => programs,
        Err(exit) => return Ok(exit),
    };
    let session = match Session::open(programs, locking(args))? {
        Ok(session) => session,
        Err(exit) => return Ok(exit),
    };
    let (directory, store) = match open(args, &plan, Mode::Live, detector_digest(&session))? {
        Ok(opened) => opened,
        Err(exit) => return Ok(exit),
    };
    let left = undo_all(&[directory.join(RUNS)])?;
    left.done.iter().for_each(|line| eprintln!("{line}"));
    left.failed
        .iter()
        .for_each(|line| eprintln!("gauntlet: not undone: {line}"));
    if !left.failed.is_empty() {
        return Ok(Exit::TargetFailed);
    }
    let ready = match place.prepare(&session) {
        Ok(ready) => ready,
        Err(exit) => return Ok(exit),
    };
    let console = SuiteConsole::new();
    let mut runner = LiveRunner {
        session: &session,
        target: ready.target.clone(),
        home: &directory,
        console: console.clone(),
    };
    let exit = play_through(args, &plan, store, &mut runner, console, &directory);
    let left = ready.leave(&session, exit.as_ref().map_or(Exit::Internal, |exit| *exit));
    exit.map(|_| left)
}

fn locking(args: &SuiteRunArgs) -> Locking {
    if args.wait_lock {
        Locking::Wait
    } else {
        Locking::unless(args.no_lock)
    }
}

/// Plays what has not ended, and says what came of all.
///
/// # Errors
/// When a result cannot be kept.
pub(super) fn play_through(
    args: &SuiteRunArgs,
    plan: &SuitePlan,
    store: Store,
    runner: &mut dyn CaseRunner,
    console: SuiteConsole,
    directory: &Path,
) -> anyhow::Result<Exit> {
    let (result, ending) = play_part(args, plan, store, runner, console, directory)?;
    let exit = match &ending {
        Ending::Complete => exit_of(&result),
        Ending::Interrupted => Exit::Interrupted,
        Ending::CannotHere(why) => {
            eprintln!("gauntlet: this machine cannot go on: {why}");
            Exit::CannotHere
        }
    };
    conclude(&result, directory, exit, args.format);
    if ending != Ending::Complete {
        eprintln!("gauntlet: go on with --out {}", directory.display());
    }
    Ok(exit)
}

/// The directory of the suite, ours, with what it holds already; or how to exit, and why was said. `detector` is what
/// tells its program from others, or why that is not known.
///
/// # Errors
/// When the directory cannot be used.
pub(super) fn open(
    args: &SuiteRunArgs,
    plan: &SuitePlan,
    mode: Mode,
    detector: Result<String, String>,
) -> anyhow::Result<Result<(PathBuf, Store), Exit>> {
    let detector = match detector {
        Ok(digest) => digest,
        Err(why) => {
            eprintln!("gauntlet: {why}");
            return Ok(Err(Exit::CannotHere));
        }
    };
    match open_store(args, plan, Header::new(plan, mode, args.selection.shard, detector)) {
        Ok(opened) => Ok(Ok(opened)),
        Err(error) if error.is_mistake() => {
            eprintln!("gauntlet: {}", error_chain(&error));
            Ok(Err(Exit::InvalidScenario))
        }
        Err(error) => Err(error.into()),
    }
}

fn open_store(args: &SuiteRunArgs, plan: &SuitePlan, header: Header) -> Result<(PathBuf, Store), StoreError> {
    let beginning = if args.resume {
        Beginning::Refused
    } else {
        Beginning::Allowed
    };
    let part = plan.part(args.selection.shard);
    let directory = match &args.out {
        Some(directory) => directory.clone(),
        None => create_stamped(Path::new(OUT), &format!("suite-{}", plan.suite))?,
    };
    let store = Store::open(&directory, header, &part, beginning)?;
    let directory = directory.canonicalize().map_err(|source| RunError::Directory {
        path: directory,
        source,
    })?;
    Ok((directory, store))
}

fn play_part(
    args: &SuiteRunArgs,
    plan: &SuitePlan,
    mut store: Store,
    runner: &mut dyn CaseRunner,
    mut console: SuiteConsole,
    directory: &Path,
) -> anyhow::Result<(SuiteResult, Ending)> {
    let part = plan.part(args.selection.shard);
    let shard = args
        .selection
        .shard
        .map_or(String::new(), |shard| format!(", shard {shard}"));
    eprintln!(
        "suite {} digest {} version {}: {} cases{shard}, in {}",
        plan.suite,
        short(&plan.digest),
        env!("CARGO_PKG_VERSION"),
        part.len(),
        directory.display()
    );
    let ending = play(plan, &part, &mut store, runner, &mut console);
    console.finish();
    // Also after an error: what ended is worth a result.
    let result = store.write_result()?;
    Ok((result, ending?))
}

/// Makes live runs.
pub(super) struct LiveRunner<'a> {
    pub(super) session: &'a Session,
    /// Where.
    pub(super) target: RunTarget,
    /// The suite's directory.
    pub(super) home: &'a Path,
    pub(super) console: SuiteConsole,
}

impl CaseRunner for LiveRunner<'_> {
    fn detector_name(&self) -> String {
        self.session.programs().under_test().name.clone()
    }

    fn run(&mut self, chosen: &Chosen, case: &PlannedCase, seed: Seed) -> Result<Ran, RunError> {
        let _turn = self.session.turn()?;
        let directory = create(&self.home.join(RUNS), &chosen.scenario.name, seed.0)?;
        let order = RunOrder {
            scenario: chosen.scenario.clone(),
            app: chosen.app.clone(),
            seed,
            trial: case.key.trial,
            directory: directory.clone(),
            programs: self.session.programs().clone(),
            target: self.target.clone(),
        };
        let within = directory.strip_prefix(self.home).unwrap_or(&directory);
        let ran = self.session.run(&order, &mut self.console.phases());
        let (result, _) = ran.map_err(|error| match error {
            // The case's result has no directory, and this is where the reasons are.
            RunError::Target(why) => RunError::Target(format!("{why} (see {})", within.display())),
            other => other,
        })?;
        let recording = read_opt(&directory.join(SEALED))?.map(|bytes| crate::recording::container::sha256_hex(&bytes));
        let environment = read_opt(&directory.join("environment.json"))?;
        let environment = environment.and_then(|bytes| serde_json::from_slice::<Environment>(&bytes).ok());
        Ok(Ran {
            detector: environment.map(|environment| environment.detector),
            case: case::of_run(&chosen.scenario, &result, Some(within.to_owned()), recording),
        })
    }
}

/// A file of a run directory; `None`: the run did without.
fn read_opt(path: &Path) -> Result<Option<Vec<u8>>, RunError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RunError::Directory {
            path: path.to_owned(),
            source,
        }),
    }
}

/// As [`digest_of_program`], of the detector under test.
pub(super) fn detector_digest(session: &Session) -> Result<String, String> {
    let programs = session.programs();
    let asked = programs.under_test();
    let program = match &asked.kind {
        AskedKind::Ours => Some(programs.detector.as_path()),
        AskedKind::Process { program, .. } => Some(program.as_path()).filter(|program| program.is_file()),
        AskedKind::Alertmanager(_) => None,
    };
    digest_of_program(&format!("{asked:?}"), program)
}

/// SHA-256 of a detector, its program and how it is started: a suite is not gone on with by another.
///
/// # Errors
/// In words: the program cannot be read.
pub(super) fn digest_of_program(started_as: &str, program: Option<&Path>) -> Result<String, String> {
    let mut digested = started_as.as_bytes().to_vec();
    if let Some(program) = program {
        let read = std::fs::read(program);
        digested.extend(read.map_err(|error| format!("failed to read the detector {}: {error}", program.display()))?);
    }
    Ok(crate::recording::container::sha256_hex(&digested))
}
