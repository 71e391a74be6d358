//! A small application on a cluster that exists: callers with a configuration, and a cache of two pods behind Services.
//!
//! Has a namespace of its own, which goes with it. What a run's target knows of pods and nodes is found here by hand: by
//! the uid in a process's cgroup, and by the engine's word for a node's container.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gauntlet_harness::fault::control::{ClusterControl, ControlFuture};
use gauntlet_harness::fault::injector::{AgentCommand, Injector};
use gauntlet_harness::fault::journal::Journal;
use gauntlet_harness::fault::kind::{Concern, FaultKind, PlannedFault};
use gauntlet_harness::fault::surroundings::Surroundings;
use gauntlet_harness::residue::{self, Finding, ResidueState};
use gauntlet_harness::target::kind::access::ClusterAccess;
use gauntlet_harness::target::{CgroupPaths, Dial, NodeHandle, PodHandle};
use gauntlet_probes::entity::ServiceName;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{DynamicObject, TypeMeta};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

/// Longest until the application is ready.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// A kubelet may look again only after a minute at a pod that it could not remove at once, and then after another.
const GONE_WITHIN: Duration = Duration::from_secs(240);
const IMAGE: &str = "fixture/apps:bookworm";
pub(crate) const CACHE_PODS: u16 = 2;

/// The cluster that these tests may use, or why they are skipped.
pub(crate) fn cluster() -> Option<(PathBuf, String)> {
    let found = std::env::var_os("GAUNTLET_TEST_KUBECONFIG").map(PathBuf::from);
    let Some(kubeconfig) = found else {
        eprintln!("skipped: GAUNTLET_TEST_KUBECONFIG names no kubeconfig of a kind cluster with the image {IMAGE}");
        return None;
    };
    let context = std::env::var("GAUNTLET_TEST_CONTEXT").unwrap_or_else(|_| "kind-fixture".to_owned());
    Some((kubeconfig, context))
}

pub(crate) struct World {
    pub(crate) access: ClusterAccess,
    pub(crate) around: Surroundings,
    pub(crate) scratch: PathBuf,
    client: Client,
    before: ResidueState,
}

impl World {
    /// A world of which nothing exists yet.
    pub(crate) async fn new((kubeconfig, context): (PathBuf, String)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let namespace = format!("faults-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let scratch = std::env::temp_dir().join(&namespace);
        fs::create_dir_all(&scratch).expect("scratch");
        let access = ClusterAccess {
            kubeconfig,
            context,
            namespace,
        };
        let client = access.client().await.expect("client");
        Self {
            access,
            around: Surroundings::default(),
            scratch,
            client,
            before: ResidueState::default(),
        }
    }

    /// Brings the application up, and looks around.
    pub(crate) async fn start(&mut self) {
        self.create().await;
        self.await_ready().await;
        self.around = self.surroundings().await;
        self.before = self.snapshot().await;
    }

    async fn create(&self) {
        let name = &self.access.namespace;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .expect("namespace");
        for object in objects() {
            self.apply(&object).await;
        }
    }

    async fn apply(&self, object: &Value) {
        let (api_version, kind) = (
            object["apiVersion"].as_str().expect("text"),
            object["kind"].as_str().expect("text"),
        );
        let types = TypeMeta {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        };
        let resource = kube::core::ApiResource::from_gvk(&(&types).try_into().expect("a kind"));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.access.namespace, &resource);
        let parameters = PatchParams::apply("gauntlet-test");
        let name = object["metadata"]["name"].as_str().expect("text");
        api.patch(name, &parameters, &Patch::Apply(object))
            .await
            .expect("applies");
    }

    pub(crate) async fn pods(&self) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.access.namespace);
        pods.list(&ListParams::default()).await.expect("pods").items
    }

    async fn await_ready(&self) {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let pods = self.pods().await;
            let is_ready = |pod: &Pod| {
                let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
                conditions
                    .into_iter()
                    .flatten()
                    .any(|one| one.type_ == "Ready" && one.status == "True")
            };
            if pods.len() == 2 + usize::from(CACHE_PODS) && pods.iter().all(is_ready) {
                return;
            }
            assert!(Instant::now() < deadline, "the application does not get ready");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn surroundings(&self) -> Surroundings {
        let pods = self.pods().await;
        let nodes: Api<Node> = Api::all(self.client.clone());
        let nodes = nodes.list(&ListParams::default()).await.expect("nodes").items;
        Surroundings {
            pods: pods.iter().map(pod_handle).collect(),
            nodes: nodes.iter().map(|node| node_handle(&node.name_any())).collect(),
            virtual_ips: BTreeMap::new(),
            kubernetes: Some(self.access.clone()),
        }
    }

    /// Where the pods of a service are reached, whichever pods they are.
    pub(crate) async fn addresses(&self, service: &str) -> Vec<SocketAddr> {
        let (names, port) = match service {
            "cache" => ((0..CACHE_PODS).map(|index| format!("cache-{index}")).collect(), 6379),
            _ => (vec![service.to_owned()], 8080),
        };
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.access.namespace);
        let mut addresses = Vec::new();
        for name in names {
            let found = services.get(&name).await.expect("service");
            let ip = found.spec.and_then(|spec| spec.cluster_ip).expect("address");
            addresses.push((ip.parse::<IpAddr>().expect("address"), port).into());
        }
        addresses
    }

    pub(crate) fn journal(&self) -> Journal {
        Journal::at(self.scratch.join("journal.jsonl"))
    }

    pub(crate) fn injector(&self) -> Injector {
        Injector::new(self.journal(), agent(), self.around.clone(), Arc::new(NoControl))
    }

    /// A fault of the cache, or of the node of its first pod, or of the callers where only they can have it.
    pub(crate) fn fault(&self, kind: FaultKind, service: &str) -> PlannedFault {
        let node = match kind.concern() {
            Concern::Node => self.around.pod(&"cache-0".into()).map(|pod| pod.node.clone()),
            Concern::Nobody | Concern::Pods | Concern::Service => None,
        };
        planned(kind, service, node)
    }

    pub(crate) async fn snapshot(&self) -> ResidueState {
        let objects = residue::kubernetes::snapshot(&self.access).await.expect("objects");
        let nodes = self.around.nodes.clone();
        let kernel = tokio::task::spawn_blocking(move || residue::snapshot(&[], &nodes))
            .await
            .expect("reads");
        objects.and(kernel)
    }

    /// What differs from the state before.
    pub(crate) async fn residue(&self) -> Vec<Finding> {
        residue::kubernetes::diff(&self.before, &self.snapshot().await, &[])
    }

    /// Removes the namespace, and waits until it is gone.
    pub(crate) async fn remove(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let name = &self.access.namespace;
        let _gone_already = namespaces.delete(name, &DeleteParams::default()).await;
        let deadline = Instant::now() + GONE_WITHIN;
        while namespaces.get_opt(name).await.is_ok_and(|found| found.is_some()) {
            assert!(Instant::now() < deadline, "the namespace stays");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _gone_already = fs::remove_dir_all(&self.scratch);
    }
}

pub(crate) fn planned(kind: FaultKind, service: &str, node: Option<gauntlet_probes::entity::NodeName>) -> PlannedFault {
    PlannedFault {
        id: "f".to_owned(),
        kind,
        pods: Vec::new(),
        service: Some(ServiceName::new(service)),
        node,
        expires_after: Duration::from_secs(120),
    }
}

/// Two callers that are redis servers too, because that is all that the image serves without a file.
fn objects() -> Vec<Value> {
    let pod = |port: u16, volumes: Value, mounts: Value| {
        json!({
            "terminationGracePeriodSeconds": 1,
            "volumes": volumes,
            "containers": [{
                "name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                "command": ["redis-server", "--port", port.to_string(), "--protected-mode", "no", "--save", "", "--dir", "/tmp"],
                "ports": [{"containerPort": port, "protocol": "TCP"}],
                "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
                "resources": {"requests": {"cpu": "20m"}, "limits": {"memory": "128Mi"}},
                "volumeMounts": mounts,
            }],
        })
    };
    let service = |name: &str, selector: Value, port: u16| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": selector, "ports": [{"name": "tcp", "port": port, "targetPort": port, "protocol": "TCP"}]}})
    };
    let labels = |app: &str| json!({"app": app});
    let volumes = json!([{"name": "app", "configMap": {"name": "app"}}]);
    let web = pod(8080, volumes, json!([{"name": "app", "mountPath": "/etc/gauntlet"}]));
    let application = json!({"services": {"cache": {"kind": "redis"}}}).to_string();
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": {"app.json": application}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
            "replicas": 2, "selector": {"matchLabels": labels("web")},
            "template": {"metadata": {"labels": labels("web")}, "spec": web}}}),
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "cache"}, "spec": {
            "replicas": CACHE_PODS, "serviceName": "cache", "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels("cache")},
            "template": {"metadata": {"labels": labels("cache")}, "spec": pod(6379, json!([]), json!([]))}}}),
        service("web", labels("web"), 8080),
        service("cache", labels("cache"), 6379),
    ];
    let replicas = (0..CACHE_PODS).map(|index| format!("cache-{index}"));
    objects.extend(replicas.map(|name| {
        let mut of_replica = service(&name, json!({"statefulset.kubernetes.io/pod-name": name}), 6379);
        // As callers that shard have it: a shard has no substitute, and is dialled ready or not.
        of_replica["spec"]["publishNotReadyAddresses"] = true.into();
        of_replica
    }));
    objects
}

fn pod_handle(pod: &Pod) -> PodHandle {
    let (uid, status) = (pod.uid().expect("uid"), pod.status.as_ref().expect("status"));
    let tgid = processes()
        .into_iter()
        .find(|tgid| cgroup_line(*tgid).contains(&uid))
        .expect("a process of the pod");
    let relative = cgroup_line(tgid);
    let (of_pod, _) = relative.rsplit_once('/').expect("a container below its pod");
    let app = pod.labels().get("app").expect("label");
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).expect("node");
    let (netns, netns_inode) = netns(tgid);
    PodHandle {
        name: pod.name_any().as_str().into(),
        service: app.as_str().into(),
        node: node.as_str().into(),
        ip: status.pod_ip.as_ref().expect("address").parse().expect("IPv4"),
        port: if app == "cache" { 6379 } else { 8080 },
        netns,
        netns_inode,
        cgroup: cgroup_paths(of_pod),
    }
}

fn node_handle(name: &str) -> NodeHandle {
    let format = "{{.State.Pid}} {{.NetworkSettings.Networks.kind.IPAddress}} {{.Id}}";
    let inspected = Command::new("docker")
        .args(["inspect", "--format", format, name])
        .output()
        .expect("docker");
    let text = String::from_utf8(inspected.stdout).expect("text");
    let words: Vec<&str> = text.split_whitespace().collect();
    let [tgid, ip, id] = words[..] else {
        panic!("docker says of {name}: {text}")
    };
    let (netns, netns_inode) = netns(tgid.parse().expect("a number"));
    NodeHandle {
        name: name.into(),
        ip: ip.parse().expect("IPv4"),
        netns,
        netns_inode,
        cgroup: cgroup_paths(&format!("/docker/{id}")),
    }
}

fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("proc").flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Path below the root of the version 2 hierarchy.
fn cgroup_line(tgid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{tgid}/cgroup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    line.unwrap_or_default().to_owned()
}

fn cgroup_paths(relative: &str) -> CgroupPaths {
    let root = Path::new("/sys/fs/cgroup");
    let of = |hierarchy: &str| match root.join("cgroup.controllers").exists() {
        true => root.join(relative.trim_start_matches('/')),
        false => root.join(hierarchy).join(relative.trim_start_matches('/')),
    };
    CgroupPaths {
        relative: relative.to_owned(),
        unified: of("unified"),
        cpu: of("cpu"),
        memory: of("memory"),
        freezer: of("freezer"),
    }
}

fn netns(tgid: i32) -> (Arc<OwnedFd>, u64) {
    let file = File::open(format!("/proc/{tgid}/ns/net")).expect("namespace");
    let inode = file.metadata().expect("namespace").ino();
    (Arc::new(OwnedFd::from(file)), inode)
}

pub(crate) fn agent() -> AgentCommand {
    AgentCommand {
        program: env!("CARGO_BIN_EXE_gauntlet").into(),
        arguments: vec!["__fault-agent".to_owned()],
    }
}

/// Nobody: faults of objects and nodes need neither a cluster's hand nor a workload.
pub(crate) struct NoControl;

impl ClusterControl for NoControl {
    fn set_target_port<'a>(&'a self, service: &'a ServiceName, _port: Option<u16>) -> ControlFuture<'a> {
        Box::pin(async move { Err(format!("{service} is the API's to change").into()) })
    }

    fn service_dial(&self, _service: &ServiceName) -> Option<Dial> {
        None
    }

    fn set_load_factor(&self, _factor: f64) {}

    fn offered_load_ratio(&self) -> Option<f64> {
        None
    }
}
