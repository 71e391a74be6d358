//! Conversations with a cluster's API: bounded in time, from threads that run no executor, with errors that say on what.
//!
//! Fault agents and effect probes are synchronous, and a later process has no runtime either; each conversation therefore
//! has one of its own, on its own thread.

use std::time::Duration;

use kube::Client;
use kube::api::{Api, DynamicObject};
use serde::{Deserialize, Serialize};

use crate::target::kind::access::{AccessError, ClusterAccess};
use crate::target::kind::api::ApiError;
use crate::target::kind::docker::docker;

/// Longest that a conversation may take: below an agent's patience, and long for a handful of requests.
const DEADLINE: Duration = Duration::from_secs(10);
/// How contexts of kind's clusters begin.
const KIND_CONTEXT: &str = "kind-";

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectRef {
    /// For example `apps/v1`.
    pub api_version: String,
    /// For example `Deployment`.
    pub kind: String,
    /// As in the API's paths, for example `deployments`.
    pub plural: String,
    /// Its namespace; `None` of objects that are in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl ObjectRef {
    /// The object called `name` of a type that this crate knows.
    pub(crate) fn of<K: kube::Resource<DynamicType = ()>>(namespace: Option<&str>, name: &str) -> Self {
        Self {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            plural: K::plural(&()).into_owned(),
            namespace: namespace.map(ToOwned::to_owned),
            name: name.to_owned(),
        }
    }

    /// Where such objects are.
    pub(crate) fn api(&self, client: &Client) -> Api<DynamicObject> {
        let (group, version) = self.api_version.split_once('/').unwrap_or(("", &self.api_version));
        let resource = kube::core::ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            plural: self.plural.clone(),
        };
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        }
    }
}

/// A conversation did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    /// It cannot be reached at all.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A request failed or was refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No answer in time.
    #[error("the API of context {context} took longer than {DEADLINE:?}")]
    Deadline {
        /// The context.
        context: String,
    },
    /// There is no runtime to talk with.
    #[error("failed to start a conversation with the API")]
    Runtime(#[source] std::io::Error),
}

/// Has one conversation, and blocks until it is over. May be called from within an executor, whose thread it occupies.
pub(crate) fn blocking<T: Send>(
    access: &ClusterAccess,
    talk: impl AsyncFnOnce(Client) -> Result<T, ApiError> + Send,
) -> Result<T, TalkError> {
    let conversation = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(TalkError::Runtime)?.block_on(within(access, talk))
    };
    std::thread::scope(|scope| scope.spawn(conversation).join().expect("a conversation does not panic"))
}

/// Has one conversation within the deadline.
pub(crate) async fn within<T>(
    access: &ClusterAccess,
    talk: impl AsyncFnOnce(Client) -> Result<T, ApiError>,
) -> Result<T, TalkError> {
    let conversation = async { Ok(talk(access.client().await?).await?) };
    let answered = tokio::time::timeout(DEADLINE, conversation).await;
    answered.unwrap_or_else(|_elapsed| {
        Err(TalkError::Deadline {
            context: access.context.clone(),
        })
    })
}

/// Whether the cluster itself no longer exists: kind made it, and the engine has no container of it left.
///
/// Asked only after a conversation has failed. A cluster that merely does not answer still exists, and one whose kubeconfig
/// cannot be found may.
pub(crate) fn cluster_is_gone(access: &ClusterAccess) -> bool {
    let Some(cluster) = access.context.strip_prefix(KIND_CONTEXT) else {
        return false;
    };
    let label = format!("label=io.x-k8s.kind.cluster={cluster}");
    docker(&["ps", "--all", "--quiet", "--filter", &label]).is_ok_and(|containers| containers.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Node;

    use super::*;

    #[test]
    fn an_object_is_named_as_its_api_names_it() {
        let deployment = ObjectRef::of::<Deployment>(Some("shop"), "web");
        assert_eq!(deployment.to_string(), "Deployment shop/web");
        assert_eq!(
            (deployment.api_version.as_str(), deployment.plural.as_str()),
            ("apps/v1", "deployments")
        );
        let node = ObjectRef::of::<Node>(None, "worker");
        let text = serde_json::to_string(&node).expect("is data");
        assert_eq!(
            text,
            r#"{"apiVersion":"v1","kind":"Node","plural":"nodes","name":"worker"}"#
        );
        assert_eq!(serde_json::from_str::<ObjectRef>(&text).expect("is read again"), node);
    }

    #[test]
    fn only_a_cluster_of_which_no_container_is_left_is_gone() {
        let access = |context: &str| ClusterAccess {
            kubeconfig: "/nonexistent/kubeconfig".into(),
            context: context.to_owned(),
            namespace: "shop".to_owned(),
        };
        let error = blocking(&access("kind-none"), async |_client| Ok(())).expect_err("no file, no client");
        assert!(matches!(error, TalkError::Access(_)), "{error}");
        // Without an engine nobody can know.
        assert_eq!(cluster_is_gone(&access("kind-none")), docker(&["ps"]).is_ok());
        assert!(
            !cluster_is_gone(&access("production")),
            "its kubeconfig may only have been moved"
        );
    }
}
