//! An application's stores on a real Kubernetes cluster: rollout, handles, inventory, pods that come and go, and the end.
//!
//! `GAUNTLET_TEST_KUBECONFIG` and `GAUNTLET_TEST_CONTEXT` name a cluster with the image `GAUNTLET_SERVERS_IMAGE` on its nodes
//! (`ci/kind up` makes one); without them these tests skip, with them they fail rather than skip.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gauntlet_harness::app::App;
use gauntlet_harness::fault::process::{members, tgids};
use gauntlet_harness::target::kind::access::ClusterAccess;
use gauntlet_harness::target::kind::own_namespace::{self, NamespaceError};
use gauntlet_harness::target::kind::{Images, KindCluster, KindError, KindOptions};
use gauntlet_harness::target::namespace::run_in_netns;
use gauntlet_harness::target::{Dial, NetnsFd, PodHandle};
use gauntlet_probes::entity::InventoryLine;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::DeleteParams;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc::UnboundedReceiver;

const STORES: &str = r#"{"name": "stores", "spec": {"nodes": 3, "entry": "cache", "load": {"rate": 1.0, "paths": []},
    "services": {"cache": {"kind": "redis", "replicas": 2, "cpuMillicores": 200, "memoryMib": 64}, "db": {"kind": "postgres",
        "tables": {"items": {"rows": 10, "columns": []}}}}}}"#;
/// Longest that Kubernetes may take to start a container again, or to make a pod in another's place.
const BACK_WITHIN: Duration = Duration::from_secs(40);

/// How `namespace` of the fixture is used; `None` where there is no fixture, which has been said.
fn options(namespace: &str) -> Option<KindOptions> {
    let Some(kubeconfig) = std::env::var_os("GAUNTLET_TEST_KUBECONFIG") else {
        eprintln!("skipped: no Kubernetes cluster (GAUNTLET_TEST_KUBECONFIG is not set)");
        return None;
    };
    let named =
        |variable: &str| std::env::var(variable).unwrap_or_else(|_| panic!("{variable} goes with the kubeconfig"));
    let (context, image) = (named("GAUNTLET_TEST_CONTEXT"), named("GAUNTLET_SERVERS_IMAGE"));
    assert!(nix::unistd::geteuid().is_root(), "a fixture is of use to root only");
    Some(KindOptions {
        access: ClusterAccess {
            kubeconfig: PathBuf::from(kubeconfig),
            context,
            namespace: namespace.to_owned(),
        },
        images: Images {
            app: image.clone(),
            redis: image.clone(),
            postgres: image,
        },
        ready_within: Duration::from_secs(90),
        keep: false,
    })
}

fn stores() -> App {
    serde_json::from_str(STORES).expect("an app")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

#[test]
fn stores_are_found_watched_and_removed() {
    let Some(options) = options("live-app-stores") else {
        return;
    };
    runtime().block_on(async {
        let begun = Instant::now();
        let cluster = KindCluster::up(&stores(), &options, &|step| eprintln!("{step}"))
            .await
            .expect("it comes up");
        eprintln!(
            "up after {:?}, of which Kubernetes took {:?}",
            begun.elapsed(),
            cluster.up_took
        );
        let (lines, mut changes) = cluster.subscribe();
        check_handles(&cluster);
        check_inventory(&lines);
        check_ports(&cluster).await;
        check_restart(&cluster).await;
        check_replacement(&cluster, &mut changes).await;
        let (client, namespace) = (
            cluster.access().client().await.expect("a client"),
            cluster.access().namespace.clone(),
        );
        cluster.down().await.expect("it goes down");
        let left = Api::<Namespace>::all(client)
            .get_opt(&namespace)
            .await
            .expect("an answer");
        assert!(left.is_none(), "{left:?}");
    });
}

/// Physics: a pod's server is in the pod's cgroup and namespace, and its sandbox counts as nobody's process.
fn check_handles(cluster: &KindCluster) {
    let cache = pod(cluster, "cache-0");
    let servers = tgids(&cache.cgroup.unified);
    assert_eq!(servers.len(), 1, "{servers:?}");
    let server = servers.first().expect("one");
    assert!(
        fs::read_to_string(format!("/proc/{server}/cmdline"))
            .expect("it lives")
            .contains("redis-server")
    );
    assert!(
        members(&cache.cgroup.unified).len() > servers.len(),
        "the sandbox is in there as well"
    );
    let inodes: BTreeSet<u64> = cluster.pods().iter().map(|pod| pod.netns_inode).collect();
    assert_eq!(
        inodes.len(),
        cluster.pods().len(),
        "each pod has a namespace of its own"
    );
    assert_eq!(redis(&cache.netns, (cache.ip, cache.port).into(), "PING"), "+PONG");
    for node in cluster.nodes() {
        assert!(node.cgroup.unified.is_dir() && node.cgroup.cpu.is_dir(), "{node:?}");
    }
    let database = cluster.service_dial("db").expect("it has an address");
    assert!(
        connect(&cluster.client_netns(), database),
        "load enters where virtual addresses work"
    );
}

fn check_inventory(lines: &[InventoryLine]) {
    let service = |wanted: &str| {
        let found = lines.iter().find_map(|line| match line {
            InventoryLine::Service(service) if service.name == wanted => Some(service),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{wanted} is not told"))
    };
    assert_eq!(service("cache").endpoints.len(), 2);
    assert_eq!(
        service("cache-1")
            .endpoints
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["cache-1"]
    );
    assert!(!service("dns").endpoints.is_empty(), "the cluster's name server");
    let places = lines.iter().filter_map(|line| match line {
        InventoryLine::Pod(pod) => Some((pod.netns, pod.cgroup.as_ref())),
        _ => None,
    });
    assert!(
        places.clone().count() > 3
            && places
                .clone()
                .all(|(netns, cgroup)| netns.is_some() && cgroup.is_some())
    );
    assert!(matches!(lines.last(), Some(InventoryLine::Ready { .. })));
}

/// Physics: behind a wrong port nobody listens; kube-proxy has the new rules within seconds.
async fn check_ports(cluster: &KindCluster) {
    let (from, dial) = (
        cluster.client_netns(),
        cluster.service_dial("cache-0").expect("it has an address"),
    );
    cluster
        .set_target_port("cache", Some(1))
        .await
        .expect("the API takes it");
    eventually("the wrong port refuses", || !connect(&from, dial)).await;
    cluster.set_target_port("cache", None).await.expect("the API takes it");
    eventually("the right port answers again", || connect(&from, dial)).await;
    assert!(cluster.set_target_port("nobody", None).await.is_err());
}

/// Physics: a server that is killed is another process in the same pod.
async fn check_restart(cluster: &KindCluster) {
    let before = pod(cluster, "cache-1");
    for tgid in tgids(&before.cgroup.unified) {
        kill(Pid::from_raw(tgid), Signal::SIGKILL).expect("killed");
    }
    let told = || {
        cluster
            .news()
            .into_iter()
            .find(|news| news.pod == before.name && news.text.contains("started again"))
    };
    eventually("the restart is told", || told().is_some()).await;
    assert!(told().expect("told").text.contains("137"), "{:?}", told());
    cluster.settle(BACK_WITHIN, &|_| ()).await.expect("it is back");
    let now = pod(cluster, "cache-1");
    assert_eq!(
        (now.netns_inode, &now.cgroup),
        (before.netns_inode, &before.cgroup),
        "the same pod"
    );
    assert_eq!(redis(&now.netns, (now.ip, now.port).into(), "PING"), "+PONG");
}

/// Physics: a pod that is removed is made again under its name, elsewhere in the kernel.
async fn check_replacement(cluster: &KindCluster, changes: &mut UnboundedReceiver<InventoryLine>) {
    let before = pod(cluster, "cache-0");
    while changes.try_recv().is_ok() {}
    let access = cluster.access();
    let pods: Api<Pod> = Api::namespaced(access.client().await.expect("a client"), &access.namespace);
    pods.delete("cache-0", &DeleteParams::default()).await.expect("removed");
    let (mut is_gone, deadline) = (false, Instant::now() + BACK_WITHIN);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = tokio::time::timeout(left, changes.recv())
            .await
            .expect("in time")
            .expect("it is watched");
        match line {
            InventoryLine::PodGone { name } if name == before.name => is_gone = true,
            InventoryLine::Pod(pod) if pod.name == before.name && pod.netns != Some(before.netns_inode) => break,
            _ => {}
        }
    }
    assert!(is_gone, "it is gone before it is there");
    cluster.settle(BACK_WITHIN, &|_| ()).await.expect("it is back");
}

#[test]
fn a_rollout_that_cannot_succeed_says_which_pod_and_why() {
    let Some(mut options) = options("live-app-broken") else {
        return;
    };
    options.images.redis = "fixture/no-such-image:1".to_owned();
    options.ready_within = Duration::from_secs(60);
    runtime().block_on(async {
        let error = KindCluster::up(&stores(), &options, &|_| ())
            .await
            .expect_err("there is no such image");
        let client = options.access.client().await.expect("a client");
        let removed = own_namespace::remove(&client, &options.access.namespace);
        removed.await.expect("removed");
        let KindError::NotReady { report, .. } = &error else {
            panic!("{error:?}");
        };
        assert!(
            report.contains("pod cache-0: ") && report.contains("no-such-image"),
            "{report}"
        );
        assert!(report.contains("event: ") && !report.contains("pod db-0"), "{report}");
    });
}

#[test]
fn a_namespace_of_somebody_else_is_left_alone() {
    let Some(options) = options("kube-public") else { return };
    runtime().block_on(async {
        let error = KindCluster::up(&stores(), &options, &|_| ())
            .await
            .expect_err("not ours");
        assert!(
            matches!(error, KindError::Namespace(NamespaceError::OfOthers { .. })) && error.is_unavailable(),
            "{error:?}"
        );
        let client = options.access.client().await.expect("a client");
        let pods: Api<Pod> = Api::namespaced(client, "kube-public");
        assert!(pods.list(&Default::default()).await.expect("listed").items.is_empty());
    });
}

fn pod(cluster: &KindCluster, name: &str) -> PodHandle {
    let found = cluster.pods().into_iter().find(|pod| pod.name.as_str() == name);
    found.unwrap_or_else(|| panic!("{name} is not there"))
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + BACK_WITHIN;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}, within {BACK_WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn connect(from: &NetnsFd, dial: Dial) -> bool {
    let address = SocketAddr::new(dial.ip, dial.port);
    let opened = || TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok();
    run_in_netns(from, opened).expect("it can be entered")
}

/// The first line of the answer of a server.
fn redis(from: &NetnsFd, server: SocketAddr, command: &str) -> String {
    let converse = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(1))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut answer = [0; 128];
        let length = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).trim_end().to_owned())
    };
    run_in_netns(from, converse)
        .expect("it can be entered")
        .expect("it answers")
}
