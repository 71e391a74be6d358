//! Measures what watching costs, on this machine: builds the programs, then runs the harness's `overhead` example.
//!
//! Everything that is measured, and how, is the example's.

use std::process::Command;

use anyhow::{Context as _, ensure};

/// Arguments of `cargo xtask bench-overhead`.
#[derive(clap::Args)]
pub(crate) struct BenchArguments {
    /// Passed on: --rounds N, --loads redis,http, --seconds N, --rate N, --clients N, --seed N, --json FILE, --no-lock; --help tells more.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// Runs the task.
pub(crate) fn run(arguments: &BenchArguments) -> anyhow::Result<()> {
    let build = [
        "build",
        "--release",
        "--locked",
        "-p",
        "gauntlet-harness",
        "-p",
        "gauntlet-detector",
        "--bins",
    ];
    cargo(&build.map(ToOwned::to_owned))?;
    let run = [
        "run",
        "--release",
        "--locked",
        "-p",
        "gauntlet-harness",
        "--example",
        "overhead",
        "--",
    ];
    let run: Vec<String> = run
        .map(ToOwned::to_owned)
        .into_iter()
        .chain(arguments.arguments.iter().cloned())
        .collect();
    cargo(&run)
}

fn cargo(arguments: &[String]) -> anyhow::Result<()> {
    let status = Command::new("cargo")
        .args(arguments)
        .status()
        .context("failed to run cargo")?;
    ensure!(status.success(), "cargo {} failed ({status})", arguments.join(" "));
    Ok(())
}
