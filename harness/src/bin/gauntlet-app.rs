//! The program that runs inside the pods of a cluster, and the two processes that hold a local one.
//!
//! One subcommand for each job; none of them is for people.

use clap::{Parser, Subcommand};
use gauntlet_harness::app::{dns, service};
use gauntlet_harness::target::local;

/// What runs inside the pods of a Gauntlet cluster. Started by `gauntlet`, not by hand.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be one http service of an app.
    Http(service::HttpArgs),
    /// The cluster's name server.
    Dns(dns::DnsArgs),
    /// Holds a local cluster for the harness, and removes what is left of it when the harness ends.
    #[command(name = "__warden", hide = true)]
    Warden(local::HolderArgs),
    /// First process of a local cluster: starts the pods' processes, again and again.
    #[command(name = "__init", hide = true)]
    Init(local::HolderArgs),
    /// Makes a PostgreSQL data directory; first process of a namespace of its own.
    #[command(name = "__postgres-template", hide = true)]
    PostgresTemplate(local::postgres::TemplateArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Http(args) => service::run(&args),
        Command::Dns(args) => dns::run(&args),
        Command::Warden(_) => local::warden::run(),
        Command::Init(_) => local::init::run(),
        Command::PostgresTemplate(args) => local::postgres::run(&args),
    }
}
