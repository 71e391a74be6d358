//! Whether a pod serves and, if not, why: from its status. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// Starts of a container that ended at once after which no more is hoped for.
const RESTARTS_MAX: i32 = 4;

/// How far a pod has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It serves, and the API says so.
    Ready,
    /// Not yet.
    Waiting {
        /// What for, in Kubernetes' words.
        reason: String,
    },
    /// It will not come by itself.
    Hopeless {
        /// Why, in Kubernetes' words.
        reason: String,
    },
}

/// How far the pod has come.
#[must_use]
pub fn of(pod: &Pod) -> Readiness {
    if pod.metadata.deletion_timestamp.is_some() {
        let reason = "it is being removed".to_owned();
        return Readiness::Waiting { reason };
    }
    let status = pod.status.as_ref();
    let conditions = status
        .and_then(|status| status.conditions.as_ref())
        .into_iter()
        .flatten();
    let condition = |wanted: &str| conditions.clone().find(|condition| condition.type_ == wanted);
    if condition("Ready").is_some_and(|condition| condition.status == "True") {
        return Readiness::Ready;
    }
    let containers = status
        .and_then(|status| status.container_statuses.as_ref())
        .into_iter()
        .flatten();
    if let Some(found) = containers.filter_map(of_container).next() {
        return found;
    }
    if let Some(unscheduled) = condition("PodScheduled").filter(|condition| condition.status == "False") {
        let message = unscheduled.message.as_deref().unwrap_or("no node takes it");
        let reason = format!("not scheduled: {message}");
        return Readiness::Waiting { reason };
    }
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let reason = match phase {
        "Running" => "it runs, and its readiness check does not pass".to_owned(),
        phase => phase.to_owned(),
    };
    Readiness::Waiting { reason }
}

/// What a container that does not run says of its pod.
fn of_container(status: &ContainerStatus) -> Option<Readiness> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or("waiting");
    let text = match waiting.message.as_deref() {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    };
    let is_hopeless = match reason {
        "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" | "CreateContainerConfigError" => true,
        "CrashLoopBackOff" => status.restart_count >= RESTARTS_MAX,
        _ => false,
    };
    Some(if is_hopeless {
        Readiness::Hopeless { reason: text }
    } else {
        Readiness::Waiting { reason: text }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(status: serde_json::Value, expected: &Readiness) {
        let pod = serde_json::from_value(json!({"metadata": {}, "status": status})).expect("a pod");
        assert_eq!(of(&pod), *expected);
    }

    fn waiting(reason: &str, restarts: i32) -> serde_json::Value {
        let state = json!({"waiting": {"reason": reason, "message": "no such thing"}});
        let container =
            json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": restarts, "state": state});
        json!({"phase": "Pending", "containerStatuses": [container]})
    }

    #[test]
    fn tells_what_may_still_come_from_what_will_not() {
        let words = |reason: &str| format!("{reason}: no such thing");
        let hoped = |reason: &str| Readiness::Waiting { reason: words(reason) };
        let hopeless = |reason: &str| Readiness::Hopeless { reason: words(reason) };
        check(waiting("ContainerCreating", 0), &hoped("ContainerCreating"));
        check(waiting("ErrImagePull", 0), &hoped("ErrImagePull"));
        check(waiting("ImagePullBackOff", 0), &hopeless("ImagePullBackOff"));
        check(waiting("CrashLoopBackOff", 1), &hoped("CrashLoopBackOff"));
        check(waiting("CrashLoopBackOff", 4), &hopeless("CrashLoopBackOff"));
        check(
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
            &Readiness::Ready,
        );
        let unscheduled = json!({"type": "PodScheduled", "status": "False", "message": "0/4 nodes are available"});
        let reason = "not scheduled: 0/4 nodes are available".to_owned();
        check(
            json!({"phase": "Pending", "conditions": [unscheduled]}),
            &Readiness::Waiting { reason },
        );
    }
}
