//! From an application's declaration to the Kubernetes objects of one namespace. Pure; sends nothing.
//!
//! An http service is a Deployment; redis and postgres are StatefulSets, whose pods keep their names (`cache-0`), and each
//! of those pods has a Service of its own beside its service's, so that callers can shard. Nothing here is newer than
//! Kubernetes 1.20.

use std::net::IpAddr;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::names::{
    APP_CONFIG, APP_FILE, MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL, PART_OF_LABEL, REPLICA_LABEL, SEED_FILE,
    seed_config,
};
use super::pods::{Images, pod_spec};
use crate::app::App;
use crate::app::postgres::seed_sql;
use crate::app::spec::{ServiceKind, ServiceSpec};

/// What the objects are made of.
#[derive(Clone, Copy, Debug)]
pub struct Blueprint<'a> {
    /// The application.
    pub app: &'a App,
    /// Where it will live.
    pub namespace: &'a str,
    /// What its pods run.
    pub images: &'a Images,
    /// Virtual address of the cluster's name server.
    pub dns: IpAddr,
}

/// The objects of an application, in the order in which they are applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    /// The declaration, and the data of databases.
    pub config_maps: Vec<ConfigMap>,
    /// Virtual addresses of services and of replicas.
    pub services: Vec<Service>,
    /// Services without a memory.
    pub deployments: Vec<Deployment>,
    /// Services with one.
    pub stateful_sets: Vec<StatefulSet>,
}

impl Objects {
    /// The objects of `blueprint`'s application.
    #[must_use]
    pub fn of(blueprint: Blueprint<'_>) -> Self {
        let app = blueprint.app;
        let declaration = serde_json::to_string(app).expect("a declaration is JSON");
        let mut objects = Self {
            config_maps: vec![blueprint.config_map(APP_CONFIG, APP_FILE, &declaration)],
            ..Self::default()
        };
        for (name, service) in &app.spec.services {
            objects
                .services
                .push(blueprint.service(name, name, service, Behind::Workload));
            match service.kind {
                ServiceKind::Http => objects.deployments.push(blueprint.deployment(name, service)),
                ServiceKind::Redis | ServiceKind::Postgres => {
                    let replicas = (0..service.replicas).map(|replica| format!("{name}-{replica}"));
                    let of_replicas = replicas.map(|pod| blueprint.service(&pod, name, service, Behind::Replica));
                    objects.services.extend(of_replicas);
                    objects.stateful_sets.push(blueprint.stateful_set(name, service));
                }
            }
            if service.kind == ServiceKind::Postgres {
                let sql = seed_sql(&app.spec, name);
                objects
                    .config_maps
                    .push(blueprint.config_map(&seed_config(name), SEED_FILE, &sql));
            }
        }
        objects
    }

    /// How many pods they will have.
    #[must_use]
    pub fn pod_count(&self) -> usize {
        let deployments = self
            .deployments
            .iter()
            .filter_map(|object| object.spec.as_ref()?.replicas);
        let sets = self
            .stateful_sets
            .iter()
            .filter_map(|object| object.spec.as_ref()?.replicas);
        deployments
            .chain(sets)
            .map(|replicas| usize::try_from(replicas).unwrap_or(0))
            .sum()
    }
}

/// Whom a Service leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// All ready pods of a workload.
    Workload,
    /// The one pod that has the Service's name.
    Replica,
}

impl Blueprint<'_> {
    fn metadata(self, name: &str, labels: &Value) -> Value {
        json!({"name": name, "namespace": self.namespace, "labels": labels})
    }

    fn labels(self, service: &str) -> Value {
        json!({NAME_LABEL: service, PART_OF_LABEL: self.app.name, MANAGED_BY_LABEL: MANAGED_BY})
    }

    fn config_map(self, name: &str, file: &str, text: &str) -> ConfigMap {
        let labels = json!({PART_OF_LABEL: self.app.name, MANAGED_BY_LABEL: MANAGED_BY});
        object(json!({"metadata": self.metadata(name, &labels), "data": {file: text}}))
    }

    fn service(self, name: &str, workload: &str, service: &ServiceSpec, behind: Behind) -> Service {
        let selector = match behind {
            Behind::Workload => json!({NAME_LABEL: workload}),
            Behind::Replica => json!({REPLICA_LABEL: name}),
        };
        let port = service.serving_port();
        object(json!({
            "metadata": self.metadata(name, &self.labels(workload)),
            "spec": {
                "selector": selector,
                // A shard has no substitute: its address leads to it, ready or not, as the name of a replica does.
                "publishNotReadyAddresses": behind == Behind::Replica,
                // The protocol is part of the entry's key; server-side apply of 1.20 wants it said.
                "ports": [{"name": "tcp", "protocol": "TCP", "port": port, "targetPort": port}],
            },
        }))
    }

    fn deployment(self, name: &str, service: &ServiceSpec) -> Deployment {
        object(json!({
            "metadata": self.metadata(name, &self.labels(name)),
            "spec": {
                "replicas": service.replicas,
                "selector": {"matchLabels": {NAME_LABEL: name}},
                "template": self.template(name, service),
            },
        }))
    }

    fn stateful_set(self, name: &str, service: &ServiceSpec) -> StatefulSet {
        object(json!({
            "metadata": self.metadata(name, &self.labels(name)),
            "spec": {
                "replicas": service.replicas,
                "serviceName": name,
                // Replicas do not know of each other: none waits for another.
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {NAME_LABEL: name}},
                "template": self.template(name, service),
            },
        }))
    }

    fn template(self, name: &str, service: &ServiceSpec) -> Value {
        json!({"metadata": {"labels": self.labels(name)}, "spec": pod_spec(self, name, service)})
    }
}

/// A typed object from its fields; kind and version come with the type.
fn object<T: DeserializeOwned>(fields: Value) -> T {
    serde_json::from_value(fields).expect("fields of this kind of object")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn shop() -> Objects {
        let app = crate::app::load("shop").expect("a shipped app");
        let images = Images {
            app: "gauntlet/app:1".to_owned(),
            redis: "redis:7.2".to_owned(),
            postgres: "postgres:15".to_owned(),
        };
        Objects::of(Blueprint {
            app: &app,
            namespace: "gauntlet-1",
            images: &images,
            dns: IpAddr::from([10, 96, 0, 10]),
        })
    }

    fn names<T: kube::ResourceExt>(objects: &[T]) -> String {
        objects
            .iter()
            .map(kube::ResourceExt::name_any)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn each_kind_of_service_gets_its_kind_of_workload() {
        let objects = shop();
        assert_eq!(names(&objects.deployments), "web");
        assert_eq!(names(&objects.stateful_sets), "cache db");
        assert_eq!(names(&objects.services), "cache cache-0 cache-1 cache-2 db db-0 web");
        assert_eq!(names(&objects.config_maps), "gauntlet-app db-seed");
        assert_eq!(objects.pod_count(), 6);
    }

    #[test]
    fn everything_says_whose_it_is_and_where_it_lives() {
        let objects = serde_json::to_value(all(&shop())).expect("JSON");
        for object in objects.as_array().expect("a list") {
            let metadata = &object["metadata"];
            assert_eq!(metadata["namespace"], "gauntlet-1", "{metadata}");
            assert_eq!(metadata["labels"][MANAGED_BY_LABEL], MANAGED_BY, "{metadata}");
            assert_eq!(metadata["labels"][PART_OF_LABEL], "shop", "{metadata}");
        }
    }

    #[test]
    fn a_replica_is_reached_by_its_own_name_and_a_workload_by_its_ready_pods() {
        let objects = shop();
        let service = |name: &str| {
            let found = objects
                .services
                .iter()
                .find(|object| object.metadata.name.as_deref() == Some(name));
            serde_json::to_value(found.expect("it is there")).expect("JSON")["spec"].clone()
        };
        let (workload, replica) = (service("cache"), service("cache-1"));
        assert_eq!(workload["selector"], json!({NAME_LABEL: "cache"}));
        assert_eq!(replica["selector"], json!({REPLICA_LABEL: "cache-1"}));
        assert_eq!(
            (
                &workload["publishNotReadyAddresses"],
                &replica["publishNotReadyAddresses"]
            ),
            (&json!(false), &json!(true))
        );
        assert_eq!(replica["ports"][0]["targetPort"], 6379);
    }

    #[test]
    fn selectors_find_the_pods_of_their_own_templates_only() {
        let objects = all(&shop());
        let mut selected = BTreeSet::new();
        for object in &objects {
            let Some(wanted) = object["spec"]["selector"]["matchLabels"].as_object() else {
                continue;
            };
            let labels = &object["spec"]["template"]["metadata"]["labels"];
            assert!(wanted.iter().all(|(label, value)| labels[label] == *value), "{object}");
            assert!(selected.insert(format!("{wanted:?}")), "two workloads claim {wanted:?}");
        }
        assert_eq!(selected.len(), 3);
    }

    #[test]
    fn a_database_is_given_its_schema() {
        let objects = shop();
        let seed = &objects.config_maps[1].data.as_ref().expect("data")[SEED_FILE];
        assert!(seed.contains("CREATE TABLE products"), "{seed}");
        let declared = &objects.config_maps[0].data.as_ref().expect("data")[APP_FILE];
        let app: App = serde_json::from_str(declared).expect("what gauntlet-app reads");
        assert_eq!(app, crate::app::load("shop").expect("a shipped app"));
    }

    fn all(objects: &Objects) -> Vec<Value> {
        let values = |objects: Value| objects.as_array().cloned().unwrap_or_default();
        [
            values(json!(objects.config_maps)),
            values(json!(objects.services)),
            values(json!(objects.deployments)),
            values(json!(objects.stateful_sets)),
        ]
        .concat()
    }
}
