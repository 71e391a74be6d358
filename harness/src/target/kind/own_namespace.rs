//! The namespace in which everything of a run lives: made and labelled by Gauntlet, removed with all that is in it. One that
//! is somebody else's is never touched.
//!
//! Does not know what is put into it, nor what is written down of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::api::{ApiError, call};
use super::handles;
use super::inventory::cgroup_uid;
use super::names::{EXECUTION_LABEL, MANAGED_BY, MANAGED_BY_LABEL};
use super::ready::{self, NotReady};
use crate::target::local::cgroup::{CgroupError, Hierarchies};

/// How long a namespace may take to be gone, with all that is in it: a kubelet may look again only after a minute at a pod
/// that it could not remove at once.
const GONE_WITHIN: Duration = Duration::from_secs(180);
/// Pause between two looks at what is going.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// There is no namespace to work in, or it does not go.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// It is somebody else's.
    #[error(
        "namespace {namespace} exists and is no run's (it has no label {MANAGED_BY_LABEL}={MANAGED_BY}, or belongs to a suite \
         that runs in pods); nothing was touched: choose another --namespace"
    )]
    OfOthers {
        /// The namespace.
        namespace: String,
    },
    /// It was deleted, and is still there.
    #[error("namespace {namespace} did not go within {} s; `kubectl describe namespace {namespace}` says what holds it",
        GONE_WITHIN.as_secs())]
    Stays {
        /// The namespace.
        namespace: String,
    },
    /// Its pods were removed, and their processes go on.
    #[error("processes of namespace {namespace} did not end within {} s; `gauntlet recover` tries again",
        GONE_WITHIN.as_secs())]
    Processes {
        /// The namespace.
        namespace: String,
    },
    /// It cannot be watched.
    #[error("failed to watch namespace {namespace}")]
    Watch {
        /// The namespace.
        namespace: String,
        /// Why.
        #[source]
        source: Box<kube::runtime::wait::Error>,
    },
    /// It is there and cannot be used.
    #[error(transparent)]
    Unusable(#[from] NotReady),
    /// This machine's cgroups, by which its processes are known, are not usable.
    #[error(transparent)]
    Cgroups(#[from] CgroupError),
    /// The API said no.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl NamespaceError {
    /// Whether it is this machine or this cluster that cannot.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::OfOthers { .. } | Self::Cgroups(_) => true,
            Self::Stays { .. } | Self::Processes { .. } | Self::Watch { .. } | Self::Unusable(_) | Self::Api(_) => {
                false
            }
        }
    }
}

/// Says whether `name` may become, or is, a namespace of ours. Changes nothing.
///
/// # Errors
/// [`NamespaceError::OfOthers`], or the API's.
pub async fn check(client: &Client, name: &str) -> Result<(), NamespaceError> {
    find(&Api::all(client.clone()), name).await.map(drop)
}

/// Makes the namespace; returns when pods can be made in it. One of ours that is still there, from a run that was killed or
/// kept, is removed first; `progress` hears of that.
///
/// # Errors
/// [`NamespaceError::OfOthers`] when it is somebody else's (it is left alone), and the others.
pub async fn make(client: &Client, name: &str, progress: &dyn Fn(&str)) -> Result<(), NamespaceError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    if find(&namespaces, name).await?.is_some() {
        progress(&format!("removing namespace {name}, which an earlier run left"));
        remove(client, name).await?;
    }
    let wanted = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned())])),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    // Created, not applied: applying would put our label on a namespace that somebody else made in the meantime.
    let parameters = PostParams::default();
    call(
        format!("make namespace {name}"),
        namespaces.create(&parameters, &wanted),
    )
    .await?;
    ready::account(client, name).await?;
    Ok(())
}

/// Removes the namespace with all that is in it, and waits until it is gone; false if it was not there.
///
/// # Errors
/// [`NamespaceError::OfOthers`] when it is not ours (it is left alone), and the others.
pub async fn remove(client: &Client, name: &str) -> Result<bool, NamespaceError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let Some(found) = find(&namespaces, name).await? else {
        return Ok(false);
    };
    remove_pods(client, name).await?;
    let uid = found.uid().unwrap_or_default();
    // That very one: if it was made anew in the meantime, it may be somebody else's.
    let exactly = DeleteParams::default().preconditions(Preconditions {
        uid: found.metadata.uid,
        resource_version: None,
    });
    match call(format!("remove namespace {name}"), namespaces.delete(name, &exactly)).await {
        Ok(_) => {}
        // It was on its way already, or is gone.
        Err(error) if error.is_not_found() || error.is_conflict() => {}
        Err(error) => return Err(error.into()),
    }
    let gone = await_condition(namespaces, name, conditions::is_deleted(&uid));
    match tokio::time::timeout(GONE_WITHIN, gone).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(source)) => Err(NamespaceError::Watch {
            namespace: name.to_owned(),
            source: Box::new(source),
        }),
        Err(_) => Err(NamespaceError::Stays {
            namespace: name.to_owned(),
        }),
    }
}

/// Removes the workloads of a namespace, their pods by force, and waits until no process of these is left on this machine.
///
/// The namespace's own removal would wait until each node has cleaned up after each pod: on 1.20 that takes a minute and
/// more, where this takes a second. What a node still cleans up then are directories.
async fn remove_pods(client: &Client, namespace: &str) -> Result<(), NamespaceError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let all = ListParams::default();
    let list = call(format!("list the pods of {namespace}"), pods.list(&all)).await?;
    let by_force = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::background()
    };
    remove_all::<Deployment>(client, namespace, &by_force).await?;
    remove_all::<StatefulSet>(client, namespace, &by_force).await?;
    // Those of the Deployments; they would make pods anew until they are collected.
    remove_all::<ReplicaSet>(client, namespace, &by_force).await?;
    remove_all::<Pod>(client, namespace, &by_force).await?;
    let hierarchies = Hierarchies::detect()?;
    let uids: Vec<String> = list.items.iter().filter_map(cgroup_uid).collect();
    let gone = tokio::task::spawn_blocking(move || wait_processes_gone(&uids, &hierarchies));
    if gone.await.expect("looking around does not panic") {
        return Ok(());
    }
    Err(NamespaceError::Processes {
        namespace: namespace.to_owned(),
    })
}

async fn remove_all<K>(client: &Client, namespace: &str, how: &DeleteParams) -> Result<(), ApiError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let asked = format!("remove every {} of {namespace}", K::kind(&()));
    let all = ListParams::default();
    call(asked, api.delete_collection(how, &all)).await.map(drop)
}

/// Whether the pods' processes end in time. Blocks.
fn wait_processes_gone(uids: &[String], hierarchies: &Hierarchies) -> bool {
    let deadline = Instant::now() + GONE_WITHIN;
    while uids.iter().any(|uid| handles::is_running(uid, hierarchies)) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    true
}

/// The namespace of this name, if it is there and ours.
async fn find(namespaces: &Api<Namespace>, name: &str) -> Result<Option<Namespace>, NamespaceError> {
    let found = call(format!("look for namespace {name}"), namespaces.get_opt(name)).await?;
    match found {
        Some(there) if !is_ours(&there) => Err(NamespaceError::OfOthers {
            namespace: name.to_owned(),
        }),
        found => Ok(found),
    }
}

fn is_ours(namespace: &Namespace) -> bool {
    let labels = namespace.labels();
    labels.get(MANAGED_BY_LABEL).is_some_and(|value| value == MANAGED_BY) && !labels.contains_key(EXECUTION_LABEL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_ours_by_its_labels_alone() {
        let with = |labels: &[(&str, &str)]| Namespace {
            metadata: ObjectMeta {
                labels: Some(
                    labels
                        .iter()
                        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                        .collect(),
                ),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        assert!(!is_ours(&Namespace::default()));
        for (labels, ours) in [
            (&[][..], false),
            (&[("app.kubernetes.io/managed-by", "helm")], false),
            (&[("kubernetes.io/metadata.name", "gauntlet")], false),
            (&[("app.kubernetes.io/managed-by", "gauntlet")], true),
            (
                &[
                    ("app.kubernetes.io/managed-by", "gauntlet"),
                    ("gauntlet-execution", "nightly"),
                ],
                false,
            ),
        ] {
            assert_eq!(is_ours(&with(labels)), ours, "{labels:?}");
        }
    }

    #[test]
    fn a_refusal_says_whose_it_is_and_what_to_do() {
        let refusal = NamespaceError::OfOthers {
            namespace: "shop".to_owned(),
        };
        assert!(refusal.is_unavailable());
        assert_eq!(
            refusal.to_string(),
            "namespace shop exists and is no run's (it has no label app.kubernetes.io/managed-by=gauntlet, or belongs to a suite \
             that runs in pods); nothing was touched: choose another --namespace"
        );
    }
}
