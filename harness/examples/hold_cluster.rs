//! Brings a local cluster up, prints its inventory as NDJSON, and holds it until standard input ends.
//!
//! `hold_cluster [APP.json]`: the application as JSON (`{"name": …, "spec": …}`); by default two caches and a database.

use std::io::{Read, Write};
use std::time::Instant;

use anyhow::Context;
use gauntlet_harness::app::spec::AppSpec;
use gauntlet_harness::target::local::{LocalCluster, UpOptions};

#[derive(serde::Deserialize)]
struct App {
    name: String,
    spec: AppSpec,
}

const DEFAULT_APP: &str = r#"{"name": "stores", "spec": {"nodes": 3, "entry": "cache", "services": {
    "cache": {"kind": "redis", "replicas": 3}, "db": {"kind": "postgres"}}}}"#;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let text = match std::env::args_os().nth(1) {
        Some(path) => std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?,
        None => DEFAULT_APP.to_owned(),
    };
    let App { name, spec } = serde_json::from_str(&text).context("failed to parse the application")?;
    let begun = Instant::now();
    let progress = |what: &str| eprintln!("{:>5} ms  {what}", begun.elapsed().as_millis());
    let cluster = LocalCluster::up(&spec, &name, &UpOptions::default(), &progress).await?;
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
