//! From a planned fault and the objects that exist to steps, and to what the effect will be measured by.
//!
//! A service of the application is a Deployment or a StatefulSet of its name in the run's namespace, and all Services that
//! select its pods. Reads only.

use std::net::{IpAddr, SocketAddr};

use gauntlet_probes::entity::{NodeName, ServiceName};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Node, PodSpec, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, ListParams};
use kube::{Client, Resource, ResourceExt as _};
use serde_json::Value;

use super::super::filter;
use super::super::journal::InjectionId;
use super::super::kind::{FaultKind, NodeFault, ObjectFault, PlannedFault};
use super::super::recipe::{RecipeError, bare};
use super::super::step::{Potency, Step};
use super::super::surroundings::Surroundings;
use super::api::{ObjectRef, within};
use super::node::{NodeChange, container_of};
use super::object::ObjectChange;
use super::patch::{self, ContainerChange, Fields};
use super::workload::Workload;
use crate::target::kind::access::ClusterAccess;
use crate::target::kind::api::ApiError;
use crate::target::kind::names::{DNS_OBJECT, SYSTEM_NAMESPACE};

/// What a fault's effect in a cluster is measured by; taken before the deed, because afterwards it may not be found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    /// The workload that is concerned.
    pub(crate) workload: Option<Workload>,
    /// Ways to it.
    pub(crate) doors: Vec<Door>,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    pub(crate) namespace: String,
    pub(crate) service: String,
    pub(crate) address: SocketAddr,
    /// Whether it leads to its pods ready or not, as the addresses of single replicas do.
    pub(crate) leads_to_unready: bool,
}

/// Finds what a fault concerns, and says what has to be done.
pub(crate) struct Finder<'a> {
    access: &'a ClusterAccess,
    client: Client,
    id: &'a InjectionId,
    surroundings: &'a Surroundings,
}

type Found = Result<(Vec<Step>, Scene), RecipeError>;

/// The steps of a fault that is made through a cluster's API or on its nodes.
pub(crate) async fn steps(surroundings: &Surroundings, id: &InjectionId, fault: &PlannedFault) -> Found {
    let mut access = surroundings.kubernetes.clone().ok_or(RecipeError::NeedsKubernetes)?;
    // A later process has another working directory.
    access.kubeconfig = std::path::absolute(&access.kubeconfig).unwrap_or(access.kubeconfig);
    let found = within(&access, async |client| {
        let finder = Finder {
            access: &access,
            client,
            id,
            surroundings,
        };
        Ok(finder.find(fault).await)
    });
    found.await?
}

impl Finder<'_> {
    async fn find(&self, fault: &PlannedFault) -> Found {
        let (kind, potency) = bare(&fault.kind, Potency::Full);
        match kind {
            FaultKind::Object(ObjectFault::DnsScaleToZero) => self.dns().await,
            FaultKind::Object(object) => self.object(object, service(fault)?).await,
            FaultKind::Node(change) => {
                let node = fault.node.as_ref().ok_or(RecipeError::NoNode)?;
                self.node(*change, node).await
            }
            FaultKind::ServiceWrongPort { target_port } => {
                let port = (potency == Potency::Full).then_some(*target_port);
                let (workload, services) = self.workload(service(fault)?).await?;
                let patches = services
                    .iter()
                    .map(|service| self.patch(service, patch::target_ports(service, port)));
                Ok((patches.collect::<Result<_, _>>()?, Scene::of(workload, &services)))
            }
            FaultKind::None
            | FaultKind::Placebo { .. }
            | FaultKind::LoadSurge { .. }
            | FaultKind::NetworkFilter { .. }
            | FaultKind::NetworkLoss { .. }
            | FaultKind::NetworkDelay { .. }
            | FaultKind::NetworkBandwidth { .. }
            | FaultKind::ProcessKill { .. }
            | FaultKind::ProcessPause
            | FaultKind::CpuLimit { .. }
            | FaultKind::CacheFlush => unreachable!("is done to pods, not to a cluster"),
        }
    }

    async fn object(&self, fault: &ObjectFault, service: &ServiceName) -> Found {
        let (workload, services) = self.workload(service).await?;
        let mut doors = doors(&services);
        let steps = match fault {
            ObjectFault::WrongSelector => {
                let patches = services
                    .iter()
                    .filter_map(|service| Some(self.patch(service, patch::selector(service)?)));
                patches.collect::<Result<_, _>>()?
            }
            ObjectFault::PolicyDeny => {
                let name = format!("gauntlet-{}", self.id.0);
                let manifest = patch::deny_all(&name, &workload.labels);
                vec![self.create::<NetworkPolicy>(&name, manifest)]
            }
            ObjectFault::WrongAddress { peer, port } => {
                let (steps, wrong) = self.wrong_address(&workload, peer, *port).await?;
                doors = wrong;
                steps
            }
            ObjectFault::BadImage => vec![self.rollout(&workload, ContainerChange::BadImage)],
            ObjectFault::Unready => {
                // What leads to pods that are not ready is not closed by a check.
                doors.retain(|door| !door.leads_to_unready);
                vec![self.rollout(&workload, ContainerChange::Unready)]
            }
            ObjectFault::MemoryLimit { mebibytes } => {
                let change = ContainerChange::Memory { mebibytes: *mebibytes };
                vec![self.rollout(&workload, change)]
            }
            ObjectFault::ScaleToZero => {
                vec![self.change(&workload, patch::scale_to_zero(workload.replicas), false)]
            }
            ObjectFault::DnsScaleToZero => unreachable!("names no service"),
        };
        let workload = Some(workload);
        Ok((steps, Scene { workload, doors }))
    }

    /// Copies the configuration with the wrong port, and lets the workload show the copy: the original is untouched, so
    /// that neither other services nor pods that start during the undo see anything wrong. The callee's Services get the
    /// port, too, and lead it to nobody: what is sent to a port that they do not have leaves the cluster, and whether it is
    /// refused, lost or answered by a stranger is up to whatever network is outside.
    async fn wrong_address(
        &self,
        workload: &Workload,
        peer: &ServiceName,
        port: u16,
    ) -> Result<(Vec<Step>, Vec<Door>), RecipeError> {
        let (_, services) = self.workload(peer).await?;
        let ports = services
            .iter()
            .map(|service| self.patch(service, patch::dead_port(&self.id.0, port)));
        let mut steps: Vec<Step> = ports.collect::<Result<_, _>>()?;
        let configs: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.access.namespace);
        for volume in workload.pod.volumes.iter().flatten() {
            let Some(config) = volume.config_map.as_ref() else {
                continue;
            };
            let stands = &config.name;
            let found = configs
                .get(stands)
                .await
                .map_err(ApiError::of("read ConfigMap", stands))?;
            let name = format!("{stands}-{}", self.id.0);
            if let Some(copy) = patch::misdirected(&found, &name, peer.as_str(), port) {
                let fields = patch::config_volume(&volume.name, stands, &name);
                steps.push(self.create::<ConfigMap>(&name, copy));
                steps.push(self.change(workload, fields, workload.deployment.is_none()));
                let mut doors = doors(&services);
                doors.iter_mut().for_each(|door| door.address.set_port(port));
                return Ok((steps, doors));
            }
        }
        Err(RecipeError::NoConfiguration {
            service: workload.object.name.clone(),
            peer: peer.clone(),
        })
    }

    async fn dns(&self) -> Found {
        let services: Api<Service> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let found = services.get(DNS_OBJECT).await;
        let service = found.map_err(ApiError::of("read Service", DNS_OBJECT))?;
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let all = deployments.list(&ListParams::default()).await;
        let all = all.map_err(ApiError::of("list the Deployments of", SYSTEM_NAMESPACE))?;
        let mut workloads = all.items.into_iter().filter_map(Workload::of_deployment);
        let serving = workloads.find(|workload| workload.is_selected_by(&service));
        let workload = serving.ok_or(RecipeError::NoNameServers)?;
        let step = self.change(&workload, patch::scale_to_zero(workload.replicas), false);
        Ok((vec![step], Scene::of(workload, &[service])))
    }

    async fn node(&self, fault: NodeFault, name: &NodeName) -> Found {
        let steps = match fault {
            NodeFault::Pause => vec![container_step(name, NodeChange::Pause)?],
            NodeFault::KubeletStop => vec![container_step(name, NodeChange::KubeletStop)?],
            NodeFault::NetworkCut => {
                let mut nodes = self.surroundings.nodes.iter();
                let node = nodes.find(|node| node.name == *name).ok_or(RecipeError::NoNode)?;
                let table = self.id.0.clone();
                let rules = filter::cut(&table);
                vec![Step::NftTable {
                    netns: node.netns_inode,
                    table,
                    rules,
                }]
            }
            NodeFault::Drain => {
                let nodes: Api<Node> = Api::all(self.client.clone());
                let node = nodes
                    .get(name.as_str())
                    .await
                    .map_err(ApiError::of("read node", name))?;
                vec![
                    self.patch(&node, patch::unschedulable(&node))?,
                    self.step(ObjectChange::Evict {
                        node: name.to_string(),
                        namespace: self.access.namespace.clone(),
                    }),
                ]
            }
        };
        Ok((steps, Scene::default()))
    }

    /// A service's workload, and the Services that select its pods.
    async fn workload(&self, service: &ServiceName) -> Result<(Workload, Vec<Service>), RecipeError> {
        let (namespace, name) = (&self.access.namespace, service.as_str());
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let sets: Api<StatefulSet> = Api::namespaced(self.client.clone(), namespace);
        let deployment = deployments.get_opt(name).await;
        let found = match deployment.map_err(ApiError::of("read Deployment", name))? {
            Some(deployment) => Workload::of_deployment(deployment),
            None => {
                let set = sets
                    .get_opt(name)
                    .await
                    .map_err(ApiError::of("read StatefulSet", name))?;
                set.and_then(Workload::of_stateful_set)
            }
        };
        let workload = found.ok_or_else(|| RecipeError::NoWorkload(service.clone()))?;
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let all = services.list(&ListParams::default()).await;
        let mut all = all.map_err(ApiError::of("list the Services of", namespace))?.items;
        all.retain(|service| workload.is_selected_by(service));
        Ok((workload, all))
    }

    fn rollout(&self, workload: &Workload, change: ContainerChange) -> Step {
        let pod: &PodSpec = &workload.pod;
        let fields = patch::containers(pod, change);
        match &workload.deployment {
            Some(deployment) => self.change(workload, patch::all_at_once(fields, deployment), false),
            None => self.change(workload, fields, true),
        }
    }

    fn change(&self, workload: &Workload, fields: Fields, replaces_pods: bool) -> Step {
        self.step(ObjectChange::Patch {
            object: workload.object.clone(),
            uid: workload.uid.clone(),
            deed: fields.deed,
            undo: fields.undo,
            replaces_pods,
        })
    }

    fn patch<K: Resource<DynamicType = ()>>(&self, object: &K, fields: Fields) -> Result<Step, RecipeError> {
        let object_ref = ObjectRef::of::<K>(object.namespace().as_deref(), &object.name_any());
        let uid = object.uid().ok_or_else(|| RecipeError::NoUid(object_ref.to_string()))?;
        Ok(self.step(ObjectChange::Patch {
            object: object_ref,
            uid,
            deed: fields.deed,
            undo: fields.undo,
            replaces_pods: false,
        }))
    }

    fn create<K: Resource<DynamicType = ()>>(&self, name: &str, manifest: Value) -> Step {
        self.step(ObjectChange::Create {
            object: ObjectRef::of::<K>(Some(&self.access.namespace), name),
            manifest,
        })
    }

    fn step(&self, change: ObjectChange) -> Step {
        Step::Object {
            access: self.access.clone(),
            change,
        }
    }
}

impl Scene {
    fn of(workload: Workload, services: &[Service]) -> Self {
        Self {
            workload: Some(workload),
            doors: doors(services),
        }
    }
}

fn service(fault: &PlannedFault) -> Result<&ServiceName, RecipeError> {
    fault.service.as_ref().ok_or(RecipeError::NoService)
}

fn container_step(node: &NodeName, change: NodeChange) -> Result<Step, RecipeError> {
    Ok(Step::Node {
        container: container_of(node.as_str())?,
        change,
    })
}

/// The first port of each Service that has an address.
fn doors(services: &[Service]) -> Vec<Door> {
    let door = |service: &Service| {
        let spec = service.spec.as_ref()?;
        let ip: IpAddr = spec.cluster_ip.as_ref()?.parse().ok()?;
        let port = u16::try_from(spec.ports.as_ref()?.first()?.port).ok()?;
        Some(Door {
            namespace: service.namespace().unwrap_or_default(),
            service: service.name_any(),
            address: SocketAddr::new(ip, port),
            leads_to_unready: spec.publish_not_ready_addresses.unwrap_or(false),
        })
    };
    services.iter().filter_map(door).collect()
}
