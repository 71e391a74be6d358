//! Brings a run's cluster up and takes it down, on whichever target, and finds what was left on it.
//!
//! A namespace on Kubernetes is written down in the run directory before it is made, so that `gauntlet recover` can remove
//! it when the harness is killed; the local cluster goes away by itself.

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use super::directory::write_json;
use super::recorder::Recorder;
use super::{RunError, RunOrder, RunTarget};
use crate::clock::MonotonicNanos;
use crate::doctor::error_chain;
use crate::fault::kubernetes::api::{TalkError, cluster_is_gone};
use crate::fault::process;
use crate::residue::{self, ResidueState};
use crate::target::kind::access::ClusterAccess;
use crate::target::kind::own_namespace::{self, NamespaceError};
use crate::target::kind::{KindCluster, KindError, KindOptions};
use crate::target::local::{LocalCluster, UpOptions};
use crate::target::{Cluster, NodeHandle, PodHandle};
use crate::timeline::Cancel;

/// File of a run directory: the namespace that the run is about to make.
pub const NAMESPACE_RECORD: &str = "namespace.json";
/// How long what stands may differ from what stood: a node's rules follow the API after a moment.
const RESIDUE_SETTLES_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Where a run's time went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    /// The run began.
    pub(super) began_ns: MonotonicNanos,
    /// From the first request to the end of observation: what the scenario asks for.
    pub(super) scenario: Duration,
    /// Waiting for Kubernetes: up, back after a fault, down.
    pub(super) kubernetes: Duration,
}

impl Spent {
    /// The split in words, at the end of a run.
    pub(super) fn words(self, now_ns: MonotonicNanos) -> String {
        let total = Duration::from_nanos(now_ns.saturating_sub(self.began_ns));
        let ours = total.saturating_sub(self.scenario).saturating_sub(self.kubernetes);
        format!(
            "of {:.1} s the scenario took {:.1} s, Kubernetes {:.1} s, the harness {:.1} s",
            total.as_secs_f64(),
            self.scenario.as_secs_f64(),
            self.kubernetes.as_secs_f64(),
            ours.as_secs_f64()
        )
    }
}

/// Brings the order's cluster up; `id` names a local one.
pub(super) async fn up(
    order: &RunOrder,
    recorder: &mut Recorder<'_>,
    id: String,
    cancel: Cancel,
) -> Result<Cluster, RunError> {
    let began = Instant::now();
    let cluster = {
        let steps = RefCell::new(&mut *recorder);
        let progress = |text: &str| steps.borrow_mut().step(text);
        match &order.target {
            RunTarget::Local => Cluster::Local(local_up(order, id, &progress).await?),
            RunTarget::Kind(options) => Cluster::Kind(kind_up(order, options, cancel, &progress).await?),
        }
    };
    let (pods, nodes, took) = (cluster.pods().len(), cluster.nodes().len(), began.elapsed());
    let mut text = format!(
        "cluster is up: {pods} pods on {nodes} nodes, {:.1} s",
        took.as_secs_f64()
    );
    if let Some(words) = cluster.words() {
        let kubernetes = cluster.up_took();
        text += &format!(
            " (Kubernetes {:.1} s, the harness {:.1} s); {words}",
            kubernetes.as_secs_f64(),
            took.saturating_sub(kubernetes).as_secs_f64()
        );
    }
    recorder.step(text);
    Ok(cluster)
}

async fn local_up(order: &RunOrder, id: String, progress: &dyn Fn(&str)) -> Result<LocalCluster, RunError> {
    let options = UpOptions {
        id: Some(id),
        app_binary: order.programs.app.clone(),
        ..UpOptions::default()
    };
    let up = LocalCluster::up(&order.app.spec, &order.app.name, &options, progress).await;
    up.map_err(|error| match error.is_unavailable() {
        true => RunError::CannotHere(error_chain(&error)),
        false => RunError::Target(error_chain(&error)),
    })
}

/// A stop that is asked for meanwhile is heard at once; whatever is there by then is removed.
async fn kind_up(
    order: &RunOrder,
    options: &KindOptions,
    mut cancel: Cancel,
    progress: &dyn Fn(&str),
) -> Result<KindCluster, RunError> {
    let record = order.directory.join(NAMESPACE_RECORD);
    write_json(&record, &options.access)?;
    let up = tokio::select! {
        up = KindCluster::up(&order.app, options, progress) => Some(up),
        Ok(_) = cancel.wait_for(|stop| *stop) => None,
    };
    let error = match up {
        Some(Ok(cluster)) => return Ok(cluster),
        Some(Err(error)) if error.is_unavailable() => RunError::CannotHere(error_chain(&error)),
        Some(Err(error)) => RunError::Target(error_chain(&error)),
        None => RunError::Interrupted,
    };
    if options.keep {
        return Err(error);
    }
    match remove_recorded(&record).await {
        Ok(_) => Err(error),
        Err(left) => Err(RunError::Target(format!("{error}; and {left}"))),
    }
}

/// Takes the order's cluster down; returns what Kubernetes took for it.
pub(super) async fn down(order: &RunOrder, cluster: Cluster) -> Result<Duration, RunError> {
    let took = cluster.down().await;
    let took = took.map_err(|error| RunError::Target(error_chain(&error)))?;
    if let RunTarget::Kind(_) = &order.target {
        let record = order.directory.join(NAMESPACE_RECORD);
        std::fs::remove_file(&record).map_err(|source| RunError::Directory { path: record, source })?;
    }
    Ok(took)
}

/// Removes the namespace that was written down, and then the record; returns what was removed, in words, or `None` if it
/// was gone already, perhaps with its cluster.
///
/// # Errors
/// Why it is still there, in words.
pub async fn remove_recorded(record: &Path) -> Result<Option<String>, String> {
    let text =
        std::fs::read_to_string(record).map_err(|error| format!("failed to read {}: {error}", record.display()))?;
    let access: ClusterAccess =
        serde_json::from_str(&text).map_err(|error| format!("{} is not understood: {error}", record.display()))?;
    let what = format!("namespace {} of {}", access.namespace, access.context);
    let removed = async {
        let client = access.client().await?;
        Ok::<_, KindError>(own_namespace::remove(&client, &access.namespace).await?)
    };
    let was_there = match removed.await {
        Ok(was_there) => was_there,
        // Somebody else's: ours was never made.
        Err(KindError::Namespace(NamespaceError::OfOthers { .. })) => false,
        Err(_) if cluster_is_gone(&access) => false,
        Err(error) => {
            let (why, record) = (error_chain(&error), record.display());
            return Err(format!(
                "{what} may be left: {why}; if that cluster is no more, remove {record}"
            ));
        }
    };
    std::fs::remove_file(record).map_err(|error| format!("failed to remove {}: {error}", record.display()))?;
    Ok(was_there.then_some(what))
}

/// What stood on a cluster before anything was done to it.
pub(super) struct Before {
    pods: Vec<PodHandle>,
    nodes: Vec<NodeHandle>,
    state: ResidueState,
}

impl Before {
    /// Of the cluster as it is.
    ///
    /// # Errors
    /// [`RunError::Target`] when its objects cannot be read.
    pub(super) async fn of(cluster: &Cluster) -> Result<Self, RunError> {
        let (pods, nodes) = (cluster.pods(), cluster.nodes());
        let state = state_of(cluster, &pods, &nodes).await;
        let state = state.map_err(|error| RunError::Target(error_chain(&error)))?;
        Ok(Self { pods, nodes, state })
    }

    /// What differs now, in the pods that are still the same and the nodes. A pod that was replaced took its state along.
    pub(super) async fn residue(mut self, cluster: &Cluster) -> Vec<String> {
        let deadline = Instant::now() + RESIDUE_SETTLES_WITHIN;
        loop {
            let now = cluster.pods();
            let gone: Vec<PodHandle> = self.pods.extract_if(.., |pod| !stands(cluster, &now, pod)).collect();
            self.state.forget(&gone);
            let found = match state_of(cluster, &self.pods, &self.nodes).await {
                Ok(now) => self.differences(cluster, &now),
                Err(error) => vec![format!("what is left could not be told: {}", error_chain(&error))],
            };
            // On the local target nothing is on its way: what stands, stays.
            if found.is_empty() || matches!(cluster, Cluster::Local(_)) || Instant::now() >= deadline {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// In words. What Kubernetes itself keeps up to date on its nodes is nobody's residue.
    fn differences(&self, cluster: &Cluster, now: &ResidueState) -> Vec<String> {
        match cluster {
            Cluster::Local(_) => differences(&self.state, now),
            Cluster::Kind(_) => {
                let found = residue::kubernetes::diff(&self.state, now, &[]);
                found.iter().map(ToString::to_string).collect()
            }
        }
    }
}

/// Whether a pod of before is among those of `now`, and still what it was. Kubernetes shows a pod that it removes for as long
/// as its remains are being cleared away, and by then nothing runs in it.
fn stands(cluster: &Cluster, now: &[PodHandle], pod: &PodHandle) -> bool {
    let is_same = |one: &PodHandle| one.name == pod.name && one.netns_inode == pod.netns_inode;
    let lives = || matches!(cluster, Cluster::Local(_)) || !process::tgids(&pod.cgroup.unified).is_empty();
    now.iter().any(is_same) && lives()
}

/// What stands in these pods and nodes, and which objects the cluster was asked for.
async fn state_of(cluster: &Cluster, pods: &[PodHandle], nodes: &[NodeHandle]) -> Result<ResidueState, TalkError> {
    let state = residue::snapshot(pods, nodes);
    Ok(match cluster.access() {
        Some(access) => state.and(residue::kubernetes::snapshot(access).await?),
        None => state,
    })
}

/// Waits until the cluster's pods are back; how long that took, and what is wrong with those that are not.
pub(super) async fn settled(cluster: &Cluster, recorder: &mut Recorder<'_>) -> (Duration, Vec<String>) {
    let began = Instant::now();
    let steps = RefCell::new(recorder);
    let settled = cluster.settle(&|text| steps.borrow_mut().step(text)).await;
    (
        began.elapsed(),
        settled.err().map(|error| error_chain(&error)).into_iter().collect(),
    )
}

/// What is in one state and not in the other, in words.
pub(super) fn differences(before: &ResidueState, after: &ResidueState) -> Vec<String> {
    residue::diff(before, after).iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::kind::docker::docker;

    /// Physics: a cluster of kind's is gone when the engine has no container of it; of any other nobody here can know.
    #[tokio::test]
    async fn a_record_is_forgotten_only_when_its_namespace_is_known_to_be_gone() {
        let files = tempfile::tempdir().expect("a directory");
        let path = files.path().join(NAMESPACE_RECORD);
        for (context, is_gone) in [("kind-none", docker(&["ps"]).is_ok()), ("production", false)] {
            let access = ClusterAccess {
                kubeconfig: files.path().join("no-such-file"),
                context: context.to_owned(),
                namespace: "shop".to_owned(),
            };
            write_json(&path, &access).expect("written");
            match remove_recorded(&path).await {
                Ok(removed) => assert_eq!((removed, is_gone), (None, true), "{context}"),
                Err(why) => {
                    assert!(!is_gone, "{why}");
                    let (said, record) = (format!("namespace shop of {context} may be left"), path.display());
                    assert!(
                        why.starts_with(&said) && why.ends_with(&format!("remove {record}")),
                        "{why}"
                    );
                }
            }
            assert_eq!(path.exists(), !is_gone, "{context}");
        }
    }

    #[test]
    fn time_is_the_scenario_s_or_kubernetes_or_ours() {
        let spent = Spent {
            began_ns: 5_000_000_000,
            scenario: Duration::from_secs(31),
            kubernetes: Duration::from_millis(12_300),
        };
        let expected = "of 46.0 s the scenario took 31.0 s, Kubernetes 12.3 s, the harness 2.7 s";
        assert_eq!(spent.words(51_000_000_000), expected);
    }
}
