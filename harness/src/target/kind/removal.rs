//! Takes clusters of Gauntlet's down: whole ones, half made ones, and what a process left that was killed.
//!
//! Invariant: a node is removed only if it bears our mark, and the record goes after everything else is gone. Needs no
//! `kind`: what kind makes is containers, and they say whose they are.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kube::config::Kubeconfig;

use super::containers::{self, NodeContainer, NodeState};
use super::docker::ToolFailure;
use super::name::ClusterName;
use super::prerequisites::{self, Shortage};
use super::program::kill_marked;
use super::record::{ClusterRecord, RecordError, StateDirectory};
use crate::target::holder::Holder;

/// Longest that removing may take: containers that were asked for just before appear a moment later.
const REMOVED_WITHIN: Duration = Duration::from_secs(120);
/// After a killed creation nothing must have appeared for so long.
const QUIET_FOR: Duration = Duration::from_secs(1);

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

/// Removes what there is of our cluster of this name, and says whether there was anything.
///
/// Containers without our mark stay, also those that kind calls by the same name.
///
/// # Errors
/// [`RemoveError`].
pub async fn remove(state: &StateDirectory, name: &ClusterName) -> Result<bool, RemoveError> {
    let Some(record) = state.cluster(name)? else {
        // Made by another user, or its record was lost: the mark alone says that it is ours.
        return remove_nodes(name, &|mark| mark.is_some(), Duration::ZERO).await;
    };
    kill_marked(&record.id);
    let mark = state.mark(&record);
    let quiet_for = if record.holder.is_some() {
        QUIET_FOR
    } else {
        Duration::ZERO
    };
    // By its very mark: if another process took the name over meanwhile, that one's nodes have another.
    remove_nodes(name, &|found| found == Some(&mark), quiet_for).await?;
    remove_kubeconfig(&record);
    state.forget(&record)?;
    Ok(true)
}

/// Removes the nodes whose mark is ours until there were none for `quiet_for`, and says whether there were any.
async fn remove_nodes(
    name: &ClusterName,
    is_ours: &dyn Fn(Option<&PathBuf>) -> bool,
    quiet_for: Duration,
) -> Result<bool, RemoveError> {
    let failed = |source| RemoveError::Nodes {
        name: name.clone(),
        source,
    };
    let (began, mut quiet_since, mut any) = (Instant::now(), Instant::now(), false);
    loop {
        let nodes = containers::of_cluster(name).await.map_err(failed)?;
        // What is being made cannot be removed yet, nor is it known whose it is.
        let is_coming = nodes.iter().any(|node| node.state == NodeState::Coming);
        if began.elapsed() > REMOVED_WITHIN && !nodes.is_empty() {
            return Err(RemoveError::Stay {
                name: name.clone(),
                nodes: nodes.into_iter().map(|node| node.name).collect(),
            });
        }
        let ours: Vec<NodeContainer> = nodes.into_iter().filter(|node| is_ours(node.mark.as_ref())).collect();
        if !ours.is_empty() {
            any = true;
            containers::remove(&ours, "").await.map_err(failed)?;
        }
        if is_coming || !ours.is_empty() {
            quiet_since = Instant::now();
        } else if quiet_since.elapsed() >= quiet_for {
            return Ok(any);
        }
        tokio::time::sleep(QUIET_FOR / 5).await;
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

#[cfg(test)]
mod tests {
    use super::*;

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
