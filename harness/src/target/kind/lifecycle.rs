//! Makes a cluster with kind, and removes what is Gauntlet's of one: whole, half made, or left by a process that was killed.
//!
//! Invariant: a record is on disk before anything is made, and goes after everything is gone. Containers are removed only if
//! they bear our mark. Does not decide whether a cluster may be used; see [`super::ownership`].

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kube::config::Kubeconfig;

use super::access::AccessError;
use super::config::{PodNetwork, kind_config};
use super::containers::{self, NodeContainer, docker};
use super::docker::ToolFailure;
use super::name::ClusterName;
use super::network;
use super::node_image::{self, NodeImageError, Pulling};
use super::ownership::NAMESPACE;
use super::prerequisites::{self, Shortage, Wanted};
use super::program::{Call, kill_marked};
use super::ready::{self, NotReady};
use super::record::{ClusterRecord, RecordError, StateDirectory};
use super::split::{Doer, Split};
use crate::target::holder::Holder;

/// Nodes beside the control plane, unless another number is asked for.
pub const NODES: u16 = 3;
/// Longest that kind may take; the fixture's clusters take a minute, on a busy machine several.
const KIND_WITHIN: Duration = Duration::from_secs(600);
/// Longest that removing may take: containers that were asked for just before appear a moment later.
const REMOVED_WITHIN: Duration = Duration::from_secs(120);
/// After a killed creation nothing must have appeared for so long.
const QUIET_FOR: Duration = Duration::from_secs(1);

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

/// There is no cluster. What had been made of it is gone, unless it was said that it is not.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// This machine cannot hold it.
    #[error(transparent)]
    Shortage(#[from] Shortage),
    /// The name is taken.
    #[error(
        "kind cluster {name} is there and Gauntlet did not make it; choose another --name, or use it with --cluster existing"
    )]
    OfOthers {
        /// The name.
        name: ClusterName,
    },
    /// It is there.
    #[error("cluster {name} is up already; choose another --name or take it down")]
    AlreadyUp {
        /// The name.
        name: ClusterName,
    },
    /// Somebody is making it.
    #[error("process {tgid} holds cluster {name}; wait for it, or choose another --name")]
    Held {
        /// The name.
        name: ClusterName,
        /// The process.
        tgid: u32,
    },
    /// kind would add to a file that is there.
    #[error("{} is there, and a cluster's kubeconfig is a file of its own; name another with --kubeconfig", path.display())]
    KubeconfigTaken {
        /// The file.
        path: PathBuf,
    },
    /// The node image.
    #[error(transparent)]
    NodeImage(#[from] NodeImageError),
    /// `kind` or `docker` failed.
    #[error(transparent)]
    Tool(#[from] ToolFailure),
    /// It does not serve.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// Its kubeconfig cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// What is on disk about it.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The rest of an earlier one of this name is in the way.
    #[error("failed to remove what is left of cluster {name}")]
    Rest {
        /// The name.
        name: ClusterName,
        /// Why.
        #[source]
        source: Box<RemoveError>,
    },
    /// Somebody asked to stop.
    #[error("interrupted while cluster {name} came up; what was made of it is gone")]
    Interrupted {
        /// The name.
        name: ClusterName,
    },
}

impl UpError {
    /// True when nothing was tried because this machine or the names given do not fit: exit code 69.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Shortage(_) | Self::OfOthers { .. } | Self::Held { .. } | Self::KubeconfigTaken { .. } => true,
            Self::NodeImage(error) => matches!(error, NodeImageError::NotHere { .. }),
            Self::AlreadyUp { .. }
            | Self::Tool(_)
            | Self::NotReady(_)
            | Self::Access(_)
            | Self::Record(_)
            | Self::Rest { .. }
            | Self::Interrupted { .. } => false,
        }
    }
}

/// Something of a cluster is still there; its record is, too, so that it can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The container engine said no.
    #[error("failed to remove the nodes of cluster {name}")]
    Nodes {
        /// The name.
        name: ClusterName,
        /// Why.
        #[source]
        source: ToolFailure,
    },
    /// They do not go.
    #[error("{} of cluster {name} did not go within {} s; `docker rm --force` them", nodes.join(", "), REMOVED_WITHIN.as_secs())]
    Stay {
        /// The name.
        name: ClusterName,
        /// Its nodes that are left.
        nodes: Vec<String>,
    },
    /// Files.
    #[error(transparent)]
    Record(#[from] RecordError),
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
    if there.iter().any(|node| node.mark.is_none()) {
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
        let mark = self.state.mark(&self.record.name);
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

/// Takes our cluster of this name down, and says whether there was anything of it.
///
/// # Errors
/// [`DownError`]; one that is not ours, or that a live process holds, is left alone.
pub async fn down(state: &StateDirectory, name: &ClusterName) -> Result<bool, DownError> {
    prerequisites::basics().await?;
    let holder = state.cluster(name)?.and_then(|record| record.holder);
    if let Some(holder) = holder.filter(Holder::is_alive) {
        return Err(DownError::Held {
            name: name.clone(),
            tgid: holder.tgid,
        });
    }
    let foreign = containers::of_cluster(name)
        .await?
        .iter()
        .any(|node| node.mark.is_none());
    if foreign {
        return Err(DownError::OfOthers { name: name.clone() });
    }
    Ok(remove(state, name).await?)
}

/// A cluster was not taken down, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum DownError {
    /// It is somebody else's.
    #[error(
        "kind cluster {name} was not made by Gauntlet, and was left alone; `kind delete cluster --name {name}` removes it"
    )]
    OfOthers {
        /// The name.
        name: ClusterName,
    },
    /// It is in use.
    #[error("process {tgid} holds cluster {name}; end it first, and it takes the cluster down itself")]
    Held {
        /// The name.
        name: ClusterName,
        /// The process.
        tgid: u32,
    },
    /// There is no container engine.
    #[error(transparent)]
    Shortage(#[from] Shortage),
    /// The container engine said no.
    #[error(transparent)]
    Tool(#[from] ToolFailure),
    /// What is on disk about it.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It does not go.
    #[error(transparent)]
    Remove(#[from] RemoveError),
}

impl DownError {
    /// True when nothing was touched because it must not or cannot be here: exit code 69.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::OfOthers { .. } | Self::Held { .. } | Self::Shortage(_))
    }
}

/// Removes what there is of our cluster of this name, and says whether there was anything.
///
/// Containers without our mark stay, also those that kind calls by the same name.
///
/// # Errors
/// [`RemoveError`].
pub async fn remove(state: &StateDirectory, name: &ClusterName) -> Result<bool, RemoveError> {
    let record = state.cluster(name)?;
    let was_unfinished = record.as_ref().is_some_and(|record| record.holder.is_some());
    let id = record.as_ref().map_or("", |record| record.id.as_str());
    if !id.is_empty() {
        kill_marked(id);
    }
    let removed = remove_nodes(name, if was_unfinished { QUIET_FOR } else { Duration::ZERO }).await?;
    if let Some(record) = &record {
        remove_kubeconfig(record);
    }
    state.forget(name)?;
    Ok(removed || record.is_some())
}

/// Removes our nodes until there were none for `quiet_for`.
async fn remove_nodes(name: &ClusterName, quiet_for: Duration) -> Result<bool, RemoveError> {
    let failed = |source| RemoveError::Nodes {
        name: name.clone(),
        source,
    };
    let (began, mut quiet_since, mut any) = (Instant::now(), Instant::now(), false);
    loop {
        let nodes = containers::of_cluster(name).await.map_err(failed)?;
        let ours: Vec<NodeContainer> = nodes.into_iter().filter(|node| node.mark.is_some()).collect();
        if ours.is_empty() {
            if quiet_since.elapsed() >= quiet_for {
                return Ok(any);
            }
            tokio::time::sleep(QUIET_FOR / 5).await;
            continue;
        }
        if began.elapsed() > REMOVED_WITHIN {
            return Err(RemoveError::Stay {
                name: name.clone(),
                nodes: ours.into_iter().map(|node| node.name).collect(),
            });
        }
        any = true;
        containers::remove(&ours, "").await.map_err(failed)?;
        quiet_since = Instant::now();
    }
}

/// Removes the file if it still is what kind wrote: somebody may have added their own clusters to it.
fn remove_kubeconfig(record: &ClusterRecord) {
    let only_ours = Kubeconfig::read_from(&record.kubeconfig).is_ok_and(|file| {
        let mut contexts = file.contexts.iter().map(|context| context.name.as_str());
        contexts.all(|name| name == record.name.context())
    });
    if only_ours {
        let _ = std::fs::remove_file(&record.kubeconfig);
    }
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

    #[test]
    fn a_kubeconfig_to_which_others_added_theirs_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let record = ClusterRecord {
            name: "demo".parse().unwrap(),
            id: "7".to_owned(),
            kubeconfig: path.clone(),
            holder: None,
        };
        let file = |contexts: &str| format!("contexts: [{contexts}]\n");
        let (ours, theirs) = (
            "{name: kind-demo, context: {cluster: c}}",
            "{name: prod, context: {cluster: p}}",
        );
        std::fs::write(&path, file(&format!("{ours}, {theirs}"))).unwrap();
        remove_kubeconfig(&record);
        assert!(path.exists());
        std::fs::write(&path, file(ours)).unwrap();
        remove_kubeconfig(&record);
        assert!(!path.exists());
    }
}
