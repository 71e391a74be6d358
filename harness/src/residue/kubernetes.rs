//! Compares a cluster's objects before and after a run: what they ask for, not how far the cluster has come with it.
//!
//! Of each object that faults may touch, a fact is its name and a digest of its spec, its data and its labels. Status,
//! bookkeeping and generation are no facts: an undo counts up like any other change. ReplicaSets and ControllerRevisions are
//! the history that Kubernetes keeps of rollouts, and are none either.

use std::collections::{BTreeMap, BTreeSet};

use gauntlet_probes::entity::PodName;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, Resource, ResourceExt as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Finding, ResidueState};
use crate::fault::kubernetes::api::{ObjectRef, TalkError, within};
use crate::target::kind::access::ClusterAccess;
use crate::target::kind::api::ApiError;
use crate::target::kind::names::SYSTEM_NAMESPACE;

/// Annotations that count how often something was rolled out.
const COUNTERS: [&str; 1] = ["deployment.kubernetes.io/revision"];
/// Taints that the cluster puts on nodes and takes away by itself.
const OWN_TAINTS: &str = "node.kubernetes.io/";
/// Bytes of a digest that are shown: enough to differ.
const SHOWN_BYTES: usize = 6;

/// The state of the objects of the run's namespace, of the cluster's name servers, and of its nodes.
///
/// # Errors
/// [`TalkError`] when the cluster cannot be asked.
pub async fn snapshot(access: &ClusterAccess) -> Result<ResidueState, TalkError> {
    within(access, async |client| {
        let mut state = BTreeMap::new();
        for namespace in [access.namespace.as_str(), SYSTEM_NAMESPACE] {
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

/// What is in one state of a cluster and not in the other, without what the cluster itself keeps up to date.
///
/// A pod of `replaced` took along whatever had been done to it, and nothing was done to the one that came; its name may be
/// the same.
#[must_use]
pub fn diff(before: &ResidueState, after: &ResidueState, replaced: &[PodName]) -> Vec<Finding> {
    let replaced: BTreeSet<String> = replaced.iter().map(|pod| format!("pod {pod}")).collect();
    let mut findings = super::diff(before, after);
    findings.retain(|finding| !replaced.contains(&finding.place) && !is_bookkeeping(finding));
    findings
}

/// Whether a fact of a node is kept by the cluster: rules of its proxy and of its network, and the node's ends of pods'
/// links. A filter or a discipline that was put on such a link is not.
fn is_bookkeeping(finding: &Finding) -> bool {
    let Finding {
        place, section, fact, ..
    } = finding;
    let names = |prefixes: &[&str]| {
        let mut words = fact.split(|letter: char| letter.is_whitespace() || letter == ':');
        words.any(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)))
    };
    place.starts_with("node ")
        && match section.as_str() {
            "nft" | "iptables" => names(&["KUBE-", "CNI-"]),
            "links" | "addresses" | "routes" => names(&["veth"]),
            "qdiscs" => names(&["veth"]) && names(&["noqueue"]),
            _ => false,
        }
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
    fn what_the_cluster_keeps_up_to_date_is_nobodys_residue() {
        let state = |facts: &[(&str, &str, &str)]| {
            let mut state = ResidueState::default();
            for (place, section, fact) in facts {
                let sections = state.0.entry((*place).to_owned()).or_default();
                sections
                    .entry((*section).to_owned())
                    .or_default()
                    .insert((*fact).to_owned());
            }
            state
        };
        let after = state(&[
            (
                "node n1",
                "nft",
                "table ip nat / chain KUBE-SEP-X: meta l4proto tcp counter dnat to 10.0.0.7:80",
            ),
            (
                "node n1",
                "nft",
                "table inet f1 / chain prerouting: iifname \"eth0\" counter drop",
            ),
            ("node n1", "links", "veth12ab@if2 on"),
            ("node n1", "routes", "10.0.0.7 dev veth12ab scope host"),
            ("node n1", "routes", "10.1.0.0/24 via 172.18.0.3 dev eth0"),
            ("node n1", "qdiscs", "qdisc noqueue 0: dev veth12ab root"),
            ("node n1", "qdiscs", "qdisc clsact ffff: dev veth12ab parent ffff:fff1"),
            ("node n1", "filters", "veth12ab ingress: filter protocol ip pref 7 bpf"),
            ("pod cache-0", "limits", "/sys/fs/cgroup/new"),
            ("pod cache-1", "nft", "table inet f1"),
        ]);
        let findings = diff(&ResidueState::default(), &after, &["cache-0".into()]);
        let left: Vec<String> = findings
            .iter()
            .map(|finding| format!("{} {}", finding.section, finding.fact))
            .collect();
        assert_eq!(
            left,
            [
                "filters veth12ab ingress: filter protocol ip pref 7 bpf",
                "nft table inet f1 / chain prerouting: iifname \"eth0\" counter drop",
                "qdiscs qdisc clsact ffff: dev veth12ab parent ffff:fff1",
                "routes 10.1.0.0/24 via 172.18.0.3 dev eth0",
                "nft table inet f1",
            ]
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
