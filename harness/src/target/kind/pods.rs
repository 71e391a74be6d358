//! What runs in a pod of the application: image, command line, files, probes, limits. Pure.
//!
//! Commands work on the official images and on any Debian with the same servers installed.

use serde_json::{Value, json};

use super::names::{
    APP_CONFIG, APP_FILE, CONFIG_DIRECTORY, DATA_DIRECTORY, NAME_LABEL, SEED_FILE, search_domain, seed_config,
};
use super::objects::Blueprint;
use crate::app::servers::{INITDB_ARGUMENTS, POSTGRES_LETS_IN, postgres_settings, redis_arguments};
use crate::app::service::HEALTH_PATH;
use crate::app::spec::{ServiceKind, ServiceSpec};
use crate::target::local::layout::DNS_PORT;

/// Default of [`Images::redis`].
pub const REDIS_IMAGE: &str = "redis:7.2";
/// Default of [`Images::postgres`].
pub const POSTGRES_IMAGE: &str = "postgres:15";
/// Starts PostgreSQL; see its own words.
const POSTGRES_SCRIPT: &str = include_str!("postgres.sh");
/// A pod that is told to go has nothing to finish.
const GRACE_SECONDS: u32 = 1;
/// Time from one readiness check to the next: a pod that has come up is found ready this soon.
const READINESS_SECONDS: u32 = 2;
/// Checks that must fail before a pod gets no more traffic: twenty seconds. Kubernetes' default would hide a fault behind
/// its consequence (no endpoints) before anybody had time to look.
const READINESS_FAILURES: u32 = 10;
/// Time from one liveness check of an http service to the next.
const LIVENESS_SECONDS: u32 = 10;
/// Checks that must fail before its container is started again: a minute, longer than faults last.
const LIVENESS_FAILURES: u32 = 6;

/// The images of an application's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Its entry point is `gauntlet-app`.
    pub app: String,
    /// Has `redis-server` in its PATH.
    pub redis: String,
    /// Has PostgreSQL's programs, `setpriv` and a user `postgres`.
    pub postgres: String,
}

/// The pod of a service's template.
pub(super) fn pod_spec(blueprint: Blueprint<'_>, name: &str, service: &ServiceSpec) -> Value {
    let port = service.serving_port();
    let mut container = match service.kind {
        ServiceKind::Http => http(blueprint, name, port),
        ServiceKind::Redis => json!({
            "image": blueprint.images.redis,
            "command": ["redis-server"],
            "args": redis_arguments("0.0.0.0", port, service.max_memory_mib),
            "readinessProbe": readiness(json!({"tcpSocket": {"port": port}})),
        }),
        ServiceKind::Postgres => postgres(blueprint, port),
    };
    let fields = container.as_object_mut().expect("made of an object");
    fields.insert("name".to_owned(), json!(name));
    fields.insert("imagePullPolicy".to_owned(), json!("IfNotPresent"));
    fields.insert(
        "ports".to_owned(),
        json!([{"name": "tcp", "protocol": "TCP", "containerPort": port}]),
    );
    if let Some(limits) = limits(service) {
        fields.insert("resources".to_owned(), limits);
    }
    json!({
        "containers": [container],
        "volumes": volumes(name, service.kind),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        // Nobody in there talks to the API.
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "topologySpreadConstraints": [{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            // A node that takes no pods would count as an empty one, and a strict constraint leave pods without a place.
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {NAME_LABEL: name}},
        }],
    })
}

fn http(blueprint: Blueprint<'_>, name: &str, port: u16) -> Value {
    let health = json!({"httpGet": {"path": HEALTH_PATH, "port": port}});
    json!({
        "image": blueprint.images.app,
        "args": [
            "http",
            "--service", name,
            "--app", format!("{CONFIG_DIRECTORY}/{APP_FILE}"),
            "--dns", format!("{}:{DNS_PORT}", blueprint.dns),
            "--search", search_domain(blueprint.namespace),
            "--listen", format!("0.0.0.0:{port}"),
        ],
        "volumeMounts": [{"name": "config", "mountPath": CONFIG_DIRECTORY}],
        "readinessProbe": readiness(health.clone()),
        "livenessProbe": probe(health, LIVENESS_SECONDS, LIVENESS_FAILURES),
    })
}

fn postgres(blueprint: Blueprint<'_>, port: u16) -> Value {
    let variables = [
        ("DATA_DIRECTORY", DATA_DIRECTORY.to_owned()),
        ("SEED_FILE", format!("{CONFIG_DIRECTORY}/{SEED_FILE}")),
        ("INITDB_ARGUMENTS", INITDB_ARGUMENTS.join(" ")),
        ("POSTGRES_LETS_IN", POSTGRES_LETS_IN.to_owned()),
    ];
    json!({
        "image": blueprint.images.postgres,
        "command": ["/bin/sh", "-c", POSTGRES_SCRIPT, "postgres"],
        "args": postgres_settings("*", port),
        "env": variables.map(|(name, value)| json!({"name": name, "value": value})),
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_DIRECTORY},
            {"name": "data", "mountPath": DATA_DIRECTORY},
        ],
        // The port opens when the data are there.
        "readinessProbe": readiness(json!({"tcpSocket": {"port": port}})),
    })
}

fn readiness(how: Value) -> Value {
    probe(how, READINESS_SECONDS, READINESS_FAILURES)
}

fn probe(mut how: Value, period_seconds: u32, failures: u32) -> Value {
    let fields = how.as_object_mut().expect("made of an object");
    fields.insert("periodSeconds".to_owned(), json!(period_seconds));
    fields.insert("failureThreshold".to_owned(), json!(failures));
    how
}

/// What is declared is both asked for and the most there is; what is not declared is not limited.
fn limits(service: &ServiceSpec) -> Option<Value> {
    let mut resources = serde_json::Map::new();
    if let Some(millicores) = service.cpu_millicores {
        resources.insert("cpu".to_owned(), json!(format!("{millicores}m")));
    }
    if let Some(mebibytes) = service.memory_mib {
        resources.insert("memory".to_owned(), json!(format!("{mebibytes}Mi")));
    }
    (!resources.is_empty()).then(|| json!({"requests": resources, "limits": resources}))
}

fn volumes(name: &str, kind: ServiceKind) -> Value {
    let config = |map: &str| json!({"name": "config", "configMap": {"name": map}});
    match kind {
        ServiceKind::Http => json!([config(APP_CONFIG)]),
        ServiceKind::Redis => json!([]),
        ServiceKind::Postgres => json!([config(&seed_config(name)), {"name": "data", "emptyDir": {}}]),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::app::App;

    /// The pod of the service `name` of an app whose only service it is.
    fn check(name: &str, fields: Value, expected: &expect_test::Expect) {
        let load = json!({"rate": 1.0, "paths": []});
        let spec = json!({"nodes": 1, "entry": name, "load": load, "services": {name: fields}});
        let app: App = serde_json::from_value(json!({"name": "test", "spec": spec})).expect("an app");
        let images = Images {
            app: "gauntlet/app:1".to_owned(),
            redis: REDIS_IMAGE.to_owned(),
            postgres: POSTGRES_IMAGE.to_owned(),
        };
        let blueprint = Blueprint {
            app: &app,
            namespace: "gauntlet-1",
            images: &images,
            dns: IpAddr::from([10, 96, 0, 10]),
        };
        let pod = pod_spec(blueprint, name, &app.spec.services[name]);
        let fields = pod["containers"][0].as_object().expect("an object").iter();
        let lines = fields.map(|(field, value)| format!("{field}: {value}"));
        let script = serde_json::to_string(POSTGRES_SCRIPT).expect("JSON");
        let lines: Vec<_> = lines.map(|line| line.replace(&script, "SCRIPT")).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn an_http_service_reads_the_declaration_and_asks_the_name_server_in_its_own_domain() {
        check(
            "web",
            json!({"kind": "http", "cpuMillicores": 250}),
            &expect_test::expect![[r#"
                args: ["http","--service","web","--app","/etc/gauntlet/app.json","--dns","10.96.0.10:53","--search","gauntlet-1.svc.cluster.local","--listen","0.0.0.0:8080"]
                image: "gauntlet/app:1"
                imagePullPolicy: "IfNotPresent"
                livenessProbe: {"failureThreshold":6,"httpGet":{"path":"/healthz","port":8080},"periodSeconds":10}
                name: "web"
                ports: [{"containerPort":8080,"name":"tcp","protocol":"TCP"}]
                readinessProbe: {"failureThreshold":10,"httpGet":{"path":"/healthz","port":8080},"periodSeconds":2}
                resources: {"limits":{"cpu":"250m"},"requests":{"cpu":"250m"}}
                volumeMounts: [{"mountPath":"/etc/gauntlet","name":"config"}]"#]],
        );
    }

    #[test]
    fn a_redis_is_bounded_as_it_is_elsewhere() {
        check(
            "cache",
            json!({"kind": "redis", "maxMemoryMib": 64, "memoryMib": 96}),
            &expect_test::expect![[r#"
                args: ["--port","6379","--bind","0.0.0.0","--save","","--appendonly","no","--protected-mode","no","--daemonize","no","--maxmemory","67108864","--maxmemory-policy","allkeys-lru"]
                command: ["redis-server"]
                image: "redis:7.2"
                imagePullPolicy: "IfNotPresent"
                name: "cache"
                ports: [{"containerPort":6379,"name":"tcp","protocol":"TCP"}]
                readinessProbe: {"failureThreshold":10,"periodSeconds":2,"tcpSocket":{"port":6379}}
                resources: {"limits":{"memory":"96Mi"},"requests":{"memory":"96Mi"}}"#]],
        );
    }

    #[test]
    fn a_postgres_seeds_itself_before_it_listens() {
        check(
            "db",
            json!({"kind": "postgres"}),
            &expect_test::expect![[r#"
            args: ["-c","listen_addresses=*","-c","port=5432","-c","unix_socket_directories=","-c","max_connections=50","-c","shared_buffers=32MB","-c","dynamic_shared_memory_type=sysv","-c","fsync=off","-c","synchronous_commit=off","-c","full_page_writes=off","-c","jit=off"]
            command: ["/bin/sh","-c",SCRIPT,"postgres"]
            env: [{"name":"DATA_DIRECTORY","value":"/var/lib/gauntlet"},{"name":"SEED_FILE","value":"/etc/gauntlet/seed.sql"},{"name":"INITDB_ARGUMENTS","value":"--no-sync --auth=trust --username=postgres --wal-segsize=1 --encoding=UTF8 --locale=C --no-instructions"},{"name":"POSTGRES_LETS_IN","value":"host all all 0.0.0.0/0 trust"}]
            image: "postgres:15"
            imagePullPolicy: "IfNotPresent"
            name: "db"
            ports: [{"containerPort":5432,"name":"tcp","protocol":"TCP"}]
            readinessProbe: {"failureThreshold":10,"periodSeconds":2,"tcpSocket":{"port":5432}}
            volumeMounts: [{"mountPath":"/etc/gauntlet","name":"config"},{"mountPath":"/var/lib/gauntlet","name":"data"}]"#]],
        );
        let (seeded, listens) = (POSTGRES_SCRIPT.find("psql"), POSTGRES_SCRIPT.find("exec setpriv"));
        assert!(seeded.is_some() && seeded < listens);
    }
}
