//! What killed processes left of clusters: found by their records, removed by a later process.
//!
//! Does not touch what a live process holds, nor clusters that stay until they are taken down. Namespaces in them are runs',
//! and recovered with these.

use super::record::StateDirectory;
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
    let records = match state.all_clusters() {
        Ok(records) => records,
        Err(error) => {
            swept.failed.push(error_chain(&error));
            return swept;
        }
    };
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
    swept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::kind::record::ClusterRecord;

    #[tokio::test]
    async fn what_a_live_process_holds_and_what_is_to_stay_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::at(directory.path());
        let record = |name: &str, holder: Option<Holder>| ClusterRecord {
            name: name.parse().unwrap(),
            id: "7".to_owned(),
            kubeconfig: directory.path().join("no-such-file"),
            holder,
        };
        let records = [record("held", Some(Holder::this_process())), record("stays", None)];
        for record in &records {
            assert!(state.claim(record).unwrap());
        }
        assert_eq!(sweep(&state).await, Swept::default());
        assert_eq!(state.all_clusters().unwrap(), records);
    }

    #[tokio::test]
    async fn records_that_cannot_be_read_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let damaged = directory.path().join("clusters").join("demo.json");
        std::fs::create_dir(damaged.parent().unwrap()).unwrap();
        std::fs::write(&damaged, "{").unwrap();
        let swept = sweep(&StateDirectory::at(directory.path())).await;
        assert_eq!((swept.done.len(), swept.failed.len()), (0, 1), "{swept:?}");
        assert!(swept.failed[0].contains("demo.json"), "{swept:?}");
    }
}
