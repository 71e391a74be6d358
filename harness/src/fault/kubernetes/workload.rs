//! What faults and effects need of a Deployment or a StatefulSet, whichever it is.
//!
//! A snapshot; how a rollout stands is asked anew each time.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec, Service};
use kube::{Client, Resource, ResourceExt as _};

use super::api::ObjectRef;
use crate::target::kind::api::ApiError;
use crate::target::kind::names::REPLICA_LABEL;

/// A workload as it was before the fault.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) object: ObjectRef,
    pub(crate) uid: String,
    pub(crate) replicas: i32,
    /// By which its pods are found.
    pub(crate) labels: BTreeMap<String, String>,
    /// All labels of its pods, but for those that each has of its own.
    pod_labels: BTreeMap<String, String>,
    /// The template of its pods.
    pub(crate) pod: PodSpec,
    /// The Deployment, if it is one.
    pub(crate) deployment: Option<Deployment>,
}

impl Workload {
    /// `None` of an object that an API would not give.
    pub(crate) fn of_deployment(deployment: Deployment) -> Option<Self> {
        let spec = deployment.spec.clone()?;
        let labels = spec.selector.match_labels.unwrap_or_default();
        let mut workload = Self::of(&deployment, spec.replicas, labels, spec.template)?;
        workload.deployment = Some(deployment);
        Some(workload)
    }

    /// As [`Self::of_deployment`].
    pub(crate) fn of_stateful_set(set: StatefulSet) -> Option<Self> {
        let spec = set.spec.clone()?;
        let labels = spec.selector.match_labels.unwrap_or_default();
        Self::of(&set, spec.replicas, labels, spec.template)
    }

    fn of<K: Resource<DynamicType = ()>>(
        object: &K,
        replicas: Option<i32>,
        labels: BTreeMap<String, String>,
        template: PodTemplateSpec,
    ) -> Option<Self> {
        Some(Self {
            object: ObjectRef::of::<K>(object.namespace().as_deref(), &object.name_any()),
            uid: object.uid()?,
            replicas: replicas.unwrap_or(1),
            labels,
            pod_labels: template
                .metadata
                .and_then(|metadata| metadata.labels)
                .unwrap_or_default(),
            pod: template.spec?,
            deployment: None,
        })
    }

    /// Whether a Service selects its pods, or one of them.
    pub(crate) fn is_selected_by(&self, service: &Service) -> bool {
        let selector = service
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.clone())
            .unwrap_or_default();
        let is_own = |name: &str| (0..self.replicas).any(|index| name == format!("{}-{index}", self.object.name));
        let matches = |(key, value): (&String, &String)| match key.as_str() {
            REPLICA_LABEL => self.deployment.is_none() && is_own(value),
            _ => self.pod_labels.get(key) == Some(value),
        };
        !selector.is_empty() && selector.iter().all(matches)
    }

    /// How its rollout stands now.
    pub(crate) async fn rollout(&self, client: &Client) -> Result<Rollout, ApiError> {
        let found = self.object.api(client).get(&self.object.name).await;
        let found = found.map_err(ApiError::of("read", &self.object))?;
        let generation = found.metadata.generation;
        let number = |name: &str| {
            found
                .data
                .pointer(&format!("/status/{name}"))
                .and_then(serde_json::Value::as_i64)
        };
        Ok(Rollout {
            wanted: found
                .data
                .pointer("/spec/replicas")
                .and_then(serde_json::Value::as_i64)
                .unwrap_or(1),
            is_seen: number("observedGeneration") >= generation,
            pods: number("replicas").unwrap_or(0),
            updated: number("updatedReplicas").unwrap_or(0),
            ready: number("readyReplicas").unwrap_or(0),
        })
    }
}

/// Numbers of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rollout {
    /// Asked for.
    pub(crate) wanted: i64,
    /// Whether the numbers below are those of what is asked for now.
    pub(crate) is_seen: bool,
    pub(crate) pods: i64,
    /// Of the newest template.
    pub(crate) updated: i64,
    pub(crate) ready: i64,
}

impl Rollout {
    /// Whether all pods are of the newest template, and no others are left.
    pub(crate) fn is_through(&self) -> bool {
        self.is_seen && self.updated == self.wanted && self.pods == self.wanted
    }

    /// Whether there is nothing more to wait for.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_through() && self.ready == self.wanted
    }
}

impl std::fmt::Display for Rollout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            wanted,
            is_seen: _,
            pods,
            updated,
            ready,
        } = self;
        write!(
            f,
            "{ready} of {wanted} pods are ready, {updated} of {pods} are of the newest template"
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set() -> Workload {
        let labels = json!({"app": "cache"});
        let value = json!({
            "metadata": {"name": "cache", "namespace": "shop", "uid": "u1"},
            "spec": {
                "replicas": 2, "serviceName": "cache", "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": {"app": "cache", "tier": "data"}}, "spec": {"containers": []}},
            },
        });
        Workload::of_stateful_set(serde_json::from_value(value).expect("an object")).expect("complete")
    }

    fn is_selected(selector: Value) -> bool {
        let service = json!({"spec": {"selector": selector}});
        set().is_selected_by(&serde_json::from_value(service).expect("an object"))
    }

    #[test]
    fn services_of_all_pods_and_of_one_pod_are_its_own() {
        assert!(is_selected(json!({"app": "cache"})));
        assert!(is_selected(json!({"tier": "data", REPLICA_LABEL: "cache-1"})));
        assert!(is_selected(json!({REPLICA_LABEL: "cache-0"})));
        assert!(!is_selected(json!({REPLICA_LABEL: "cache-2"})), "it has two pods");
        assert!(!is_selected(json!({"app": "web"})));
        assert!(!is_selected(json!({})), "a Service without a selector selects nobody");
    }

    #[test]
    fn a_rollout_is_settled_when_only_ready_pods_of_the_newest_template_are_left() {
        let settled = Rollout {
            wanted: 2,
            is_seen: true,
            pods: 2,
            updated: 2,
            ready: 2,
        };
        assert!(settled.is_settled());
        for not in [
            Rollout {
                is_seen: false,
                ..settled
            },
            Rollout { pods: 3, ..settled },
            Rollout { updated: 1, ..settled },
            Rollout { ready: 1, ..settled },
        ] {
            assert!(!not.is_settled(), "{not}");
        }
    }
}
