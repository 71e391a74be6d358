//! What watching costs: the same load on a local cluster without and with the detector, in turn, in one sitting.
//!
//! Each round has both arms, and rounds take turns in which comes first (ABBA), so that whatever drifts meanwhile hits both
//! alike. Measures and prints; it is for people, and for the CI that keeps the numbers, to judge them.

mod arm;
mod report;
mod statistics;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use gauntlet_harness::app;
use gauntlet_harness::run::lock::{LOCK_PATH, RunLock};
use gauntlet_harness::target::local::{LocalCluster, UpOptions};

use crate::arm::Bench;
use crate::report::{Report, Round};

/// Compares a cluster's servers without and with the detector.
#[derive(Parser)]
#[command(name = "overhead")]
struct Args {
    /// How many rounds; each has one arm without and one with the detector.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Which loads each arm has.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [LoadKind::Redis, LoadKind::Http])]
    loads: Vec<LoadKind>,
    /// How long each load takes in each arm, about.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Requests per second of the http load.
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// Clients of the redis load.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clients: u32,
    /// Seed of the http load and of the intervals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also write the report, with every arm, to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure even if a live run is on.
    #[arg(long)]
    no_lock: bool,
}

/// A load of an arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum LoadKind {
    /// redis-benchmark, as fast as it goes: what a request costs.
    Redis,
    /// The app's own load at a rate: what users see.
    Http,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let _lock = if args.no_lock {
        None
    } else {
        Some(RunLock::acquire(Path::new(LOCK_PATH))?)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let report = runtime.block_on(measure(&args))?;
    print!("{report}");
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n").with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

async fn measure(args: &Args) -> anyhow::Result<Report> {
    let app = app::load("shop")?;
    let options = UpOptions::default();
    let detector = options.app_binary.with_file_name("gauntlet-detector");
    let cluster = LocalCluster::up(&app.spec, &app.name, &options, &|what| eprintln!("{what}")).await?;
    let rounds = async {
        let bench = Bench::prepare(&cluster, &app.spec, args, detector).await?;
        let mut rounds = Vec::new();
        for number in 0..args.rounds {
            rounds.push(round(&bench, number).await?);
            eprintln!("round {}/{}", number + 1, args.rounds);
        }
        anyhow::Ok((bench.describe(), rounds, bench.programs().await?))
    };
    let measured = rounds.await;
    cluster.down().await?;
    let (setting, rounds, programs) = measured?;
    Report::of(setting, rounds, programs, args.seed)
}

async fn round(bench: &Bench<'_>, number: u32) -> anyhow::Result<Round> {
    let seed = u64::from(number);
    let (off, (on, cost)) = if number.is_multiple_of(2) {
        let off = bench.unwatched(seed).await?;
        (off, bench.watched(seed).await?)
    } else {
        let on = bench.watched(seed).await?;
        (bench.unwatched(seed).await?, on)
    };
    Ok(Round { off, on, cost })
}
