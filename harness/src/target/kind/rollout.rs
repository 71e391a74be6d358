//! Brings objects into a namespace: server-side apply, and waits with deadlines that say what they wait for.
//!
//! Does not know what the objects are for; they go with their namespace.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, LogParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::api::ApiError;
use super::error::KindError;
use super::names::FIELD_MANAGER;
use super::objects::Objects;
use super::readiness::{self, Readiness};
use super::watch::Watch;

/// Events and lines of a pod's log that a report shows.
const SHOWN_MAX: usize = 6;

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
        applied.map_err(ApiError::of("apply", what))?;
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
