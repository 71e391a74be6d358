//! Which fields of an object each fault sets, and what they are set back to. Pure: objects in, patches out.
//!
//! Patches are strategic merge patches: lists of ports, containers and volumes are merged by port or name, so that a patch
//! names the fields that it touches and no others, and `null` takes away what was not there before.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStrategy};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Node, PodSpec, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

/// Nobody's label: a selector that asks for it selects nothing.
const NOBODY: &str = "gauntlet-nobody";
/// An image that every node fails to pull at once, without a packet that leaves it: nobody serves on port 1.
pub(crate) const BAD_IMAGE: &str = "localhost:1/gauntlet/no-such-image:none";
/// A port on which nobody listens.
const DEAD_PORT: u16 = 1;

/// A deed and its undo.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fields {
    pub(crate) deed: Value,
    pub(crate) undo: Value,
}

impl Fields {
    /// Both, put into the same place.
    fn within(self, place: impl Fn(Value) -> Value) -> Self {
        Self {
            deed: place(self.deed),
            undo: place(self.undo),
        }
    }

    /// Elements of one list.
    fn list(all: impl Iterator<Item = Self>) -> Self {
        let (deeds, undos): (Vec<Value>, Vec<Value>) = all.map(|fields| (fields.deed, fields.undo)).unzip();
        Self {
            deed: deeds.into(),
            undo: undos.into(),
        }
    }
}

/// All ports of a service lead to `port` of its pods; `None`: to where they lead already.
pub(crate) fn target_ports(service: &Service, port: Option<u16>) -> Fields {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let fields = ports.map(|one| {
        let stands = one.target_port.clone().unwrap_or(IntOrString::Int(one.port));
        let set = port.map_or(stands.clone(), |port| IntOrString::Int(port.into()));
        Fields {
            deed: json!({"port": one.port, "targetPort": set}),
            undo: json!({"port": one.port, "targetPort": stands}),
        }
    });
    Fields::list(fields).within(|ports| json!({"spec": {"ports": ports}}))
}

/// A service has one more port, called `name`, behind which nobody listens.
pub(crate) fn dead_port(name: &str, port: u16) -> Fields {
    Fields {
        deed: json!({"spec": {"ports": [{"name": name, "protocol": "TCP", "port": port, "targetPort": port}]}}),
        undo: json!({"spec": {"ports": [{"port": port, "$patch": "delete"}]}}),
    }
}

/// A service selects no pod: the first label that it asks for has another value. `None`: it selects none anyway.
pub(crate) fn selector(service: &Service) -> Option<Fields> {
    let selector = service.spec.as_ref()?.selector.as_ref()?;
    let (key, value) = selector.first_key_value()?;
    Some(Fields {
        deed: json!({"spec": {"selector": {key: NOBODY}}}),
        undo: json!({"spec": {"selector": {key: value}}}),
    })
}

/// No pods, where there were `replicas`.
pub(crate) fn scale_to_zero(replicas: i32) -> Fields {
    Fields {
        deed: json!({"spec": {"replicas": 0}}),
        undo: json!({"spec": {"replicas": replicas}}),
    }
}

/// A node takes no more pods.
pub(crate) fn unschedulable(node: &Node) -> Fields {
    let stands = node.spec.as_ref().and_then(|spec| spec.unschedulable);
    Fields {
        deed: json!({"spec": {"unschedulable": true}}),
        undo: json!({"spec": {"unschedulable": stands}}),
    }
}

/// What a rollout changes in each container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContainerChange {
    /// Its image cannot be had.
    BadImage,
    /// Its readiness check never passes.
    Unready,
    /// It gets this much memory.
    Memory { mebibytes: u32 },
}

impl ContainerChange {
    fn of(self, container: &Container) -> Fields {
        let name = &container.name;
        match self {
            Self::BadImage => Fields {
                deed: json!({"name": name, "image": BAD_IMAGE}),
                undo: json!({"name": name, "image": container.image}),
            },
            Self::Unready => Fields {
                deed: json!({"name": name, "readinessProbe": {
                    "$patch": "replace", "tcpSocket": {"port": DEAD_PORT}, "periodSeconds": 1, "failureThreshold": 1,
                }}),
                undo: json!({"name": name, "readinessProbe": container.readiness_probe.as_ref().map(whole)}),
            },
            Self::Memory { mebibytes } => {
                let resources = container.resources.clone().unwrap_or_default();
                let stands = |of: Option<std::collections::BTreeMap<_, _>>| of.and_then(|of| of.get("memory").cloned());
                let set = format!("{mebibytes}Mi");
                let both = |limit: Value, request: Value| json!({"name": name, "resources": {"limits": {"memory": limit}, "requests": {"memory": request}}});
                Fields {
                    deed: both(json!(set), json!(set)),
                    undo: both(json!(stands(resources.limits)), json!(stands(resources.requests))),
                }
            }
        }
    }
}

/// An object in place of whatever stands there, where a patch would merge the two.
fn whole(object: &impl serde::Serialize) -> Value {
    let mut value = json!(object);
    value["$patch"] = json!("replace");
    value
}

/// A change of every container of a template.
pub(crate) fn containers(pod: &PodSpec, change: ContainerChange) -> Fields {
    let containers = pod.containers.iter().map(|container| change.of(container));
    Fields::list(containers).within(|containers| template(json!({"containers": containers})))
}

/// The fields of a template's pods.
fn template(pod: Value) -> Value {
    json!({"spec": {"template": {"spec": pod}}})
}

/// With it, a Deployment does not keep old pods until the new ones are ready: a rollout that never gets ready would
/// otherwise be felt by nobody.
pub(crate) fn all_at_once(fields: Fields, deployment: &Deployment) -> Fields {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let Some(DeploymentStrategy {
        rolling_update: Some(rolling),
        ..
    }) = strategy
    else {
        return fields; // old pods go first already
    };
    let strategy = |unavailable: Value| json!({"rollingUpdate": {"maxUnavailable": unavailable}});
    let Fields { mut deed, mut undo } = fields;
    deed["spec"]["strategy"] = strategy(json!("100%"));
    undo["spec"]["strategy"] = strategy(json!(rolling.max_unavailable));
    Fields { deed, undo }
}

/// A volume of a template shows another ConfigMap.
pub(crate) fn config_volume(volume: &str, stands: &str, instead: &str) -> Fields {
    let shows = |name: &str| template(json!({"volumes": [{"name": volume, "configMap": {"name": name}}]}));
    Fields {
        deed: shows(instead),
        undo: shows(stands),
    }
}

/// A copy of a ConfigMap, called `name`, in which the application's `service` has another port. `None`: it does not hold
/// an application with such a service.
pub(crate) fn misdirected(config: &ConfigMap, name: &str, service: &str, port: u16) -> Option<Value> {
    let mut data = config.data.clone()?;
    let mut is_changed = false;
    for text in data.values_mut() {
        let Ok(mut application) = serde_json::from_str::<Value>(text) else {
            continue;
        };
        for place in ["/services", "/spec/services"] {
            let found = application
                .pointer_mut(place)
                .and_then(|services| services.get_mut(service));
            if let Some(found) = found.and_then(Value::as_object_mut) {
                found.insert("port".to_owned(), port.into());
                is_changed = true;
            }
        }
        *text = application.to_string();
    }
    is_changed.then(|| {
        let labels = &config.metadata.labels;
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data})
    })
}

/// A policy called `name` that lets nothing into the pods with `labels`.
pub(crate) fn deny_all(name: &str, labels: &std::collections::BTreeMap<String, String>) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name},
        "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"], "ingress": []},
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde::de::DeserializeOwned;

    use super::*;

    fn object<T: DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    fn check(fields: &Fields, expected: Expect) {
        expected.assert_eq(&format!("{}\n{}\n", fields.deed, fields.undo));
    }

    fn service() -> Service {
        object(json!({"spec": {
            "selector": {"app": "cache", "tier": "data"},
            "ports": [{"port": 6379, "targetPort": "redis"}, {"port": 9121}],
        }}))
    }

    fn pod() -> PodSpec {
        object(json!({"containers": [
            {"name": "web", "image": "shop:1", "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
             "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "100m"}}},
            {"name": "side", "image": "side:2"},
        ]}))
    }

    #[test]
    fn a_service_gets_its_own_ports_and_labels_back() {
        check(
            &target_ports(&service(), Some(6380)),
            expect![[r#"
                {"spec":{"ports":[{"port":6379,"targetPort":6380},{"port":9121,"targetPort":6380}]}}
                {"spec":{"ports":[{"port":6379,"targetPort":"redis"},{"port":9121,"targetPort":9121}]}}
            "#]],
        );
        let placebo = target_ports(&service(), None);
        assert_eq!(placebo.deed, placebo.undo, "a placebo sets what stands");
        check(
            &selector(&service()).expect("it selects"),
            expect![[r#"
                {"spec":{"selector":{"app":"gauntlet-nobody"}}}
                {"spec":{"selector":{"app":"cache"}}}
            "#]],
        );
        assert_eq!(selector(&object(json!({"spec": {"clusterIP": "None"}}))), None);
    }

    #[test]
    fn a_port_that_was_added_is_taken_away() {
        check(
            &dead_port("f1", 6390),
            expect![[r#"
                {"spec":{"ports":[{"name":"f1","port":6390,"protocol":"TCP","targetPort":6390}]}}
                {"spec":{"ports":[{"$patch":"delete","port":6390}]}}
            "#]],
        );
    }

    #[test]
    fn containers_get_back_what_they_had_and_lose_what_they_had_not() {
        check(
            &containers(&pod(), ContainerChange::BadImage),
            expect![[r#"
                {"spec":{"template":{"spec":{"containers":[{"image":"localhost:1/gauntlet/no-such-image:none","name":"web"},{"image":"localhost:1/gauntlet/no-such-image:none","name":"side"}]}}}}
                {"spec":{"template":{"spec":{"containers":[{"image":"shop:1","name":"web"},{"image":"side:2","name":"side"}]}}}}
            "#]],
        );
        check(
            &containers(&pod(), ContainerChange::Memory { mebibytes: 8 }),
            expect![[r#"
                {"spec":{"template":{"spec":{"containers":[{"name":"web","resources":{"limits":{"memory":"8Mi"},"requests":{"memory":"8Mi"}}},{"name":"side","resources":{"limits":{"memory":"8Mi"},"requests":{"memory":"8Mi"}}}]}}}}
                {"spec":{"template":{"spec":{"containers":[{"name":"web","resources":{"limits":{"memory":"64Mi"},"requests":{"memory":null}}},{"name":"side","resources":{"limits":{"memory":null},"requests":{"memory":null}}}]}}}}
            "#]],
        );
        check(
            &containers(&pod(), ContainerChange::Unready),
            expect![[r#"
                {"spec":{"template":{"spec":{"containers":[{"name":"web","readinessProbe":{"$patch":"replace","failureThreshold":1,"periodSeconds":1,"tcpSocket":{"port":1}}},{"name":"side","readinessProbe":{"$patch":"replace","failureThreshold":1,"periodSeconds":1,"tcpSocket":{"port":1}}}]}}}}
                {"spec":{"template":{"spec":{"containers":[{"name":"web","readinessProbe":{"$patch":"replace","httpGet":{"path":"/","port":8080}}},{"name":"side","readinessProbe":null}]}}}}
            "#]],
        );
    }

    #[test]
    fn a_rolling_deployment_lets_all_old_pods_go_and_is_as_careful_afterwards() {
        let deployment = |strategy: Value| -> Deployment {
            let template = json!({"spec": {"containers": []}});
            object(json!({"spec": {"selector": {}, "template": template, "strategy": strategy}}))
        };
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}});
        check(
            &all_at_once(scale_to_zero(2), &deployment(rolling)),
            expect![[r#"
                {"spec":{"replicas":0,"strategy":{"rollingUpdate":{"maxUnavailable":"100%"}}}}
                {"spec":{"replicas":2,"strategy":{"rollingUpdate":{"maxUnavailable":"25%"}}}}
            "#]],
        );
        let recreating = deployment(json!({"type": "Recreate"}));
        assert_eq!(all_at_once(scale_to_zero(2), &recreating), scale_to_zero(2));
    }

    #[test]
    fn a_node_that_took_pods_takes_them_again() {
        check(
            &unschedulable(&object(json!({"spec": {"podCIDR": "10.0.0.0/24"}}))),
            expect![[r#"
                {"spec":{"unschedulable":true}}
                {"spec":{"unschedulable":null}}
            "#]],
        );
        let cordoned = unschedulable(&object(json!({"spec": {"unschedulable": true}})));
        assert_eq!(cordoned.deed, cordoned.undo, "somebody had cordoned it before");
    }

    #[test]
    fn only_the_port_of_the_callee_is_another_in_the_copy() {
        let config: ConfigMap = object(json!({
            "metadata": {"name": "app", "labels": {"of": "shop"}},
            "data": {"app.json": "{\"services\":{\"cache\":{\"kind\":\"redis\"},\"db\":{\"port\":5432}}}", "note": "text"},
        }));
        let copy = misdirected(&config, "app-f1", "cache", 6390).expect("it has a cache");
        expect![[r#"{"apiVersion":"v1","data":{"app.json":"{\"services\":{\"cache\":{\"kind\":\"redis\",\"port\":6390},\"db\":{\"port\":5432}}}","note":"text"},"kind":"ConfigMap","metadata":{"labels":{"of":"shop"},"name":"app-f1"}}"#]]
        .assert_eq(&copy.to_string());
        assert_eq!(misdirected(&config, "app-f1", "queue", 1), None);
    }
}
