//! The command line: what can be asked, and which exit code answers.

pub mod cluster;
pub mod doctor;
pub mod recover;
pub mod run;
pub mod scenario;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::detectors::spec::DetectorSpec;

/// Exit codes, as documented in README.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Every run VALID and within its limits.
    Pass,
    /// A bug.
    Internal,
    /// Nothing was selected.
    NothingSelected,
    /// A scenario is invalid.
    InvalidScenario,
    /// This machine cannot.
    CannotHere,
    /// Target or injection failed.
    TargetFailed,
    /// The detector fell short.
    FellShort,
    /// No VALID run could decide.
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
  0 pass · 1 internal error · 2 usage · 4 nothing selected · 64 invalid scenario
  69 this machine cannot (privilege, hook, tool) · 70 target or injection failed
  100 the detector fell short · 101 no VALID run could decide · 130 interrupted, after recovery";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios: bring the application up, inject, measure, score.
    #[command(after_help = EXIT_CODES)]
    Run(RunArgs),
    /// Try every hook and tool of this machine; say what works, what degrades, what is missing and what that costs.
    #[command(after_help = EXIT_CODES)]
    Doctor(DoctorArgs),
    /// List, show and validate scenarios.
    #[command(subcommand)]
    Scenario(ScenarioCommand),
    /// Undo what a killed run left behind.
    #[command(after_help = EXIT_CODES)]
    Recover(RecoverArgs),
    /// Bring an application up on a local cluster, without any fault, and look around.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Print completions for a shell, for example `gauntlet completions bash > /etc/bash_completion.d/gauntlet`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
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

/// Where a run takes place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TargetKind {
    /// The embedded cluster of namespaces (Linux, root, no container engine).
    #[default]
    Local,
}

/// Arguments of `gauntlet run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Scenario files, or names of the catalogue (see `gauntlet scenario list`).
    #[arg(required = true, value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    pub target: TargetKind,
    /// Seed of the first trial; trial k has seed + k − 1. By default it is drawn, printed and recorded.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How often to run each scenario.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub trials: u32,
    /// Directory in which each run gets its own directory.
    #[arg(long, default_value = "runs", value_name = "DIR")]
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
    /// Directory of the run directories whose journals are looked at.
    #[arg(long, default_value = "runs", value_name = "DIR")]
    pub out: PathBuf,
    /// How to print what was done.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What to do with clusters.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Bring a local cluster up and hold it until Ctrl-C, or in the background with --detach.
    Up {
        /// The application: a file, or a name of scenarios/apps.
        #[arg(long, default_value = "shop")]
        app: String,
        /// The cluster's name, for `cluster down`.
        #[arg(long, default_value = "default")]
        name: String,
        /// Return when it is up; it lives until `cluster down`.
        #[arg(long)]
        detach: bool,
    },
    /// Take a cluster down that `cluster up --detach` left running.
    Down {
        /// The cluster's name.
        #[arg(long, default_value = "default")]
        name: String,
    },
}
