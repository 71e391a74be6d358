//! How a cluster's API is reached: always by a file and a context that somebody named, never by a default.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use serde::{Deserialize, Serialize};

/// Enough to reach one namespace of one cluster, also for a later process that finds it in a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterAccess {
    /// The kubeconfig file.
    pub kubeconfig: PathBuf,
    /// The context in it.
    pub context: String,
    /// The namespace that is Gauntlet's own.
    pub namespace: String,
}

/// A cluster's API cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file or the context cannot be used.
    #[error("failed to use context {context} of {}", kubeconfig.display())]
    Kubeconfig {
        /// The file.
        kubeconfig: PathBuf,
        /// The context.
        context: String,
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// There is no client for it.
    #[error("failed to make a client for context {context}")]
    Client {
        /// The context.
        context: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

impl ClusterAccess {
    /// A client whose default namespace is ours. Sends nothing yet.
    ///
    /// # Errors
    /// [`AccessError`] when the file has no such context, or its certificates cannot be used.
    pub async fn client(&self) -> Result<kube::Client, AccessError> {
        let of_kubeconfig = |source| AccessError::Kubeconfig {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            source: Box::new(source),
        };
        let file = Kubeconfig::read_from(&self.kubeconfig).map_err(of_kubeconfig)?;
        let options = KubeConfigOptions {
            context: Some(self.context.clone()),
            ..KubeConfigOptions::default()
        };
        let mut config = kube::Config::from_custom_kubeconfig(file, &options)
            .await
            .map_err(of_kubeconfig)?;
        config.default_namespace.clone_from(&self.namespace);
        kube::Client::try_from(config).map_err(|source| AccessError::Client {
            context: self.context.clone(),
            source: Box::new(source),
        })
    }
}
