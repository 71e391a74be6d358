//! Makes a cluster with kind, whole or not at all.
//!
//! Invariant: a record is on disk before anything is made. Does not decide whether a cluster may be used; see
//! [`super::ownership`].

mod error;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::{PodNetwork, kind_config};
use super::containers::{self, NodeContainer, docker};
use super::docker::ToolFailure;
use super::name::ClusterName;
use super::network;
use super::node_image::{self, Pulling};
use super::ownership::NAMESPACE;
use super::prerequisites::{self, Wanted};
use super::program::Call;
use super::ready;
use super::record::{ClusterRecord, RecordError, StateDirectory};
use super::removal::remove;
use super::split::{Doer, Split};
use crate::target::holder::Holder;

pub use self::error::UpError;

/// Nodes beside the control plane, unless another number is asked for.
pub const NODES: u16 = 3;
/// Longest that kind may take; the fixture's clusters take a minute, on a busy machine several.
const KIND_WITHIN: Duration = Duration::from_secs(600);

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// Nodes beside the control plane.
    pub workers: u16,
    /// The image of its nodes; `None` leaves the choice to kind.
    pub image: Option<String>,
    /// Where its kubeconfig is written; by default among our own records.
    pub kubeconfig: Option<PathBuf>,
    /// Archives of images that are loaded into its nodes. With any, nothing is pulled.
    pub image_archives: Vec<PathBuf>,
    /// The program `kind`, by name or path.
    pub kind_program: PathBuf,
    /// CPU limit of each node, thousandths of a core.
    pub node_millicores: u32,
}

impl Default for UpOptions {
    fn default() -> Self {
        Self {
            workers: NODES,
            image: None,
            kubeconfig: None,
            image_archives: Vec::new(),
            kind_program: PathBuf::from("kind"),
            node_millicores: crate::target::local::default_node_millicores(),
        }
    }
}

/// How long a cluster lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is taken down.
    UntilDown,
    /// As long as this process: what is left of it then is removed by `gauntlet recover`.
    OfThisProcess,
}

/// A cluster that was made.
#[derive(Clone, Debug)]
pub struct MadeCluster {
    /// Its record.
    pub record: ClusterRecord,
    /// Its nodes, the control plane among them.
    pub nodes: Vec<String>,
    /// Whose time it took.
    pub split: Split,
}

/// Makes a cluster and waits until it serves. When `interrupt` comes first, or anything fails, what was made is removed.
///
/// # Errors
/// [`UpError`].
pub async fn up(
    state: &StateDirectory,
    name: &ClusterName,
    options: &UpOptions,
    lifetime: Lifetime,
    progress: &dyn Fn(&str),
    interrupt: impl Future<Output = ()>,
) -> Result<MadeCluster, UpError> {
    progress("looking at this machine");
    let wanted = Wanted {
        workers: options.workers,
        kind_program: &options.kind_program,
        image_archives: &options.image_archives,
    };
    let kind = prerequisites::check(wanted).await?;
    let record = claim(state, name, options, progress).await?;
    let making = Making {
        state,
        record: &record,
        options,
        kind: &kind,
        progress,
    };
    let outcome = tokio::select! {
        outcome = making.make() => outcome,
        () = interrupt => Err(UpError::Interrupted { name: name.clone() }),
    };
    let settled = outcome.and_then(|mut cluster| {
        if lifetime == Lifetime::UntilDown {
            cluster.record.holder = None;
            state.replace(&cluster.record)?;
        }
        Ok(cluster)
    });
    if settled.is_err() {
        progress("removing what was made");
        if let Err(error) = remove(state, name).await {
            progress(&format!(
                "{}; `gauntlet recover` tries again",
                crate::doctor::error_chain(&error)
            ));
        }
    }
    settled
}

/// The name, for this process alone: nothing of it exists now, and a record says that something will.
async fn claim(
    state: &StateDirectory,
    name: &ClusterName,
    options: &UpOptions,
    progress: &dyn Fn(&str),
) -> Result<ClusterRecord, UpError> {
    match state.cluster(name)? {
        Some(ClusterRecord { holder: None, .. }) => return Err(UpError::AlreadyUp { name: name.clone() }),
        Some(ClusterRecord {
            holder: Some(holder), ..
        }) if holder.is_alive() => {
            return Err(UpError::Held {
                name: name.clone(),
                tgid: holder.tgid,
            });
        }
        Some(ClusterRecord { holder: Some(_), .. }) => {
            progress("removing what a killed process left of it");
            remove(state, name).await.map_err(|source| UpError::Rest {
                name: name.clone(),
                source: Box::new(source),
            })?;
        }
        None => {}
    }
    let there = containers::of_cluster(name).await?;
    if there.iter().any(NodeContainer::is_foreign) {
        return Err(UpError::OfOthers { name: name.clone() });
    }
    if !there.is_empty() {
        return Err(UpError::AlreadyUp { name: name.clone() });
    }
    let kubeconfig = options.kubeconfig.clone().unwrap_or_else(|| state.kubeconfig(name));
    let record = ClusterRecord {
        name: name.clone(),
        id: format!("{:016x}", rand::random::<u64>()),
        kubeconfig: std::path::absolute(&kubeconfig).unwrap_or(kubeconfig),
        holder: Some(Holder::this_process()),
    };
    if record.kubeconfig.exists() {
        return Err(UpError::KubeconfigTaken {
            path: record.kubeconfig,
        });
    }
    if state.claim(&record)? {
        Ok(record)
    } else {
        Err(UpError::AlreadyUp { name: name.clone() })
    }
}

/// What the steps of making a cluster share.
struct Making<'a> {
    state: &'a StateDirectory,
    record: &'a ClusterRecord,
    options: &'a UpOptions,
    kind: &'a Path,
    progress: &'a dyn Fn(&str),
}

impl Making<'_> {
    async fn make(&self) -> Result<MadeCluster, UpError> {
        let mut split = Split::start(Doer::Gauntlet);
        let network = self.node_image(&mut split).await?;
        split.turn(Doer::Kubernetes);
        self.create(network).await?;
        split.turn(Doer::Gauntlet);
        let client = self.record.access(NAMESPACE).client().await?;
        let nodes = containers::of_cluster(&self.record.name).await?;
        let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
        if network == PodNetwork::Ours {
            (self.progress)("setting the pod network up");
            split.turn(Doer::Kubernetes);
            let networks = ready::node_networks(&client, &names).await?;
            split.turn(Doer::Gauntlet);
            network::set_up(&networks, &self.record.id).await?;
        }
        split.turn(Doer::Kubernetes);
        for archive in &self.options.image_archives {
            (self.progress)(&format!("loading {}", archive.display()));
            node_image::load_archive(self.kind, &self.record.name, archive, &self.record.id).await?;
        }
        ready::nodes(&client, &names, self.progress).await?;
        (self.progress)("waiting for the cluster's DNS");
        ready::dns(&client).await?;
        ready::account(&client, "default").await?;
        split.turn(Doer::Gauntlet);
        // Last, so that it does not slow the coming up.
        limit(&nodes, self.options.node_millicores, &self.record.id).await?;
        Ok(MadeCluster {
            record: self.record.clone(),
            nodes: names,
            split: split.stopped(),
        })
    }

    async fn node_image(&self, split: &mut Split) -> Result<PodNetwork, UpError> {
        let Some(image) = &self.options.image else {
            // kind's own images bring a network, and kind pulls the one that it was built with.
            return Ok(PodNetwork::OfImage);
        };
        split.turn(Doer::Gauntlet);
        let pulling = if self.options.image_archives.is_empty() {
            Pulling::Allowed
        } else {
            Pulling::Forbidden
        };
        Ok(node_image::prepare(image, pulling, &self.record.id, self.progress).await?)
    }

    async fn create(&self, network: PodNetwork) -> Result<(), UpError> {
        let mark = self.state.mark(self.record);
        std::fs::create_dir_all(&mark).map_err(|source| RecordError::making(&mark, source))?;
        let config = kind_config(self.options.workers, &self.record.id, &mark, network);
        let kubeconfig = self.record.kubeconfig.to_string_lossy();
        let name = self.record.name.as_str();
        let mut arguments = vec![
            "create",
            "cluster",
            "--name",
            name,
            "--config",
            "-",
            "--kubeconfig",
            &kubeconfig,
        ];
        if let Some(image) = &self.options.image {
            arguments.extend(["--image", image]);
        }
        let call = Call {
            program: self.kind,
            arguments: &arguments,
            input: &config,
            mark: &self.record.id,
            within: KIND_WITHIN,
        };
        let heard = |line: &str| {
            if let Some(step) = kind_step(line) {
                (self.progress)(&step);
            }
        };
        call.run(&heard).await?;
        Ok(())
    }
}

/// What kind says that it begins with: ` • Preparing nodes 📦 📦   ...` is `kind: preparing nodes`.
fn kind_step(line: &str) -> Option<String> {
    let step = line.trim_start().strip_prefix('•')?.trim_start();
    let words: String = step.chars().take_while(char::is_ascii).collect();
    let words = words.trim().trim_end_matches('.').trim_end();
    let mut letters = words.chars();
    let first = letters.next()?.to_ascii_lowercase();
    Some(format!("kind: {first}{}", letters.as_str()))
}

/// Limits every node's CPU, so that one busy node does not slow the others, nor the harness.
async fn limit(nodes: &[NodeContainer], millicores: u32, mark: &str) -> Result<(), ToolFailure> {
    let cpus = format!("{}.{:03}", millicores / 1000, millicores % 1000);
    let ids = nodes.iter().map(|node| node.id.as_str());
    let arguments: Vec<&str> = ["update", "--cpus", &cpus].into_iter().chain(ids).collect();
    docker(&arguments, "", mark).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kind_says_becomes_a_step() {
        for (line, step) in [
            (" • Preparing nodes 📦 📦   ...", Some("kind: preparing nodes")),
            (
                " • Ensuring node image (fixture/kind-node:v1.20.2) 🖼  ...",
                Some("kind: ensuring node image (fixture/kind-node:v1.20.2)"),
            ),
            (" • Starting control-plane ...", Some("kind: starting control-plane")),
            (" ✓ Preparing nodes 📦", None),
            ("Creating cluster \"demo\" ...", None),
            (" • ", None),
            ("", None),
        ] {
            assert_eq!(kind_step(line).as_deref(), step, "{line}");
        }
    }
}
