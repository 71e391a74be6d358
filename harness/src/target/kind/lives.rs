//! What becomes of pods while a run is on: containers that start again, pods that come and go. Pure.
//!
//! Words for the record; no detector hears them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

/// How often each pod's containers have started again, by name and UID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lives(BTreeMap<(String, String), i32>);

impl Lives {
    /// Of the pods of one namespace.
    #[must_use]
    pub fn of(pods: &[Arc<Pod>], namespace: &str) -> Self {
        let own = pods.iter().filter(|pod| pod.namespace().as_deref() == Some(namespace));
        let lives = own.map(|pod| {
            let restarts = statuses(pod).map(|status| status.restart_count).sum();
            ((pod.name_any(), pod.uid().unwrap_or_default()), restarts)
        });
        Self(lives.collect())
    }

    /// What happened since `before`: the pod, and what, in words.
    #[must_use]
    pub fn since(&self, before: &Self, pods: &[Arc<Pod>]) -> Vec<(String, String)> {
        let mut news = Vec::new();
        for (name, uid) in before.0.keys().filter(|key| !self.0.contains_key(*key)) {
            news.push((name.clone(), format!("is gone (pod {uid})")));
        }
        for (key @ (name, uid), restarts) in &self.0 {
            match before.0.get(key) {
                None => news.push((name.clone(), format!("was made (pod {uid})"))),
                Some(known) if known < restarts => {
                    let pod = pods.iter().find(|pod| pod.uid().as_ref() == Some(uid));
                    let how = pod.map(|pod| last_end(pod)).unwrap_or_default();
                    news.push((name.clone(), format!("was started again{how}")));
                }
                Some(_) => {}
            }
        }
        news
    }
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
}

/// How a container of the pod ended last.
fn last_end(pod: &Pod) -> String {
    let ended = statuses(pod).find_map(|status| status.last_state.as_ref()?.terminated.as_ref());
    ended.map_or_else(String::new, |ended| {
        let reason = ended.reason.as_deref().unwrap_or("no reason given");
        format!(" after it had ended with code {} ({reason})", ended.exit_code)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, uid: &str, restarts: i32) -> Arc<Pod> {
        let ended = json!({"terminated": {"exitCode": 137, "reason": "Error"}});
        let status = json!({"name": "c", "image": "i", "imageID": "i", "ready": true, "restartCount": restarts, "lastState": ended});
        let pod = json!({
            "metadata": {"namespace": "shop", "name": name, "uid": uid},
            "status": {"containerStatuses": [status]},
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn tells_restarts_from_replacements() {
        let (before, now) = (
            [pod("cache-0", "a", 0), pod("cache-1", "b", 1), pod("web-x", "c", 0)],
            [pod("cache-0", "a", 1), pod("cache-1", "d", 0), pod("web-x", "c", 0)],
        );
        let news = Lives::of(&now, "shop").since(&Lives::of(&before, "shop"), &now);
        let told: Vec<_> = news.iter().map(|(pod, what)| format!("{pod} {what}")).collect();
        assert_eq!(
            told,
            [
                "cache-1 is gone (pod b)",
                "cache-0 was started again after it had ended with code 137 (Error)",
                "cache-1 was made (pod d)",
            ]
        );
        assert!(Lives::of(&now, "elsewhere").since(&Lives::default(), &now).is_empty());
    }
}
