//! Which cluster a run may use, and how it came to be Gauntlet's: made by it, or given by a person who named its context.
//!
//! Everything that can be refused is refused before anything is changed. Does not know what will be done to the cluster.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client};

use super::access::{AccessError, ClusterAccess};
use super::api::{ApiError, call};
use super::containers::{self, NodeContainer, NodeState};
use super::lifecycle::{self, Lifetime, UpError, UpOptions};
use super::name::ClusterName;
use super::own_namespace::{self, NamespaceError};
use super::permission::{NotPermitted, permitted_context};
use super::prerequisites;
use super::record::{ClusterRecord, RecordError, StateDirectory};
use super::removal::{self, RemoveError};

/// The namespace of an execution unless another is named, and how those of runs begin.
pub const NAMESPACE: &str = "gauntlet";
/// How the API names a node of a kind cluster: this, then the cluster and the node's container.
const KIND_PROVIDER: &str = "kind://docker/";

/// Which cluster was asked for.
#[derive(Clone, Debug)]
pub enum Selection {
    /// One of Gauntlet's own; made, for this process's life, when there is none.
    Own {
        /// Its name.
        name: ClusterName,
        /// The namespace that a run will make in it.
        namespace: String,
        /// How it is made.
        options: UpOptions,
    },
    /// One that somebody else made.
    Existing(ExistingCluster),
}

/// A cluster that somebody else made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingCluster {
    /// The kubeconfig file that leads to it.
    pub kubeconfig: PathBuf,
    /// The context that somebody said to own, with `--i-own-this-cluster`.
    pub said_context: Option<String>,
    /// The namespace that a run will make in it.
    pub namespace: String,
}

/// How a cluster came to be one that Gauntlet may break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Gauntlet made it earlier, and it stays.
    Made(ClusterName),
    /// It was made for this process, and goes with it.
    MadeForThisProcess(ClusterName),
    /// Somebody else made it, and said that it is theirs.
    Given,
}

/// A cluster that may be used.
///
/// If it was made for this process, that is on disk: when the process is killed, `gauntlet recover` removes it.
#[derive(Debug)]
#[must_use = "release it, or keep it: otherwise one that was made for it stays until `gauntlet recover`"]
pub struct KindClusterRef {
    /// How it is reached, with the namespace that was asked for, which may not be there yet.
    pub access: ClusterAccess,
    /// How it came to be ours.
    pub origin: Origin,
    /// Its version, for example `v1.20.2`.
    pub version: String,
    /// How the program `kind` calls it; `None` when kind did not make it.
    pub kind_name: Option<String>,
    state: StateDirectory,
}

/// There is no cluster to use.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// It must not be used.
    #[error(transparent)]
    NotPermitted(#[from] NotPermitted),
    /// Its nodes are elsewhere.
    #[error(
        "node {node} of context {context} runs on another kernel than this machine's; nothing was touched. Faults and probes \
         work from the nodes' own machine: run Gauntlet there"
    )]
    Elsewhere {
        /// The context.
        context: String,
        /// A node that is not here.
        node: String,
    },
    /// A node of one of ours was stopped.
    #[error("node {node} does not run; `docker start {node}`, or take the cluster down with `gauntlet cluster down`")]
    Stopped {
        /// The node.
        node: String,
    },
    /// Nothing is on disk about one of ours.
    #[error(
        "Gauntlet made cluster {name}, but its kubeconfig is not among the records of this user; take it down with `gauntlet \
         cluster down --target kind --name {name}`"
    )]
    Unrecorded {
        /// The name.
        name: ClusterName,
    },
    /// It could not be made.
    #[error(transparent)]
    Up(#[from] UpError),
    /// Its rest is in the way.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// Its namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// It cannot be reached.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Its API said no.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What is on disk about it.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl ResolveError {
    /// True when the cluster or this machine is not fit, and nothing was touched: exit code 69. Otherwise something failed.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NotPermitted(_)
            | Self::Elsewhere { .. }
            | Self::Stopped { .. }
            | Self::Unrecorded { .. }
            | Self::Access(_) => true,
            Self::Up(error) => error.is_unavailable(),
            Self::Namespace(error) => matches!(error, NamespaceError::OfOthers { .. }),
            Self::Remove(_) | Self::Api(_) | Self::Record(_) => false,
        }
    }

    /// True when somebody asked to stop; what was made is gone.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        matches!(self, Self::Up(UpError::Interrupted { .. }))
    }
}

impl KindClusterRef {
    /// Removes the cluster if it was made for this process; returns when it is gone.
    ///
    /// # Errors
    /// [`RemoveError`]; `gauntlet recover` tries again.
    pub async fn release(self) -> Result<(), RemoveError> {
        if let Origin::MadeForThisProcess(name) = &self.origin {
            removal::remove(&self.state, name).await?;
        }
        Ok(())
    }

    /// Leaves it, also after this process.
    ///
    /// # Errors
    /// [`RecordError`] when it cannot be written down that it stays.
    pub fn keep(self) -> Result<(), RecordError> {
        if let Origin::MadeForThisProcess(name) = &self.origin
            && let Some(record) = self.state.cluster(name)?
        {
            self.state.replace(&ClusterRecord { holder: None, ..record })?;
        }
        Ok(())
    }
}

/// The cluster that was asked for, if it may be used and its namespace is not somebody else's. When `interrupt` comes while a
/// cluster is being made, what was made of it is removed.
///
/// # Errors
/// [`ResolveError`].
pub async fn resolve(
    state: &StateDirectory,
    selection: &Selection,
    progress: &dyn Fn(&str),
    interrupt: impl Future<Output = ()>,
) -> Result<KindClusterRef, ResolveError> {
    match selection {
        Selection::Existing(existing) => resolve_existing(state, existing).await,
        Selection::Own {
            name,
            namespace,
            options,
        } => {
            if let Some(record) = find_own(state, name).await? {
                let access = record.access(namespace);
                return enter(state, access, Origin::Made(name.clone())).await;
            }
            let lifetime = Lifetime::OfThisProcess;
            let made = lifecycle::up(state, name, options, lifetime, progress, interrupt).await?;
            let access = made.record.access(namespace);
            let entered = enter(state, access, Origin::MadeForThisProcess(name.clone())).await;
            if entered.is_err() {
                removal::remove(state, name).await?;
            }
            entered
        }
    }
}

/// The cluster that somebody else made, if it may be used. Changes nothing.
///
/// # Errors
/// [`ResolveError`].
pub async fn resolve_existing(
    state: &StateDirectory,
    existing: &ExistingCluster,
) -> Result<KindClusterRef, ResolveError> {
    let context = permitted_context(&existing.kubeconfig, existing.said_context.as_deref())?;
    let access = ClusterAccess {
        // A later process, with another working directory, may have to find it.
        kubeconfig: std::path::absolute(&existing.kubeconfig).unwrap_or_else(|_| existing.kubeconfig.clone()),
        context,
        namespace: existing.namespace.clone(),
    };
    enter(state, access, Origin::Given).await
}

/// The record of our cluster of this name, if it is up.
async fn find_own(state: &StateDirectory, name: &ClusterName) -> Result<Option<ClusterRecord>, ResolveError> {
    prerequisites::basics().await.map_err(UpError::from)?;
    let nodes = containers::of_cluster(name).await.map_err(UpError::from)?;
    if nodes.iter().any(NodeContainer::is_foreign) {
        return Err(UpError::OfOthers { name: name.clone() }.into());
    }
    match state.cluster(name)? {
        Some(record) if record.holder.is_none() && nodes.is_empty() => {
            // Somebody removed its nodes with other means.
            removal::remove(state, name).await?;
            Ok(None)
        }
        Some(record) if record.holder.is_none() => {
            match nodes.into_iter().find(|node| node.state != NodeState::Running) {
                Some(node) => Err(ResolveError::Stopped { node: node.name }),
                None => Ok(Some(record)),
            }
        }
        // Half made, by a process that lives or does not: to make it is to find out which.
        Some(_) => Ok(None),
        None if nodes.is_empty() => Ok(None),
        None => Err(ResolveError::Unrecorded { name: name.clone() }),
    }
}

/// Looks at the cluster; only when nothing speaks against it, it may be used. Changes nothing.
async fn enter(state: &StateDirectory, access: ClusterAccess, origin: Origin) -> Result<KindClusterRef, ResolveError> {
    let client = access.client().await?;
    let version = call("read the version of the API", client.apiserver_version()).await?;
    let nodes = nodes(&client).await?;
    if let Some(node) = elsewhere(&nodes, &boot_id()) {
        return Err(ResolveError::Elsewhere {
            context: access.context,
            node,
        });
    }
    own_namespace::check(&client, &access.namespace).await?;
    Ok(KindClusterRef {
        access,
        origin,
        version: version.git_version,
        kind_name: kind_name(&nodes),
        state: state.clone(),
    })
}

async fn nodes(client: &Client) -> Result<Vec<Node>, ApiError> {
    let nodes: Api<Node> = Api::all(client.clone());
    Ok(call("list nodes", nodes.list(&ListParams::default())).await?.items)
}

/// A number that this kernel drew when it booted; containers see the same, other machines another one.
fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.unwrap_or_default().trim().to_owned()
}

/// The first node that does not run on the kernel with this boot id.
fn elsewhere(nodes: &[Node], boot_id: &str) -> Option<String> {
    let here = |node: &Node| {
        let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        info.is_some_and(|info| !boot_id.is_empty() && info.boot_id == boot_id)
    };
    let other = nodes.iter().find(|node| !here(node))?;
    Some(other.metadata.name.clone().unwrap_or_default())
}

fn kind_name(nodes: &[Node]) -> Option<String> {
    let provider = nodes.first()?.spec.as_ref()?.provider_id.as_deref()?;
    let (cluster, _container) = provider.strip_prefix(KIND_PROVIDER)?.split_once('/')?;
    Some(cluster.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, boot_id: &str, provider: &str) -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name},
            "spec": {"providerID": provider},
            "status": {"nodeInfo": {
                "architecture": "", "bootID": boot_id, "containerRuntimeVersion": "", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "",
                "systemUUID": "",
            }},
        }))
        .unwrap()
    }

    #[test]
    fn every_node_must_run_on_this_kernel() {
        let here = node("a", "one", "");
        let other = node("b", "two", "");
        assert_eq!(elsewhere(std::slice::from_ref(&here), "one"), None);
        assert_eq!(elsewhere(&[here.clone(), other], "one"), Some("b".to_owned()));
        assert_eq!(elsewhere(&[here, Node::default()], "one"), Some(String::new()));
        // A machine that does not tell its own proves nothing.
        assert_eq!(elsewhere(&[node("c", "", "")], ""), Some("c".to_owned()));
        assert!(!boot_id().is_empty());
    }

    #[test]
    fn a_kind_cluster_is_known_by_its_nodes() {
        for (provider, expected) in [
            ("kind://docker/demo/demo-worker", Some("demo")),
            ("kind://podman/demo/demo-worker", None),
            ("aws:///eu-west-1a/i-0", None),
            ("", None),
        ] {
            let name = kind_name(&[node("a", "one", provider)]);
            assert_eq!(name.as_deref(), expected, "{provider}");
        }
        assert_eq!(kind_name(&[]), None);
    }

    #[tokio::test]
    async fn nothing_is_written_for_a_cluster_that_must_not_be_used() {
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("config");
        std::fs::write(
            &kubeconfig,
            "current-context: prod\ncontexts: [{name: prod, context: {cluster: c, user: u}}]\n",
        )
        .unwrap();
        let state = StateDirectory::at(directory.path().join("state"));
        for said_context in [None, Some("play".to_owned())] {
            let existing = ExistingCluster {
                kubeconfig: kubeconfig.clone(),
                said_context,
                namespace: NAMESPACE.to_owned(),
            };
            let refused = resolve_existing(&state, &existing).await.unwrap_err();
            assert!(refused.is_refusal(), "{refused}");
            assert!(refused.to_string().contains("`prod`"), "{refused}");
        }
        assert!(!directory.path().join("state").exists());
    }
}
