//! `gauntlet`: parses the command line, calls the command, maps its outcome to an exit code.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use gauntlet_harness::cli::{self, Cli, Command, Exit};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => cli::run::run(&args),
        Command::Suite(command) => cli::suite::suite(&command),
        Command::Report(args) => cli::report::report(&args),
        Command::Replay(args) => cli::replay::replay(&args),
        Command::Corpus(command) => cli::corpus::corpus(&command),
        Command::Doctor(args) => cli::doctor::doctor(&args),
        Command::Scenario(command) => cli::scenario::scenario(&command),
        Command::Recover(args) => cli::recover::recover(&args),
        Command::Gate(args) => cli::gate::run_gate(&args),
        Command::Baseline(command) => cli::gate::run_baseline(&command),
        Command::Compare(args) => cli::gate::run_compare(&args),
        Command::Cluster(command) => cli::cluster::cluster(&command),
        Command::Image(command) => cli::image::image(&command),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "gauntlet", &mut std::io::stdout());
            Ok(Exit::Pass)
        }
        Command::SuiteShard(args) => cli::suite::shard::run_shard(&args),
        Command::FaultAgent => gauntlet_harness::fault::agent::agent_main().map(|()| Exit::Pass),
    };
    let exit = outcome.unwrap_or_else(|error| {
        eprintln!("gauntlet: {error:#}");
        Exit::Internal
    });
    ExitCode::from(exit.code())
}
