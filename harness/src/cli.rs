//! The command line: what can be asked, and which exit code answers.

pub mod cluster;
pub mod corpus;
pub mod doctor;
pub mod live;
pub mod gate;
pub mod image;
pub mod recordings;
pub mod recover;
pub mod report;
pub mod replay;
pub mod run;
pub mod scenario;
pub mod suite;
pub mod target;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::target::TargetArgs;
use crate::corpus::CORPUS;
use crate::detectors::spec::DetectorSpec;
use crate::gate::measure::FALSE_ALARM_MARGIN_PER_HOUR;
use crate::score::verdict::Verdict;

/// Where runs are written unless another place is named.
const DEFAULT_OUT: &str = "runs";

/// Exit codes, as documented in README.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Every run VALID and within its limits; the gate is passed.
    Pass,
    /// A bug.
    Internal,
    /// Nothing was selected.
    NothingSelected,
    /// A scenario, suite, recording, result or baseline is invalid.
    InvalidScenario,
    /// This machine cannot.
    CannotHere,
    /// Target or injection failed.
    TargetFailed,
    /// The detector fell short: of a scenario's limits, or of its baseline.
    FellShort,
    /// It could not be decided.
    Inconclusive,
    /// Interrupted, after recovery.
    Interrupted,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Internal => 1,
            Self::NothingSelected => 4,
            Self::InvalidScenario => 64,
            Self::CannotHere => 69,
            Self::TargetFailed => 70,
            Self::FellShort => 100,
            Self::Inconclusive => 101,
            Self::Interrupted => 130,
        }
    }

    /// The answer when runs were judged: the worst verdict decides, and none at all is no pass.
    #[must_use]
    pub fn of_verdicts(verdicts: impl Iterator<Item = Verdict>) -> Self {
        match verdicts.max() {
            None => Self::NothingSelected,
            Some(Verdict::Pass) => Self::Pass,
            Some(Verdict::Inconclusive) => Self::Inconclusive,
            Some(Verdict::Fail) => Self::FellShort,
        }
    }
}

/// Injects faults into a cluster, proves that they bite, and scores the detector that had to find them.
#[derive(Debug, Parser)]
#[command(name = "gauntlet", version, about, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0 pass · 1 internal error · 2 usage · 4 nothing selected · 64 invalid scenario, suite, recording or baseline
  69 this machine cannot (privilege, hook, tool) · 70 target or injection failed
  100 the detector fell short, or is worse than its baseline · 101 not decided · 130 interrupted, after recovery";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios: bring the application up, inject, measure, score.
    #[command(after_help = EXIT_CODES)]
    Run(Box<RunArgs>),
    /// Run suites of scenarios, in one go, in parts or after an interruption; list, show and validate them.
    #[command(subcommand)]
    Suite(suite::SuiteCommand),
    /// Make the reports of a run or a suite again, from what was recorded.
    #[command(after_help = EXIT_CODES)]
    Report(ReportArgs),
    /// Feed recordings to a detector and score it: no root, no cluster, all cores.
    #[command(after_help = EXIT_CODES)]
    Replay(ReplayArgs),
    /// Collect recordings: add, list, verify.
    #[command(subcommand)]
    Corpus(CorpusCommand),
    /// Try every hook and tool of this machine; say what works, what degrades, what is missing and what that costs.
    #[command(after_help = EXIT_CODES)]
    Doctor(DoctorArgs),
    /// List, show and validate scenarios.
    #[command(subcommand)]
    Scenario(ScenarioCommand),
    /// Undo what a killed run left behind.
    #[command(after_help = EXIT_CODES)]
    Recover(RecoverArgs),
    /// Judge a suite's result against a baseline: PASS, FAIL or INCONCLUSIVE, with what would decide.
    #[command(after_help = EXIT_CODES)]
    Gate(GateArgs),
    /// Save and show baselines, the files that the gate compares with.
    #[command(subcommand)]
    Baseline(BaselineCommand),
    /// Put two results side by side: the gate's statistics without a verdict.
    #[command(after_help = EXIT_CODES)]
    Compare(CompareArgs),
    /// Bring clusters up, without any fault, take them down, list them.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Make images of our own programs, for clusters that reach no registry.
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Print completions for a shell, for example `gauntlet completions bash > /etc/bash_completion.d/gauntlet`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Runs one shard of a suite in a pod; see `gauntlet suite run --executor kubernetes`.
    #[command(name = "__suite-shard", hide = true)]
    SuiteShard(suite::shard::ShardArgs),
    /// Holds one injection and undoes it when its time is over or its harness is gone.
    #[command(name = "__fault-agent", hide = true)]
    FaultAgent,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// The last line of standard output is one JSON object.
    Json,
}

/// Arguments of `gauntlet run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Scenario files, or names of the catalogue (see `gauntlet scenario list`).
    #[arg(required = true, value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// Where to run.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Seed of the first trial; trial k has seed + k − 1. By default it is drawn, printed and recorded.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How often to run each scenario.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub trials: u32,
    /// Directory in which each run gets its own directory.
    #[arg(long, default_value = DEFAULT_OUT, value_name = "DIR")]
    pub out: PathBuf,
    /// How to print the result. Progress goes to standard error in both.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// The detector to score, by default ours: `gauntlet`, a program or `exec:COMMAND` of the protocol in
    /// detector/PROTOCOL.md, or `alertmanager:FILE`; with `NAME=` before it, it is called so. Further ones are asked
    /// beside it, and ours always is.
    #[arg(long, value_name = "SPEC")]
    pub detector: Vec<DetectorSpec>,
    /// Run even if another live run is on. Both will measure each other.
    #[arg(long)]
    pub no_lock: bool,
}

/// What a report is made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportKind {
    /// One self-contained page.
    Html,
    /// A summary for a comment on a pull request.
    Markdown,
    /// Test cases for a CI system.
    Junit,
}

/// Arguments of `gauntlet report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A run directory, a suite's directory, or a suite.json.
    #[arg(value_name = "RUN_OR_SUITE")]
    pub path: PathBuf,
    /// Make this one report. By default report.html, junit.xml and summary.md are written beside the result.
    #[arg(long, value_enum)]
    pub format: Option<ReportKind>,
    /// Write the one report here, not to standard output.
    #[arg(long, value_name = "FILE", requires = "format")]
    pub out: Option<PathBuf>,
    /// An older suite.json to put beside it; a file of `gauntlet baseline save` is for `gauntlet gate`.
    #[arg(long, value_name = "SUITE")]
    pub baseline: Option<PathBuf>,
    /// What `gauntlet gate --format json` found, to put into the report of a suite.
    #[arg(long, value_name = "FILE")]
    pub gate: Option<PathBuf>,
}

/// Arguments of `gauntlet replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Recordings, run directories, a corpus, or directories of these.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// The detector to score, by default ours: a program or `exec:COMMAND` of the protocol (detector/PROTOCOL.md), which is
    /// started as in a live run and asks for frames or for the recording.
    #[arg(long, value_name = "DETECTOR", value_parser = crate::detectors::spec::replayable)]
    pub detector: Option<DetectorSpec>,
    /// How many to replay at a time. By default as many as there are processors.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// How many seconds a detector may take for one recording before it counts as hung. By default 60.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
    pub within: Option<u16>,
    /// Only scenarios of this name; `*` stands for any letters. May be given more than once.
    #[arg(long, value_name = "GLOB")]
    pub scenario: Vec<String>,
    /// Write the result to FILE, for gate, comparison and reports.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How to print the result. Progress goes to standard error in both.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Read recordings that are cut off, damaged or unsealed as far as they go. Their runs do not count.
    #[arg(long)]
    pub salvage: bool,
}

/// What to do with a corpus.
#[derive(Debug, Subcommand)]
pub enum CorpusCommand {
    /// Add recordings or run directories.
    #[command(after_help = EXIT_CODES)]
    Add {
        /// Recordings, run directories, or directories of these.
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<PathBuf>,
        /// Add also runs that do not count.
        #[arg(long)]
        invalid: bool,
        /// The corpus.
        #[arg(long, default_value = CORPUS, value_name = "DIR")]
        corpus: PathBuf,
    },
    /// List what is in it.
    List {
        /// How to print it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// The corpus.
        #[arg(long, default_value = CORPUS, value_name = "DIR")]
        corpus: PathBuf,
    },
    /// Read every byte of it: seals, digests, frames, and that manifest and files agree.
    #[command(after_help = EXIT_CODES)]
    Verify {
        /// How to print what is wrong.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// The corpus.
        #[arg(long, default_value = CORPUS, value_name = "DIR")]
        corpus: PathBuf,
    },
}

/// Arguments of `gauntlet doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// How to print the report.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What to do with scenarios.
#[derive(Debug, Subcommand)]
pub enum ScenarioCommand {
    /// List the catalogue.
    List {
        /// How to print it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print a scenario's YAML, for example to start an own one from.
    Show {
        /// A file, or a name of the catalogue.
        scenario: String,
    },
    /// Check files: all problems at once, each with line, column, caret and advice.
    #[command(after_help = EXIT_CODES)]
    Validate {
        /// Files, or names of the catalogue.
        #[arg(required = true, value_name = "SCENARIO")]
        scenarios: Vec<String>,
    },
}

/// Arguments of `gauntlet recover`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Look only at the runs in this directory [default: all directories that live runs of this machine were written to]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How to print what was done.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How a gate's report is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Tables for a terminal, with every flip.
    #[default]
    Human,
    /// One JSON object.
    Json,
    /// A comment on a pull request.
    Markdown,
}

/// Arguments of `gauntlet gate`.
#[derive(Debug, Args)]
pub struct GateArgs {
    /// What to compare with: a file of `gauntlet baseline save`.
    #[arg(long, value_name = "FILE")]
    pub baseline: PathBuf,
    /// What to judge: a suite's directory, or its suite.json.
    #[arg(value_name = "RESULT")]
    pub result: PathBuf,
    /// How to print the report.
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
    /// Most false alarms per fault-free hour; the upper bound must lie within. Without it there is no such limit.
    #[arg(long, value_name = "PER_HOUR", value_parser = per_hour)]
    pub false_alarm_budget: Option<f64>,
    /// How many more false alarms per hour than the baseline's are no regression. Live, the default takes about 12
    /// fault-free hours on either side to prove.
    #[arg(long, value_name = "PER_HOUR", value_parser = per_hour, default_value_t = FALSE_ALARM_MARGIN_PER_HOUR)]
    pub false_alarm_margin: f64,
    /// Write the report to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// A rate that can be a limit.
fn per_hour(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(rate),
        Ok(_) | Err(_) => Err("a number of alarms per hour, at least 0".to_owned()),
    }
}

/// What to do with baselines.
#[derive(Debug, Subcommand)]
pub enum BaselineCommand {
    /// Save a result as a baseline: a header and one line per case, to be reviewed and checked in.
    #[command(after_help = EXIT_CODES)]
    Save {
        /// A suite's directory, or its suite.json.
        result: PathBuf,
        /// The file to write. By default SUITE.baseline.yaml here.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show what a baseline holds: how often its detector was right, how fast, how noisy.
    #[command(after_help = EXIT_CODES)]
    Show {
        /// The baseline.
        file: PathBuf,
    },
}

/// Arguments of `gauntlet compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// A suite's directory, its suite.json, or a baseline.
    #[arg(value_name = "A")]
    pub first: PathBuf,
    /// The other one.
    #[arg(value_name = "B")]
    pub second: PathBuf,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}
