//! The cluster of a run, wherever it is: what a run, its faults and its timeline use of it.
//!
//! Pods may come and go while it lives; everything asked of it is as of now.

use std::time::Duration;

use gauntlet_probes::entity::InventoryLine;
use tokio::sync::mpsc;

use super::kind::access::ClusterAccess;
use super::kind::{KindCluster, KindError};
use super::local::{DownError, LocalCluster, TargetPortError};
use super::{Dial, NetnsFd, NodeHandle, PodHandle, PodNews};

/// How long a fault's effect may outlast its undo on the local target, where all restarts are quick.
const LOCAL_RECOVERS_WITHIN: Duration = Duration::from_secs(5);
/// The same on Kubernetes, which lets a container that ended often wait for up to five minutes; after the two to four ends
/// of one fault it is 20 to 40 seconds.
const KIND_RECOVERS_WITHIN: Duration = Duration::from_secs(60);

/// A cluster with an application on it.
#[derive(Debug)]
pub enum Cluster {
    /// Made of namespaces of this machine.
    Local(LocalCluster),
    /// Kubernetes, its nodes containers of this machine.
    Kind(KindCluster),
}

/// Lines of the inventory that come while a cluster is watched.
#[derive(Debug)]
pub struct Changes(Option<mpsc::UnboundedReceiver<InventoryLine>>);

impl Changes {
    /// The lines that have come since, waiting for at least one; waits for ever where nothing ever changes. Safe to drop
    /// and call again.
    pub async fn next(&mut self) -> Vec<InventoryLine> {
        let first = match &mut self.0 {
            Some(lines) => lines.recv().await,
            None => None,
        };
        let Some(first) = first else {
            return std::future::pending().await;
        };
        let mut lines = vec![first];
        while let Some(Ok(line)) = self.0.as_mut().map(mpsc::UnboundedReceiver::try_recv) {
            lines.push(line);
        }
        lines
    }
}

/// A cluster refused a change.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The local one.
    #[error(transparent)]
    Local(#[from] TargetPortError),
    /// Kubernetes.
    #[error(transparent)]
    Kind(#[from] KindError),
}

/// A cluster, or what was made on it, is not wholly gone.
#[derive(Debug, thiserror::Error)]
pub enum TakeDownError {
    /// The local one.
    #[error(transparent)]
    Local(#[from] DownError),
    /// Kubernetes.
    #[error(transparent)]
    Kind(#[from] KindError),
}

impl Cluster {
    /// What the cluster's API tells, ending with [`InventoryLine::Ready`], and the changes from then on.
    #[must_use]
    pub fn subscribe(&self) -> (Vec<InventoryLine>, Changes) {
        match self {
            Self::Local(local) => (local.inventory(), Changes(None)),
            Self::Kind(kind) => {
                let (lines, changes) = kind.subscribe();
                (lines, Changes(Some(changes)))
            }
        }
    }

    /// What the cluster's API tells now.
    #[must_use]
    pub fn inventory(&self) -> Vec<InventoryLine> {
        match self {
            Self::Local(local) => local.inventory(),
            Self::Kind(kind) => kind.inventory(),
        }
    }

    /// Its pods, the name server's included.
    #[must_use]
    pub fn pods(&self) -> Vec<PodHandle> {
        match self {
            Self::Local(local) => local.pods().to_vec(),
            Self::Kind(kind) => kind.pods(),
        }
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeHandle> {
        match self {
            Self::Local(local) => local.nodes().to_vec(),
            Self::Kind(kind) => kind.nodes(),
        }
    }

    /// Where callers reach the virtual service of this name.
    #[must_use]
    pub fn service_dial(&self, service: &str) -> Option<Dial> {
        match self {
            Self::Local(local) => local.service_dial(service),
            Self::Kind(kind) => kind.service_dial(service),
        }
    }

    /// The network namespace from which load enters.
    #[must_use]
    pub fn client_netns(&self) -> NetnsFd {
        match self {
            Self::Local(local) => local.client_netns(),
            Self::Kind(kind) => kind.client_netns(),
        }
    }

    /// What happened to its pods so far, the first start of each included.
    #[must_use]
    pub fn news(&self) -> Vec<PodNews> {
        match self {
            Self::Local(local) => {
                let records = local.restarts().into_iter();
                let news = records.map(|record| PodNews {
                    at_ns: record.at_ns,
                    text: record.change.to_string(),
                    pod: record.pod,
                });
                news.collect()
            }
            Self::Kind(kind) => kind.news(),
        }
    }

    /// Leads the virtual addresses of a service and of its replicas to `port` of its pods; `None`: to the right one.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn set_target_port(&self, service: &str, port: Option<u16>) -> Result<(), ChangeError> {
        match self {
            Self::Local(local) => local.set_target_port(service, port).await?,
            Self::Kind(kind) => kind.set_target_port(service, port).await?,
        }
        Ok(())
    }

    /// How long a fault's effect may outlast its undo before that is a failure of recovery.
    #[must_use]
    pub fn recovers_within(&self) -> Duration {
        match self {
            Self::Local(_) => LOCAL_RECOVERS_WITHIN,
            Self::Kind(_) => KIND_RECOVERS_WITHIN,
        }
    }

    /// Waits until pods that ended are back, so that what was left can be told from what is on its way.
    ///
    /// # Errors
    /// [`KindError::NotReady`] when some are not, with the reasons.
    pub async fn settle(&self, progress: &dyn Fn(&str)) -> Result<(), KindError> {
        match self {
            // Its pods keep their namespaces and cgroups, whatever becomes of their processes.
            Self::Local(_) => Ok(()),
            Self::Kind(kind) => kind.settle(KIND_RECOVERS_WITHIN, progress).await,
        }
    }

    /// How its API is reached, where it has one.
    #[must_use]
    pub fn access(&self) -> Option<&ClusterAccess> {
        match self {
            Self::Local(_) => None,
            Self::Kind(kind) => Some(kind.access()),
        }
    }

    /// What it is, in words, where that is not this machine alone.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        match self {
            Self::Local(_) => None,
            Self::Kind(kind) => Some(kind.words()),
        }
    }

    /// What Kubernetes took to bring it up.
    #[must_use]
    pub fn up_took(&self) -> Duration {
        match self {
            Self::Local(_) => Duration::ZERO,
            Self::Kind(kind) => kind.up_took,
        }
    }

    /// Takes it down; returns what Kubernetes took for it.
    ///
    /// # Errors
    /// [`TakeDownError`] when something of it is left.
    pub async fn down(self) -> Result<Duration, TakeDownError> {
        match self {
            Self::Local(local) => {
                local.down().await?;
                Ok(Duration::ZERO)
            }
            Self::Kind(kind) => Ok(kind.down().await?),
        }
    }
}
