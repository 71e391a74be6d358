//! The program that runs inside pods.
//!
//! One subcommand for each job; none of them is for people.

use clap::{Parser, Subcommand};
use gauntlet_harness::app::service;

/// What runs inside the pods of a Gauntlet cluster. Started by `gauntlet`, not by hand.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Be one http service of an app.
    Http(service::HttpArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Http(args) => service::run(&args),
    }
}
