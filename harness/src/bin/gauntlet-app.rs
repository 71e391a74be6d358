//! What runs in the pods of the local cluster, and the two processes that hold such a cluster.

use clap::{Parser, Subcommand};
use gauntlet_harness::app::dns;
use gauntlet_harness::target::local;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
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
        Command::Dns(args) => dns::run(&args),
        Command::Warden(_) => local::warden::run(),
        Command::Init(_) => local::init::run(),
        Command::PostgresTemplate(args) => local::postgres::run(&args),
    }
}
