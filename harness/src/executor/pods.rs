//! What the pods of an execution are doing, and whether there is any use in waiting for them.
//!
//! Pure: looks at what the API server said.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, Pod};

use super::jobs::{INDEX_ANNOTATION, INDEX_LABEL};

/// Reasons for which a container waits that do not pass by themselves.
const HOPELESS: [&str; 5] = [
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "ImageInspectError",
];

/// What is seen of one shard's newest pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPod {
    /// Its shard's index, from 0.
    pub index: u32,
    /// Where it is and what it does, in words.
    pub text: String,
}

/// Why waiting is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hopeless {
    /// The node's machine lacks what a run needs, as the program said.
    CannotHere(String),
    /// The container does not start.
    NotStarted(String),
}

/// Exit code of a shard on a machine that cannot; as in README.md.
const CANNOT_HERE: i32 = 69;

/// The newest pod of each shard, by index.
#[must_use]
pub fn newest(pods: &[Pod]) -> Vec<ShardPod> {
    let mut pods: Vec<&Pod> = pods.iter().collect();
    pods.sort_by_key(|pod| (index(pod), pod.metadata.creation_timestamp.clone()));
    let mut seen: Vec<ShardPod> = Vec::new();
    for pod in pods {
        let Some(index) = index(pod) else { continue };
        if seen.last().is_some_and(|last| last.index == index) {
            seen.pop();
        }
        let text = text(pod);
        seen.push(ShardPod { index, text });
    }
    seen
}

/// The first reason, by pod, not to wait.
#[must_use]
pub fn hopeless(pods: &[Pod]) -> Option<Hopeless> {
    pods.iter().find_map(|pod| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let state = state(pod)?;
        let waiting = state.waiting.as_ref().and_then(|waiting| {
            let reason = waiting.reason.as_deref().filter(|reason| HOPELESS.contains(reason))?;
            let why = waiting.message.as_deref().unwrap_or_default();
            Some(Hopeless::NotStarted(format!("pod {name}: {reason}: {why}")))
        });
        let ended = state.terminated.as_ref().filter(|ended| ended.exit_code == CANNOT_HERE);
        let cannot = ended.map(|ended| {
            let said = ended.message.as_deref().unwrap_or_default().trim();
            Hopeless::CannotHere(format!("pod {name}: {said}"))
        });
        waiting.or(cannot)
    })
}

/// What the pods that failed said last, in words; the newest of each shard.
#[must_use]
pub fn last_words(pods: &[Pod]) -> Vec<String> {
    let failed = pods.iter().filter_map(|pod| {
        let ended = state(pod)?.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let said = ended.message.as_deref().unwrap_or_default().trim();
        Some(format!("pod {name} ended with {}: {said}", ended.exit_code))
    });
    failed.collect()
}

/// Whether a job will start no pod any more; the inner: why, if it failed.
#[must_use]
pub fn job_ended(job: &Job) -> Option<Result<(), String>> {
    let conditions = job
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .filter(|condition| condition.status == "True")
        .find_map(|condition| {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            let reason = condition.reason.as_deref().unwrap_or("no reason given");
            match condition.type_.as_str() {
                "Complete" => Some(Ok(())),
                "Failed" => Some(Err(format!("job {name} failed: {reason}"))),
                _ => None,
            }
        })
}

fn index(pod: &Pod) -> Option<u32> {
    let annotation = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(INDEX_ANNOTATION));
    let label = pod.metadata.labels.as_ref().and_then(|all| all.get(INDEX_LABEL));
    annotation.or(label)?.parse().ok()
}

fn state(pod: &Pod) -> Option<&ContainerState> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.first()?.state.as_ref()
}

fn text(pod: &Pod) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let Some(node) = node else {
        return "waits for a node".to_owned();
    };
    let doing = match state(pod) {
        _ if pod.metadata.deletion_timestamp.is_some() => "is being stopped".to_owned(),
        Some(state) if state.running.is_some() => "runs".to_owned(),
        Some(ContainerState {
            terminated: Some(ended),
            ..
        }) if ended.exit_code == 0 => "is done".to_owned(),
        Some(ContainerState {
            terminated: Some(ended),
            ..
        }) => format!("ended with {}", ended.exit_code),
        Some(ContainerState {
            waiting: Some(waiting), ..
        }) => waiting.reason.clone().unwrap_or("starts".to_owned()),
        Some(_) | None => "starts".to_owned(),
    };
    format!("{doing} on {node}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, made: &str, labels: Value, state: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "creationTimestamp": made, "labels": labels},
            "spec": {"containers": [], "nodeName": "n1"},
            "status": {"containerStatuses": [
                {"name": "shard", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state}
            ]},
        }))
        .expect("a pod")
    }

    fn shard(index: u32) -> Value {
        json!({INDEX_LABEL: index.to_string()})
    }

    #[test]
    fn a_shard_is_what_its_newest_pod_does() {
        let dead = json!({"terminated": {"exitCode": 137}});
        let pods = [
            pod("b", "2026-01-01T00:00:09Z", shard(0), json!({"running": {}})),
            pod("a", "2026-01-01T00:00:01Z", shard(0), dead),
            pod(
                "c",
                "2026-01-01T00:00:02Z",
                shard(1),
                json!({"terminated": {"exitCode": 0}}),
            ),
            pod("x", "2026-01-01T00:00:02Z", json!({}), json!({})),
        ];
        let texts: Vec<_> = newest(&pods)
            .into_iter()
            .map(|shard| (shard.index, shard.text))
            .collect();
        assert_eq!(texts, [(0, "runs on n1".to_owned()), (1, "is done on n1".to_owned())]);
        assert_eq!(hopeless(&pods), None, "killed pods are retried");
        assert_eq!(last_words(&pods), ["pod a ended with 137: "]);
    }

    #[test]
    fn what_does_not_pass_is_not_waited_for() {
        let state = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
        let found = hopeless(&[pod("a", "2026-01-01T00:00:00Z", shard(0), state)]);
        assert_eq!(
            found,
            Some(Hopeless::NotStarted("pod a: ImagePullBackOff: no such image".into()))
        );
        let state = json!({"terminated": {"exitCode": 69, "message": "needs nft\n"}});
        let found = hopeless(&[pod("a", "2026-01-01T00:00:00Z", shard(0), state)]);
        assert_eq!(found, Some(Hopeless::CannotHere("pod a: needs nft".into())));
        let state = json!({"waiting": {"reason": "ContainerCreating"}});
        assert_eq!(hopeless(&[pod("a", "2026-01-01T00:00:00Z", shard(0), state)]), None);
    }

    #[test]
    fn a_job_has_ended_by_its_conditions() {
        let job = |conditions: Value| -> Job {
            serde_json::from_value(json!({"metadata": {"name": "j"}, "status": {"conditions": conditions}}))
                .expect("a job")
        };
        assert_eq!(job_ended(&job(json!([]))), None);
        assert_eq!(
            job_ended(&job(json!([{"type": "Complete", "status": "True"}]))),
            Some(Ok(()))
        );
        let failed = json!([{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]);
        let why = "job j failed: BackoffLimitExceeded".to_owned();
        assert_eq!(job_ended(&job(failed)), Some(Err(why)));
        assert_eq!(job_ended(&job(json!([{"type": "Suspended", "status": "True"}]))), None);
    }
}
