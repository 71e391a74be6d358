//! `gauntlet cluster --target kind`: an empty Kubernetes cluster that stays, and the list of all clusters.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::super::live::watch_signals;
use super::super::{Exit, Format};
use crate::doctor::error_chain;
use crate::target::holder::Holder;
use crate::target::kind::containers::{self, NodeContainer, NodeState};
use crate::target::kind::lifecycle::{self, Lifetime, MadeCluster, UpError, UpOptions};
use crate::target::kind::name::ClusterName;
use crate::target::kind::record::{ClusterRecord, StateDirectory};
use crate::target::kind::removal;
use crate::timeline::Cancel;

/// Makes a cluster that stays.
///
/// # Errors
/// When there is no runtime to work with.
pub fn up(name: &ClusterName, options: &UpOptions) -> anyhow::Result<Exit> {
    runtime()?.block_on(async {
        let steps = Steps::start();
        let interrupt = asked_to_stop(watch_signals()?);
        let state = StateDirectory::of_this_machine();
        let say = |step: &str| steps.say(step);
        let outcome = lifecycle::up(&state, name, options, Lifetime::UntilDown, &say, interrupt).await;
        steps.finish();
        Ok(match outcome {
            Ok(cluster) => {
                describe(&cluster);
                Exit::Pass
            }
            Err(error) => {
                eprintln!("gauntlet: {}", error_chain(&error));
                match error {
                    UpError::Interrupted { .. } => Exit::Interrupted,
                    error if error.is_unavailable() => Exit::CannotHere,
                    _ => Exit::TargetFailed,
                }
            }
        })
    })
}

/// Takes a cluster down.
///
/// # Errors
/// When there is no runtime to work with.
pub fn down(name: &ClusterName) -> anyhow::Result<Exit> {
    let state = StateDirectory::of_this_machine();
    Ok(match runtime()?.block_on(removal::down(&state, name)) {
        Ok(true) => {
            println!("cluster {name} is down");
            Exit::Pass
        }
        Ok(false) => {
            eprintln!("gauntlet: there is no cluster {name}");
            Exit::NothingSelected
        }
        Err(error) => {
            eprintln!("gauntlet: {}", error_chain(&error));
            if error.is_unavailable() {
                Exit::CannotHere
            } else {
                Exit::TargetFailed
            }
        }
    })
}

/// Prints Gauntlet's clusters of all targets.
///
/// # Errors
/// When records cannot be read, or there is no runtime to work with.
pub fn list(format: Format) -> anyhow::Result<Exit> {
    let records = StateDirectory::of_this_machine().all_clusters()?;
    // Where there is no container engine, there are no such clusters either.
    let nodes = runtime()?.block_on(containers::all()).unwrap_or_default();
    let local = super::local::held();
    match format {
        Format::Json => {
            let local = local
                .iter()
                .map(|(name, tgid)| json!({"target": "local", "name": name, "tgid": tgid}));
            let kind = rows(&records, &nodes);
            let kind = kind.iter().map(|row| {
                json!({
                    "target": "kind", "name": row.name, "state": row.state, "nodes": row.node_count,
                    "nodesRunning": row.running_count, "kubeconfig": row.kubeconfig,
                })
            });
            println!("{}", serde_json::Value::Array(local.chain(kind).collect()));
        }
        Format::Human => {
            for (name, tgid) in &local {
                println!("local  {name:<20} held by process {tgid}");
            }
            let kind = rows(&records, &nodes);
            for row in &kind {
                let nodes = format!("{}/{} nodes run", row.running_count, row.node_count);
                let kubeconfig = row.kubeconfig.as_deref().unwrap_or("no kubeconfig");
                println!("kind   {:<20} {}, {nodes}, {kubeconfig}", row.name, row.state);
            }
            if local.is_empty() && kind.is_empty() {
                println!("no clusters");
            }
        }
    }
    Ok(Exit::Pass)
}

/// One kind cluster of Gauntlet's.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: String,
    state: &'static str,
    node_count: usize,
    running_count: usize,
    kubeconfig: Option<String>,
}

fn rows(records: &[ClusterRecord], nodes: &[NodeContainer]) -> Vec<Row> {
    let marked = nodes.iter().filter(|node| node.mark.is_some());
    let mut names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
    names.extend(marked.clone().map(|node| node.cluster.as_str()));
    names.sort_unstable();
    names.dedup();
    let row = |name: &str| {
        let record = records.iter().find(|record| record.name.as_str() == name);
        let of_it = marked.clone().filter(|node| node.cluster == name);
        let node_count = of_it.clone().count();
        Row {
            name: name.to_owned(),
            state: match record.map(|record| &record.holder) {
                None => "made by another user",
                Some(Some(holder)) if holder.is_alive() => "held by a process",
                Some(Some(Holder { .. })) => "left by a killed process",
                Some(None) if node_count == 0 => "gone by other means",
                Some(None) => "up",
            },
            node_count,
            running_count: of_it.filter(|node| node.state == NodeState::Running).count(),
            kubeconfig: record.map(|record| record.kubeconfig.display().to_string()),
        }
    };
    names.into_iter().map(row).collect()
}

fn describe(cluster: &MadeCluster) {
    let name = &cluster.record.name;
    println!("cluster {name} is up after {}", cluster.split);
    println!("  nodes  {}", cluster.nodes.join(", "));
    println!(
        "  look   kubectl --kubeconfig {} get nodes",
        cluster.record.kubeconfig.display()
    );
    println!("  use    gauntlet run SCENARIO --target kind --cluster {name}");
    println!("  end    gauntlet cluster down --target kind --name {name}");
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Comes when somebody asked to stop, and never otherwise.
async fn asked_to_stop(mut cancel: Cancel) {
    if cancel.wait_for(|asked| *asked).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What is being done: a moving line on a terminal, a line per step elsewhere.
struct Steps {
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Steps {
    fn start() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {elapsed}  {msg}").expect("the template is a constant");
            bar.set_style(style);
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self {
            began: Instant::now(),
            bar,
        }
    }

    fn say(&self, step: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(step.to_owned()),
            // A closed standard error must not end what has something to clean up.
            None => drop(writeln!(
                std::io::stderr(),
                "{:6.1} s  {step}",
                self.began.elapsed().as_secs_f64()
            )),
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_listed_by_its_record_and_its_marked_nodes() {
        let record = |name: &str, holder: Option<Holder>| ClusterRecord {
            name: name.parse().unwrap(),
            id: "7".to_owned(),
            kubeconfig: "/s/config".into(),
            holder,
        };
        let node = |cluster: &str, state: NodeState, mark: Option<&str>| NodeContainer {
            id: "4a".to_owned(),
            name: format!("{cluster}-worker"),
            cluster: cluster.to_owned(),
            state,
            mark: mark.map(Into::into),
        };
        let alive = Holder::this_process();
        let dead = Holder {
            started_ticks: alive.started_ticks + 1,
            ..alive
        };
        let records = [
            record("up", None),
            record("coming", Some(alive)),
            record("killed", Some(dead)),
            record("gone", None),
        ];
        let nodes = [
            node("up", NodeState::Running, Some("/m")),
            node("up", NodeState::Stopped, Some("/m")),
            node("of-another-user", NodeState::Running, Some("/m")),
            node("not-ours", NodeState::Running, None),
        ];
        let rows: Vec<_> = rows(&records, &nodes)
            .into_iter()
            .map(|row| (row.name, row.state, row.running_count, row.node_count))
            .collect();
        let expected = [
            ("coming", "held by a process", 0, 0),
            ("gone", "gone by other means", 0, 0),
            ("killed", "left by a killed process", 0, 0),
            ("of-another-user", "made by another user", 1, 1),
            ("up", "up", 1, 2),
        ];
        assert_eq!(
            rows,
            expected.map(|(name, state, running, all)| (name.to_owned(), state, running, all))
        );
    }
}
