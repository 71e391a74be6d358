//! Who holds a cluster: a record beside its scratch directory, by which the rests of a dead one are found and removed.
//!
//! Needed only when the warden itself was killed; otherwise the warden leaves nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::cgroup::Hierarchies;
use super::protocol::WardenSpec;
use crate::target::holder::started_ticks;

/// Beginning of the names of all that a cluster makes.
pub const PREFIX: &str = "gauntlet-";
const SUFFIX: &str = ".owner.json";
const PATIENCE: Duration = Duration::from_secs(2);

/// Who holds a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerRecord {
    /// Name of the cluster.
    pub cluster: String,
    /// Process id of its warden.
    pub warden_tgid: u32,
    /// When that process was started, clock ticks since boot: process ids are used again.
    pub warden_started_ticks: u64,
    /// Its scratch directory.
    pub scratch: PathBuf,
}

impl OwnerRecord {
    /// This process holds the cluster.
    pub fn of_this_process(spec: &WardenSpec) -> anyhow::Result<Self> {
        let tgid = std::process::id();
        let started = started_ticks(tgid).context("failed to read when this process was started")?;
        Ok(Self {
            cluster: spec.cluster.clone(),
            warden_tgid: tgid,
            warden_started_ticks: started,
            scratch: spec.scratch.clone(),
        })
    }

    /// Where the record of a cluster is.
    #[must_use]
    pub fn path(cluster: &str) -> PathBuf {
        std::env::temp_dir().join(format!("{cluster}{SUFFIX}"))
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string(self).context("failed to encode the owner's record")?;
        fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
    }

    fn is_alive(&self) -> bool {
        started_ticks(self.warden_tgid) == Some(self.warden_started_ticks)
    }
}

/// Removes what dead clusters left, and says what it was. Clusters whose warden lives are left alone.
#[must_use]
pub fn sweep_stale() -> Vec<String> {
    let Ok(hierarchies) = Hierarchies::detect() else {
        return Vec::new();
    };
    let records = records(&std::env::temp_dir());
    let mut swept = Vec::new();
    for (path, record) in records.iter().filter(|(_, record)| !record.is_alive()) {
        let removed = hierarchies
            .remove(&record.cluster, PATIENCE)
            .map_err(anyhow::Error::from);
        let removed = removed.and_then(|()| remove_directory(&record.scratch).map_err(anyhow::Error::from));
        match removed {
            Ok(()) => {
                let _ = fs::remove_file(path);
                swept.push(format!(
                    "cluster {}: cgroups and {}",
                    record.cluster,
                    record.scratch.display()
                ));
            }
            Err(error) => swept.push(format!("cluster {}: not removed: {error:#}", record.cluster)),
        }
    }
    // A cluster writes its record before anything else: a cgroup without record and without processes is nobody's.
    for cluster in hierarchies.clusters() {
        let known = records.iter().any(|(_, record)| record.cluster == cluster);
        if !known && hierarchies.members(&cluster).is_empty() && hierarchies.remove(&cluster, PATIENCE).is_ok() {
            swept.push(format!("cluster {cluster}: empty cgroups"));
        }
    }
    swept
}

fn records(directory: &Path) -> Vec<(PathBuf, OwnerRecord)> {
    let entries = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let named = entries.filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(PREFIX) && name.ends_with(SUFFIX)
    });
    let parsed = named.filter_map(|path| {
        let record: OwnerRecord = serde_json::from_str(&fs::read_to_string(&path).ok()?).ok()?;
        // What is removed is named by the record, so that it must be a name that a cluster could have.
        let plausible = record.cluster.starts_with(PREFIX)
            && !record.cluster.contains(['/', '.'])
            && record
                .scratch
                .file_name()
                .is_some_and(|name| name == record.cluster.as_str());
        plausible.then_some((path, record))
    });
    parsed.collect()
}

fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_alive_while_the_very_process_is() {
        let tgid = std::process::id();
        let warden_started_ticks = started_ticks(tgid).unwrap();
        let scratch = PathBuf::from("/nowhere/gauntlet-0");
        let record = OwnerRecord {
            cluster: "gauntlet-0".into(),
            warden_tgid: tgid,
            warden_started_ticks,
            scratch,
        };
        assert!(record.is_alive());
        assert!(
            !OwnerRecord {
                warden_started_ticks: warden_started_ticks + 1,
                ..record
            }
            .is_alive()
        );
    }

    #[test]
    fn a_record_that_names_anything_but_a_cluster_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let record = |cluster: &str, scratch: &str| OwnerRecord {
            cluster: cluster.into(),
            warden_tgid: 1,
            warden_started_ticks: 0,
            scratch: scratch.into(),
        };
        let write = |name: &str, record: OwnerRecord| record.write(&directory.path().join(name)).unwrap();
        write("gauntlet-a.owner.json", record("gauntlet-a", "/s/gauntlet-a"));
        write("gauntlet-b.owner.json", record("gauntlet-b", "/etc"));
        write("gauntlet-c.owner.json", record("gauntlet-c/..", "/s/gauntlet-c"));
        write("gauntlet-d.owner.json", record("system.slice", "/s/system.slice"));
        let found = records(directory.path())
            .into_iter()
            .map(|(_, record)| record.cluster)
            .collect::<Vec<_>>();
        assert_eq!(found, ["gauntlet-a"]);
    }
}
