//! Offers an app's load at an address and prints what users see, one line of JSON for each second.
//!
//! For trying an app by hand; runs of scenarios do this by themselves.

use std::net::SocketAddr;

use anyhow::Context;
use clap::Parser;
use gauntlet_harness::app;
use gauntlet_harness::target::Dial;
use gauntlet_harness::workload::Workload;
use gauntlet_harness::workload::spec::{Load, LoadSpec, Profile};

/// Offers an app's load at an address.
#[derive(Parser)]
struct Args {
    /// A shipped app, or a file.
    app: String,
    /// Where its entry service listens.
    address: SocketAddr,
    /// Requests per second; the app's own rate by default.
    #[arg(long)]
    rate: Option<f64>,
    /// For how many seconds.
    #[arg(long, default_value_t = 10)]
    seconds: usize,
    /// Seed of arrivals and keys.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ask once for each key before.
    #[arg(long)]
    prefill: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let app = app::load(&args.app)?;
    let spec = LoadSpec {
        profile: args.rate.map(|rate| Profile::Constant { rate }),
        ..LoadSpec::default()
    };
    let load = Load::new(&spec, &app.spec)?;
    let dial = Dial {
        ip: args.address.ip(),
        port: args.address.port(),
    };
    if args.prefill {
        eprintln!("{:?}", Workload::prefill(dial, &load).await);
    }
    let handle = Workload::start(&tokio::runtime::Handle::current(), dial, load, args.seed)?;
    let mut seconds = handle.subscribe();
    for _ in 0..args.seconds {
        let sample = seconds.recv().await.context("the load ended")?;
        println!("{}", serde_json::to_string(&sample)?);
    }
    handle.stop().await;
    Ok(())
}
