//! Why there is no cluster.

use std::path::PathBuf;

use crate::target::kind::access::AccessError;
use crate::target::kind::docker::ToolFailure;
use crate::target::kind::name::ClusterName;
use crate::target::kind::node_image::NodeImageError;
use crate::target::kind::prerequisites::Shortage;
use crate::target::kind::ready::NotReady;
use crate::target::kind::record::RecordError;
use crate::target::kind::removal::RemoveError;

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
