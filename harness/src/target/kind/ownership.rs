//! Which cluster a run may use, and how it came to be Gauntlet's: made by it, or given by a person who named its context.
//!
//! Everything that can be refused is refused before anything is changed. Does not know what will be done to the cluster.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client};

use super::access::{AccessError, ClusterAccess};
use super::api::{ApiError, call};
use super::own_namespace::{NamespaceError, check_namespace, ensure_namespace};
use super::permission::{NotPermitted, permitted_context};

/// The namespace that is used unless another is named.
pub const NAMESPACE: &str = "gauntlet";
/// How the API names a node of a kind cluster: this, then the cluster and the node's container.
const KIND_PROVIDER: &str = "kind://docker/";

/// A cluster that somebody else made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingCluster {
    /// The kubeconfig file that leads to it.
    pub kubeconfig: PathBuf,
    /// The context that somebody said to own, with `--i-own-this-cluster`.
    pub said_context: Option<String>,
    /// The namespace to work in.
    pub namespace: String,
}

/// How a cluster came to be one that Gauntlet may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody else made it, and said that it is theirs.
    Given,
}

/// A cluster that may be used, with a namespace of Gauntlet's own in it.
#[derive(Clone, Debug)]
pub struct KindClusterRef {
    /// How it is reached.
    pub access: ClusterAccess,
    /// How it came to be ours.
    pub origin: Origin,
    /// Its version, for example `v1.20.2`.
    pub version: String,
    /// How the program `kind` calls it; `None` when kind did not make it.
    pub kind_name: Option<String>,
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
    /// Its namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// It cannot be reached.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Its API said no.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl ResolveError {
    /// True when the cluster or this machine is not fit, and nothing was touched: exit code 69. Otherwise something failed.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NotPermitted(_) | Self::Elsewhere { .. } | Self::Access(_) => true,
            Self::Namespace(error) => matches!(error, NamespaceError::OfOthers { .. }),
            Self::Api(_) => false,
        }
    }
}

/// The cluster that somebody else made, if it may be used, with its namespace made.
///
/// # Errors
/// [`ResolveError`]; nothing was changed then, unless the namespace itself could not be made.
pub async fn resolve_existing(existing: &ExistingCluster) -> Result<KindClusterRef, ResolveError> {
    let context = permitted_context(&existing.kubeconfig, existing.said_context.as_deref())?;
    let access = ClusterAccess {
        // A later process, with another working directory, may have to find it.
        kubeconfig: std::path::absolute(&existing.kubeconfig).unwrap_or_else(|_| existing.kubeconfig.clone()),
        context,
        namespace: existing.namespace.clone(),
    };
    let client = access.client().await?;
    let version = call("read the version of the API", client.apiserver_version()).await?;
    let nodes = nodes(&client).await?;
    if let Some(node) = elsewhere(&nodes, &boot_id()) {
        return Err(ResolveError::Elsewhere {
            context: access.context,
            node,
        });
    }
    check_namespace(&client, &access.namespace).await?;
    ensure_namespace(&client, &access.namespace).await?;
    Ok(KindClusterRef {
        access,
        origin: Origin::Given,
        version: version.git_version,
        kind_name: kind_name(&nodes),
    })
}

async fn nodes(client: &Client) -> Result<Vec<Node>, ApiError> {
    let nodes: Api<Node> = Api::all(client.clone());
    Ok(call("list nodes", nodes.list(&ListParams::default())).await?.items)
}

/// A number that this kernel drew when it booted; containers see the same, other machines another one.
fn boot_id() -> String {
    std::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))
        .unwrap_or_default()
        .trim()
        .to_owned()
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
        assert_eq!(elsewhere(&[here.clone()], "one"), None);
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
            assert_eq!(
                kind_name(&[node("a", "one", provider)]).as_deref(),
                expected,
                "{provider}"
            );
        }
        assert_eq!(kind_name(&[]), None);
    }
}
