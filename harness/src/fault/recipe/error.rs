//! Why a fault cannot be made here.

use std::path::PathBuf;

use gauntlet_probes::entity::{PodName, ServiceName};

use super::super::kubernetes::api::TalkError;
use super::super::packets::PEERS_MAX;
use super::super::tool::ToolError;
use crate::target::kind::api::ApiError;
use crate::target::kind::docker::ToolFailure;
use crate::target::kind::names::{DNS_OBJECT, SYSTEM_NAMESPACE};

/// A fault that cannot be made here.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// No such pod.
    #[error("pod {0} does not exist")]
    NoPod(PodName),
    /// The kind needs a service and the plan names none.
    #[error("the fault names no service")]
    NoService,
    /// Nobody has an address of that service.
    #[error("service {0} has no address, so no packet can be to or from it")]
    NoAddress(ServiceName),
    /// One match would be too long.
    #[error("service {service} has {count} addresses; at most {PEERS_MAX} can be told apart")]
    TooManyAddresses {
        /// The service.
        service: ServiceName,
        /// How many it has.
        count: usize,
    },
    /// The node's end of the pod's link is needed and was not found.
    #[error("no interface of node {node} is the other end of eth0 of pod {pod}")]
    NoNodeEnd {
        /// The pod.
        pod: PodName,
        /// Its node.
        node: String,
    },
    /// A number is out of its range.
    #[error("{what} is {value}, not within {range}")]
    OutOfRange {
        /// Of what.
        what: &'static str,
        /// The number.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// A tool refused to tell what there is.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// It needs what this target has not.
    #[error("it needs a Kubernetes cluster; run it with --target kind")]
    NeedsKubernetes,
    /// The cluster's API refused to tell what there is.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The cluster cannot be asked.
    #[error(transparent)]
    Talk(#[from] TalkError),
    /// The container engine refused to tell what there is.
    #[error(transparent)]
    Container(#[from] ToolFailure),
    /// The service is nothing that can be changed.
    #[error("service {0} is neither a Deployment nor a StatefulSet of this name")]
    NoWorkload(ServiceName),
    /// Nobody knows where the callee is said to be.
    #[error("no ConfigMap of {service} says where {peer} is")]
    NoConfiguration {
        /// The caller's workload.
        service: String,
        /// The callee.
        peer: ServiceName,
    },
    /// The cluster's names are answered by something else.
    #[error("no Deployment of {SYSTEM_NAMESPACE} answers behind the Service {DNS_OBJECT}")]
    NoNameServers,
    /// The plan names no node, or one that does not exist.
    #[error("the fault names no node that exists")]
    NoNode,
    /// An API that gives objects without identity.
    #[error("{0} has no uid")]
    NoUid(String),
    /// The quota that stands cannot be read.
    #[error("failed to read the CPU quota in {directory}")]
    Quota {
        /// Where.
        directory: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
