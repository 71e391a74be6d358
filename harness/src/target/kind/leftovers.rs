//! What killed processes left of clusters and in them: found by its records, removed by a later process.
//!
//! Does not touch what a live process holds, nor clusters that stay until they are taken down.

use std::path::Path;

use super::access::AccessError;
use super::own_namespace::{self, NamespaceError};
use super::record::{NamespaceRecord, RecordError, StateDirectory};
use super::removal;
use crate::doctor::error_chain;
use crate::target::holder::Holder;

/// What was found, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// What is gone now.
    pub done: Vec<String>,
    /// What could not be removed.
    pub failed: Vec<String>,
}

/// Removes what is left.
pub async fn sweep(state: &StateDirectory) -> Swept {
    let mut swept = Swept::default();
    let records = state.all_clusters().unwrap_or_else(|error| swept.unreadable(&error));
    for record in records {
        if record.holder.as_ref().is_none_or(Holder::is_alive) {
            continue;
        }
        let what = format!("kind cluster {}", record.name);
        match removal::remove(state, &record.name).await {
            Ok(_) => swept.done.push(format!("{what}: removed")),
            Err(error) => swept.failed.push(format!("{what}: {}", error_chain(&error))),
        }
    }
    let left = state.left_namespaces().unwrap_or_else(|error| swept.unreadable(&error));
    for (path, record) in left {
        let access = &record.access;
        let what = format!("namespace {} of context {}", access.namespace, access.context);
        match remove_namespace(state, &path, &record).await {
            Ok(outcome) => swept.done.push(format!("{what}: {outcome}")),
            Err(error) => swept.failed.push(format!(
                "{what}: {}; if that cluster is no more, remove {}",
                error_chain(&error),
                path.display()
            )),
        }
    }
    swept
}

impl Swept {
    fn unreadable<T>(&mut self, error: &RecordError) -> Vec<T> {
        self.failed.push(error_chain(error));
        Vec::new()
    }
}

/// A namespace is still there.
#[derive(Debug, thiserror::Error)]
enum LeftError {
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

async fn remove_namespace(
    state: &StateDirectory,
    path: &Path,
    record: &NamespaceRecord,
) -> Result<&'static str, LeftError> {
    let outcome = if record.access.kubeconfig.exists() {
        let client = record.access.client().await?;
        own_namespace::remove(&client, &record.access.namespace).await?;
        "removed"
    } else {
        "was gone with its cluster"
    };
    state.release_namespace(path)?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::kind::access::ClusterAccess;

    #[tokio::test]
    async fn what_a_live_process_holds_stays_and_what_went_with_its_cluster_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(directory.path().join("state"));
        let alive = Holder::this_process();
        let dead = Holder {
            started_ticks: alive.started_ticks + 1,
            ..alive
        };
        for (namespace, holder) in [("kept", alive), ("left", dead)] {
            let access = ClusterAccess {
                kubeconfig: directory.path().join("no-such-file"),
                context: "play".to_owned(),
                namespace: namespace.to_owned(),
            };
            let _ = state.hold_namespace(&NamespaceRecord { access, holder }).unwrap();
        }
        let swept = sweep(&state).await;
        let expected = Swept {
            done: vec!["namespace left of context play: was gone with its cluster".to_owned()],
            failed: Vec::new(),
        };
        assert_eq!(swept, expected);
        assert_eq!(sweep(&state).await, Swept::default());
    }
}
