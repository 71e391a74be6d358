//! Compares a cluster's objects before and after a run: what they ask for, not how far the cluster has come with it.
//!
//! Of each object that faults may touch, a fact is its name and a digest of its spec, its data and its labels. Status,
//! bookkeeping and generation are no facts: an undo counts up like any other change. ReplicaSets and ControllerRevisions are
//! the history that Kubernetes keeps of rollouts, and are none either.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, Resource, ResourceExt as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::ResidueState;
use crate::fault::kubernetes::api::{ApiError, ObjectRef, within};
use crate::target::kind::access::ClusterAccess;

/// Where the cluster's own name servers are.
const SYSTEM: &str = "kube-system";
/// Annotations that count how often something was rolled out.
const COUNTERS: [&str; 1] = ["deployment.kubernetes.io/revision"];
/// Taints that the cluster puts on nodes and takes away by itself.
const OWN_TAINTS: &str = "node.kubernetes.io/";
/// Bytes of a digest that are shown: enough to differ.
const SHOWN_BYTES: usize = 6;

/// The state of the objects of the run's namespace, of the cluster's name servers, and of its nodes.
///
/// # Errors
/// [`ApiError`] when the cluster cannot be asked.
pub async fn snapshot(access: &ClusterAccess) -> Result<ResidueState, ApiError> {
    within(access, async |client| {
        let mut state = BTreeMap::new();
        for namespace in [access.namespace.as_str(), SYSTEM] {
            let sections = BTreeMap::from([
                section::<Service>(&client, Some(namespace)).await?,
                section::<Deployment>(&client, Some(namespace)).await?,
                section::<StatefulSet>(&client, Some(namespace)).await?,
                section::<ConfigMap>(&client, Some(namespace)).await?,
                section::<NetworkPolicy>(&client, Some(namespace)).await?,
            ]);
            state.insert(format!("namespace {namespace}"), sections);
        }
        let nodes = section::<Node>(&client, None).await?;
        state.insert("cluster".to_owned(), BTreeMap::from([nodes]));
        Ok(ResidueState(state))
    })
    .await
}

/// All objects of one kind.
async fn section<K: Resource<DynamicType = ()>>(
    client: &Client,
    namespace: Option<&str>,
) -> Result<(String, BTreeSet<String>), ApiError> {
    let all = ObjectRef::of::<K>(namespace, "");
    let api: Api<DynamicObject> = all.api(client);
    let listed = api.list(&ListParams::default()).await;
    let listed = listed.map_err(ApiError::of("list", &all.plural))?;
    let facts = listed
        .items
        .iter()
        .map(|object| fact(&object.name_any(), &json!(object)));
    Ok((all.plural, facts.collect()))
}

/// Name and digest of what is asked for.
fn fact(name: &str, object: &Value) -> String {
    let mut asked = json!({
        "spec": object.get("spec"), "data": object.get("data"), "binaryData": object.get("binaryData"),
        "labels": object.pointer("/metadata/labels"), "annotations": object.pointer("/metadata/annotations"),
    });
    if let Some(annotations) = asked["annotations"].as_object_mut() {
        annotations.retain(|key, _| !COUNTERS.contains(&key.as_str()));
    }
    if let Some(taints) = asked.pointer_mut("/spec/taints").and_then(Value::as_array_mut) {
        taints.retain(|taint| !taint["key"].as_str().is_some_and(|key| key.starts_with(OWN_TAINTS)));
    }
    // Nothing, and nothing of something, are the same to the API, which keeps whichever it was told last.
    prune(&mut asked);
    let digest = Sha256::digest(asked.to_string());
    let shown: String = digest
        .iter()
        .take(SHOWN_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{name} {shown}")
}

/// Takes away what is empty, from the innermost outwards.
fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, field| !is_empty(field));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(image: &str, resources: Value, revision: &str, generation: u32) -> Value {
        json!({
            "metadata": {"name": "web", "generation": generation, "resourceVersion": "77", "managedFields": [revision],
                "annotations": {"deployment.kubernetes.io/revision": revision, "by": "gauntlet"}},
            "spec": {"template": {"spec": {"containers": [{"name": "web", "image": image, "resources": resources}]}}},
            "status": {"readyReplicas": generation},
        })
    }

    #[test]
    fn what_was_done_and_undone_leaves_the_same_fact() {
        let before = fact("web", &deployment("shop:1", json!({}), "1", 1));
        assert_eq!(
            before,
            fact("web", &deployment("shop:1", json!({"limits": {}}), "3", 5))
        );
        assert_ne!(
            before,
            fact("web", &deployment("shop:2", json!({}), "1", 1)),
            "an image is asked for"
        );
        let limited = json!({"limits": {"memory": "8Mi"}});
        assert_ne!(
            before,
            fact("web", &deployment("shop:1", limited, "1", 1)),
            "a limit is asked for"
        );
    }

    #[test]
    fn taints_of_the_cluster_come_and_go_and_those_of_others_stay() {
        let node =
            |key: &str| json!({"spec": {"podCIDR": "10.0.0.0/24", "taints": [{"key": key, "effect": "NoSchedule"}]}});
        let clean = fact("worker", &json!({"spec": {"podCIDR": "10.0.0.0/24"}}));
        assert_eq!(fact("worker", &node("node.kubernetes.io/unreachable")), clean);
        assert_ne!(fact("worker", &node("dedicated")), clean);
    }
}
