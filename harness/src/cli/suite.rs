//! `gauntlet suite`: the arguments, and what needs no run: listing, showing, validating, planning, merging.

mod kubernetes;
mod recorded;
mod run;
pub mod shard;

pub use self::kubernetes::{ExecutorArgs, ExecutorKind};

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::scenario::{CATALOGUE, rendered, show};
use super::target::TargetArgs;
use super::{EXIT_CODES, Exit, Format};
use crate::check::validity::Class;
use crate::detectors::spec::DetectorSpec;
use crate::doctor::error_chain;
use crate::report::files::write_suite;
use crate::report::suite::{Beside, view};
use crate::report::suite_summary;
use crate::run::directory::write_json;
use crate::scenario::catalogue;
use crate::score::verdict::Verdict;
use crate::suite::merge::{MergeError, Part, merge, read_part};
use crate::suite::outcome::{Shard, SuiteResult};
use crate::suite::plan::{SuitePlan, Wanted, plan};
use crate::suite::store::{RESULT_FILE, StoreError, short};
use crate::suite::{Suite, load};

/// What to do with suites.
#[derive(Debug, Subcommand)]
pub enum SuiteCommand {
    /// Run a suite: every scenario, every trial, one after the other, and one result.
    #[command(after_help = EXIT_CODES)]
    Run(Box<SuiteRunArgs>),
    /// Print the cases of a suite in their order, with their seeds, and the digest that all shards share.
    #[command(after_help = EXIT_CODES)]
    Plan {
        /// What of which suite.
        #[command(flatten)]
        selection: Selection,
        /// How to print it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Put the results of all shards together.
    #[command(after_help = EXIT_CODES)]
    Merge {
        /// Directories of the shards (`--out` of their runs).
        #[arg(required = true, value_name = "DIR")]
        shards: Vec<PathBuf>,
        /// Directory for the one result.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How to print the result.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// List the suites.
    List {
        /// How to print them.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print a suite's YAML, for example to start an own one from.
    Show {
        /// A file, or a name of scenarios/suites.
        suite: String,
    },
    /// Check files: all problems at once, each with line, column, caret and advice.
    #[command(after_help = EXIT_CODES)]
    Validate {
        /// Files, or names of scenarios/suites.
        #[arg(required = true, value_name = "SUITE")]
        suites: Vec<String>,
    },
}

/// A suite, or some of its cases.
#[derive(Debug, Args)]
pub struct Selection {
    /// A suite file, or a name of scenarios/suites (see `gauntlet suite list`).
    pub suite: String,
    /// Only scenarios of this name, where `*` is any text. May be repeated: one must match.
    #[arg(long, value_name = "PATTERN")]
    pub scenario: Vec<String>,
    /// Only scenarios of this class. May be repeated: one must match.
    #[arg(long)]
    pub class: Vec<String>,
    /// Only scenarios with this label. May be repeated: all must be there.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Only the i-th of n parts, for n machines; `suite merge` puts their results together.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
}

/// Arguments of `gauntlet suite run`.
#[derive(Debug, Args)]
pub struct SuiteRunArgs {
    /// What of which suite.
    #[command(flatten)]
    pub selection: Selection,
    /// Where to run.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Answer the cases from these recordings instead of live runs: a corpus, a run directory, or a directory of these.
    /// Needs no privileges. A case takes the recording of its scenario and seed, or else the next of its scenario.
    #[arg(long, value_name = "CORPUS", conflicts_with_all = ["target", "no_lock", "wait_lock"])]
    pub replay: Option<PathBuf>,
    /// Directory of the result and of all run directories. One that holds a part of this suite is gone on with: cases
    /// that ended do not run again. By default a new one below `runs`.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Refuse to begin anew: the directory must hold a part of this suite.
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// How to print the result. Progress goes to standard error in both.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// The detector to score, by default ours; written as for `gauntlet run`. Further ones are asked beside it. With
    /// --replay it is ours, or one program or command without `NAME=`.
    #[arg(long, value_name = "DETECTOR")]
    pub detector: Vec<DetectorSpec>,
    /// Run even if another live run is on. Both will measure each other.
    #[arg(long)]
    pub no_lock: bool,
    /// If another live run is on, wait for its end instead of refusing.
    #[arg(long, conflicts_with = "no_lock")]
    pub wait_lock: bool,
    /// Where the runs are made.
    #[command(flatten)]
    pub executor: ExecutorArgs,
}

fn label(text: &str) -> Result<(String, String), String> {
    let pair = text
        .split_once('=')
        .filter(|(key, value)| !key.is_empty() && !value.is_empty());
    let (key, value) = pair.ok_or("write KEY=VALUE, for example story=seed")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Selection {
    /// The plan of what is selected, or how to exit; the reason was said.
    fn plan(&self) -> Result<SuitePlan, Exit> {
        let suite = load(&self.suite, Path::new(CATALOGUE)).map_err(|errors| {
            eprintln!("{}", rendered(&errors));
            Exit::InvalidScenario
        })?;
        let wanted = Wanted {
            names: self.scenario.clone(),
            classes: self.class.clone(),
            labels: self.label.clone(),
        };
        let plan = plan(&wanted.of(suite));
        if plan.part(self.shard).is_empty() {
            eprintln!("gauntlet: nothing of suite {} is selected", plan.suite);
            return Err(Exit::NothingSelected);
        }
        Ok(plan)
    }
}

/// Does what was asked for.
///
/// # Errors
/// When the harness itself fails (a bug or an unusable output directory).
pub fn suite(command: &SuiteCommand) -> anyhow::Result<Exit> {
    match command {
        SuiteCommand::Run(args) => run::run(args),
        SuiteCommand::Plan { selection, format } => match selection.plan() {
            Ok(plan) => print_plan(&plan, selection.shard, *format),
            Err(exit) => Ok(exit),
        },
        SuiteCommand::Merge { shards, out, format } => merge_shards(shards, out, *format),
        SuiteCommand::List { format } => list(*format),
        SuiteCommand::Show { suite } => show("suite", suite, catalogue::suites),
        SuiteCommand::Validate { suites } => Ok(validate(suites)),
    }
}

fn list(format: Format) -> anyhow::Result<Exit> {
    let root = Path::new(CATALOGUE);
    let mut out = std::io::stdout().lock();
    let suites: Vec<(String, Option<Suite>)> = catalogue::suites(root)
        .into_iter()
        .map(|entry| (entry.name.clone(), load(&entry.name, root).ok()))
        .collect();
    match format {
        Format::Json => {
            let row = |(name, suite): &(String, Option<Suite>)| {
                let suite = suite.as_ref();
                json!({
                    "name": name,
                    "title": suite.map(|suite| &suite.title),
                    "scenarios": suite.map(|suite| suite.scenarios.len()),
                    "trials": suite.map(|suite| suite.seeds.len()),
                })
            };
            writeln!(out, "{}", json!(suites.iter().map(row).collect::<Vec<_>>()))?;
        }
        Format::Human => {
            for (name, suite) in &suites {
                match suite {
                    Some(suite) => {
                        let (scenarios, trials) = (suite.scenarios.len(), suite.seeds.len());
                        writeln!(out, "{name:<16} {scenarios:>3} scenarios × {trials:<3} {}", suite.title)?;
                    }
                    None => writeln!(out, "{name:<16} (invalid: see `gauntlet suite validate`)")?,
                }
            }
        }
    }
    Ok(if suites.is_empty() {
        Exit::NothingSelected
    } else {
        Exit::Pass
    })
}

fn validate(names: &[String]) -> Exit {
    let mut exit = Exit::Pass;
    for name in names {
        match load(name, Path::new(CATALOGUE)) {
            Ok(suite) => {
                let (scenarios, trials) = (suite.scenarios.len(), suite.seeds.len());
                println!("{name}: valid ({}; {scenarios} scenarios × {trials})", suite.title);
            }
            Err(errors) => {
                eprintln!("{}", rendered(&errors));
                exit = Exit::InvalidScenario;
            }
        }
    }
    exit
}

fn print_plan(plan: &SuitePlan, shard: Option<Shard>, format: Format) -> anyhow::Result<Exit> {
    let part = plan.part(shard);
    let mut out = std::io::stdout().lock();
    match format {
        Format::Json => {
            let case = |case: &&crate::suite::plan::PlannedCase| json!({"scenario": case.key.scenario, "trial": case.key.trial, "seed": case.seed});
            let cases: Vec<_> = part.iter().map(case).collect();
            let value = json!({"suite": plan.suite, "digest": plan.digest, "shard": shard, "cases": cases});
            writeln!(out, "{value}")?;
        }
        Format::Human => {
            let of = shard.map_or(String::new(), |shard| {
                format!(", shard {shard} of {} cases", plan.cases.len())
            });
            writeln!(
                out,
                "suite {} digest {}: {} cases{of}",
                plan.suite,
                plan.digest,
                part.len()
            )?;
            for case in part {
                writeln!(
                    out,
                    "{:<28} trial {:<4} seed {}",
                    case.key.scenario, case.key.trial, case.seed.0
                )?;
            }
        }
    }
    Ok(Exit::Pass)
}

fn merge_shards(shards: &[PathBuf], out: &Path, format: Format) -> anyhow::Result<Exit> {
    let parts: Result<Vec<Part>, MergeError> = shards.iter().map(|shard| read_part(shard)).collect();
    let merged = match parts.and_then(|parts| merge(&parts, out)) {
        Ok(merged) => merged,
        Err(MergeError::Store(error @ (StoreError::File { .. } | StoreError::Write(_) | StoreError::Elsewhere(_)))) => {
            return Err(error.into());
        }
        Err(error) => {
            eprintln!("gauntlet: {}", error_chain(&error));
            return Ok(Exit::InvalidScenario);
        }
    };
    for key in &merged.missing {
        eprintln!("gauntlet: no shard has a result of {key}");
    }
    std::fs::create_dir_all(out)?;
    write_json(&out.join(RESULT_FILE), &merged.result)?;
    conclude(&merged.result, out, exit_of(&merged.result), format);
    Ok(exit_of(&merged.result))
}

/// Writes the reports of a result that lies in `directory`, and prints it.
fn conclude(result: &SuiteResult, directory: &Path, exit: Exit, format: Format) {
    let path = directory.join(RESULT_FILE);
    let view = view(result, Beside::default());
    // The result is there, and reports can be made of it again.
    let page = write_suite(directory, result, &view)
        .map_err(|error| eprintln!("gauntlet: {}", error_chain(&error)))
        .ok();
    match format {
        Format::Human => {
            print!("\n{}", suite_summary::table(result, &view));
            println!("result  {} (digest {})", path.display(), short(&result.digest));
            if let Some(page) = page {
                println!("report  {}", page.display());
            }
        }
        Format::Json => {
            let mut value = suite_summary::suite_json(result, &view);
            value["report"] = json!(page);
            value["version"] = json!(1);
            value["exit"] = json!(exit.code());
            value["result"] = json!(path);
            println!("{value}");
        }
    }
}

/// How a suite that ended exits. What is missing is never a pass.
fn exit_of(result: &SuiteResult) -> Exit {
    if result
        .cases
        .iter()
        .any(|case| case.validity.class == Class::HarnessError)
    {
        return Exit::TargetFailed;
    }
    let is_whole = result.cases.len() == result.planned_count;
    match result.cases.iter().map(|case| case.detector.judgement.verdict).max() {
        None => Exit::NothingSelected,
        Some(Verdict::Pass) if is_whole => Exit::Pass,
        Some(Verdict::Pass | Verdict::Inconclusive) => Exit::Inconclusive,
        Some(Verdict::Fail) => Exit::FellShort,
    }
}
