//! Follows the cluster's API, and keeps what it says together with what is found of it on this machine.
//!
//! Tells changes to whoever subscribed. Changes nothing itself.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use gauntlet_probes::entity::{InventoryLine, NodeName, PodName};
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::error::KindError;
use super::handles::{self, HandleError, PodPlace};
use super::inventory::{Description, Seen, cgroup_uid, changes, node_ip};
use super::lives::Lives;
use super::names::SYSTEM_NAMESPACE;
use crate::clock::monotonic_ns;
use crate::target::local::cgroup::Hierarchies;
use crate::target::{NodeHandle, PodNews};

/// Pause before a pod that has an address and no process is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long the API may take to say what exists.
const LISTED_WITHIN: Duration = Duration::from_secs(15);
/// Most starts and ends of pods that are kept.
const NEWS_MAX: usize = 10_000;

/// A cluster that is followed, until this is dropped.
#[derive(Debug)]
pub struct Watch {
    stores: Stores,
    state: Arc<Mutex<State>>,
    changed: watch::Receiver<()>,
    /// Aborted when this is dropped.
    _tasks: JoinSet<()>,
}

/// What the API said.
#[derive(Clone)]
struct Stores {
    namespace: String,
    pods: [Store<Pod>; 2],
    services: [Store<Service>; 2],
    endpoints: [Store<Endpoints>; 2],
    nodes: Store<Node>,
}

/// What is known of it.
#[derive(Debug)]
struct State {
    hierarchies: Hierarchies,
    /// By UID, with the version of the pod for which it was found.
    places: BTreeMap<String, (Option<String>, PodPlace)>,
    nodes: BTreeMap<NodeName, NodeHandle>,
    description: Description,
    lives: Lives,
    news: Vec<PodNews>,
    listeners: Vec<mpsc::UnboundedSender<InventoryLine>>,
}

impl Watch {
    /// Follows `namespace` and the cluster's own; returns when all that exists is known.
    ///
    /// # Errors
    /// [`KindError`] when the API does not list its objects in time, or a node is not on this machine.
    pub async fn start(client: &kube::Client, namespace: &str, hierarchies: Hierarchies) -> Result<Self, KindError> {
        let (sender, changed) = watch::channel(());
        let mut tasks = JoinSet::new();
        let stores = {
            let mut follower = Follower {
                client,
                namespace,
                sender: Arc::new(sender),
                tasks: &mut tasks,
            };
            Stores {
                namespace: namespace.to_owned(),
                pods: follower.both(),
                services: follower.both(),
                endpoints: follower.both(),
                nodes: follower.follow(Api::all(client.clone())),
            }
        };
        let slow = |_elapsed| KindError::Slow {
            what: "the API's list of pods, services and nodes".to_owned(),
            patience: LISTED_WITHIN,
        };
        tokio::time::timeout(LISTED_WITHIN, stores.wait_listed())
            .await
            .map_err(slow)?;
        let state = Arc::new(Mutex::new(State {
            hierarchies,
            places: BTreeMap::new(),
            nodes: BTreeMap::new(),
            description: Description::default(),
            lives: Lives::default(),
            news: Vec::new(),
            listeners: Vec::new(),
        }));
        refresh(&stores, &state).await?;
        let (followed, kept, mut news) = (stores.clone(), Arc::clone(&state), changed.clone());
        tasks.spawn(async move {
            let mut is_settled = true;
            loop {
                let ended = match is_settled {
                    true => news.changed().await.is_err(),
                    false => matches!(tokio::time::timeout(LOOK_AGAIN, news.changed()).await, Ok(Err(_))),
                };
                if ended {
                    return;
                }
                // A node that came and is not here is not told; its pods are not either.
                is_settled = refresh(&followed, &kept).await.unwrap_or(true);
            }
        });
        Ok(Self {
            stores,
            state,
            changed,
            _tasks: tasks,
        })
    }

    /// What is known now.
    #[must_use]
    pub fn description(&self) -> Description {
        lock(&self.state).description.clone()
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeHandle> {
        lock(&self.state).nodes.values().cloned().collect()
    }

    /// The application's pods, as the API has them.
    #[must_use]
    pub fn own_pods(&self) -> Vec<Arc<Pod>> {
        self.stores.pods[0].state()
    }

    /// Starts and ends of the application's pods since the start.
    #[must_use]
    pub fn news(&self) -> Vec<PodNews> {
        lock(&self.state).news.clone()
    }

    /// All that is known now, and the changes from now on.
    #[must_use]
    pub fn subscribe(&self) -> (Vec<InventoryLine>, mpsc::UnboundedReceiver<InventoryLine>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = lock(&self.state);
        state.listeners.push(sender);
        (state.description.lines.values().cloned().collect(), receiver)
    }

    /// Says when anything changed, for those who wait for a condition.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.clone()
    }
}

/// Takes in what the stores say; false if a pod must be looked for again soon. Walks directories, so not on this thread.
async fn refresh(stores: &Stores, state: &Arc<Mutex<State>>) -> Result<bool, HandleError> {
    let (seen, namespace, state) = (stores.seen(), stores.namespace.clone(), Arc::clone(state));
    let looked = tokio::task::spawn_blocking(move || lock(&state).take_in(&seen, &namespace));
    looked.await.expect("looking around does not panic")
}

impl State {
    fn take_in(&mut self, seen: &Seen, namespace: &str) -> Result<bool, HandleError> {
        for node in &seen.nodes {
            let name = NodeName::new(node.name_any());
            if let (false, Some(ip)) = (self.nodes.contains_key(&name), node_ip(node)) {
                let handle = handles::node(&name, ip, &self.hierarchies)?;
                self.nodes.insert(name, handle);
            }
        }
        let is_settled = self.find_places(&seen.pods);
        let places = self
            .places
            .iter()
            .map(|(uid, (_version, place))| (uid.clone(), place.clone()));
        let description = seen.describe(namespace, &self.nodes, &places.collect());
        let lines = changes(&self.description.lines, &description.lines);
        self.listeners
            .retain(|listener| lines.iter().all(|line| listener.send(line.clone()).is_ok()));
        self.description = description;
        self.note_lives(&seen.pods, namespace);
        Ok(is_settled)
    }

    /// Looks for the pods that are new or have changed; false if one has an address and is not found.
    fn find_places(&mut self, pods: &[Arc<Pod>]) -> bool {
        let mut is_settled = true;
        let mut found = BTreeMap::new();
        for pod in pods {
            let (Some(uid), version) = (cgroup_uid(pod), pod.resource_version()) else {
                continue;
            };
            let known = self.places.remove(&uid);
            if let Some((_, place)) = known.as_ref().filter(|(of, _)| *of == version) {
                found.insert(uid, (version, place.clone()));
                continue;
            }
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            let node = node.and_then(|name| self.nodes.get(&NodeName::new(name)));
            let has_address = pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
            let Some(node) = node.filter(|_| has_address) else {
                continue;
            };
            match handles::pod(node, &uid, &self.hierarchies).or(known.map(|(_, place)| place)) {
                Some(place) => drop(found.insert(uid, (version, place))),
                None => is_settled = false,
            }
        }
        self.places = found;
        is_settled
    }

    fn note_lives(&mut self, pods: &[Arc<Pod>], namespace: &str) {
        let lives = Lives::of(pods, namespace);
        let at_ns = monotonic_ns();
        let news = lives.since(&self.lives, pods).into_iter().map(|(pod, text)| PodNews {
            at_ns,
            pod: PodName::new(pod),
            text,
        });
        let room = NEWS_MAX.saturating_sub(self.news.len());
        self.news.extend(news.take(room));
        self.lives = lives;
    }
}

impl Stores {
    async fn wait_listed(&self) {
        // A writer is dropped only with the task that feeds it, which ends only with us.
        for namespace in 0..2 {
            let _listed = self.pods[namespace].wait_until_ready().await;
            let _listed = self.services[namespace].wait_until_ready().await;
            let _listed = self.endpoints[namespace].wait_until_ready().await;
        }
        let _listed = self.nodes.wait_until_ready().await;
    }

    fn seen(&self) -> Seen {
        Seen {
            pods: self.pods.iter().flat_map(Store::state).collect(),
            services: self.services.iter().flat_map(Store::state).collect(),
            endpoints: self.endpoints.iter().flat_map(Store::state).collect(),
            nodes: self.nodes.state(),
        }
    }
}

impl Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stores")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// Starts the tasks that feed the stores.
struct Follower<'a> {
    client: &'a kube::Client,
    namespace: &'a str,
    sender: Arc<watch::Sender<()>>,
    tasks: &'a mut JoinSet<()>,
}

impl Follower<'_> {
    /// The objects of our namespace, and of the cluster's own.
    fn both<K>(&mut self) -> [Store<K>; 2]
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + reflector::Lookup<DynamicType = ()>,
        K: Clone + Debug + Send + Sync + DeserializeOwned + 'static,
    {
        [self.namespace, SYSTEM_NAMESPACE].map(|namespace| self.follow(Api::namespaced(self.client.clone(), namespace)))
    }

    fn follow<K>(&mut self, api: Api<K>) -> Store<K>
    where
        K: Resource<DynamicType = ()> + reflector::Lookup<DynamicType = ()>,
        K: Clone + Debug + Send + Sync + DeserializeOwned + 'static,
    {
        let (store, mut writer) = reflector::store();
        let sender = Arc::clone(&self.sender);
        // A list and a watch from there on: streaming lists are newer than 1.20.
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        self.tasks.spawn(async move {
            while let Some(event) = events.next().await {
                // A watch that broke is begun again; what was missed comes with the next list.
                if let Ok(event) = event {
                    writer.apply_watcher_event(&event);
                    sender.send_replace(());
                }
            }
        });
        store
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
