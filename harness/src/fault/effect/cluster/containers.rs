//! What a pod's status says of its containers.
//!
//! Pure: statuses in, answers out.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

/// Reasons for which a container waits when its image cannot be had.
const NO_IMAGE: [&str; 4] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
];
/// Reason for which a container ended that took more memory than it has.
const OUT_OF_MEMORY: &str = "OOMKilled";

pub(super) fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.container_statuses.as_ref())
        .into_iter()
        .flatten()
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && statuses(pod).next().is_some() && statuses(pod).all(|one| one.ready)
}

pub(super) fn waits_for_its_image(container: &ContainerStatus) -> bool {
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
    reason.is_some_and(|reason| NO_IMAGE.contains(&reason))
}

/// Killed for it while it ran, or before it ran: what starts a container takes memory too.
pub(super) fn is_out_of_memory(container: &ContainerStatus) -> bool {
    let ended = |state: &ContainerState| {
        let terminated = state.terminated.as_ref()?;
        let said = terminated.message.as_deref().unwrap_or_default();
        Some(terminated.reason.as_deref() == Some(OUT_OF_MEMORY) || said.contains("OOM"))
    };
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let has_ended_so = states.into_iter().flatten().filter_map(ended).any(|so| so);
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    has_ended_so
        || waiting
            .and_then(|waiting| waiting.message.as_deref())
            .is_some_and(|said| said.contains("OOM"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(state: Value, last_state: Value) -> ContainerStatus {
        let status = json!({
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": state, "lastState": last_state,
        });
        serde_json::from_value(status).expect("a status")
    }

    #[test]
    fn a_container_says_why_it_does_not_run() {
        let waiting = container(json!({"waiting": {"reason": "ImagePullBackOff"}}), json!({}));
        assert!(waits_for_its_image(&waiting) && !is_out_of_memory(&waiting));
        let crashing = container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), json!({}));
        assert!(!waits_for_its_image(&crashing) && !is_out_of_memory(&crashing));
        let killed = json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}});
        assert!(is_out_of_memory(&container(json!({"running": {}}), killed.clone())));
        assert!(is_out_of_memory(&container(killed, json!({}))));
        let at_start = json!({"terminated": {"reason": "StartError", "exitCode": 128, "message": "container init was OOM-killed"}});
        assert!(is_out_of_memory(&container(
            json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            at_start
        )));
    }
}
