//! Why an application is not on a Kubernetes cluster, or cannot be taken down.

use std::time::Duration;

use super::access::AccessError;
use super::api::ApiError;
use super::handles::HandleError;
use super::own_namespace::NamespaceError;
use crate::target::local::cgroup::CgroupError;

/// Something failed on the way up, down, or while a cluster was changed.
#[derive(Debug, thiserror::Error)]
pub enum KindError {
    /// The cluster's API is not to be had.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The API does not answer.
    #[error("the cluster's API does not answer (context {context}); is the cluster up?")]
    Unreachable {
        /// The context.
        context: String,
        /// Why.
        #[source]
        source: Option<Box<kube::Error>>,
    },
    /// The API said no.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// There is no namespace for it, or that does not go.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The cluster lacks what every cluster has.
    #[error("the cluster has no {what}")]
    Lacks {
        /// What is missing.
        what: String,
    },
    /// A node is not on this machine.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// This machine's cgroups are not usable.
    #[error(transparent)]
    Cgroups(#[from] CgroupError),
    /// Pods do not serve.
    #[error("after {} s not all pods serve:{report}", waited.as_secs())]
    NotReady {
        /// How long they were waited for.
        waited: Duration,
        /// Which do not, why, their last events and their last words.
        report: String,
    },
    /// Something else took too long.
    #[error("{what} took longer than {} s", patience.as_secs())]
    Slow {
        /// What.
        what: String,
        /// How long it was waited for.
        patience: Duration,
    },
}

impl KindError {
    /// Whether it is this machine or this cluster that cannot, rather than the application that failed.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Access(_) | Self::Unreachable { .. } | Self::Lacks { .. } | Self::Handle(_) | Self::Cgroups(_) => {
                true
            }
            Self::Namespace(error) => error.is_unavailable(),
            Self::Api(_) | Self::NotReady { .. } | Self::Slow { .. } => false,
        }
    }
}
