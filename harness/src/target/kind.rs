//! A Kubernetes cluster whose nodes are containers of this machine: made by kind, or given.
//!
//! Everything that exists is asked of its API; what faults and probes need beyond that (namespaces, cgroups, processes) is
//! found on this machine, whose kernel all nodes share. Does not know what will be done to it.

pub mod name;
pub mod access;
pub mod api;
pub mod permission;
pub mod own_namespace;
pub mod record;
pub mod docker;
pub mod program;
pub mod containers;
pub mod prerequisites;
pub mod config;
pub mod node_image;
pub mod network;
pub mod ready;
pub mod split;
pub mod lifecycle;
pub mod removal;
pub mod ownership;
pub mod leftovers;
pub mod image;
mod error;
pub mod handles;
pub mod inventory;
pub mod lives;
pub mod names;
pub mod objects;
pub mod pods;
mod reach;
pub mod readiness;
pub mod rollout;
pub mod watch;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gauntlet_probes::entity::InventoryLine;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;

use self::access::ClusterAccess;
use self::api::ApiError;
use self::names::{DNS_OBJECT, FIELD_MANAGER, NAME_LABEL, SYSTEM_NAMESPACE};
use self::objects::{Blueprint, Objects};
use self::watch::Watch;
use super::local::cgroup::Hierarchies;
use super::{Dial, NetnsFd, NodeHandle, PodHandle, PodNews};
use crate::app::App;

pub use self::error::KindError;
pub use self::pods::Images;

/// How long the API may take for its first answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long nodes may take to have their rules once all pods serve.
const REACHED_WITHIN: Duration = Duration::from_secs(30);
/// How long this machine may take to have found all pods, and the API to lead Services to them, once they serve.
const FOUND_WITHIN: Duration = Duration::from_secs(10);
/// Labels of a control plane's node, today's and that of 1.20.
const CONTROL_PLANE: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];

/// How an application is brought up on a cluster.
#[derive(Clone, Debug)]
pub struct KindOptions {
    /// The cluster, and the namespace that will be made on it.
    pub access: ClusterAccess,
    /// What the pods run.
    pub images: Images,
    /// How long pods may take to serve, images pulled included.
    pub ready_within: Duration,
    /// Whether the namespace stays when it is taken down.
    pub keep: bool,
}

/// An application that runs on a Kubernetes cluster. Its namespace stays until [`KindCluster::down`] is awaited.
pub struct KindCluster {
    access: ClusterAccess,
    client: Client,
    watch: Watch,
    pod_count: usize,
    entrance: NetnsFd,
    keep: bool,
    version: String,
    /// What Kubernetes took to bring it up; the rest was ours.
    pub up_took: Duration,
}

impl KindCluster {
    /// Brings the application up; returns when every pod serves, is found on this machine, and is reached from each node.
    /// `progress` hears what is being done.
    ///
    /// # Errors
    /// [`KindError`]; [`KindError::is_unavailable`] tells a cluster that cannot from an application that failed. The
    /// namespace may be there: [`own_namespace::remove`] removes it.
    pub async fn up(app: &App, options: &KindOptions, progress: &dyn Fn(&str)) -> Result<Self, KindError> {
        let KindOptions { access, images, .. } = options;
        let client = access.client().await?;
        let version = version(&client, access).await?;
        let dns = name_server(&client).await?;
        let (hierarchies, entry) = (Hierarchies::detect()?, entrance(&client).await?);
        let mut kubernetes = Stopwatch::default();
        progress(&format!("making namespace {}", access.namespace));
        kubernetes
            .time(own_namespace::make(&client, &access.namespace, progress))
            .await?;
        let watch = Watch::start(&client, &access.namespace, hierarchies).await?;
        let objects = Objects::of(Blueprint {
            app,
            namespace: &access.namespace,
            images,
            dns,
        });
        progress("applying objects");
        kubernetes
            .time(rollout::apply(&client, &access.namespace, &objects))
            .await?;
        let entrance = watch.nodes().into_iter().find(|node| node.name.as_str() == entry);
        let lacks = || KindError::Lacks {
            what: format!("node {entry} with an address"),
        };
        let mut cluster = Self {
            access: access.clone(),
            entrance: entrance.ok_or_else(lacks)?.netns,
            pod_count: objects.pod_count(),
            keep: options.keep,
            up_took: Duration::ZERO,
            client,
            watch,
            version,
        };
        kubernetes
            .time(cluster.wait_ready(options.ready_within, progress))
            .await?;
        progress("waiting until every node leads to every service");
        cluster.wait_found(&objects).await?;
        kubernetes.time(cluster.wait_reached(&objects)).await?;
        cluster.up_took = kubernetes.0;
        Ok(cluster)
    }

    /// What the cluster's API and this machine tell of it, and the changes from now on.
    #[must_use]
    pub fn subscribe(&self) -> (Vec<InventoryLine>, mpsc::UnboundedReceiver<InventoryLine>) {
        let (mut lines, changes) = self.watch.subscribe();
        lines.push(InventoryLine::Ready { version: 1 });
        (lines, changes)
    }

    /// What the cluster's API and this machine tell of it now.
    #[must_use]
    pub fn inventory(&self) -> Vec<InventoryLine> {
        self.watch.description().lines.into_values().collect()
    }

    /// Its pods as they are now, the name server's included.
    #[must_use]
    pub fn pods(&self) -> Vec<PodHandle> {
        self.watch.description().pods
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeHandle> {
        self.watch.nodes()
    }

    /// Where callers reach the service of this name: of the application, or one replica (`cache-0`).
    #[must_use]
    pub fn service_dial(&self, service: &str) -> Option<Dial> {
        self.watch.description().dials.get(service).copied()
    }

    /// The network namespace from which load enters: the control plane's node, where virtual addresses work as they do for
    /// pods, and where no pod of the application runs. The load itself is made by the harness, not by a pod: arrivals must
    /// not be slowed down by what they load, and users' experience is measured on the same clock as everything else.
    #[must_use]
    pub fn client_netns(&self) -> NetnsFd {
        Arc::clone(&self.entrance)
    }

    /// Where it is, and how it is reached.
    #[must_use]
    pub fn access(&self) -> &ClusterAccess {
        &self.access
    }

    /// What it is, in words: for a run's record.
    #[must_use]
    pub fn words(&self) -> String {
        let (context, nodes) = (&self.access.context, self.nodes().len());
        format!("Kubernetes {} ({context}, {nodes} nodes)", self.version)
    }

    /// Starts and ends of the application's pods since it was brought up.
    #[must_use]
    pub fn news(&self) -> Vec<PodNews> {
        self.watch.news()
    }

    /// Leads the Services of a workload and of its replicas to `port` of its pods; `None`: to the right one.
    ///
    /// # Errors
    /// [`KindError`] when the API refuses, or there is no such workload.
    pub async fn set_target_port(&self, workload: &str, port: Option<u16>) -> Result<(), KindError> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &self.access.namespace);
        let of_workload = ListParams::default().labels(&format!("{NAME_LABEL}={workload}"));
        let services = api
            .list(&of_workload)
            .await
            .map_err(ApiError::of("list the Services of", workload))?;
        if services.items.is_empty() {
            let what = format!("Service of workload {workload}");
            return Err(KindError::Lacks { what });
        }
        for service in services {
            let name = service.name_any();
            let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
            let ports: Vec<_> = ports
                .map(|known| json!({"port": known.port, "targetPort": port.map_or(known.port, i32::from)}))
                .collect();
            let patch = Patch::Strategic(json!({"spec": {"ports": ports}}));
            let patched = api.patch(&name, &PatchParams::apply(FIELD_MANAGER), &patch).await;
            patched.map_err(ApiError::of("change Service", name))?;
        }
        Ok(())
    }

    /// Waits until everything is as it was when it came up.
    ///
    /// # Errors
    /// [`KindError::NotReady`] after `patience`.
    pub async fn settle(&self, patience: Duration, progress: &dyn Fn(&str)) -> Result<(), KindError> {
        self.wait_ready(patience, progress).await
    }

    /// Takes the application down and returns what Kubernetes took for it; nothing, if it is to be kept.
    ///
    /// # Errors
    /// [`KindError`] when the namespace is not gone.
    pub async fn down(self) -> Result<Duration, KindError> {
        let mut kubernetes = Stopwatch::default();
        if !self.keep {
            kubernetes
                .time(own_namespace::remove(&self.client, &self.access.namespace))
                .await?;
        }
        Ok(kubernetes.0)
    }

    async fn wait_ready(&self, patience: Duration, progress: &dyn Fn(&str)) -> Result<(), KindError> {
        let namespace = &self.access.namespace;
        rollout::wait_ready(&self.client, namespace, &self.watch, self.pod_count, patience, progress).await
    }

    /// Until each pod of the application is found on this machine and is behind each Service that is to lead to it.
    async fn wait_found(&self, objects: &Objects) -> Result<(), KindError> {
        let (began, mut changed) = (Instant::now(), self.watch.changed());
        loop {
            let description = self.watch.description();
            let Some(what) = description.lacks(&self.watch.own_pods(), &objects.services) else {
                return Ok(());
            };
            if began.elapsed() >= FOUND_WITHIN {
                return Err(KindError::Slow {
                    what,
                    patience: FOUND_WITHIN,
                });
            }
            let _changed_or_not = tokio::time::timeout(Duration::from_millis(50), changed.changed()).await;
        }
    }

    async fn wait_reached(&self, objects: &Objects) -> Result<(), KindError> {
        let dials = self.watch.description().dials;
        let wanted = objects
            .services
            .iter()
            .filter_map(|service| dials.get_key_value(&service.name_any()));
        let wanted: Vec<_> = wanted.map(|(name, dial)| (name.clone(), *dial)).collect();
        let nodes = self.nodes();
        let waited = tokio::task::spawn_blocking(move || reach::wait(&nodes, &wanted, REACHED_WITHIN));
        waited.await.expect("connecting does not panic")
    }
}

impl fmt::Debug for KindCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KindCluster")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

/// Adds up what is waited for.
#[derive(Debug, Default)]
struct Stopwatch(Duration);

impl Stopwatch {
    async fn time<T>(&mut self, what: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let done = what.await;
        self.0 += began.elapsed();
        done
    }
}

async fn version(client: &Client, access: &ClusterAccess) -> Result<String, KindError> {
    let unreachable = |source| KindError::Unreachable {
        context: access.context.clone(),
        source,
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, client.apiserver_version()).await;
    let answer = answer.map_err(|_elapsed| unreachable(None))?;
    Ok(answer.map_err(|error| unreachable(Some(Box::new(error))))?.git_version)
}

/// Virtual address of the cluster's name server.
async fn name_server(client: &Client) -> Result<IpAddr, KindError> {
    let api: Api<Service> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let service = api
        .get_opt(DNS_OBJECT)
        .await
        .map_err(ApiError::of("look for Service", DNS_OBJECT))?;
    let ip = service.and_then(|service| service.spec?.cluster_ip?.parse().ok());
    ip.ok_or_else(|| KindError::Lacks {
        what: format!("name server (Service {SYSTEM_NAMESPACE}/{DNS_OBJECT})"),
    })
}

/// Name of the node from which load enters. On a cluster without a control plane of its own, the first by name.
async fn entrance(client: &Client) -> Result<String, KindError> {
    let api: Api<Node> = Api::all(client.clone());
    let nodes = api
        .list(&ListParams::default())
        .await
        .map_err(ApiError::of("list", "nodes"))?;
    let is_control_plane = |node: &&Node| CONTROL_PLANE.iter().any(|label| node.labels().contains_key(*label));
    let of_control_plane = nodes.items.iter().find(is_control_plane).map(ResourceExt::name_any);
    let first = || nodes.items.iter().map(ResourceExt::name_any).min();
    of_control_plane.or_else(first).ok_or_else(|| KindError::Lacks {
        what: "nodes".to_owned(),
    })
}
