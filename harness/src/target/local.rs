//! The embedded cluster: nodes and pods made of namespaces and cgroups of this machine, without a container engine.
//!
//! All of it is anonymous and dies with the harness, however that dies: see [`warden`]. It needs root. It does not know what
//! will be done to it.

pub mod cgroup;
mod error;
pub mod init;
mod keeper;
pub mod layout;
pub mod network;
pub mod owner;
pub mod pods;
pub mod postgres;
pub mod protocol;
pub mod ready;
pub mod services;
pub mod tools;
pub mod warden;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gauntlet_probes::entity::{InventoryLine, PodName};

use crate::app::spec::{AppSpec, ServiceKind};
use crate::target::namespace::netns_inode;
use crate::target::{Dial, NetnsFd, NodeHandle, PodHandle};

pub use self::error::{DownError, TargetPortError, UpError};
pub use self::keeper::{KeeperError, PodChange, RestartRecord};
pub use self::owner::sweep_stale;
pub use self::tools::MissingTools;

use self::cgroup::{CgroupPlan, Hierarchies, Level, tgids};
use self::keeper::Keeper;
use self::layout::{Layout, TargetPorts};
use self::network::{Namespaces, NetworkError};
use self::owner::{OwnerRecord, PREFIX};
use self::pods::{Provisions, Template};
use self::postgres::TemplateError;
use self::protocol::WardenSpec;
use self::ready::ReadyError;
use self::services::{Place, ServicesError};
use self::tools::Tools;

/// Arguments of the processes that hold a cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct HolderArgs {
    /// Name of the cluster, for whoever looks at a list of processes; all else comes over standard input.
    pub cluster: String,
}

/// How a cluster is brought up.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// Its name becomes `gauntlet-ID`; by default a random one.
    pub id: Option<String>,
    /// Where its directory is made; other users must be able to pass through it if the application has databases.
    pub scratch: PathBuf,
    /// The program `gauntlet-app`.
    pub app_binary: PathBuf,
    /// CPU limit of each node, thousandths of a core.
    pub node_millicores: u32,
    /// How long pods may take to serve.
    pub ready_within: Duration,
    /// Schema and data of a postgres service, as input of `psql`.
    pub seed_sql: fn(&AppSpec, &str) -> String,
}

impl Default for UpOptions {
    fn default() -> Self {
        Self {
            id: None,
            scratch: std::env::temp_dir(),
            app_binary: beside_this_program("gauntlet-app"),
            node_millicores: default_node_millicores(),
            ready_within: Duration::from_secs(30),
            seed_sql: crate::app::postgres::seed_sql,
        }
    }
}

/// A running cluster. Dropping it takes it down; [`LocalCluster::down`] also says whether that went well.
#[derive(Debug)]
pub struct LocalCluster {
    layout: Layout,
    namespaces: Namespaces,
    pods: Vec<PodHandle>,
    nodes: Vec<NodeHandle>,
    inventory: Vec<InventoryLine>,
    nft: PathBuf,
    target_ports: tokio::sync::Mutex<TargetPorts>,
    scratch: PathBuf,
    keeper: Keeper,
}

impl LocalCluster {
    /// Brings the cluster up; returns when every pod serves. `progress` hears what is being done.
    pub async fn up(
        app: &AppSpec,
        app_name: &str,
        options: &UpOptions,
        progress: &dyn Fn(&str),
    ) -> Result<Self, UpError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(UpError::NotRoot);
        }
        if !options.app_binary.is_file() {
            return Err(UpError::AppBinary {
                path: options.app_binary.clone(),
            });
        }
        let cluster = format!("{PREFIX}{}", options.id.clone().unwrap_or_else(random_id));
        let layout = Layout::new(app, &cluster)?;
        let tools = Tools::find(&layout)?;
        let hierarchies = Hierarchies::detect()?;
        progress("preparing databases");
        let templates = templates(app, options, &tools).await?;
        progress("making namespaces");
        let namespaces = blocking({
            let layout = layout.clone();
            move || Namespaces::new(&layout).map_err(NetworkError::from)
        })
        .await?;
        let scratch = options.scratch.join(&cluster);
        let provisions = Provisions {
            tools: &tools,
            app_binary: &options.app_binary,
            scratch: &scratch,
            hierarchies: &hierarchies,
            templates: &templates,
        };
        let spec = warden_spec(app, app_name, options, &layout, &namespaces, &provisions)?;
        let mut keeper = Keeper::start(&options.app_binary, &spec, &namespaces.pods)?;
        progress("connecting nodes and pods");
        network::connect(&layout, &namespaces).await?;
        apply_services(&layout, &namespaces, &tools.nft, &TargetPorts::new()).await?;
        progress("starting pods");
        keeper = blocking(move || {
            keeper.wait_prepared()?;
            keeper.start_pods()?;
            Ok::<_, KeeperError>(keeper)
        })
        .await?;
        let (nodes, pods) = handles(&layout, &namespaces, &hierarchies)?;
        let node_netns = nodes.iter().map(|node| node.netns_inode).collect::<Vec<_>>();
        let pod_netns = pods.iter().map(|pod| pod.netns_inode).collect::<Vec<_>>();
        let cluster = Self {
            inventory: layout.inventory(&node_netns, &pod_netns),
            layout,
            namespaces,
            pods,
            nodes,
            nft: tools.nft,
            target_ports: tokio::sync::Mutex::new(TargetPorts::new()),
            scratch,
            keeper,
        };
        progress("waiting for pods to serve");
        cluster.wait_ready(options.ready_within).await?;
        Ok(cluster)
    }

    /// What a cluster's API would tell of it; ends with [`InventoryLine::Ready`].
    #[must_use]
    pub fn inventory(&self) -> Vec<InventoryLine> {
        self.inventory.clone()
    }

    /// Its pods, the name server's included.
    #[must_use]
    pub fn pods(&self) -> &[PodHandle] {
        &self.pods
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> &[NodeHandle] {
        &self.nodes
    }

    /// The processes of a pod, in the host's numbering, as they are now.
    #[must_use]
    pub fn pod_tgids(&self, pod: &PodName) -> Vec<i32> {
        let pod = self.pods.iter().find(|handle| handle.name == *pod);
        pod.map(|handle| tgids(&handle.cgroup.unified)).unwrap_or_default()
    }

    /// Where callers reach the virtual service of this name: a service of the application, or one replica (`cache-0`).
    #[must_use]
    pub fn service_dial(&self, service: &str) -> Option<Dial> {
        let service = self.layout.service(service)?;
        Some(Dial {
            ip: IpAddr::V4(service.ip),
            port: service.port,
        })
    }

    /// Where the cluster's name server is reached.
    #[must_use]
    pub fn dns_dial(&self) -> Dial {
        Dial {
            ip: IpAddr::V4(layout::DNS_ADDRESS),
            port: layout::DNS_PORT,
        }
    }

    /// The network namespace from which load enters. It is no node, but reaches virtual services as nodes do.
    #[must_use]
    pub fn client_netns(&self) -> NetnsFd {
        Arc::clone(&self.namespaces.edge)
    }

    /// Name of the cluster and of its cgroup.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.layout.cluster
    }

    /// The last lines that a pod's processes wrote.
    #[must_use]
    pub fn pod_log(&self, pod: &PodName) -> String {
        ready::tail(&Provisions::log(&self.scratch, pod.as_str()))
    }

    /// Starts and ends of the pods' main processes so far.
    #[must_use]
    pub fn restarts(&self) -> Vec<RestartRecord> {
        self.keeper.restarts()
    }

    /// Leads the virtual addresses of a service and of its replicas to `port` of its pods, on all nodes; `None` leads
    /// them to the right one again. Open connections stay where they are, as they do with kube-proxy.
    pub async fn set_target_port(&self, service: &str, port: Option<u16>) -> Result<(), TargetPortError> {
        let known = self
            .layout
            .services
            .iter()
            .find(|plan| plan.workload.as_str() == service);
        let workload = known.map(|plan| plan.workload.clone());
        let workload = workload.ok_or_else(|| TargetPortError::NoService {
            service: service.to_owned(),
        })?;
        // Held until the rules are in place, so that two callers do not undo each other.
        let mut ports = self.target_ports.lock().await;
        let mut wanted = ports.clone();
        match port {
            Some(port) => wanted.insert(workload, port),
            None => wanted.remove(&workload),
        };
        apply_services(&self.layout, &self.namespaces, &self.nft, &wanted).await?;
        *ports = wanted;
        Ok(())
    }

    /// What is not as it should be, though the cluster stands: limits that this machine does not allow.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.keeper.warnings()
    }

    /// Takes the cluster down; returns when its processes, cgroups and files are gone.
    pub async fn down(self) -> Result<(), DownError> {
        let Self { layout, keeper, .. } = self;
        let released = blocking(move || keeper.release()).await;
        released.map_err(|source| DownError {
            cluster: layout.cluster,
            source,
        })
    }

    async fn wait_ready(&self, patience: Duration) -> Result<(), Box<ReadyError>> {
        let waits = self.pods.iter().zip(&self.layout.pods).map(|(handle, plan)| {
            let (handle, kind, news) = (handle.clone(), plan.kind, self.keeper.news_of(&plan.name));
            let log = Provisions::log(&self.scratch, handle.name.as_str());
            tokio::task::spawn_blocking(move || ready::wait(&handle, kind, patience, &news, &log))
        });
        for wait in waits.collect::<Vec<_>>() {
            joined(wait.await)?;
        }
        Ok(())
    }
}

async fn templates(app: &AppSpec, options: &UpOptions, tools: &Tools) -> Result<Vec<Template>, TemplateError> {
    let mut templates = Vec::new();
    let databases = app
        .services
        .iter()
        .filter(|(_, service)| service.kind == ServiceKind::Postgres);
    for ((name, _), programs) in databases.zip(tools.postgres.iter().cycle()) {
        postgres::check_reachable(&options.scratch)?;
        let user = postgres::system_user()?;
        let (programs, sql) = (programs.clone(), (options.seed_sql)(app, name));
        let maker = options.app_binary.clone();
        let data = blocking(move || postgres::template(&programs, &sql, &maker)).await?;
        templates.push(Template {
            service: name.clone(),
            data,
            user,
        });
    }
    Ok(templates)
}

fn warden_spec(
    app: &AppSpec,
    app_name: &str,
    options: &UpOptions,
    layout: &Layout,
    namespaces: &Namespaces,
    provisions: &Provisions<'_>,
) -> Result<WardenSpec, UpError> {
    let processes = layout.pods.iter().zip(&namespaces.pods);
    Ok(WardenSpec {
        cluster: layout.cluster.clone(),
        scratch: provisions.scratch.to_owned(),
        owner_record: OwnerRecord::path(&layout.cluster),
        hierarchies: provisions.hierarchies.clone(),
        cgroups: cgroup_plans(layout, options.node_millicores),
        files: provisions.files(app, app_name, layout)?,
        copies: provisions.copies(layout),
        pods: processes
            .map(|(pod, netns)| provisions.process(layout, pod, netns))
            .collect(),
    })
}

fn cgroup_plans(layout: &Layout, node_millicores: u32) -> Vec<CgroupPlan> {
    let plan = |relative, level| CgroupPlan {
        relative,
        level,
        cpu_millicores: None,
        memory_mib: None,
    };
    let cluster = plan(format!("/{}", layout.cluster), Level::Cluster);
    let nodes = layout.nodes.iter().map(|node| CgroupPlan {
        cpu_millicores: Some(node_millicores),
        ..plan(layout.node_cgroup(node), Level::Node)
    });
    let pods = layout.pods.iter().map(|pod| CgroupPlan {
        // v1 refuses a limit above the parent's, and it would have no effect.
        cpu_millicores: pod.cpu_millicores.map(|millicores| millicores.min(node_millicores)),
        memory_mib: pod.memory_mib,
        ..plan(layout.pod_cgroup(pod), Level::Pod)
    });
    [cluster].into_iter().chain(nodes).chain(pods).collect()
}

async fn apply_services(
    layout: &Layout,
    namespaces: &Namespaces,
    nft: &Path,
    target_ports: &TargetPorts,
) -> Result<(), ServicesError> {
    let nodes = namespaces
        .nodes
        .iter()
        .enumerate()
        .map(|(index, netns)| (Place::Node(index), netns));
    let places = nodes.chain([(Place::Edge, &namespaces.edge)]);
    let tasks = places.map(|(place, netns)| {
        let rules = services::ruleset(layout, target_ports, place);
        let (nft, netns) = (nft.to_owned(), Arc::clone(netns));
        tokio::task::spawn_blocking(move || services::apply(&nft, &netns, &rules))
    });
    for task in tasks.collect::<Vec<_>>() {
        joined(task.await)?;
    }
    Ok(())
}

fn handles(
    layout: &Layout,
    namespaces: &Namespaces,
    hierarchies: &Hierarchies,
) -> Result<(Vec<NodeHandle>, Vec<PodHandle>), NetworkError> {
    let nodes = layout.nodes.iter().zip(&namespaces.nodes).map(|(node, netns)| {
        Ok(NodeHandle {
            name: node.name.clone(),
            ip: node.ip,
            netns: Arc::clone(netns),
            netns_inode: netns_inode(netns)?,
            cgroup: hierarchies.paths(&layout.node_cgroup(node)),
        })
    });
    let pods = layout.pods.iter().zip(&namespaces.pods).map(|(pod, netns)| {
        Ok(PodHandle {
            name: pod.name.clone(),
            service: pod.service.clone(),
            node: layout.nodes[pod.node_index].name.clone(),
            ip: pod.ip,
            port: pod.port,
            netns: Arc::clone(netns),
            netns_inode: netns_inode(netns)?,
            cgroup: hierarchies.paths(&layout.pod_cgroup(pod)),
        })
    });
    Ok((
        nodes.collect::<Result<_, NetworkError>>()?,
        pods.collect::<Result<_, NetworkError>>()?,
    ))
}

/// Nearly half of the machine: two busy nodes do not slow the third, nor the harness.
pub(crate) fn default_node_millicores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(u32::MAX).saturating_mul(450).max(500)
}

fn beside_this_program(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let directory = program.parent().unwrap_or(Path::new("."));
    // Tests and examples are built one directory below the programs.
    let candidates = [Some(directory), directory.parent()]
        .into_iter()
        .flatten()
        .map(|directory| directory.join(name));
    candidates
        .clone()
        .find(|path| path.is_file())
        .unwrap_or_else(|| directory.join(name))
}

fn random_id() -> String {
    format!("{:08x}", rand::random::<u32>())
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(f).await)
}

/// The task's value. A task that panicked panics here; one is cancelled only when the runtime itself ends.
fn joined<T>(result: Result<T, tokio::task::JoinError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => panic!("the runtime ended: {cancelled}"),
        },
    }
}
