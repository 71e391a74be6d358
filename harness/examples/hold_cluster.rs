//! Brings a local cluster up, prints its inventory as NDJSON, and holds it until standard input ends.
//!
//! `hold_cluster [APP]`: name of a shipped application, or a path; `shop` by default.

use std::io::{Read, Write};
use std::time::Instant;

use gauntlet_harness::app;
use gauntlet_harness::target::local::{LocalCluster, UpOptions};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let app = app::load(&std::env::args().nth(1).unwrap_or_else(|| "shop".to_owned()))?;
    let begun = Instant::now();
    let progress = |what: &str| eprintln!("{:>5} ms  {what}", begun.elapsed().as_millis());
    let cluster = LocalCluster::up(&app.spec, &app.name, &UpOptions::default(), &progress).await?;
    progress("up");
    let mut out = std::io::stdout().lock();
    for line in cluster.inventory() {
        writeln!(out, "{}", serde_json::to_string(&line)?)?;
    }
    out.flush()?;
    drop(out);
    tokio::task::spawn_blocking(|| std::io::stdin().lock().read_to_end(&mut Vec::new())).await??;
    let begun = Instant::now();
    cluster.down().await?;
    eprintln!("{:>5} ms  down", begun.elapsed().as_millis());
    Ok(())
}
