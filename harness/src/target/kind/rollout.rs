//! Brings objects onto a cluster and takes them off again: namespace, server-side apply, and waits with deadlines that say
//! what they wait for.
//!
//! Does not know what the objects are for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Event, Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::timeout;

use super::error::KindError;
use super::handles;
use super::inventory::cgroup_uid;
use super::names::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL};
use super::objects::Objects;
use super::readiness::{self, Readiness};
use super::watch::Watch;
use crate::target::local::cgroup::Hierarchies;

/// How long a namespace may take to be gone, with all that is in it.
const GONE_WITHIN: Duration = Duration::from_secs(60);
/// Pause between two looks at what is going.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a new namespace may take to be usable.
const USABLE_WITHIN: Duration = Duration::from_secs(15);
/// Events and lines of a pod's log that a report shows.
const SHOWN_MAX: usize = 6;

/// Makes the namespace. One of ours that is still there, from a run that was killed or kept, is removed first.
///
/// # Errors
/// [`KindError::Foreign`] when it is somebody else's; then nothing was touched.
pub async fn make_namespace(client: &Client, name: &str, progress: &dyn Fn(&str)) -> Result<(), KindError> {
    let api: Api<Namespace> = Api::all(client.clone());
    if let Some(left) = api
        .get_opt(name)
        .await
        .map_err(KindError::api("look for namespace", name))?
    {
        check_ours(&left)?;
        progress(&format!("removing namespace {name}, which an earlier run left"));
        remove_namespace(client, name).await?;
    }
    let namespace = json!({"metadata": {"name": name, "labels": {MANAGED_BY_LABEL: MANAGED_BY}}});
    let namespace = serde_json::from_value(namespace).expect("fields of a namespace");
    let made = api.create(&PostParams::default(), &namespace).await;
    made.map_err(KindError::api("make namespace", name))?;
    // Pods are refused until their account is there.
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
    let account = await_condition(accounts, "default", |account: Option<&ServiceAccount>| {
        account.is_some()
    });
    let slow = |_elapsed| KindError::Slow {
        what: format!("the making of namespace {name}'s account"),
        patience: USABLE_WITHIN,
    };
    // A watch that fails is known by its not being there in time.
    let _account = timeout(USABLE_WITHIN, account).await.map_err(slow)?;
    Ok(())
}

/// Removes the namespace and waits until it is gone; false if it was not there.
///
/// # Errors
/// [`KindError::Foreign`] when it is not ours.
pub async fn remove_namespace(client: &Client, name: &str) -> Result<bool, KindError> {
    let api: Api<Namespace> = Api::all(client.clone());
    let Some(namespace) = api
        .get_opt(name)
        .await
        .map_err(KindError::api("look for namespace", name))?
    else {
        return Ok(false);
    };
    check_ours(&namespace)?;
    remove_pods(client, name).await?;
    let uid = namespace.uid().unwrap_or_default();
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => {}
        // It was on its way already, or is gone.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {}
        Err(error) => return Err(KindError::api("remove namespace", name)(error)),
    }
    let gone = await_condition(api, name, conditions::is_deleted(&uid));
    let slow = |_elapsed| KindError::Slow {
        what: format!("the removal of namespace {name}"),
        patience: GONE_WITHIN,
    };
    let _gone = timeout(GONE_WITHIN, gone).await.map_err(slow)?;
    Ok(true)
}

/// Removes the workloads of a namespace, their pods by force, and waits until no process of these is left on this machine.
///
/// The namespace's own removal would wait until each node has cleaned up after each pod: on 1.20 that takes a minute and
/// more, where this takes a second. What a node still cleans up then are directories.
async fn remove_pods(client: &Client, namespace: &str) -> Result<(), KindError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let list = pods.list(&ListParams::default()).await;
    let list = list.map_err(KindError::api("list the pods of", namespace))?;
    let by_force = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::background()
    };
    remove_all::<Deployment>(client, namespace, &by_force).await?;
    remove_all::<StatefulSet>(client, namespace, &by_force).await?;
    // Those of the Deployments; they would make pods anew until they are collected.
    remove_all::<ReplicaSet>(client, namespace, &by_force).await?;
    remove_all::<Pod>(client, namespace, &by_force).await?;
    let hierarchies = Hierarchies::detect()?;
    let uids: Vec<String> = list.items.iter().filter_map(cgroup_uid).collect();
    let gone = tokio::task::spawn_blocking(move || wait_processes_gone(&uids, &hierarchies));
    if gone.await.expect("looking around does not panic") {
        return Ok(());
    }
    Err(KindError::Slow {
        what: format!("the end of the processes of namespace {namespace}"),
        patience: GONE_WITHIN,
    })
}

/// Whether the pods' processes end in time. Blocks.
fn wait_processes_gone(uids: &[String], hierarchies: &Hierarchies) -> bool {
    let deadline = Instant::now() + GONE_WITHIN;
    while uids.iter().any(|uid| handles::is_running(uid, hierarchies)) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    true
}

async fn remove_all<K>(client: &Client, namespace: &str, how: &DeleteParams) -> Result<(), KindError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let what = format!("every {} of {namespace}", K::kind(&()));
    let removed = api.delete_collection(how, &ListParams::default()).await;
    removed.map(drop).map_err(KindError::api("remove", what))
}

fn check_ours(namespace: &Namespace) -> Result<(), KindError> {
    let label = namespace.labels().get(MANAGED_BY_LABEL);
    if label.is_some_and(|value| value == MANAGED_BY) {
        return Ok(());
    }
    Err(KindError::Foreign {
        namespace: namespace.name_any(),
        label: format!("{MANAGED_BY_LABEL}={MANAGED_BY}"),
    })
}

/// Applies all objects.
///
/// # Errors
/// [`KindError::Api`] at the first that is refused.
pub async fn apply(client: &Client, namespace: &str, objects: &Objects) -> Result<(), KindError> {
    apply_all(client, namespace, &objects.config_maps).await?;
    apply_all(client, namespace, &objects.services).await?;
    apply_all(client, namespace, &objects.deployments).await?;
    apply_all(client, namespace, &objects.stateful_sets).await
}

async fn apply_all<K>(client: &Client, namespace: &str, objects: &[K]) -> Result<(), KindError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    for object in objects {
        let name = object.name_any();
        let what = format!("{} {namespace}/{name}", K::kind(&()));
        let applied = api
            .patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object))
            .await;
        applied.map_err(KindError::api("apply", what))?;
    }
    Ok(())
}

/// Waits until `pod_count` pods of the watched namespace serve and no other is there.
///
/// # Errors
/// [`KindError::NotReady`] after `patience`, or as soon as one cannot come any more, with each pod's reason, last events
/// and last words.
pub async fn wait_ready(
    client: &Client,
    namespace: &str,
    watch: &Watch,
    pod_count: usize,
    patience: Duration,
    progress: &dyn Fn(&str),
) -> Result<(), KindError> {
    let (began, mut changed) = (Instant::now(), watch.changed());
    let mut told = None;
    loop {
        let unready = Unready::of(watch, pod_count);
        if unready.is_empty() {
            return Ok(());
        }
        let remaining = patience.saturating_sub(began.elapsed());
        if remaining.is_zero() || unready.is_hopeless {
            let report = unready.report(client, namespace).await;
            return Err(KindError::NotReady {
                waited: began.elapsed(),
                report,
            });
        }
        if told != Some(unready.ready_count) {
            progress(&unready.words(pod_count));
            told = Some(unready.ready_count);
        }
        // At the latest at the deadline; the next turn tells.
        let _changed_or_late = timeout(remaining, changed.changed()).await;
    }
}

/// The pods that do not serve.
struct Unready {
    /// Reasons by pod.
    pods: BTreeMap<String, String>,
    ready_count: usize,
    missing_count: usize,
    is_hopeless: bool,
}

impl Unready {
    fn of(watch: &Watch, pod_count: usize) -> Self {
        let pods = watch.own_pods();
        let mut unready = Self {
            pods: BTreeMap::new(),
            ready_count: 0,
            missing_count: pod_count.saturating_sub(pods.len()),
            is_hopeless: false,
        };
        for pod in &pods {
            match readiness::of(pod) {
                Readiness::Ready => unready.ready_count += 1,
                Readiness::Waiting { reason } => drop(unready.pods.insert(pod.name_any(), reason)),
                Readiness::Hopeless { reason } => {
                    unready.is_hopeless = true;
                    unready.pods.insert(pod.name_any(), reason);
                }
            }
        }
        unready
    }

    fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.missing_count == 0
    }

    fn words(&self, pod_count: usize) -> String {
        let waiting: Vec<&str> = self.pods.keys().map(String::as_str).collect();
        let waiting = match waiting.as_slice() {
            [] => "the others to be made".to_owned(),
            some => some.join(", "),
        };
        format!("{} of {pod_count} pods serve, waiting for {waiting}", self.ready_count)
    }

    async fn report(&self, client: &Client, namespace: &str) -> String {
        let mut text = String::new();
        if self.missing_count > 0 {
            write!(text, "\n  {} pods were never made", self.missing_count).expect("text grows");
        }
        for (pod, reason) in &self.pods {
            write!(text, "\n  pod {pod}: {reason}").expect("text grows");
            for event in events(client, namespace, pod).await {
                write!(text, "\n    event: {event}").expect("text grows");
            }
            for line in last_words(client, namespace, pod).await.lines() {
                write!(text, "\n    log: {line}").expect("text grows");
            }
        }
        text
    }
}

/// The last events of a pod, in words; none if they cannot be had.
async fn events(client: &Client, namespace: &str, pod: &str) -> Vec<String> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let about = ListParams::default().fields(&format!("involvedObject.name={pod}"));
    let Ok(list) = api.list(&about).await else {
        return Vec::new();
    };
    let mut events = list.items;
    events.sort_by(|a, b| a.last_timestamp.cmp(&b.last_timestamp));
    let first = events.len().saturating_sub(SHOWN_MAX);
    let words = events[first..].iter().map(|event| {
        let (reason, message) = (
            event.reason.as_deref().unwrap_or("?"),
            event.message.as_deref().unwrap_or_default(),
        );
        format!("{reason}: {message}")
    });
    words.collect()
}

/// The last lines of a pod's container, or of the one before it if that ended; empty if there are none to be had.
async fn last_words(client: &Client, namespace: &str, pod: &str) -> String {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for previous in [false, true] {
        let lines = LogParams {
            previous,
            tail_lines: i64::try_from(SHOWN_MAX).ok(),
            ..LogParams::default()
        };
        if let Ok(text) = api.logs(pod, &lines).await
            && !text.is_empty()
        {
            return text;
        }
    }
    String::new()
}
