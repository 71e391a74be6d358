//! A change of one object as data: what is done, and what undoes exactly that.
//!
//! Undoing touches the fields that the deed touched and no others, may be repeated, and leaves an object alone that only
//! has the name of the one that was changed.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, DynamicObject, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::step::Undone;
use super::api::ObjectRef;
use crate::target::kind::api::ApiError;

/// By whom fields are changed, in the API's own bookkeeping.
const MANAGER: &str = "gauntlet-fault";
/// The label that says of which revision a pod of a StatefulSet is.
const REVISION: &str = "controller-revision-hash";
/// How often a StatefulSet is asked whether it has seen its new template.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum ObjectChange {
    /// Fields of an object that exists, as strategic merge patches.
    Patch {
        /// The object.
        object: ObjectRef,
        /// Its uid: one of the same name that came later is another.
        uid: String,
        /// What is set.
        deed: Value,
        /// What stood there before, `null` for what did not.
        undo: Value,
        /// Whether pods of older templates are deleted, after the deed and after its undo: a StatefulSet replaces them
        /// one by one otherwise, and waits for ever behind one that does not get ready.
        replaces_pods: bool,
    },
    /// An object that does not exist yet, whose name no other has.
    Create {
        /// The object.
        object: ObjectRef,
        /// All of it.
        manifest: Value,
    },
    /// The pods of one namespace on one node are evicted; those that a DaemonSet holds there are not. Nothing undoes that:
    /// they come back by themselves, wherever there is room.
    Evict {
        /// The node.
        node: String,
        /// The namespace.
        namespace: String,
    },
}

impl ObjectChange {
    /// Makes the change.
    pub(crate) async fn apply(&self, client: &Client) -> Result<(), ApiError> {
        match self {
            Self::Patch {
                object,
                uid: _,
                deed,
                undo: _,
                replaces_pods,
            } => patch(client, object, deed, *replaces_pods).await,
            Self::Create { object, manifest } => {
                let of = || ApiError::of("create", object);
                let created: DynamicObject = serde_json::from_value(manifest.clone())
                    .map_err(kube::Error::SerdeError)
                    .map_err(of())?;
                let made = object.api(client).create(&PostParams::default(), &created).await;
                made.map(drop).map_err(of())
            }
            Self::Evict { node, namespace } => evict(client, node, namespace).await,
        }
    }

    /// Undoes it, whoever made it, wholly or in part or not at all.
    pub(crate) async fn undo(&self, client: &Client) -> Result<Undone, ApiError> {
        match self {
            Self::Patch {
                object,
                uid,
                deed: _,
                undo,
                replaces_pods,
            } => {
                let found = object.api(client).get_opt(&object.name).await;
                match found.map_err(ApiError::of("read", object))? {
                    Some(found) if found.uid().as_ref() == Some(uid) => {}
                    Some(_) | None => return Ok(Undone::AlreadyGone),
                }
                patch(client, object, undo, *replaces_pods).await?;
                Ok(Undone::Done)
            }
            Self::Create { object, .. } => {
                let deleted = object.api(client).delete(&object.name, &DeleteParams::default()).await;
                match deleted.map_err(ApiError::of("delete", object)) {
                    Ok(_) => Ok(Undone::Done),
                    Err(error) if error.is_not_found() => found_undone(client, object).await,
                    Err(error) => Err(error),
                }
            }
            Self::Evict { .. } => Ok(Undone::Done),
        }
    }
}

async fn patch(client: &Client, object: &ObjectRef, fields: &Value, replaces_pods: bool) -> Result<(), ApiError> {
    let parameters = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patched = object
        .api(client)
        .patch(&object.name, &parameters, &Patch::Strategic(fields))
        .await;
    patched.map_err(ApiError::of("change", object))?;
    if replaces_pods {
        replace_pods(client, object).await?;
    }
    Ok(())
}

/// What was created is not there: undone before, unless the place itself is gone.
async fn found_undone(client: &Client, object: &ObjectRef) -> Result<Undone, ApiError> {
    let Some(namespace) = &object.namespace else {
        return Ok(Undone::Done);
    };
    let found = Api::<Namespace>::all(client.clone()).get_opt(namespace).await;
    let found = found.map_err(ApiError::of("read namespace", namespace))?;
    Ok(found.map_or(Undone::AlreadyGone, |_there| Undone::Done))
}

/// Deletes the pods of a StatefulSet that are not of its newest template, once it knows of it. At once and without grace:
/// a set waits for an old pod's last trace before it makes the new one, which takes a node up to a minute, and the
/// application's data goes with its pods anyway.
async fn replace_pods(client: &Client, object: &ObjectRef) -> Result<(), ApiError> {
    let namespace = object.namespace.as_deref().unwrap_or_default();
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let (revision, labels) = loop {
        let set = sets.get(&object.name).await.map_err(ApiError::of("read", object))?;
        let status = set.status.unwrap_or_default();
        if status.observed_generation >= set.metadata.generation {
            let selector = set.spec.map(|spec| spec.selector).unwrap_or_default();
            break (status.update_revision, selector.match_labels.unwrap_or_default());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for pod in listed(&pods, &labels).await? {
        if pod.labels().get(REVISION) != revision.as_ref() {
            delete(&pods, &pod.name_any()).await?;
        }
    }
    Ok(())
}

/// The pods that bear all these labels.
pub(crate) async fn listed(pods: &Api<Pod>, labels: &BTreeMap<String, String>) -> Result<Vec<Pod>, ApiError> {
    let words: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let selector = words.join(",");
    let listed = pods.list(&ListParams::default().labels(&selector)).await;
    Ok(listed.map_err(ApiError::of("list pods with labels", selector))?.items)
}

async fn delete(pods: &Api<Pod>, name: &str) -> Result<(), ApiError> {
    let deleted = pods.delete(name, &DeleteParams::default().grace_period(0)).await;
    match deleted.map_err(ApiError::of("delete pod", name)) {
        Err(error) if !error.is_not_found() => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn evict(client: &Client, node: &str, namespace: &str) -> Result<(), ApiError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let on_it = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let found = pods
        .list(&on_it)
        .await
        .map_err(ApiError::of("list the pods of node", node))?;
    let movable = |pod: &&Pod| pod.owner_references().iter().all(|owner| owner.kind != "DaemonSet");
    for pod in found.items.iter().filter(movable) {
        let name = pod.name_any();
        let evicted = pods.evict(&name, &EvictParams::default()).await;
        match evicted.map_err(ApiError::of("evict pod", name)) {
            Err(error) if !error.is_not_found() => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}
