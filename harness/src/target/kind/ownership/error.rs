//! Why a cluster is not used, or is not released.

use crate::target::kind::access::AccessError;
use crate::target::kind::api::ApiError;
use crate::target::kind::lifecycle::UpError;
use crate::target::kind::name::ClusterName;
use crate::target::kind::own_namespace::NamespaceError;
use crate::target::kind::permission::NotPermitted;
use crate::target::kind::record::RecordError;
use crate::target::kind::removal::RemoveError;

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

/// What was made for a run is still there.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The cluster.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// The namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The way to it.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// What is on disk about it.
    #[error(transparent)]
    Record(#[from] RecordError),
}
