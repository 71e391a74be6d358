//! Build tasks of this repository: `cargo xtask --help`. Nothing that ships is here.

mod bench;
mod bpf;

use clap::{Parser, Subcommand};

/// Build tasks of this repository.
#[derive(Parser)]
#[command(name = "xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds the kernel programs into probes/bpf, with a digest of their sources.
    Bpf(bpf::BpfArguments),
    /// Compares a cluster's servers without and with the detector (root): throughput, latency, CPU, with intervals.
    BenchOverhead(bench::BenchArguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Bpf(arguments) => bpf::run(&arguments),
        Task::BenchOverhead(arguments) => bench::run(&arguments),
    }
}
